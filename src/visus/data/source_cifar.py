"""CIFAR-10 and CIFAR-100 as published: binary files and Python batches.

Python batches are pickles. The unpickler only builds lists, dictionaries, text, numbers and byte arrays.

A record of CIFAR-10 is 1 label byte and 3,072 pixel bytes (red, green, blue planes of 32 x 32). A record of CIFAR-100 has a coarse and a
fine label byte, then the same pixels. Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from visus.data.array_labels import name_at
from visus.data.source_arrays import ArrayPart, samples_in_arrays
from visus.data.source_rules import FoundSamples, natural_key
from visus.errors import DataError

_PIXEL_BYTES = 3 * 32 * 32
_BATCH = re.compile(r"data_batch_\d+(\.bin)?")
_ALLOWED = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }
)


def is_cifar(names: Sequence[str]) -> bool:
    """Whether the files of a folder are those of CIFAR-10 or CIFAR-100.

    >>> is_cifar(["data_batch_1.bin", "test_batch.bin"]), is_cifar(["train", "test", "meta"]), is_cifar(["train.bin"])
    (True, True, False)
    """
    files = set(names)
    return (
        any(_BATCH.fullmatch(name) for name in names)
        or files & {"test_batch.bin", "test_batch"} != set()
        or files >= {"train.bin", "fine_label_names.txt"}
        or files >= {"train", "test", "meta"}
    )


def read_cifar(folder: Path, names: Sequence[str]) -> FoundSamples:
    """Read the samples of CIFAR-10 or CIFAR-100 (its 100 fine labels). The published test file is the test split.

    Raises:
        DataError: a file is truncated or damaged, has no class names, or is a pickle with more than plain data.
    """
    ten = any(_BATCH.fullmatch(name) or name.startswith("test_batch") for name in names)
    is_binary = any(name.endswith(".bin") for name in names)
    end = ".bin" if is_binary else ""
    train = sorted(
        (name for name in names if _BATCH.fullmatch(name) and name.endswith(".bin") == is_binary), key=natural_key
    )
    parts: list[ArrayPart] = []
    labels: list[str] = []
    classes = _class_names(folder, names, ten, is_binary)
    for split, files in (
        ("train", train if ten else [f"train{end}"]),
        ("test", [f"test_batch{end}" if ten else f"test{end}"]),
    ):
        paths = [folder / name for name in files if name in names]
        if paths:
            load = partial(_load_all, paths, ten, is_binary)
            pixels, numbers = load()
            parts.append(ArrayPart(split, split, pixels.shape, pixels.dtype, partial(_pixels, load)))
            labels += [name_at(number, classes, folder) for number in numbers.tolist()]
    return samples_in_arrays(
        folder, "cifar", "CIFAR-10" if ten else "CIFAR-100", parts, labels, layout="NCHW", declared=classes
    )


def read_plain_pickle(file: Path) -> object:
    """The content of a pickle with plain data only; arrays are returned as ``PlainArray``.

    Raises:
        DataError: the pickle refers to any other function or class, or is damaged.
    """
    try:
        with file.open("rb") as stream:
            return _PlainUnpickler(stream, str(file)).load()
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror}).", where=str(file)) from error
    except Exception as error:  # a damaged pickle may raise any exception
        raise DataError(
            f"the Python batch is truncated or damaged ({type(error).__name__}: {error}). Copy or download it again.",
            where=str(file),
        ) from error


class PlainArray:
    """The bytes and the shape of an array, read from a pickle without NumPy's unpickling."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.data = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        if not isinstance(kind, _PlainType) or kind.code not in ("u1", "|u1") or is_fortran:
            raise ValueError("an array is not uint8 in C order")
        self.shape = tuple(int(length) for length in shape)
        self.data = data.encode("latin1") if isinstance(data, str) else bytes(data)

    def values(self) -> NDArray[np.uint8]:
        """The array, uint8, read-only."""
        return np.frombuffer(self.data, dtype=np.uint8).reshape(self.shape)


class _PlainType:
    """The dtype code of an array; its other state is ignored."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        return


def _refuse_call(*_: object) -> NoReturn:
    raise ValueError("an array's class is called outside an array")


def _rebuild(*_: object) -> PlainArray:
    return PlainArray()


def _encode(text: object, encoding: object = "") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler for published Python batches that replaces every function and class by a harmless one.

    A pickle can do harm only by calling a function that it names. ``find_class`` resolves all names, and imports nothing.
    """

    _STAND_INS: ClassVar[dict[str, Callable[..., object]]] = {
        "_reconstruct": _rebuild,
        "ndarray": _refuse_call,
        "dtype": _PlainType,
        "encode": _encode,
    }

    def __init__(self, stream: Any, place: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._place = place

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"the Python batch refers to {module}.{name}, which plain data does not need, so it is not read. "
                "Use the published file, or its binary format.",
                where=self._place,
            )
        return self._STAND_INS[name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise ValueError("a reference to data outside the file")


def _class_names(folder: Path, names: Sequence[str], ten: bool, is_binary: bool) -> list[str]:
    if is_binary:
        wanted = "batches.meta.txt" if ten else "fine_label_names.txt"
        if wanted in names:
            try:
                text = (folder / wanted).read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise DataError(f"the file cannot be read ({error.strerror}).", where=str(folder / wanted)) from error
            return [line.strip() for line in text.splitlines() if line.strip()]
    else:
        wanted = "batches.meta" if ten else "meta"
        if wanted in names:
            meta = read_plain_pickle(folder / wanted)
            found = meta.get("label_names" if ten else "fine_label_names") if isinstance(meta, dict) else None
            if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
                return found
            raise DataError("the file holds no class names.", where=str(folder / wanted))
    raise DataError(f"the file of class names, {wanted}, is missing. Put it into this folder.", where=str(folder))


def _load_all(paths: Sequence[Path], ten: bool, is_binary: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (n, 3, 32, 32) and labels (n,) of one split."""
    loaded = [_load_binary(path, ten) if is_binary else _load_batch(path, ten) for path in paths]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*loaded, strict=True))
    return pixels.reshape(-1, 3, 32, 32), labels


def _pixels(load: Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> NDArray[np.uint8]:
    return load()[0]


def _load_binary(path: Path, ten: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    num_labels = 1 if ten else 2
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror}).", where=str(path)) from error
    record = num_labels + _PIXEL_BYTES
    if not len(data) or len(data) % record:
        raise DataError(
            f"{len(data):,} bytes are not a whole number of records of {record:,} bytes. "
            "The file is truncated or damaged: copy or download it again.",
            where=str(path),
        )
    records = data.reshape(-1, record)
    return records[:, num_labels:], records[:, num_labels - 1].astype(np.int64)


def _load_batch(path: Path, ten: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = read_plain_pickle(path)
    pixels, labels = (
        (batch.get("data"), batch.get("labels" if ten else "fine_labels")) if isinstance(batch, dict) else (None, None)
    )
    if (
        not isinstance(pixels, PlainArray)
        or not isinstance(labels, list)
        or not all(isinstance(label, int) and 0 <= label < 256 for label in labels)
    ):
        raise DataError("the Python batch does not have the data and labels of a CIFAR batch.", where=str(path))
    if pixels.shape != (len(labels), _PIXEL_BYTES) or len(pixels.data) != len(labels) * _PIXEL_BYTES:
        raise DataError(
            f"the Python batch holds {len(labels):,} labels and an array of shape {pixels.shape}; "
            f"{_PIXEL_BYTES:,} values per label are needed.",
            where=str(path),
        )
    return pixels.values(), np.array(labels, dtype=np.int64)
