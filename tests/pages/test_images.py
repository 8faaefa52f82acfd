"""Small images of arrays: a pixel is a value, and what is drawn can be read back."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visus.data.images.drawing import as_image, block_means, depth_slices, png
from visus.pages.parts.filters import constant_filters, dead_filters, filter_figures
from visus.pages.parts.images import enlarge, make_grid, outline, signed_colors, unsigned_colors
from visus.pages.parts.overlay import blend_map


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_png_holds_the_pixels_that_were_drawn(height: int, width: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(drawn))).convert("RGB")), drawn)


@given(st.integers(0, 2**32 - 1))
def test_a_image_of_bytes_is_drawn_as_it_is(seed: int) -> None:
    sample = np.random.default_rng(seed).integers(0, 256, (3, 4, 5)).astype(np.float64)
    assert np.array_equal(as_image(sample, 0, 255), sample.transpose(1, 2, 0))


def test_one_channel_is_gray_and_two_are_their_mean() -> None:
    sample = np.array([[[0.0, 10.0]], [[20.0, 30.0]]])
    assert np.array_equal(as_image(sample, 0, 255)[0], [[10] * 3, [20] * 3])


def test_a_flat_sample_is_black_and_raises_no_warning() -> None:
    assert not as_image(np.full((1, 2, 2), 7.0)).any()


def test_shades_grow_brighter_with_the_value() -> None:
    brightness = unsigned_colors(np.linspace(0, 3, 50)[None]).astype(int).sum(axis=2)[0]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[0] < brightness[-1]


def test_signed_shades_are_red_above_0_blue_below_and_near_white_at_0() -> None:
    (below, zero, above) = signed_colors(np.array([[-2.0, 0.0, 2.0]]))[0].astype(int)
    assert above[0] > above[2]
    assert below[2] > below[0]
    assert zero.min() > 240


def test_a_map_that_is_nowhere_above_0_leaves_the_sample_gray() -> None:
    image = as_image(np.random.default_rng(0).random((3, 4, 4)))
    over = blend_map(image, -np.ones((4, 4)))
    assert (over == over[:, :, :1]).all()


def test_a_map_reddens_the_sample_most_where_it_is_highest() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    over = blend_map(image, np.array([[0.0, 1.0], [2.0, 4.0]])).astype(int)
    redness = (over[..., 0] - over[..., 2]).reshape(-1)
    assert redness.argmax() == 3
    assert (np.diff(redness) >= 0).all()


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 50))
def test_enlarging_repeats_pixels_and_only_pixels(height: int, width: int, side: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    large = enlarge(drawn, side)
    times = large.shape[0] // height
    assert large.shape == (height * times, width * times, 3)
    assert np.array_equal(large[::times, ::times], drawn)
    assert times == 1 or max(large.shape[:2]) <= side


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=9), st.integers(1, 4))
def test_every_image_of_a_sheet_can_be_cut_out_again(sizes: list[tuple[int, int]], columns: int) -> None:
    images = [np.full((height, width, 3), index, np.uint8) for index, (height, width) in enumerate(sizes)]
    paper = make_grid(images, columns, gap=1)
    high, wide = max(size[0] for size in sizes), max(size[1] for size in sizes)
    across = min(columns, len(images))
    for index, each in enumerate(images):
        top, left = index // across * (high + 1), index % across * (wide + 1)
        assert np.array_equal(paper[top : top + each.shape[0], left : left + each.shape[1]], each)


@pytest.mark.parametrize("box", [[(-3, 1), (-2, 2)], [(2, 9), (3, 12)], [(0, 3), (0, 4)], [(-5, -2), (8, 9)]])
def test_a_frame_marks_the_border_pixels_of_the_box_inside_the_image(box: list[tuple[int, int]]) -> None:
    drawn = np.zeros((4, 5, 3), np.uint8)
    marked = outline(drawn, box, (1, 1, 1))[:, :, 0]
    (top, bottom), (left, right) = box
    for row in range(4):
        for column in range(5):
            inside = top <= row <= bottom and left <= column <= right
            edge = row in (top, bottom) or column in (left, right)
            assert marked[row, column] == (inside and edge)
    assert not drawn.any()


def test_slices_are_evenly_taken_with_the_first_and_the_last() -> None:
    volume = np.arange(10.0).reshape(1, 10, 1, 1)
    assert [each.item() for each in depth_slices(volume, 4)] == [0, 3, 6, 9]
    assert len(depth_slices(volume, 99)) == 10


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_means_of_blocks_keep_the_mean_of_whole_blocks_and_fit_the_side(
    height: int, width: int, side: int, seed: int
) -> None:
    values = np.random.default_rng(seed).random((height, width, 2))
    small = block_means(values, side)
    assert max(small.shape[:2]) <= max(side, 1)
    times = -(-max(height, width) // side)
    if height % times == 0 and width % times == 0:
        assert np.allclose(small.mean(axis=(0, 1)), values.mean(axis=(0, 1)))
    if times <= 1:
        assert small is values


def test_a_image_of_few_colors_takes_fewer_bytes() -> None:
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (200, 3), dtype=np.uint8)[rng.integers(0, 200, (60, 60))]
    assert len(png(few)) < 0.6 * few.size
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(few))).convert("RGB")), few)


# ---- filters ----


def test_dead_filters_are_gray_and_counted_and_constant_ones_counted() -> None:
    kernels = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    kernels[1] *= 1e-7
    kernels[2] = 0.5
    assert dead_filters(kernels).tolist() == [False, True, False, False]
    assert constant_filters(kernels).tolist() == [False, False, True, False]
    page = filter_figures(kernels, "Block.conv", "Conv2d(4, 3)", "filter")
    assert "1 of 4 filters is dead, with weights of nearly 0, and drawn in gray. 1 of 4 filters is constant." in page
    assert "<figcaption>1: dead</figcaption>" in page
    for label in ("Filter 0 of Block.conv", "Dead filter 1 of Block.conv", "Constant filter 2 of Block.conv"):
        assert f'alt="{label}"' in page
    gray = pixels_of(page, "Dead filter 1 of Block.conv")
    assert np.ptp(gray) == 0
    assert np.ptp(pixels_of(page, "Filter 0 of Block.conv")) > 100


def test_healthy_filters_are_not_mentioned() -> None:
    kernels = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    page = filter_figures(kernels, "conv1", "Conv2d(4, 3)", "filter")
    assert "dead" not in page
    assert "constant" not in page


@pytest.mark.parametrize("shape", [(1, 9), (3, 1, 1), (1, 2, 2, 2), (2, 3, 3)])
def test_a_layer_of_zeros_is_dead_in_every_rank(shape: tuple[int, ...]) -> None:
    page = filter_figures(np.zeros((2, *shape)), "conv1", "conv", "filter")
    assert "2 of 2 filters are dead" in page
    assert "constant" not in page


def pixels_of(page: str, label: str) -> np.ndarray[Any, Any]:
    """The pixels of the image with this label."""
    found = re.search(f'alt="{label}" src="data:image/png;base64,(.*?)"', page)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")).astype(int)
