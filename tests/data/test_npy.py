"""NPY files: every array of numbers both ways, and nothing else."""

from __future__ import annotations

import contextlib
import gc
import io
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visus.data import npy
from visus.data.npy import from_npy_bytes, npy_bytes
from visus.errors import ImageError

DTYPES = st.sampled_from(("uint8", "int16", "int32", "int64", "float32", "float64", "bool"))
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
PAIR = npy_bytes(np.array([[[1, 0]], [[2, 0]]], "int32"))


@given(st.data(), st.booleans(), st.sampled_from(((1, 0), (2, 0))))
def test_every_array_of_numbers_is_read_as_numpy_reads_it(
    data: st.DataObject, is_column_major: bool, version: tuple[int, int]
) -> None:
    array = data.draw(arrays.arrays(data.draw(DTYPES), data.draw(SHAPES)))
    stream = io.BytesIO()
    np.lib.format.write_array(
        stream, np.array(array, order="F" if is_column_major else "C"), version=version, allow_pickle=False
    )
    for content in (stream.getvalue(), npy_bytes(array)):
        found = from_npy_bytes(content)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=200), st.integers(0, 127), st.binary(min_size=1, max_size=4))
@settings(max_examples=200)
@pytest.mark.long
def test_damaged_bytes_are_an_image_error_or_an_array_and_nothing_else(tail: bytes, place: int, change: bytes) -> None:
    content = bytearray(PAIR)
    content[place : place + len(change)] = change
    for each in (bytes(content), b"\x93NUMPY" + tail):
        with contextlib.suppress(ImageError):
            assert from_npy_bytes(each).nbytes <= len(each)


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


NUMBERS = "an array of plain numbers in the byte order of this machine is needed. Convert it first."
DAMAGED = [
    (b"\x93NUMPY\x03\x00", "this is no NPY file of version 1 or 2. Write it with numpy.save."),
    (PAIR[:-1], "the header of this NPY file states another size than the file has. Write it again with numpy.save."),
    (saved(np.array(["text"])), NUMBERS),
    (saved(np.zeros(2, ">i4")), NUMBERS),
    (saved(np.zeros(2, [("a", "i4")])), NUMBERS),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_an_npy_file_of_another_kind_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        from_npy_bytes(content)
    assert caught.value.message == message


def test_a_failure_of_the_parser_in_several_threads_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 counts the recursion of all its parsers together (gh-106905); a request was answered with 422 for that."""
    read, failed = np.lib.format.read_array_header_1_0, []

    def sometimes(stream: Any) -> Any:
        if len(failed) < 3:
            failed.append(stream.read(10))
            raise SystemError("AST constructor recursion depth mismatch (before=18, after=23)")
        return read(stream)

    monkeypatch.setattr(npy.np.lib.format, "read_array_header_1_0", sometimes)
    assert from_npy_bytes(PAIR).tolist() == [[[1, 0]], [[2, 0]]]
    assert len(failed) == 3


def test_threads_read_arrays_while_another_one_parses() -> None:
    stop, source = threading.Event(), "a = [" + "(1, 2), " * 300 + "]"

    def parse() -> None:
        while not stop.is_set():
            with contextlib.suppress(SystemError):
                compile(source, "made", "exec")

    def collected(*_: Any) -> None:
        threading.Event().wait(0)

    before, parsing = gc.get_threshold(), threading.Thread(target=parse)
    gc.callbacks.append(collected)
    gc.set_threshold(20)
    parsing.start()
    try:
        assert all(from_npy_bytes(PAIR).shape == (2, 1, 2) for _ in range(300))
    finally:
        stop.set()
        parsing.join()
        gc.callbacks.remove(collected)
        gc.set_threshold(*before)
