"""From bytes to samples: NPY files without pickle, forms, and the media types that are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import IMAGES, SIGNALS, httpx, image

from visus.data.images.decode import Limits
from visus.server.inputs import Source, media_type, read_sample, read_sources
from visus.server.problems import Problem


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
