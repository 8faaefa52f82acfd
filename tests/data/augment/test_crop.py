"""The random resized crop: exact windows, antialiased, from larger stored samples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from visus.data.augment import BatchRandom, SampleFacts
from visus.data.augment.crop import ASPECT, RandomCrop, stored_size_for, window_weights
from visus.data.batches import random_stream


def window(first: list[float], side: list[float], count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of one window for every sample."""
    return torch.tensor([first] * count), torch.tensor([side] * count)


@given(st.integers(6, 30), st.integers(6, 30), st.integers(4, 16), st.integers(4, 16))
def test_the_whole_sample_is_resized_as_by_pytorch_with_antialiasing(
    height: int, width: int, rows: int, columns: int
) -> None:
    stored = torch.randint(0, 255, (2, 3, height, width), dtype=torch.uint8, generator=random_stream(height, width))
    found = RandomCrop(0.3, (rows, columns)).apply(stored, window([0.0, 0.0], [1.0, 1.0], 2))
    expected = F.interpolate(stored.float(), (rows, columns), mode="bilinear", antialias=True, align_corners=False)
    assert torch.allclose(found, expected, atol=2e-3)


@given(st.integers(0, 1000), st.sampled_from([(20, 30), (40, 40), (12, 14, 16)]))
def test_a_ramp_is_read_at_the_places_of_the_window(seed: int, size: tuple[int, ...]) -> None:
    """Where no weight reaches the edge, a resized ramp is the ramp at the centers of the new positions."""
    crop = RandomCrop(0.3, tuple(8 for _ in size))
    first, side = crop.draw(BatchRandom(random_stream(seed), 3, slice(None)), size)
    for axis, length in enumerate(size):
        ramp = torch.arange(length).float() + 0.5
        batch = ramp.reshape(-1, *[1] * (len(size) - axis - 1)).expand(3, 1, *size)
        found = crop.apply(batch, (first, side)).movedim(axis + 2, -1).flatten(1, -2)[:, 0]
        step = side[:, axis] * length / 8
        centers = first[:, axis, None] * length + (torch.arange(8) + 0.5) * step[:, None]
        reach = step.clamp(min=1)[:, None]
        is_inside = (centers > reach) & (centers < length - reach)
        # the triangle is sampled at whole pixels, so its mean lies within a small part of a pixel of its center
        assert ((found - centers).abs()[is_inside] < 0.15).all()


def test_weights_add_up_and_a_narrow_window_reads_single_pixels() -> None:
    weights = window_weights(torch.tensor([0.25]), torch.tensor([0.5]), 8, 4)
    assert torch.equal(weights[0], torch.eye(8)[2:6])
    many = window_weights(0.6 * torch.rand(50), torch.full((50,), 0.4), 20, 7)
    assert torch.allclose(many.sum(2), torch.ones(50, 7))


@given(st.integers(0, 1000), st.floats(0.1, 1.0), st.sampled_from([2, 3]))
def test_windows_lie_inside_and_have_the_asked_area_and_aspect(seed: int, area: float, axes: int) -> None:
    first, side = RandomCrop(area, (8,) * axes).draw(BatchRandom(random_stream(seed), 200, slice(None)), (20,) * axes)
    assert (first >= 0).all()
    assert (first + side <= 1 + 1e-6).all()
    assert (side.prod(1) >= area / ASPECT - 1e-6).all()  # a long side is cut at the edge
    is_cut = (side >= 1).any(1)
    assert (side[~is_cut].prod(1) >= area - 1e-5).all()
    assert (side.amax(1) / side.amin(1) <= ASPECT + 1e-5).all()


def test_a_box_moves_with_its_window() -> None:
    crop = RandomCrop(0.3, (10, 10))
    boxes = torch.tensor([[[[6.0, 8.0], [10.0, 30.0]]]])
    moved = crop.move_boxes(boxes, window([0.25, 0.25], [0.5, 0.5]), (20, 20))
    assert torch.allclose(moved, torch.tensor([[[[1.0, 3.0], [5.0, 10.0]]]]))


@given(st.integers(0, 1000))
def test_a_bright_box_fills_its_moved_box(seed: int) -> None:
    crop, size = RandomCrop(0.4, (32, 32)), (64, 64)
    numbers = crop.draw(BatchRandom(random_stream(seed), 4, slice(None)), size)
    batch = torch.zeros(4, 1, *size)
    batch[:, :, 26:38, 28:36] = 1
    boxes = crop.move_boxes(torch.tensor([[26.0, 28.0], [38.0, 36.0]]).expand(4, 1, 2, 2), numbers, size)
    for sample, box in zip(crop.apply(batch, numbers), boxes[:, 0], strict=True):
        places = (sample[0] > 0.5).nonzero().float()
        if len(places):
            assert (torch.stack([places.amin(0), places.amax(0) + 1]) - box).abs().max() <= 1.01


def test_photos_are_stored_as_large_as_the_smallest_window_needs_up_to_twice() -> None:
    assert stored_size_for((100, 60), 0.5) == (142, 85)
    assert stored_size_for((64, 64), 0.01) == (128, 128)
    assert stored_size_for((8, 8, 8), 0.5) == (11, 11, 11)
    assert stored_size_for((64, 64), 1.0) == stored_size_for((64, 64), 0.0) == (64, 64)


def test_the_sentence_names_the_stored_size_where_it_is_larger() -> None:
    def sentence(stored: tuple[int, ...]) -> str:
        found = RandomCrop.of({"crop": 0.35}, SampleFacts((64, 64), stored_size=stored))
        assert found is not None
        return found.sentences((64, 64))[0]

    assert sentence((109, 109)) == "cropped to 35 % to 100 % of the area, from 109 x 109"
    assert sentence((64, 64)) == "cropped to 35 % to 100 % of the area"
