"""Arrays as the content of NPY files, in both directions, without pickle."""

from __future__ import annotations

import io
import math
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from visus.errors import ImageError

_KINDS: Final = "biuf"
_VERSIONS: Final = (b"\x01\x00", b"\x02\x00")
_TRIES: Final = 10


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the content of an NPY file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def from_npy_bytes(content: bytes) -> npt.NDArray[Any]:
    """The array of an NPY file of plain numbers; no more memory is used than the content has. It cannot be written to.

    Raises:
        ImageError: it is damaged, or holds anything but numbers.

    >>> from_npy_bytes(npy_bytes(np.arange(3, dtype=np.int16))).tolist()
    [0, 1, 2]
    """
    stream = io.BytesIO(content)
    try:
        if content[6:8] not in _VERSIONS:
            raise ValueError("another version")
        shape, is_column_major, dtype = npy_header(stream)
    except Exception as error:  # a damaged header may raise any exception
        raise ImageError("this is no NPY file of version 1 or 2. Write it with numpy.save.") from error
    if dtype.kind not in _KINDS or dtype.fields is not None or dtype.subdtype is not None or not dtype.isnative:
        raise ImageError("an array of plain numbers in the byte order of this machine is needed. Convert it first.")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ImageError(
            "the header of this NPY file states another size than the file has. Write it again with numpy.save."
        )
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if is_column_major else "C")


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is column-major, and dtype of an NPY file, from its start; the stream is at its values afterwards.

    NumPy parses them as Python, which CPython 3.11 lets fail by chance where several threads do so (gh-106905); then it is tried again.
    """
    start = stream.tell()
    for tries in range(_TRIES):
        stream.seek(start)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            return read(stream)
        except SystemError:
            if tries == _TRIES - 1:
                raise
    raise AssertionError
