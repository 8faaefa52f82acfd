"""Conversion of an image to given channels and a given size, compared with Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visus.data.images.decode import RESIZE_MODES, decode, fit
from visus.errors import UsageError

from .bad_images import encoded, photo

sides = st.integers(1, 40)


def planes(image: Image.Image) -> np.ndarray[Any, Any]:
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


@given(sides, sides, sides, sides, st.sampled_from(RESIZE_MODES), st.sampled_from([1, 3]), st.sampled_from([1, 3]))
def test_every_image_gets_the_wanted_shape(
    height: int, width: int, wanted_height: int, wanted_width: int, rule: str, channels: int, wanted: int
) -> None:
    pixels, actions = fit(planes(photo(height, width, channels)), wanted, (wanted_height, wanted_width), rule)
    assert (pixels.shape, pixels.dtype) == ((wanted, wanted_height, wanted_width), np.uint8)
    assert pixels.flags.c_contiguous
    allowed = {"resized", "gray made color", "color made gray", *{"crop": ["cropped"], "pad": ["padded"]}.get(rule, [])}
    assert set(actions) <= allowed
    assert ("gray made color" in actions, "color made gray" in actions) == (channels < wanted, channels > wanted)


@pytest.mark.parametrize("rule", RESIZE_MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_image_that_fits_is_not_touched(rule: str, channels: int) -> None:
    source = planes(photo(channels=channels))
    pixels, actions = fit(source, channels, (24, 40), rule)
    np.testing.assert_array_equal(pixels, source)
    assert actions == ()


@pytest.mark.parametrize("size", [(12, 20), (10, 7), (48, 80), (30, 9), (24, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_squashing_is_pillows_antialiased_resize_within_two_levels(size: tuple[int, int], channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, channels), np.uint8)
    image = Image.fromarray(noise[:, :, 0] if channels == 1 else noise)
    pixels, actions = fit(planes(image), channels, size, "squash")
    expected = planes(image.resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - expected).max() <= 2
    assert actions == ("resized",)


def test_a_strong_reduction_counts_every_pixel() -> None:
    stripes = np.zeros((3, 256, 256), np.uint8)
    stripes[:, :, ::2] = 254
    pixels, _ = fit(stripes, 3, (8, 8), "squash")
    assert np.abs(pixels.astype(int) - 127).max() <= 1


def test_cropping_keeps_the_middle_at_its_proportion() -> None:
    source = planes(photo(24, 40))
    pixels, actions = fit(source, 3, (24, 24), "crop")
    np.testing.assert_array_equal(pixels, source[:, :, 8:32])
    assert actions == ("cropped",)
    tall, actions = fit(source.transpose(0, 2, 1), 3, (24, 24), "crop")
    np.testing.assert_array_equal(tall, source[:, :, 8:32].transpose(0, 2, 1))
    half, actions = fit(source, 3, (12, 12), "crop")
    np.testing.assert_array_equal(half, fit(source[:, :, 8:32], 3, (12, 12), "squash")[0])
    assert actions == ("cropped", "resized")


def test_padding_keeps_the_whole_image_and_repeats_its_edges() -> None:
    source = planes(photo(24, 40))
    pixels, actions = fit(source, 3, (40, 40), "pad")
    np.testing.assert_array_equal(pixels[:, 8:32], source)
    assert np.array_equal(pixels[:, :8], source[:, :1].repeat(8, axis=1))
    assert np.array_equal(pixels[:, 32:], source[:, -1:].repeat(8, axis=1))
    assert actions == ("padded",)
    assert fit(source, 3, (20, 20), "pad")[1] == ("resized", "padded")


def test_color_becomes_gray_as_pillow_does() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    pixels, actions = fit(noise.transpose(2, 0, 1), 1, (64, 64), "squash")
    np.testing.assert_array_equal(pixels[0], np.asarray(Image.fromarray(noise).convert("L")))
    assert np.abs(pixels[0] - noise @ [0.299, 0.587, 0.114]).max() < 0.51
    assert actions == ("color made gray",)


def test_gray_becomes_color_in_three_equal_channels() -> None:
    source = planes(photo(channels=1))
    pixels, actions = fit(source, 3, (24, 40), "squash")
    assert all(np.array_equal(channel, source[0]) for channel in pixels)
    assert actions == ("gray made color",)


@given(st.integers(0, 255), sides, sides, sides, sides, st.sampled_from(RESIZE_MODES))
def test_one_color_stays_that_color(level: int, height: int, width: int, new_height: int, new_width: int, rule: str) -> None:
    pixels, _ = fit(np.full((3, height, width), level, np.uint8), 3, (new_height, new_width), rule)
    assert np.all(pixels == level)


def test_memory_order_makes_no_difference() -> None:
    source = planes(photo(33, 57))
    expected = fit(np.ascontiguousarray(source), 3, (10, 12), "squash")[0]
    frozen = np.ascontiguousarray(source)
    frozen.flags.writeable = False
    upside_down = np.ascontiguousarray(source[:, ::-1])[:, ::-1]
    for same in (source, np.asfortranarray(source), frozen, upside_down):
        np.testing.assert_array_equal(fit(same, 3, (10, 12), "squash")[0], expected)


def test_reduced_decoding_changes_little() -> None:
    data = encoded(photo(480, 640), "JPEG", quality=90)
    reduced, full = (fit(decode(data, at_least=size).pixels, 3, (96, 96), "squash")[0] for size in ((96, 96), None))
    difference = np.abs(reduced.astype(int) - full)
    assert 0 < difference.mean() < 1
    assert difference.max() <= 4


@pytest.mark.parametrize(
    ("channels", "size", "rule", "sentence"),
    [
        (3, (8, 8), "squashed", "unknown resize mode 'squashed'. Did you mean 'squash'? Known: crop, pad, squash."),
        (
            2,
            (8, 8),
            "pad",
            "an image cannot be converted to 2 x 8 x 8: 1 or 3 channels, a height and a width of at least 1 are needed.",
        ),
        (
            3,
            (8, 0),
            "pad",
            "an image cannot be converted to 3 x 8 x 0: 1 or 3 channels, a height and a width of at least 1 are needed.",
        ),
        (
            3,
            (8, 8, 8),
            "crop",
            "an image cannot be converted to 3 x 8 x 8 x 8: 1 or 3 channels, a height and a width of at least 1 are needed.",
        ),
    ],
)
def test_impossible_arguments_are_refused(channels: int, size: tuple[int, ...], rule: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        fit(planes(photo()), channels, size, rule)
    assert str(caught.value) == sentence
