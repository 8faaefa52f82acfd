"""Folders of images: a folder for each class, or split folders that hold them.

This file knows how folders are walked and what is passed over.
"""

from __future__ import annotations

import dataclasses
import filecmp
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from visus.data.file_kinds import is_image_file, kind_of_file, told_unread_images
from visus.data.folder_layouts import CLASSIFIES, Layout, lay_out
from visus.data.folder_names import is_container, is_project_folder, split_meant
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import Ledger
from visus.data.no_samples import NO_SAMPLE, find_no_samples
from visus.data.reading import OPEN, Reading
from visus.data.samples import ImageFiles
from visus.data.source_rules import FoundSamples, natural_key, shown, split_of
from visus.data.system_files import why_passed_over
from visus.errors import DataError
from visus.units import write_number_of

LEFT_OUT = "left out: hidden or not an image"
_MAX_WRAPPERS = 4

LAYOUTS = (
    "visus reads a folder for each class (cats/1.jpg, dogs/2.jpg), split folders (train/cats/1.jpg, test/cats/2.jpg), "
    "a table (labels.csv with the columns path,label), and IDX, CIFAR, NPZ and NPY files."
)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder belongs to a system or an editor, such as ``.DS_Store``, ``__MACOSX`` or ``Thumbs.db``."""
    return why_passed_over(name) is not None


def is_image_name(name: str) -> bool:
    """Whether the suffix is one of an image, in capitals or not."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of everything else in a folder, each sorted as people sort.

    A link to a folder counts as a folder. Pipes, sockets and devices are neither.

    Raises:
        DataError: the folder may not be listed.
    """
    folders, files, _ = _listed(folder)
    return folders, files


def _listed(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """As ``entries``, and the names of pipes, sockets and devices: to open one could wait for ever."""
    try:
        with os.scandir(folder) as listing:
            found = [(entry.name, _kind_of(entry)) for entry in listing]
    except OSError as error:
        raise DataError(
            f"the folder cannot be listed ({error.strerror}). Give yourself the right to read it.", where=str(folder)
        ) from error
    found.sort(key=lambda pair: natural_key(pair[0]))
    folders, files, special = ([name for name, kind in found if kind == wanted] for wanted in ("folder", "file", "special"))
    return folders, files, special


def _kind_of(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file`` or ``special``; a link that leads nowhere, or to itself, is a file that cannot be read."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() or not stat.S_IFMT(entry.stat().st_mode) else "special"
    except OSError:
        return "file"


def unwrap(folder: Path, ends_at: Callable[[Path], bool]) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """The folder that holds the data, the inner one where a folder is a mere wrapper around another; notes and warnings about it.

    A folder without images (code, texts) does not count, nor do the images of a repository's own folders, such as ``docs``, where the
    one folder beside them is named as a container of data.

    Args:
        folder: that a person named.
        ends_at: whether a folder says by itself what lies within, as by a table.
    """
    inner = folder
    warnings: list[str] = []
    for _ in range(_MAX_WRAPPERS):
        folders, files = _visible(inner)
        if any(is_image_name(name) for name in files) or not folders or ends_at(inner):
            break
        lone = folders if len(folders) == 1 else [name for name in folders if _holds_image(inner / name)]
        data = [name for name in lone if not is_project_folder(name)]
        if len(data) != 1 or (len(lone) > 1 and not is_container(data[0])) or split_meant(data[0]) == "train":
            break
        if len(folders) > 1 and not is_container(data[0]) and len(lone) == 1 and not _holds_class_folders(inner / data[0]):
            break
        if not _holds_data_below(inner / data[0]):
            break
        if len(lone) > 1:
            left = shown(repr(name) for name in lone if name != data[0])
            warnings.append(f"the images in {left} are left out: the data lies in the folder {data[0]!r} beside it.")
        inner = inner / data[0]
    if inner == folder:
        return folder, (), ()
    note = f"the data lies in the folder {inner.relative_to(folder).as_posix()!r}, which is read."
    return inner, (note,), tuple(warnings)


def read_folders(
    root: Path, ledger: Ledger, name: str, reading: Reading = OPEN, classes: Sequence[str] | None = None
) -> FoundSamples:
    """The images of a folder for each class, or of split folders that hold them.

    Every image below a class folder belongs to that class, however deep. Links to folders are followed. Hidden files and
    those of systems, files that are no images by suffix or content, and masks of other images are passed over and noted on the ledger.

    Args:
        root: the folder.
        ledger: what was left out is noted here.
        name: what people call the dataset.
        reading: which level of folders names the classes, where a person said so.
        classes: the classes of a trained network, which answer what the folders leave open.

    Raises:
        DataError: no images, images without a class folder in a split, class and split folders side by side, or folders that can be
            read in two ways.
    """
    folders, files = _visible(root, ledger)
    loose = 0
    for file in files:
        is_image = is_image_file(root / file)
        loose += is_image
        ledger.note(
            LEFT_OUT, file, "beside the class folders, so without a label" if is_image else kind_of_file(root / file)
        )
    images = {folder: _images_below(root, folder, ledger) for folder in folders}
    samples = [sample for below in images.values() for sample in below]
    no_samples = find_no_samples(root, samples)
    masks = no_samples.masks
    samples = [sample for sample in samples if sample not in no_samples.reasons]
    unread = told_unread_images(ledger.reasons(LEFT_OUT))
    if not samples:
        there = f"{write_number_of(loose, 'image')} but no class folders" if loose else "no images found"
        raise DataError(" ".join([f"{there}.", *unread, LAYOUTS]), where=str(root))
    _refuse_masks_alone(root, samples, masks)
    try:
        layout = lay_out(
            root,
            samples,
            class_depth=reading.class_depth,
            classes=classes,
            same=partial(_are_same, root),
            is_repository=_is_repository(root),
        )
    except DataError as error:
        raise DataError(" ".join([*no_samples.told_masks(), error.message]), where=error.where) from error
    labels = {label for _, label, _ in layout.rows}
    if classes is None and len(labels) == 1 and is_container(label := labels.pop()):
        raise DataError(f"all images lie in {label!r}, which names no class. {CLASSIFIES}", where=str(root))
    no_samples.note_on(ledger)
    for sample, reason in layout.left_out.items():
        ledger.note(NO_SAMPLE, sample, reason)
    warnings = no_samples.warnings() + _empty_folders(root, folders, images, layout) + layout.warnings + unread
    if loose:
        warnings.append(f"{write_number_of(loose, 'image')} beside the class folders left out, for want of a label.")
    found = _found(root, layout.kind, name, layout.rows, warnings)
    return dataclasses.replace(found, notes=tuple(layout.notes))


def _is_repository(root: Path) -> bool:
    """Whether a folder is a repository: it holds Git's own folder, a license, or a list of what to install."""
    names = {name.lower() for names in entries(root) for name in names}
    return bool(
        names & {".git", ".github", "license", "license.md", "license.txt", "requirements.txt", "setup.py", "pyproject.toml"}
    )


def _images_below(root: Path, folder: str, ledger: Ledger) -> list[str]:
    """Every image below a folder, relative to the root; other files go on the ledger."""
    images = []
    for sample in _files_below(root, folder, ledger):
        if is_image_file(root / sample):
            images.append(sample)
            if not is_image_name(sample):
                ledger.note("read by its content", sample)
        else:
            ledger.note(LEFT_OUT, sample, kind_of_file(root / sample))
    return images


def _refuse_masks_alone(root: Path, samples: list[str], masks: Mapping[str, str]) -> None:
    """Refuse images and masks without any class.

    Raises:
        DataError: without the masks, all that is left is one folder of images.
    """
    depths = {sample.count("/") for sample in samples}
    tops = {sample.split("/")[0] for sample in samples}
    if masks and len(tops) == 1 and depths == {1}:
        mask, image = next(iter(masks.items()))
        raise DataError(
            f"{write_number_of(len(masks), 'file is a mask', 'files are masks')} of the images beside them ({mask} of "
            f"{image or 'an image'}), and not a class. {CLASSIFIES}",
            where=str(root),
        )


def _empty_folders(root: Path, folders: list[str], images: Mapping[str, list[str]], layout: Layout) -> list[str]:
    """A warning for each folder in the place of a class that holds no images.

    Raises:
        DataError: a split folder holds none at all.
    """
    if layout.kind == "folder":
        return [_told_empty(folder) for folder in folders if not images[folder]]
    splits = {folder for folder in folders if split_of(folder) and not images[folder]}
    if splits:
        raise DataError(f"the split folder {min(splits)!r} holds no images. {LAYOUTS}", where=str(root))
    used = {sample.split("/")[0] for sample, _, _ in layout.rows}
    inner = [(folder, name) for folder in folders if folder in used for name in _visible(root / folder)[0]]
    return [
        _told_empty(f"{folder}/{name}")
        for folder, name in inner
        if not any(sample.startswith(f"{folder}/{name}/") for sample in images[folder])
    ]


def _told_empty(folder: str) -> str:
    return f"the folder {folder!r} holds no images, so it is not a class."


def _are_same(root: Path, first: str, second: str) -> bool:
    """Whether two files hold the same bytes."""
    try:
        return filecmp.cmp(root / first, root / second, shallow=False)
    except OSError:
        return False


def _found(root: Path, kind: str, name: str, rows: list[tuple[str, str, str]], warnings: list[str]) -> FoundSamples:
    samples = [sample for sample, _, _ in rows]
    return FoundSamples(
        root=root,
        kind=kind,
        name=name,
        names=samples,
        labels=[label for _, label, _ in rows],
        splits=[split for _, _, split in rows],
        reader=ImageFiles(root, tuple(samples)),
        warnings=tuple(warnings),
    )


def _visible(folder: Path, ledger: Ledger | None = None, root: Path | None = None) -> tuple[list[str], list[str]]:
    """Folders and files that are not passed over; those that are go on the ledger where one is given."""
    folders, files, special = _listed(folder)
    passed = {name: reason for name in [*folders, *files] if (reason := why_passed_over(name))}
    passed |= dict.fromkeys(special, "a pipe, a socket or a device, not a file")
    passed |= {name: "runs of visus" for name in folders if _holds_runs(folder / name)}
    if ledger is not None:
        place = "" if root is None or root == folder else f"{folder.relative_to(root).as_posix()}/"
        for name, reason in passed.items():
            ledger.note(LEFT_OUT, place + name, reason)
    return [name for name in folders if name not in passed], [name for name in files if name not in passed]


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is a run, or a folder of runs, that a training left within the data."""
    places = (folder, *_folders_in(folder))
    return any(os.path.isfile(each / "recipe.yaml") and os.path.isfile(each / "split.csv") for each in places)


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in entries(folder)[0]]
    except DataError:  # it may not be listed; reading it tells so
        return []


def _files_below(
    root: Path, folder: str, ledger: Ledger | None, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Every visible file below a folder, relative to the root, in order; a link that leads back up is not followed."""
    state = _identity(root / folder)
    above = above or frozenset(_identity(place) for place in _places_above(root, folder))
    if state in above:
        if ledger is not None:
            ledger.note(LEFT_OUT, folder, "a link that leads back up, which is not followed")
        return
    folders, files = _visible(root / folder, ledger, root)
    for file in files:
        yield f"{folder}/{file}"
    for inner in folders:
        yield from _files_below(root, f"{folder}/{inner}", ledger, above | {state})


def _places_above(root: Path, folder: str) -> Iterator[Path]:
    """Every folder above ``root / folder``, up to the top of the disk."""
    for number in range(len(Path(folder).parts)):
        yield root.joinpath(*Path(folder).parts[:number])
    yield from root.resolve().parents


def _identity(folder: Path) -> tuple[int, int]:
    try:
        state = os.stat(folder)
    except OSError as error:
        raise DataError(
            f"the folder cannot be entered ({error.strerror}). Give yourself the right to read it.", where=str(folder)
        ) from error
    return state.st_dev, state.st_ino


def class_folders(folder: Path) -> list[str]:
    """The folders in a folder that holds nothing but folders with images of their own; none where it holds anything else."""
    try:
        folders, files = _visible(folder)
        if files or any((folder / name).is_symlink() for name in folders):
            return []
        inside = [_visible(folder / name) for name in folders]
    except DataError:
        return []
    return folders if all(not inner and any(map(is_image_name, names)) for inner, names in inside) else []


def _holds_image(folder: Path) -> bool:
    return any(is_image_name(sample) for sample in _files_below(folder.parent, folder.name, None))


def _holds_data_below(folder: Path) -> bool:
    """Whether a lone folder is a wrapper: it holds folders with images or data files, and no images of its own."""
    folders, files = _visible(folder)
    if any(is_image_name(name) for name in files):
        return False
    return bool(files) or any(_holds_image(folder / inner) or _visible(folder / inner)[0] for inner in folders)


def _holds_class_folders(folder: Path) -> bool:
    """Whether two folders or more with images lie in a folder."""
    return sum(_holds_image(folder / inner) for inner in _visible(folder)[0]) > 1


def walk(folder: Path, ledger: Ledger) -> Iterator[Path | DataError]:
    """Every file below a folder that a training would look at, in the order of names; what it passes over goes on the ledger.

    A folder that may not be listed is given as its error, and the others follow.
    """
    yield from _walk(folder, folder, ledger, frozenset())


def _walk(root: Path, folder: Path, ledger: Ledger, above: frozenset[tuple[int, int]]) -> Iterator[Path | DataError]:
    try:
        state = _identity(folder)
        above = above or frozenset(_identity(place) for place in root.resolve().parents)
        if state in above:
            ledger.note(LEFT_OUT, folder.relative_to(root).as_posix(), "a link that leads back up, which is not followed")
            return
        folders, files = _visible(folder, ledger, root)
    except DataError as error:
        yield error
        return
    yield from (folder / file for file in files)
    for inner in folders:
        yield from _walk(root, folder / inner, ledger, above | {state})
