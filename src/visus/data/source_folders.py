"""Folders of pictures: a folder for each class, or split folders that hold them.

This file knows how folders are walked and what is passed over. It must not know picture formats beyond their suffixes, or
labels' numbers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from visus.data.ledger import Ledger
from visus.data.pictures import PICTURE_SUFFIXES
from visus.data.samples import SPLITS, UNASSIGNED, PictureFiles
from visus.data.source_rules import Found, natural_key, shown, split_of
from visus.errors import DataError, closest_name
from visus.units import write_number_of

LEFT_OUT = "left out: hidden or not a picture"
_SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_MAX_WRAPPERS = 4

LAYOUTS = (
    "visus reads a folder for each class (cats/1.jpg, dogs/2.jpg), split folders (train/cats/1.jpg, test/cats/2.jpg), "
    "a table (labels.csv with the columns path,label), and IDX, CIFAR, NPZ and NPY files."
)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder belongs to a system or an editor, such as ``.DS_Store``, ``__MACOSX`` or ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_picture_name(name: str) -> bool:
    """Whether the suffix is one of a picture, in capitals or not."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


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


def unwrap(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the data, the inner one where a folder is a mere wrapper around another; and a note."""
    inner = folder
    for _ in range(_MAX_WRAPPERS):
        folders, files = _visible(inner)
        if len(folders) != 1 or any(is_picture_name(name) for name in files) or split_of(folders[0]) == "train":
            break
        if not _holds_data_below(inner / folders[0]):
            break
        inner = inner / folders[0]
    if inner == folder:
        return folder, ()
    return inner, (f"the data lies in the folder {inner.relative_to(folder).as_posix()!r}, which is read.",)


def read_folders(root: Path, ledger: Ledger, name: str) -> Found:
    """The pictures of a folder for each class, or of split folders that hold them.

    Every picture below a class folder belongs to that class, however deep. Links to folders are followed. Hidden files and
    those of systems, and files that are not pictures by suffix, are passed over and noted on the ledger.

    Raises:
        DataError: no pictures, pictures without a class folder in a split, or class and split folders side by side.
    """
    folders, files = _visible(root, ledger)
    for file in files:
        reason = "beside the class folders, so without a label" if is_picture_name(file) else "not a picture"
        ledger.note(LEFT_OUT, file, reason)
    splits = {folder: split_of(folder) for folder in folders}
    if _is_split_layout(root, splits):
        return _read_split_folders(root, splits, ledger, name)
    rows, warnings = _read_classes(root, "", folders, ledger)
    loose = sum(is_picture_name(file) for file in files)
    if rows and loose:
        warnings.append(f"{write_number_of(loose, 'picture')} beside the class folders left out, for want of a label.")
    if not rows:
        found = f"{write_number_of(loose, 'picture')} but no class folders" if loose else "no pictures found"
        raise DataError(f"{found}. {LAYOUTS}", where=str(root))
    return _found(root, "folder", name, [(item, label, UNASSIGNED) for item, label in rows], warnings)


def _is_split_layout(root: Path, splits: dict[str, str | None]) -> bool:
    """Split folders are meant where every folder is one, or where ``train`` holds folders with pictures.

    Raises:
        DataError: split folders and other folders with pictures lie side by side, or two folders mean one split.
    """
    named = [folder for folder, split in splits.items() if split]
    others = [folder for folder, split in splits.items() if not split]
    train = [folder for folder in named if splits[folder] == "train"]
    if not named or (others and not any(_has_class_folders(root / folder) for folder in train)):
        return False
    doubled = [split for split in SPLITS if sum(splits[folder] == split for folder in named) > 1]
    if doubled:
        same = shown(folder for folder in named if splits[folder] == doubled[0])
        raise DataError(f"the folders {same} mean the same split. Keep one of them.", where=str(root))
    stray = [folder for folder in others if _holds_picture(root / folder)]
    if stray:
        guess = closest_name(stray[0], SPLITS)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise DataError(
            f"the folder {stray[0]!r} holds pictures and lies beside the split folder {train[0]!r}, so it is neither a "
            f"split nor a class.{hint} Rename it, or move it elsewhere.",
            where=str(root),
        )
    return True


def _read_split_folders(root: Path, splits: dict[str, str | None], ledger: Ledger, name: str) -> Found:
    rows: list[tuple[str, str, str]] = []
    warnings: list[str] = []
    for folder, split in splits.items():
        if split is None:
            _ignore_all(root, folder, ledger)
            continue
        classes, files = _visible(root / folder, ledger, root)
        loose = [file for file in files if is_picture_name(file)]
        if loose:
            raise DataError(
                f"{write_number_of(len(loose), 'picture')} in {folder!r} without a class folder, the first is {loose[0]!r}. "
                f"Put each into a folder named after its class, such as {folder}/cats/{loose[0]}, or move them elsewhere.",
                where=str(root),
            )
        for file in files:
            ledger.note(LEFT_OUT, f"{folder}/{file}", "not a picture")
        found, empty = _read_classes(root, f"{folder}/", classes, ledger)
        rows += [(item, label, split) for item, label in found]
        warnings += empty
        if not found:
            raise DataError(f"the split folder {folder!r} holds no pictures. {LAYOUTS}", where=str(root))
    return _found(root, "split folders", name, rows, warnings)


def _read_classes(root: Path, prefix: str, folders: list[str], ledger: Ledger) -> tuple[list[tuple[str, str]], list[str]]:
    """(item, class name) of every picture below the class folders, and a warning for each folder without one."""
    rows: list[tuple[str, str]] = []
    warnings = []
    for folder in folders:
        before = len(rows)
        for item in _files_below(root, f"{prefix}{folder}", ledger):
            if is_picture_name(item):
                rows.append((item, folder))
            else:
                ledger.note(LEFT_OUT, item, "not a picture")
        if len(rows) == before:
            warnings.append(f"the folder {prefix + folder!r} holds no pictures, so it is not a class.")
    return rows, warnings


def _found(root: Path, kind: str, name: str, rows: list[tuple[str, str, str]], warnings: list[str]) -> Found:
    items = [item for item, _, _ in rows]
    return Found(
        root=root,
        kind=kind,
        name=name,
        items=items,
        labels=[label for _, label, _ in rows],
        splits=[split for _, _, split in rows],
        reader=PictureFiles(root, tuple(items)),
        warnings=tuple(warnings),
    )


def _visible(folder: Path, ledger: Ledger | None = None, root: Path | None = None) -> tuple[list[str], list[str]]:
    """Folders and files that are not passed over; those that are go on the ledger where one is given."""
    folders, files, special = _listed(folder)
    passed = {name: "hidden, or of the system" for name in [*folders, *files] if is_passed_over(name)}
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
    except DataError:
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


def _ignore_all(root: Path, folder: str, ledger: Ledger) -> None:
    for item in _files_below(root, folder, ledger):
        ledger.note(LEFT_OUT, item, "neither below a split folder nor a picture")


def _holds_picture(folder: Path) -> bool:
    return any(is_picture_name(item) for item in _files_below(folder.parent, folder.name, None))


def _has_class_folders(folder: Path) -> bool:
    return any(_holds_picture(folder / inner) for inner in _visible(folder)[0])


def _holds_data_below(folder: Path) -> bool:
    """Whether a lone folder is a wrapper: it holds folders with pictures or data files, and no pictures of its own."""
    folders, files = _visible(folder)
    if any(is_picture_name(name) for name in files):
        return False
    return bool(files) or any(_holds_picture(folder / inner) or _visible(folder / inner)[0] for inner in folders)


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
            ledger.note(LEFT_OUT, str(folder), "a link that leads back up, which is not followed")
            return
        folders, files = _visible(folder, ledger, root)
    except DataError as error:
        yield error
        return
    yield from (folder / file for file in files)
    for inner in folders:
        yield from _walk(root, folder / inner, ledger, above | {state})
