"""Folders of images: one folder per class, or split folders with class folders."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from visus.data.excluded_images import EXCLUDED_IMAGE, find_excluded_images
from visus.data.file_kinds import is_image_file, kind_of_file, unread_format_warnings
from visus.data.folder_layouts import CLASSIFIES, Layout, infer_layout
from visus.data.folder_names import guess_split, is_container, is_project_folder
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import Ledger
from visus.data.listed_names import write_names
from visus.data.reading import DEFAULT_READING, Reading
from visus.data.samples import ImageFiles
from visus.data.source_rules import EMPTY_FOLDER, FoundSamples, natural_key, parse_split
from visus.data.system_files import reason_to_ignore
from visus.errors import DataError
from visus.units import write_number_of

LEFT_OUT = "left out: hidden or not an image"
_MAX_WRAPPERS = 4

LAYOUTS = (
    "visus reads one folder per class (cats/1.jpg, dogs/2.jpg), split folders (train/cats/1.jpg, test/cats/2.jpg), "
    "a table (labels.csv with the columns path,label), and IDX, CIFAR, NPZ and NPY files."
)


def is_ignored(name: str) -> bool:
    """Whether a file or folder belongs to a system or an editor, such as ``.DS_Store``, ``__MACOSX`` or ``Thumbs.db``."""
    return reason_to_ignore(name) is not None


def is_image_name(name: str) -> bool:
    """Whether the file extension is that of an image; case is ignored."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, each in natural order.

    A link to a folder counts as a folder. Pipes, sockets and devices are excluded.

    Raises:
        DataError: the folder cannot be listed.
    """
    folders, files, _ = _scan(folder)
    return folders, files


def _scan(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of folders, files, and special files (pipes, sockets and devices, where opening one could block forever)."""
    try:
        with os.scandir(folder) as listing:
            found = [(entry.name, _entry_kind(entry)) for entry in listing]
    except OSError as error:
        raise DataError(
            f"the folder cannot be listed ({error.strerror}). Change its permissions so that you can read it.",
            where=str(folder),
        ) from error
    found.sort(key=lambda pair: natural_key(pair[0]))
    folders, files, special = ([name for name, kind in found if kind == wanted] for wanted in ("folder", "file", "special"))
    return folders, files, special


def _entry_kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file`` or ``special``. A broken or circular link is a file that cannot be read."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() or not stat.S_IFMT(entry.stat().st_mode) else "special"
    except OSError:
        return "file"


def unwrap(folder: Path, is_dataset: Callable[[Path], bool]) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """Descend into wrapper folders: the folder that holds the data, notes, and warnings.

    A wrapper is a folder whose data lies in a single subfolder. Subfolders without images (code, texts) do not count. Folders of a
    repository, such as ``docs``, do not count either if the remaining subfolder has a name such as ``data``.

    Args:
        folder: the folder that the user gave.
        is_dataset: whether a folder describes its own content, for example by a table, so that it is no wrapper.
    """
    inner = folder
    warnings: list[str] = []
    for _ in range(_MAX_WRAPPERS):
        folders, files = _visible(inner)
        if any(is_image_name(name) for name in files) or not folders or is_dataset(inner):
            break
        candidates = folders if len(folders) == 1 else [name for name in folders if _holds_image(inner / name)]
        data = [name for name in candidates if not is_project_folder(name)]
        if len(data) != 1 or (len(candidates) > 1 and not is_container(data[0])) or guess_split(data[0]) == "train":
            break
        is_lone = len(folders) > 1 and len(candidates) == 1 and not is_container(data[0])
        if is_lone and not _holds_class_folders(inner / data[0]):
            break
        if not _holds_data_below(inner / data[0]):
            break
        if len(candidates) > 1:
            others = write_names(repr(name) for name in candidates if name != data[0])
            warnings.append(f"the images in {others} are left out: the data lies in the folder {data[0]!r}.")
        inner = inner / data[0]
    if inner == folder:
        return folder, (), ()
    note = f"the data lies in the folder {inner.relative_to(folder).as_posix()!r}, which is read."
    return inner, (note,), tuple(warnings)


def read_folders(
    root: Path, ledger: Ledger, name: str, reading: Reading = DEFAULT_READING, classes: Sequence[str] | None = None
) -> FoundSamples:
    """Read the images of class folders, or of split folders with class folders.

    Every image below a class folder belongs to that class, at any depth. Links to folders are followed. Hidden files, system files,
    files that are not images, and masks of other images are left out and noted on the ledger.

    Args:
        root: the folder.
        ledger: receives the files that are left out.
        name: name of the dataset.
        reading: the level of folders that names the classes, if the user stated it.
        classes: the classes of a trained network; they resolve ambiguous folders.

    Raises:
        DataError: there are no images, images of a split have no class folder, class folders and split folders are mixed, or the
            folders are ambiguous.
    """
    folders, files = _visible(root, ledger)
    loose = 0
    for file in files:
        is_image = is_image_file(root / file)
        loose += is_image
        ledger.note(
            LEFT_OUT, file, "outside the class folders, so without a label" if is_image else kind_of_file(root / file)
        )
    images = {folder: _images_below(root, folder, ledger) for folder in folders}
    samples = [sample for below in images.values() for sample in below]
    excluded_images = find_excluded_images(root, samples)
    masks = excluded_images.masks
    samples = [sample for sample in samples if sample not in excluded_images.reasons]
    unread = unread_format_warnings(ledger.reasons(LEFT_OUT))
    if not samples:
        problem = f"{write_number_of(loose, 'image')} but no class folders" if loose else "no images found"
        raise DataError(" ".join([f"{problem}.", *unread, LAYOUTS]), where=str(root))
    _refuse_masks_alone(root, samples, masks)
    try:
        layout = infer_layout(
            root,
            samples,
            class_depth=reading.class_depth,
            classes=classes,
            are_same=partial(_are_same, root),
            is_repository=_is_repository(root),
        )
    except DataError as error:
        raise DataError(" ".join([*excluded_images.mask_warnings(), error.message]), where=error.where) from error
    labels = {label for _, label, _ in layout.rows}
    if classes is None and len(labels) == 1 and is_container(label := labels.pop()):
        raise DataError(f"all images lie in {label!r}, which is not the name of a class. {CLASSIFIES}", where=str(root))
    excluded_images.note_on(ledger)
    for sample, reason in layout.left_out.items():
        ledger.note(EXCLUDED_IMAGE, sample, reason)
    warnings = excluded_images.warnings() + _empty_folders(root, folders, images, layout) + layout.warnings + unread
    warnings += _nested_classes(layout.rows)
    if loose:
        warnings.append(f"{write_number_of(loose, 'image')} outside the class folders left out: no label.")
    found = _found(root, layout.kind, name, layout.rows, warnings)
    return dataclasses.replace(found, notes=tuple(layout.notes))


def _is_repository(root: Path) -> bool:
    """Whether a folder is a code repository: it contains a Git folder, a license, or a list of requirements."""
    names = {name.lower() for names in list_folder(root) for name in names}
    return bool(
        names & {".git", ".github", "license", "license.md", "license.txt", "requirements.txt", "setup.py", "pyproject.toml"}
    )


def _images_below(root: Path, folder: str, ledger: Ledger) -> list[str]:
    """Every image below a folder, relative to the root. Other files are noted on the ledger."""
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
    """Check that the data is more than one folder of images with their masks.

    Raises:
        DataError: without the masks, there is only one folder of images.
    """
    depths = {sample.count("/") for sample in samples}
    tops = {sample.split("/")[0] for sample in samples}
    if masks and len(tops) == 1 and depths == {1}:
        mask, image = next(iter(masks.items()))
        raise DataError(
            f"{write_number_of(len(masks), 'file is a mask', 'files are masks')} of the other images ({mask} of "
            f"{image or 'an image'}), not a class. {CLASSIFIES}",
            where=str(root),
        )


def _empty_folders(root: Path, folders: list[str], images: Mapping[str, list[str]], layout: Layout) -> list[str]:
    """A warning for each class folder without images.

    Raises:
        DataError: a split folder holds no images.
    """
    if layout.kind == "folder":
        return [_empty_folder_warning(folder) for folder in folders if not images[folder]]
    splits = {folder for folder in folders if parse_split(folder) and not images[folder]}
    if splits:
        raise DataError(f"the split folder {min(splits)!r} holds no images. {LAYOUTS}", where=str(root))
    used = {sample.split("/")[0] for sample, _, _ in layout.rows}
    inner = [(folder, name) for folder in folders if folder in used for name in _visible(root / folder)[0]]
    return [
        _empty_folder_warning(f"{folder}/{name}")
        for folder, name in inner
        if not any(sample.startswith(f"{folder}/{name}/") for sample in images[folder])
    ]


def _nested_classes(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """A warning for each class whose subfolders have the names of the other classes, as a folder of sorted copies has."""
    labels = {label for _, label, _ in rows}
    inside: dict[str, list[str]] = defaultdict(list)  # class -> the class that the next folder names, or "", for each sample
    for sample, label, _ in rows:
        parts = sample.split("/")[:-1]
        following = parts[parts.index(label) + 1 :][:1] if label in parts else []
        inside[label] += [name if name in labels - {label} else "" for name in following or [""]]
    return [
        f"the class {label!r} has subfolders with the names of other classes ({write_names(sorted(set(names) - {''}))}). If they hold sorted "
        f"copies, move the folder {label!r} out of the data."
        for label, names in inside.items()
        if sum(map(bool, names)) >= 0.5 * len(names)
    ]


def _empty_folder_warning(folder: str) -> str:
    return f"the folder {folder!r} {EMPTY_FOLDER}"


def _are_same(root: Path, first: str, second: str) -> bool:
    """Whether two files have the same bytes."""
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
    """Names of the folders and files that are not ignored. The ignored ones are noted on ``ledger``."""
    folders, files, special = _scan(folder)
    ignored = {name: reason for name in [*folders, *files] if (reason := reason_to_ignore(name))}
    ignored |= dict.fromkeys(special, "a pipe, a socket or a device, not a file")
    ignored |= {name: "runs of visus" for name in folders if _holds_runs(folder / name)}
    if ledger is not None:
        place = "" if root is None or root == folder else f"{folder.relative_to(root).as_posix()}/"
        for name, reason in ignored.items():
            ledger.note(LEFT_OUT, place + name, reason)
    return [name for name in folders if name not in ignored], [name for name in files if name not in ignored]


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is a run of visus, or holds runs."""
    places = (folder, *_subfolders(folder))
    return any(os.path.isfile(place / "recipe.yaml") and os.path.isfile(place / "split.csv") for place in places)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in list_folder(folder)[0]]
    except DataError:  # not listable; reading it raises the error
        return []


def _files_below(
    root: Path, folder: str, ledger: Ledger | None, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Every file below a folder that is not ignored, relative to the root, in natural order. Links to a parent folder are not followed."""
    state = _identity(root / folder)
    above = above or frozenset(_identity(place) for place in _parent_folders(root, folder))
    if state in above:
        if ledger is not None:
            ledger.note(LEFT_OUT, folder, "a link to a parent folder, which is not followed")
        return
    folders, files = _visible(root / folder, ledger, root)
    for file in files:
        yield f"{folder}/{file}"
    for inner in folders:
        yield from _files_below(root, f"{folder}/{inner}", ledger, above | {state})


def _parent_folders(root: Path, folder: str) -> Iterator[Path]:
    """Every parent folder of ``root / folder``, up to the root of the file system."""
    for number in range(len(Path(folder).parts)):
        yield root.joinpath(*Path(folder).parts[:number])
    yield from root.resolve().parents


def _identity(folder: Path) -> tuple[int, int]:
    try:
        state = os.stat(folder)
    except OSError as error:
        raise DataError(
            f"the folder cannot be opened ({error.strerror}). Change its permissions so that you can read it.",
            where=str(folder),
        ) from error
    return state.st_dev, state.st_ino


def class_folders(folder: Path) -> list[str]:
    """The subfolders of a folder that contains only folders of images; empty if it contains anything else."""
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
    """Whether a folder holds data files or subfolders with images, but no images directly."""
    folders, files = _visible(folder)
    if any(is_image_name(name) for name in files):
        return False
    return bool(files) or any(_holds_image(folder / inner) or _visible(folder / inner)[0] for inner in folders)


def _holds_class_folders(folder: Path) -> bool:
    """Whether at least two subfolders hold images."""
    return sum(_holds_image(folder / inner) for inner in _visible(folder)[0]) > 1


def walk_files(folder: Path, ledger: Ledger) -> Iterator[Path | DataError]:
    """Every file below a folder that a training would read, in natural order. Ignored files are noted on the ledger.

    A folder that cannot be listed yields its error, and the walk continues.
    """
    yield from _walk(folder, folder, ledger, frozenset())


def _walk(root: Path, folder: Path, ledger: Ledger, above: frozenset[tuple[int, int]]) -> Iterator[Path | DataError]:
    try:
        state = _identity(folder)
        above = above or frozenset(_identity(place) for place in root.resolve().parents)
        if state in above:
            ledger.note(LEFT_OUT, folder.relative_to(root).as_posix(), "a link to a parent folder, which is not followed")
            return
        folders, files = _visible(folder, ledger, root)
    except DataError as error:
        yield error
        return
    yield from (folder / file for file in files)
    for inner in folders:
        yield from _walk(root, folder / inner, ledger, above | {state})
