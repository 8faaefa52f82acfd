"""Augmentation of whole batches, for any number of spatial axes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.data.augment import Augmentation, cut_out, mirror, mirror_and_shift, shrink, zoom_and_shift
from visus.data.batches import random_stream

SHAPES = st.sampled_from([(5, 2, 9), (5, 3, 8, 7), (4, 1, 5, 6, 7)])


def numbered(shape: tuple[int, ...]) -> torch.Tensor:
    """A batch with all values distinct."""
    count = 1
    for length in shape:
        count *= length
    return torch.arange(count, dtype=torch.float32).reshape(shape) + 1


def drawn(num_samples: int, seed: int) -> torch.Tensor:
    """Which samples to mirror."""
    return torch.rand(num_samples, generator=random_stream(seed, "mirrored")) < 0.5


@given(SHAPES, st.integers(0, 1000))
def test_mirror_mirrors_the_marked_samples(shape: tuple[int, ...], seed: int) -> None:
    batch, mirrored = numbered(shape), drawn(shape[0], seed)
    for before, after, is_mirrored in zip(batch, mirror(batch, mirrored), mirrored, strict=True):
        assert torch.equal(after, before.flip(-1) if is_mirrored else before)


def test_random_flips_mirror_about_half() -> None:
    batch = numbered((4000, 1, 3))
    changed = (Augmentation("random")(batch, random_stream(0)) != batch).any(2).any(1).float().mean()
    assert 0.45 < float(changed) < 0.55


@given(SHAPES, st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.5]), st.booleans())
def test_shift_equals_mirroring_reflection_padding_and_a_crop(
    shape: tuple[int, ...], seed: int, share: float, is_mirrored: bool
) -> None:
    """Oracle: each sample is one of all crops of itself, mirrored or not, padded by PyTorch's reflection."""
    batch = numbered(shape)
    mirrored = drawn(shape[0], seed) if is_mirrored else None
    moved = mirror_and_shift(batch, mirrored, share, random_stream(seed))
    reach = [min(round(share * length), length - 1) for length in shape[2:]]
    padding = [side for each in reversed(reach) for side in (each, each)]
    padded = torch.nn.functional.pad(mirror(batch, mirrored), padding, mode="reflect")
    for sample in range(shape[0]):
        crops = padded[sample]
        for axis, length in enumerate(shape[2:], start=1):
            crops = crops.unfold(axis, length, 1)
        windows = crops.flatten(1, len(shape) - 2).movedim(1, 0)
        assert (windows == moved[sample]).flatten(1).all(1).any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.bool])
def test_stored_numbers_are_moved_exactly_and_scaled_once(dtype: torch.dtype) -> None:
    """The result is bit-identical to scaling first."""
    stored = (torch.rand(40, 2, 9, 7, generator=random_stream(3)) * 200).to(dtype)
    calls = 0

    def scale(values: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return (values.float() - 17) / 3

    for changes in (Augmentation("random", translate=0.2, cutout=0.3), Augmentation("random"), Augmentation(zoom=0.3)):
        late = changes(stored, random_stream(1), scale=scale)
        assert torch.equal(late, changes((stored.float() - 17) / 3, random_stream(1)))
    assert calls == 3


def test_every_place_is_as_likely_as_every_other() -> None:
    batch = torch.arange(9.0).reshape(1, 1, 9).expand(6000, 1, 9)
    moved = mirror_and_shift(batch, None, 0.25, random_stream(0))[:, 0, 4]
    assert moved.unique().tolist() == [2, 3, 4, 5, 6]
    assert all(1050 < int((moved == value).sum()) < 1350 for value in range(2, 7))


@given(SHAPES, st.integers(0, 1000))
def test_cutout_zeroes_one_box_of_the_asked_size_or_its_part_inside(shape: tuple[int, ...], seed: int) -> None:
    cut = cut_out(numbered(shape), 0.5, random_stream(seed))
    for sample in cut:
        holes = (sample == 0).nonzero()[:, 1:]
        assert len(holes)
        extent = holes.max(0).values - holes.min(0).values + 1
        assert int(torch.prod(extent)) * shape[1] == len(holes)
        assert all(int(side) <= round(0.5 * length) for side, length in zip(extent, shape[2:], strict=True))


@given(st.integers(0, 1000))
def test_zoom_of_a_constant_sample_changes_nothing(seed: int) -> None:
    batch = torch.full((3, 2, 8, 10), 4.0)
    assert torch.allclose(zoom_and_shift(batch, 0.4, 0.1, random_stream(seed)), batch, atol=1e-5)


def test_zoom_enlarges_and_never_shrinks_below_the_stretch() -> None:
    """A disc of known area in the middle grows on average."""
    axis = torch.linspace(-1, 1, 64)
    disc = ((axis[:, None] ** 2 + axis[None] ** 2) < 0.1).float().expand(200, 1, 64, 64)
    areas = zoom_and_shift(disc, 0.4, 0.0, random_stream(1)).sum((1, 2, 3))
    before = float(disc[0].sum())
    assert 1.3 * before < float(areas.median()) < 2.2 * before


@given(SHAPES)
def test_no_augmentation_returns_the_batch_itself(shape: tuple[int, ...]) -> None:
    batch = numbered(shape)
    assert Augmentation()(batch, random_stream(0)) is batch


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 12, 8), (2, 1, 12, 8, 4)])
@pytest.mark.parametrize("side", [0.25, 0.5])
def test_shrinking_by_a_whole_number_is_the_mean_over_boxes(shape: tuple[int, ...], side: float) -> None:
    batch = torch.randn(shape, generator=random_stream(0))
    pool = (torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d)[len(shape) - 3]
    assert torch.allclose(shrink(batch, side), pool(batch, round(1 / side)), atol=1e-6)


@given(SHAPES, st.floats(0.25, 1))
def test_shrinking_keeps_constants_and_means_and_rounds_the_length(shape: tuple[int, ...], side: float) -> None:
    batch = torch.randn(shape, generator=random_stream(0))
    smaller = shrink(batch, side)
    assert smaller.shape[2:] == tuple(max(1, round(side * length)) for length in shape[2:])
    assert torch.allclose(smaller.flatten(2).mean(2), batch.flatten(2).mean(2), atol=1e-4)
    assert torch.allclose(shrink(torch.full(shape, 3.0), side), torch.full(smaller.shape, 3.0), atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1, 40), (6, 3, 12, 12), (3, 1, 8, 8, 8)])
def test_everything_at_once_keeps_shape_and_is_the_same_for_the_same_stream(shape: tuple[int, ...]) -> None:
    augmentation = Augmentation("random", translate=0.1, zoom=0.4, cutout=0.2)
    batch = torch.randn(shape, generator=random_stream(5))
    first, second = (augmentation(batch, random_stream(0, "a")) for _ in range(2))
    assert first.shape == batch.shape
    assert torch.equal(first, second)
    assert not torch.equal(first, augmentation(batch, random_stream(0, "b")))


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (3, 3), (8, 20), (30,), (2,), (4, 1, 9)])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_cutout_box_is_described_in_pixels(size: tuple[int, ...], share: float) -> None:
    (sentence,) = Augmentation(cutout=share).sentences(size)
    cut = cut_out(torch.ones(200, 1, *size), share, torch.Generator().manual_seed(0)) == 0
    sides = [int(cut.transpose(1, axis + 2).flatten(2).any(2).sum(1).max()) for axis in range(len(size))]
    assert sentence.startswith("not blanked (") == (not cut.any())
    assert sentence.startswith("not blanked (") or sentence == f"blanked in a box of {' x '.join(map(str, sides))}"


@pytest.mark.parametrize("field", dataclasses.fields(Augmentation), ids=lambda field: field.name)
def test_every_augmentation_is_off_by_default_and_has_a_sentence(field: dataclasses.Field[object]) -> None:
    """Its setting of the same name is held in tests/workbench, where recipes are known."""
    assert Augmentation().sentences((32, 32)) == []
    values = {"flip": ["random", "alternating"]}.get(field.name, [0.25])
    for value in values:
        assert len(Augmentation(**{field.name: value}).sentences((32, 32))) == 1
