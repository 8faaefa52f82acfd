"""The samples of a prediction: image files, those of folders and tables, rows of array files, arrays."""

from __future__ import annotations

import csv
import errno
import glob
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from PIL import Image

from visus.data.excluded_images import find_excluded_images
from visus.data.file_kinds import is_image_file, kind_of_file
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.source_arrays import channels_first
from visus.data.source_folders import LEFT_OUT, is_image_name, walk_files
from visus.data.source_rules import natural_key
from visus.data.source_table import TABLE_SUFFIXES
from visus.errors import NO_DOWNLOAD, DataError, ImageError, UsageError, join_messages, printable
from visus.files import closest_path, expand_home
from visus.units import write_shape

if TYPE_CHECKING:  # a bundle predicts without torch
    import torch

ARRAY_SUFFIXES = (".npy", ".npz")
PATH_COLUMNS = ("path", "file", "filename", "image")
LABELED = "Of a dataset, give the samples without their labels: [sample for sample, _ in dataset], or dataset['image'] of Hugging Face. run.evaluate(dataset) scores it."
"""What to do if samples are given with their labels."""
_DAMAGED = "this is not a readable NumPy file of plain numbers."
_NO_SUCH_FILE = "there is no such file or folder."


@dataclass(frozen=True)
class ImageSample:
    """An image file, with the folder that was given for it."""

    name: str
    path: Path
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class ArraySample:
    """One row of an array, shape (channels, *spatial), with its file and its number within the file."""

    name: str
    row: Pixels
    path: Path | None = None
    number: int = 0


@dataclass(frozen=True, eq=False)
class PillowSample:
    """An image that Pillow has opened or made."""

    name: str
    image: Image.Image


@dataclass(frozen=True)
class UnreadSample:
    """An input that cannot be read, with the reason."""

    name: str
    problem: str


Sample = ImageSample | ArraySample | PillowSample | UnreadSample
Source: TypeAlias = "str | Path | Pixels | torch.Tensor | Image.Image"
"""What a prediction takes."""


def find_samples(sources: Iterable[Source], preprocessing: Preprocessing, ledger: Ledger) -> Iterator[Sample]:
    """The samples in files, folders, patterns, tables, arrays and images of Pillow, in order.

    Folders are searched recursively as in training: links are followed, and system files are skipped. The ledger lists files
    without an image, masks of other images and copies in another format. Each missing or unsuitable file, of a folder too, becomes
    one unreadable sample in its place; the others follow.

    Raises:
        UsageError: an array does not fit the network, or something is neither a path nor an array nor an image.
    """
    for number, source in enumerate(sources):
        if is_array(source):
            yield from array_rows(cast("Pixels", source), f"array {number + 1}", preprocessing)
            continue
        if isinstance(source, Image.Image):
            file = getattr(source, "filename", "")
            yield PillowSample(os.fsdecode(file) if file else f"image {number + 1}", source)
            continue
        if not isinstance(source, (str, os.PathLike)):
            remedy = LABELED if isinstance(source, (tuple, Mapping)) else "Give its file or its array."
            raise UsageError(
                f"files are paths, arrays or images of Pillow, and number {number + 1} is a {type(source).__name__}. {remedy}"
            )
        for path in find_paths(Path(source)):
            yield from _or_unread(path, partial(_in_path, path, preprocessing, ledger))


def refuse_missing(names: Sequence[str]) -> None:
    """Raise an error if there is nothing at any of the paths, and nothing that they match as patterns.

    Raises:
        DataError: none of the files and folders exists.
    """
    if not names or any(is_there(Path(name)) for name in names):
        return
    hint = closest_path(Path(names[0])) if len(names) == 1 else ""
    missing = [f"{printable(name)}: {why_missing(find_paths(Path(name))[0])}{hint}" for name in names]
    raise DataError(join_messages(missing))


def is_there(path: Path) -> bool:
    """Whether there is something at a path, if only a broken link, or something that it matches as a pattern."""
    return any(os.path.lexists(each) for each in find_paths(path))


def find_paths(path: Path) -> list[Path]:
    """The path itself, or what a pattern matches that no shell has replaced."""
    if os.path.lexists(path) or not any(sign in str(path) for sign in "*?["):
        return [path if os.path.lexists(path) else expand_home(path)]
    return [Path(name) for name in sorted(glob.glob(str(path.expanduser()), recursive=True), key=natural_key)] or [path]


def _or_unread(path: Path, read: Callable[[], Iterator[Sample]]) -> Iterator[Sample]:
    """The samples of a file or folder. If it cannot be read, an unreadable sample follows those that were read before."""
    try:
        yield from read()
    except (DataError, UsageError) as error:
        yield UnreadSample(error.where or str(path), error.message)
    except MemoryError:
        yield UnreadSample(str(path), "this cannot be read (there is not enough memory).")
    except OSError as error:
        remedy = " Change its permissions so that you can read it." if isinstance(error, PermissionError) else ""
        yield UnreadSample(str(path), f"this cannot be read ({error.strerror or error}).{remedy}")


def _in_path(path: Path, preprocessing: Preprocessing, ledger: Ledger) -> Iterator[Sample]:
    return _in_folder(path, preprocessing, ledger) if path.is_dir() else _in_file(path, preprocessing)


def _in_folder(folder: Path, preprocessing: Preprocessing, ledger: Ledger) -> Iterator[Sample]:
    found = list(walk_files(folder, ledger))
    names = {file: file.relative_to(folder).as_posix() for file in found if isinstance(file, Path)}
    arrays = [file for file in names if file.suffix.lower() in ARRAY_SUFFIXES]
    reads_images = preprocessing.kind == "images" or (preprocessing.is_image_like and not arrays)
    images = [file for file in names if is_image_file(file)] if reads_images else []
    excluded_images = find_excluded_images(folder, [names[file] for file in images])
    excluded_images.note_on(ledger)
    chosen = set(images or arrays)
    for entry in found:
        if isinstance(entry, DataError):
            yield UnreadSample(entry.where, entry.message)
        elif entry not in chosen:
            ledger.note(LEFT_OUT, names[entry], kind_of_file(entry))
        elif names[entry] not in excluded_images.reasons:
            if images and not is_image_name(entry.name):
                ledger.note("read by its content", names[entry])
            yield from _or_unread(entry, partial(_in_file, entry, preprocessing, folder))
    if not chosen and len(names) == len(found):
        suffixes = IMAGE_SUFFIXES if preprocessing.kind == "images" else ARRAY_SUFFIXES
        raise UsageError(
            f"this folder has no file that this network reads ({', '.join(sorted(suffixes))}).", where=str(folder)
        )


def _in_table(table: Path) -> Iterator[Sample]:
    """The files that a table names in its column of paths, which are relative to it."""
    text = table.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = [line for line in text.splitlines(keepends=True) if line.strip()]
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise UsageError(f"this is not a readable table ({error}). Save it again as CSV.", where=str(table)) from error
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
        if "\0" in name:  # no system has such a file
            yield UnreadSample(name, _NO_SUCH_FILE)
        elif name:
            yield ImageSample(name, table.parent / name)


def array_file_rows(file: Path, preprocessing: Preprocessing) -> Iterator[ArraySample]:
    """The rows of an array file.

    Raises:
        ImageError: it cannot be read.
        UsageError: it has no array of samples, or its array does not fit the network.
    """
    for number, sample in enumerate(_rows_of_file(file, preprocessing)):
        yield replace(sample, path=file, number=number)


def _in_file(file: Path, preprocessing: Preprocessing, folder: Path | None = None) -> Iterator[Sample]:
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        raise UsageError(why_missing(file), where=str(file)) from error
    if not stat.S_ISREG(mode):
        raise UsageError("this is a pipe, a socket or a device. Save the data as a file first.", where=str(file))
    if file.suffix.lower() in TABLE_SUFFIXES:
        yield from _in_table(file)
        return
    if file.suffix.lower() not in ARRAY_SUFFIXES:
        yield ImageSample(str(file), file, folder)
        return
    yield from array_file_rows(file, preprocessing)


def _rows_of_file(file: Path, preprocessing: Preprocessing) -> Iterator[ArraySample]:
    array, name = _load(file)
    yield from _rows(array, name, preprocessing)


def _load(file: Path) -> tuple[Pixels, str]:
    """The array of samples in a file, and its name."""
    with open(file, "rb") as stream:
        try:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found, str(file)
            names = [name for name in ("x", "images", "x_test", "test_images") if name in found.files]
            array = found[names[0]] if names else None
        except MemoryError:
            raise
        except Exception as error:  # a damaged header may raise any exception
            raise ImageError(_DAMAGED, where=str(file)) from error
    if not names:
        raise UsageError(
            f"this file has no array x, images, x_test or test_images; it has {', '.join(found.files)}.", where=str(file)
        )
    if not isinstance(array, np.ndarray):  # NumPy returns the bytes of a member that is no array
        raise ImageError(_DAMAGED, where=str(file))
    return array, f"{file}:{names[0]}"


def why_missing(file: Path) -> str:
    """Why there is nothing at a path."""
    if os.path.islink(file):
        if _is_circular(file):
            return "this link leads back to itself. Replace it with the file."
        return f"this link leads to {os.readlink(file)}, which does not exist."
    if str(file).startswith(("http:", "https:")):
        return NO_DOWNLOAD
    if any(sign in str(file) for sign in "*?["):
        return "no file matches this pattern."
    return _NO_SUCH_FILE


def _is_circular(link: Path) -> bool:
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def is_array(value: object) -> bool:
    """Whether this is an array, or a tensor of PyTorch: PyTorch is not imported to answer this, since a tensor means that it was."""
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def as_array(value: Any) -> Pixels:
    """An array, a tensor of any device, or a sequence of numbers as an array."""
    if is_array(value) and not isinstance(value, np.ndarray):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def array_rows(array: Pixels | torch.Tensor, name: str, preprocessing: Preprocessing) -> Iterator[ArraySample]:
    """The rows of an array or tensor in memory.

    Raises:
        UsageError: the array does not fit the network.
    """
    values = as_array(array)
    size, channels = preprocessing.size, preprocessing.channels
    if _other_colors(values, preprocessing) is not None:
        yield from _rows(values, name, preprocessing)
        return
    is_single = values.ndim == len(size) + 1 and values.shape[-1] == channels and values.shape[0] != channels
    if is_single and (channels > 1 or size[-1] > 1):  # a last axis of 1 may be the width
        values = np.moveaxis(values, -1, 0)
    if values.ndim == len(size) + 1 and values.shape[0] == channels:
        yield ArraySample(name, values)
    elif values.ndim == len(size) and channels == 1:
        yield ArraySample(name, values[None])
    else:
        yield from _rows(values, name, preprocessing)


def _rows(array: Pixels, name: str, preprocessing: Preprocessing) -> Iterator[ArraySample]:
    """Rows of (samples, channels, *spatial), of (samples, *spatial) for one channel, or a single sample."""
    num_axes = len(preprocessing.size)
    if (colors := _other_colors(array, preprocessing)) is not None:
        for index, row in enumerate(colors):
            yield ArraySample(f"{name}[{index}]" if array.ndim == num_axes + 2 else name, row)
        return
    if (stored := _as_stored(array, preprocessing)) is not None:
        for index, row in enumerate(stored):
            yield ArraySample(f"{name}[{index}]" if array.ndim == len(preprocessing.layout or "") else name, row)
        return
    if array.ndim == num_axes + 1 and array.shape[0] == preprocessing.channels and array.shape[1:] == preprocessing.size:
        yield ArraySample(name, array)
        return
    if array.ndim == num_axes + 1 and preprocessing.channels == 1:
        array = array[:, None]
    elif (
        array.ndim == num_axes + 2 and array.shape[1] != preprocessing.channels and array.shape[-1] == preprocessing.channels
    ):
        array = np.moveaxis(array, -1, 1)
    if array.ndim != num_axes + 2:
        raise UsageError(
            f"an array of {write_shape(array.shape) or 'one number'} does not fit a network for {write_shape(preprocessing.input_shape)}.",
            where=name,
        )
    for index, row in enumerate(array):
        yield ArraySample(f"{name}[{index}]", row)


def _other_colors(array: Pixels, preprocessing: Preprocessing) -> Pixels | None:
    """Rows (samples, 1 or 4, height, width) of gray images, or of color images with opacity, for a network of color images; None for others.

    Args:
        array: one image (height, width), (channels, height, width) or (height, width, channels), or a batch of images with channels.
        preprocessing: that of the network.
    """
    if not preprocessing.takes_as_color(array) or array.ndim not in (2, 3, 4):
        return None
    if array.ndim == 2:
        return array[None, None]
    rows = array[None] if array.ndim == 3 else array
    if 3 in (rows.shape[1], rows.shape[-1]):
        return None
    if rows.shape[1] in (1, 4):
        return rows
    return np.moveaxis(rows, -1, 1) if rows.shape[-1] in (1, 4) else None


def _as_stored(array: Pixels, preprocessing: Preprocessing) -> Pixels | None:
    """Rows of (samples, channels, *spatial) of an array, or of a single sample, with the axes of the training data; None if they do not fit."""
    layout = preprocessing.layout
    if layout is None or array.ndim not in (len(layout), len(layout) - 1):
        return None
    rows = channels_first(array if array.ndim == len(layout) else array[None], layout)
    fits = rows.shape[1] == preprocessing.channels and all(
        length >= wanted for length, wanted in zip(rows.shape[2:], preprocessing.size, strict=True)
    )
    return rows if fits else None
