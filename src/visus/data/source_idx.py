"""IDX files, the format of MNIST and similar datasets, gzipped or not.

Format: http://yann.lecun.com/exdb/mnist (two zero bytes, a type byte, the number of axes, big-endian axis lengths, values).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visus.data.array_labels import class_values
from visus.data.listed_names import write_names
from visus.data.source_arrays import ArrayPart, samples_in_arrays
from visus.data.source_rules import FoundSamples, parse_split
from visus.errors import DataError
from visus.units import write_shape

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test|validation|valid|val)-(?P<what>images|labels)[-.]idx\d-[a-z]+(?P<gz>\.gz)?",
    re.I,
)
_FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_FASHION_LABELS = frozenset(
    {
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",  # SHA-256 of train-labels-idx1-ubyte, unpacked
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",  # SHA-256 of t10k-labels-idx1-ubyte, unpacked
    }
)


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    num_bytes: int


def is_idx(name: str) -> bool:
    """Whether a file has the published name of IDX images or labels.

    >>> is_idx("t10k-images-idx3-ubyte.gz"), is_idx("train-labels.idx1-ubyte"), is_idx("cat.jpg")
    (True, True, False)
    """
    return _NAME.fullmatch(name) is not None


def read_idx(folder: Path, names: Sequence[str], name: str) -> FoundSamples:
    """Read a folder of IDX files: ``train-images-idx3-ubyte[.gz]`` and so on; ``t10k`` is the test split.

    If a file exists gzipped and uncompressed, the uncompressed one is read. Fashion-MNIST is recognized by its labels and gets its class
    names. Other datasets have their label values as class names.

    Raises:
        DataError: the images or the labels are missing, a header is wrong, a file is truncated, or the counts differ.
    """
    parts = _pairs(folder, names)
    arrays: list[ArrayPart] = []
    labels: list[str] = []
    is_fashion = True
    for part, (images, label_file) in parts.items():
        values = load_idx(label_file)
        header = _header_of(images)
        if values.ndim != 1:
            raise DataError(f"labels need one axis, not {write_shape(values.shape)}.", where=str(label_file))
        if len(values) != header.shape[0]:
            raise DataError(
                f"{images.name} has {header.shape[0]:,} samples but {label_file.name} has {len(values):,} labels. "
                "The files do not belong together, or one is truncated.",
                where=str(folder),
            )
        is_fashion = is_fashion and hashlib.sha256(_unpacked(label_file)).hexdigest() in _FASHION_LABELS
        match = _NAME.fullmatch(images.name)
        word = match["part"].lower() if match else part
        arrays.append(ArrayPart(word, part, header.shape, header.dtype, partial(load_idx, images)))
        labels += class_values(values, label_file)
    if is_fashion:
        labels = [_FASHION_CLASSES[int(value)] for value in labels]
    return samples_in_arrays(
        folder,
        "idx",
        "Fashion-MNIST" if is_fashion else name,
        arrays,
        labels,
        declared=_FASHION_CLASSES if is_fashion else (),
    )


def load_idx(file: Path) -> NDArray[Any]:
    """All values of an IDX file, in the shape of its header.

    Raises:
        DataError: the header is not that of an IDX file, or the number of values differs from it.
    """
    data = _unpacked(file)
    header = _header(data[:1024], file)
    expected = math.prod(header.shape) * header.dtype.itemsize
    if len(data) - header.num_bytes != expected:
        raise DataError(
            f"the header states {write_shape(header.shape)} values, {expected:,} bytes, but "
            f"{len(data) - header.num_bytes:,} follow. The file is truncated or damaged: copy or download it again.",
            where=str(file),
        )
    return np.frombuffer(data, dtype=header.dtype, offset=header.num_bytes).reshape(header.shape)


def _pairs(folder: Path, names: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Images and labels of each split, training first."""
    files: dict[tuple[str, str], Path] = {}
    prefixes = set()
    for name in sorted(
        names, key=lambda name: name.lower().endswith(".gz"), reverse=True
    ):  # uncompressed files come last and replace gzipped ones
        match = _NAME.fullmatch(name)
        if match:
            part = match["part"].lower()
            prefixes.add(match["prefix"])
            files[parse_split(part) or "test", match["what"].lower()] = folder / name
    if len(prefixes) > 1:
        found = write_names([prefix or "(no prefix)" for prefix in sorted(prefixes)])
        raise DataError(
            f"there are several datasets in one folder: {found}. Move one of them into its own folder.",
            where=str(folder),
        )
    pairs = {}
    for split in ("train", "val", "test"):
        images, labels = files.get((split, "images")), files.get((split, "labels"))
        if images and labels:
            pairs[split] = (images, labels)
        elif images or labels:
            lone, absent = (images, "labels") if images else (labels, "images")
            assert lone is not None
            raise DataError(f"{lone.name} is there without its {absent} file. Put both into this folder.", where=str(folder))
    return pairs


def _unpacked(file: Path) -> bytes:
    try:
        if file.suffix.lower() != ".gz":
            return file.read_bytes()
        with gzip.open(file) as stream:
            return stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the gzip file is truncated or damaged ({error}). Copy or download it again.", where=str(file)
        ) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror}).", where=str(file)) from error


def _header_of(file: Path) -> _Header:
    stream: BinaryIO
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:  # type: ignore[assignment]
            return _header(stream.read(1024), file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the gzip file is truncated or damaged ({error}). Copy or download it again.", where=str(file)
        ) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror}).", where=str(file)) from error


def _header(data: bytes, file: Path) -> _Header:
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or data[3] == 0 or len(data) < 4 + 4 * data[3]:
        raise DataError(
            f"this is not an IDX file: its first bytes are {data[:4].hex(' ') or 'none'}. "
            "Needed: 00 00, a type (08 to 0e) and the number of axes.",
            where=str(file),
        )
    num_axes = data[3]
    shape = tuple(int(length) for length in np.frombuffer(data, dtype=">u4", count=num_axes, offset=4))
    return _Header(np.dtype(_TYPES[data[2]]), shape, 4 + 4 * num_axes)
