"""From bytes to samples: NPY files without pickle, forms, and the media types that are read."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.server.conftest import IMAGES, SIGNALS, as_npy, httpx, image, npy

from visus.data.images.decode import Limits
from visus.errors import ImageError
from visus.server.inputs import Source, media_type, read_npy, read_sample, read_sources
from visus.server.problems import Problem

DTYPES = st.sampled_from(("uint8", "int16", "int32", "int64", "float32", "float64", "bool"))


@given(st.data(), st.booleans(), st.sampled_from(((1, 0), (2, 0))))
def test_every_array_of_numbers_is_read_as_numpy_reads_it(
    data: st.DataObject, is_column_major: bool, version: tuple[int, int]
) -> None:
    shape = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = data.draw(arrays.arrays(data.draw(DTYPES), shape))
    stream = io.BytesIO()
    np.lib.format.write_array(
        stream, np.array(array, order="F" if is_column_major else "C"), version=version, allow_pickle=False
    )
    found = read_npy(stream.getvalue())
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=200), st.integers(0, 127), st.binary(min_size=1, max_size=4))
@settings(max_examples=200)
def test_damaged_bytes_are_an_image_error_or_an_array_and_nothing_else(tail: bytes, place: int, change: bytes) -> None:
    content = bytearray(npy(1, 2))
    content[place : place + len(change)] = change
    for each in (bytes(content), b"\x93NUMPY" + tail):
        with contextlib.suppress(ImageError):
            assert read_npy(each).nbytes <= len(each)


DAMAGED = [
    (b"\x93NUMPY\x03\x00", "this is no NPY file of version 1 or 2. Write it with numpy.save."),
    (npy(1)[:-1], "the header of this NPY file states another size than the file has. Write it again with numpy.save."),
    (as_npy(np.array(["text"])), "an array of plain numbers in the byte order of this machine is needed. Convert it first."),
    (as_npy(np.zeros(2, ">i4")), "an array of plain numbers in the byte order of this machine is needed. Convert it first."),
    (
        as_npy(np.zeros(2, [("a", "i4")])),
        "an array of plain numbers in the byte order of this machine is needed. Convert it first.",
    ),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_an_npy_file_of_another_kind_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_npy(content)
    assert caught.value.message == message


@given(
    st.lists(
        st.tuples(
            st.text(
                st.characters(codec="utf-8", exclude_characters='"\\\r\n', exclude_categories=("Cc", "Cs")), max_size=20
            ),
            st.binary(max_size=300),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_file_of_a_form_arrives_whole_under_its_name(files: list[tuple[str, bytes]]) -> None:
    request = httpx.Request(
        "POST", "http://x/", files=[("file", (name or "none", content, "image/png")) for name, content in files]
    )
    found = read_sources(request.headers["content-type"], request.read(), IMAGES, 10)
    given_names = [name or "none" for name, _ in files]
    if all(name.isprintable() for name in given_names) and not any(sign in name for name in given_names for sign in "%"):
        assert [each.name for each in found] == given_names
    assert [each.content for each in found] == [content for _, content in files if not content.startswith(b"\x93NUMPY")]


@pytest.mark.parametrize(
    ("given_type", "kind"),
    [
        ("IMAGE/PNG", "image/png"),
        ("application/json; charset=utf-8", "application/json"),
        ("image/x-nothing", "image/x-nothing"),
    ],
)
def test_media_types_are_read_in_any_case_and_with_parameters(given_type: str, kind: str) -> None:
    assert media_type(given_type) == kind


def sample_of(source: Source, preprocessing: Any = IMAGES, **limits: int) -> Any:
    return read_sample(source, preprocessing, Limits(**limits))


def test_a_sample_is_the_one_of_a_prediction_with_its_changes() -> None:
    pixels, changes = sample_of(Source("a.png", image(9, (16, 16))))
    assert (pixels.shape, pixels.dtype, int(pixels.max()), changes) == ((3, 8, 8), np.uint8, 9, ("resized",))
    row, changes = sample_of(Source("a", np.array([[5, 6]], "int32")), SIGNALS)
    assert (row.tolist(), changes) == ([[5, 6]], ())


def test_too_many_pixels_are_413_and_damage_is_415() -> None:
    for content, limits, status in ((image(size=(50, 50)), {"max_pixels": 100}, 413), (image()[:40], {}, 415)):
        with pytest.raises(Problem) as caught:
            sample_of(Source("a.png", content), **limits)
        assert caught.value.status == status
