"""What a person names for a prediction -> items: image files, those of folders and tables, rows of array files, arrays.

This file knows files and folders. It must not know networks or answers.
"""

from __future__ import annotations

import csv
import glob
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visus.data import picture_headers
from visus.data.ledger import Ledger
from visus.data.pictures import PICTURE_SUFFIXES
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.source_folders import LEFT_OUT, is_picture_name, walk
from visus.data.source_rules import natural_key
from visus.data.source_table import TABLE_SUFFIXES
from visus.errors import DataError, PictureError, UsageError
from visus.files import expand_home
from visus.units import write_shape

ARRAY_SUFFIXES = (".npy", ".npz")
PATH_COLUMNS = ("path", "file", "filename", "image")
_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
_DAMAGED = "this is not a readable NumPy file of plain numbers."


@dataclass(frozen=True)
class PictureItem:
    """A picture file."""

    name: str
    path: Path


@dataclass(frozen=True, eq=False)
class ArrayItem:
    """One row of an array, shape (channels, *spatial)."""

    name: str
    row: Pixels


@dataclass(frozen=True)
class UnreadItem:
    """Something that was named and cannot be read, with the reason."""

    name: str
    problem: str


Item = PictureItem | ArrayItem | UnreadItem


def find_items(sources: Iterable[str | Path | Pixels], preprocessing: Preprocessing, ledger: Ledger) -> Iterator[Item]:
    """The items in files, folders, patterns, tables and arrays, in order.

    A folder is searched with its sub-folders as for a training: links are followed, and what belongs to a system is passed over. Files that
    hold no image, by suffix nor by content, go on the ledger. What does not exist or does not fit is an item that cannot be read, and the
    others follow.

    Raises:
        UsageError: an array that does not fit the network.
    """
    for number, source in enumerate(sources):
        if isinstance(source, np.ndarray):
            yield from _rows(source, f"array {number + 1}", preprocessing)
            continue
        for path in _meant(Path(source)):
            try:
                if path.is_dir():
                    yield from _in_folder(path, preprocessing, ledger)
                else:
                    yield from _in_file(path, preprocessing)
            except (DataError, UsageError) as error:
                yield UnreadItem(error.where or str(path), error.message)
            except OSError as error:
                yield UnreadItem(
                    str(path), f"this cannot be read ({error.strerror or error}). Give yourself the right to read it."
                )


def _meant(path: Path) -> list[Path]:
    """The path itself, or what a pattern matches that no shell has replaced."""
    if os.path.lexists(path) or not any(sign in str(path) for sign in "*?["):
        return [path if os.path.lexists(path) else expand_home(path)]
    return [Path(name) for name in sorted(glob.glob(str(path.expanduser()), recursive=True), key=natural_key)] or [path]


def _in_folder(folder: Path, preprocessing: Preprocessing, ledger: Ledger) -> Iterator[Item]:
    found = list(walk(folder, ledger))
    files = [file for file in found if isinstance(file, Path)]
    arrays = [file for file in files if file.suffix.lower() in ARRAY_SUFFIXES]
    images = [file for file in files if _holds_image(file)] if preprocessing.kind == "pictures" or not arrays else []
    if preprocessing.kind == "array" and not preprocessing.is_picture_like:
        images = []
    chosen = set(images or arrays)
    for entry in found:
        if isinstance(entry, DataError):
            yield UnreadItem(entry.where, entry.message)
        elif entry in chosen:
            yield from _in_file(entry, preprocessing)
        else:
            ledger.note(LEFT_OUT, entry.relative_to(folder).as_posix(), "not a picture")
    if not chosen and not any(isinstance(entry, DataError) for entry in found):
        suffixes = PICTURE_SUFFIXES if preprocessing.kind == "pictures" else ARRAY_SUFFIXES
        raise UsageError(
            f"this folder has no file that this network reads ({', '.join(sorted(suffixes))}).", where=str(folder)
        )


def _holds_image(file: Path) -> bool:
    """Whether a file is an image by its suffix, or else by its first bytes, as where it is named alone."""
    if is_picture_name(file.name):
        return True
    try:
        with open(file, "rb") as stream:
            return picture_headers.format_of(stream.read(picture_headers.HEAD_BYTES)) is not None
    except OSError:
        return False


def _in_table(table: Path) -> Iterator[Item]:
    """The files that a table names in its column of paths, which are relative to it."""
    text = table.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = [line for line in text.splitlines(keepends=True) if line.strip()]
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    rows = list(csv.reader(lines, delimiter=delimiter))
    heads = [cell.strip().lower() for cell in rows[0]] if rows else []
    columns = [heads.index(name) for name in PATH_COLUMNS if name in heads]
    if not columns:
        raise UsageError(
            f"this table has no column {' or '.join(PATH_COLUMNS)}; it has {', '.join(heads) or 'no rows'}. "
            "Name the column of the files path.",
            where=str(table),
        )
    for row in rows[1:]:
        name = row[columns[0]].strip() if len(row) > columns[0] else ""
        if name:
            yield PictureItem(name, table.parent / name)


def _in_file(file: Path, preprocessing: Preprocessing) -> Iterator[Item]:
    if not file.exists():
        raise UsageError(_missing(file), where=str(file))
    if not file.is_file():
        raise UsageError("this is a pipe, a socket or a device. Save the data as a file first.", where=str(file))
    if file.suffix.lower() in TABLE_SUFFIXES:
        yield from _in_table(file)
        return
    if file.suffix.lower() not in ARRAY_SUFFIXES:
        yield PictureItem(str(file), file)
        return
    try:
        found = np.load(file, allow_pickle=False)
    except _DAMAGE as error:
        raise PictureError(_DAMAGED, where=str(file)) from error
    if isinstance(found, np.ndarray):
        yield from _rows(found, str(file), preprocessing)
        return
    with found:
        names = [name for name in ("x", "images", "x_test", "test_images") if name in found.files]
        if not names:
            raise UsageError(
                f"this file has no array x, images, x_test or test_images; it has {', '.join(found.files)}.", where=str(file)
            )
        try:
            rows = found[names[0]]
        except _DAMAGE as error:
            raise PictureError(_DAMAGED, where=str(file)) from error
        yield from _rows(rows, f"{file}:{names[0]}", preprocessing)


def _missing(file: Path) -> str:
    if os.path.islink(file):
        return f"this link leads to {os.readlink(file)}, which does not exist."
    if any(sign in str(file) for sign in "*?["):
        return "no file matches this pattern."
    return "there is no such file or folder."


def _rows(array: Pixels, name: str, preprocessing: Preprocessing) -> Iterator[Item]:
    """Rows of (items, channels, *spatial), of (items, *spatial) for one channel, or a single item."""
    num_axes = len(preprocessing.size)
    if array.ndim == num_axes + 1 and array.shape[0] == preprocessing.channels and array.shape[1:] == preprocessing.size:
        yield ArrayItem(name, array)
        return
    if array.ndim == num_axes + 1 and preprocessing.channels == 1:
        array = array[:, None]
    elif (
        array.ndim == num_axes + 2 and array.shape[1] != preprocessing.channels and array.shape[-1] == preprocessing.channels
    ):
        array = np.moveaxis(array, -1, 1)
    if array.ndim != num_axes + 2:
        raise UsageError(
            f"an array of {write_shape(array.shape)} does not fit a network for {write_shape(preprocessing.input_shape)}.",
            where=name,
        )
    for index, row in enumerate(array):
        yield ArrayItem(f"{name}[{index}]", row)
