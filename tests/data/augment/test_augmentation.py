"""Augmentation of whole batches, for any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from visus.data.augment import (
    MIXINGS,
    SETTINGS,
    TRANSFORMS,
    Augmentation,
    BatchRandom,
    SampleFacts,
    Transform,
    UnitScale,
    cut_out,
    mirror,
    mirror_and_shift,
    shrink,
    zoom_and_shift,
)
from visus.data.augment.moves import Flip, Shift, Zoom
from visus.data.augment.turns import QuarterTurns, Rotation, VerticalFlip
from visus.data.batches import random_stream

SHAPES = st.sampled_from([(5, 2, 9), (5, 3, 8, 7), (4, 1, 5, 6, 7)])


def numbered(shape: tuple[int, ...]) -> torch.Tensor:
    """A batch with all values distinct."""
    count = 1
    for length in shape:
        count *= length
    return torch.arange(count, dtype=torch.float32).reshape(shape) + 1


def changes(size: tuple[int, ...], **settings: Any) -> Augmentation:
    """The augmentation of a recipe with these settings."""
    return Augmentation.of(settings, SampleFacts(size))


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
    changed = (changes((3,), flip="random")(batch, random_stream(0)) != batch).any(2).any(1).float().mean()
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

    for settings in ({"flip": "random", "translate": 0.2, "cutout": 0.3}, {"flip": "random"}, {"zoom": 0.3}):
        each = changes((9, 7), **settings)
        late = each(stored, random_stream(1), scale=scale)
        assert torch.equal(late, each((stored.float() - 17) / 3, random_stream(1)))
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
    augmentation = changes(shape[2:], flip="random", translate=0.1, zoom=0.4, cutout=0.2)
    batch = torch.randn(shape, generator=random_stream(5))
    first, second = (augmentation(batch, random_stream(0, "a")) for _ in range(2))
    assert first.shape == batch.shape
    assert torch.equal(first, second)
    assert not torch.equal(first, augmentation(batch, random_stream(0, "b")))


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (3, 3), (8, 20), (30,), (2,), (4, 1, 9)])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_cutout_box_is_described_in_pixels(size: tuple[int, ...], share: float) -> None:
    (sentence,) = changes(size, cutout=share).sentences(size)
    cut = cut_out(torch.ones(200, 1, *size), share, torch.Generator().manual_seed(0)) == 0
    sides = [int(cut.transpose(1, axis + 2).flatten(2).any(2).sum(1).max()) for axis in range(len(size))]
    assert sentence.startswith("not blanked (") == (not cut.any())
    assert sentence.startswith("not blanked (") or sentence == f"blanked in a box of {' x '.join(map(str, sides))}"


ON = {
    "flip": "random",
    "translate": 0.25,
    "zoom": 0.25,
    "vertical_flip": "random",
    "rotate90": "random",
    "rotate": 15.0,
    "crop": 0.5,
    "color": 0.3,
    "policy": "2x9",
    "transform": "visus.data.augment:shrink",
    "cutout": 0.25,
    "mixup": 0.2,
    "cutmix": 1.0,
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.long
def test_every_augmentation_is_off_by_default_and_has_a_sentence(name: str) -> None:
    """Its setting of the same name is held in tests/training, where recipes are known."""
    assert changes((32, 32)) == Augmentation()
    assert changes((32, 32)).sentences((32, 32)) == []
    assert len(changes((32, 32), **{name: ON[name]}).sentences((32, 32))) == 1
    assert len(changes((32, 32), **{name: ON[name]}).words((32, 32))) == 1


def test_every_transform_and_mixing_is_registered_once() -> None:
    """A class that a recipe cannot ask for would never run."""
    assert set(ON) == set(SETTINGS)
    assert len(set(TRANSFORMS)) == len(TRANSFORMS)
    assert set(Transform.__subclasses__()) == set(TRANSFORMS)
    assert [kind.settings[0] for kind in (*TRANSFORMS, *MIXINGS)] == [
        *(
            "crop",
            "flip",
            "zoom",
            "translate",
            "vertical_flip",
            "rotate90",
            "rotate",
            "color",
            "policy",
            "transform",
            "cutout",
        ),
        *("mixup", "cutmix"),
    ]


def earlier(
    batch: torch.Tensor,
    generator: torch.Generator,
    scale: Callable[[torch.Tensor], torch.Tensor],
    mirrored: torch.Tensor | None,
    settings: dict[str, Any],
) -> torch.Tensor:
    """What one function did before augmentation became a tuple: scale first, then flip, shift or zoom, and cutout."""
    batch, size, count = scale(batch), batch.shape[2:], len(batch)
    if settings.get("flip") == "random":
        mirrored = torch.rand(count, generator=generator) < 0.5
    if mirrored is not None:
        batch = torch.stack([each.flip(-1) if is_marked else each for each, is_marked in zip(batch, mirrored, strict=True)])
    if settings.get("zoom") and len(size) > 1:
        window = 1 - settings["zoom"] * torch.rand(count, 1, generator=generator)
        stretch = torch.exp(0.15 * (2 * torch.rand(count, len(size), generator=generator) - 1))
        shift = (2 * torch.rand(count, len(size), generator=generator) - 1) * (
            1 - window + 2 * settings.get("translate", 0.0)
        )
        affine = torch.cat([torch.diag_embed(window * stretch), shift[:, :, None]], 2)
        grid = torch.nn.functional.affine_grid(affine, list(batch.shape), align_corners=False)
        batch = torch.nn.functional.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)
    elif settings.get("translate"):
        reach = [min(round(settings["translate"] * length), length - 1) for length in size]
        if any(reach):
            padded = torch.nn.functional.pad(batch, [each for far in reversed(reach) for each in (far, far)], mode="reflect")
            starts = [torch.randint(0, 2 * far + 1, (count,), generator=generator) for far in reach]
            for axis, length in enumerate(size, start=2):
                padded = torch.stack(
                    [each.narrow(axis - 1, int(starts[axis - 2][place]), length) for place, each in enumerate(padded)]
                )
            batch = padded
    for axis, length in enumerate(size if settings.get("cutout") else ()):
        if axis == 0:
            inside = torch.ones(count, *[1] * (len(size) + 1), dtype=torch.bool)
        side = round(settings["cutout"] * length)
        first = torch.randint(0, length, (count, 1), generator=generator) - side // 2
        hit = (torch.arange(length) >= first) & (torch.arange(length) < first + side)
        inside = inside & hit.reshape(count, 1, *[length if other == axis else 1 for other in range(len(size))])
    return batch * ~inside if settings.get("cutout") else batch


@given(
    SHAPES,
    st.integers(0, 1000),
    st.sampled_from([torch.uint8, torch.int16, torch.float32]),
    st.sampled_from(["none", "random", "alternating"]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.4]),
)
def test_the_tuple_gives_the_numbers_of_the_one_function_of_before(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, flip: str, translate: float, zoom: float, cutout: float
) -> None:
    settings = {"flip": flip, "translate": translate, "zoom": zoom, "cutout": cutout}
    stored = (torch.rand(shape, generator=random_stream(seed)) * 200).to(dtype)
    marked = drawn(shape[0], seed) if flip == "alternating" else None

    def scale(values: torch.Tensor) -> torch.Tensor:
        return (values.float() - 17) / 3

    now = changes(shape[2:], **settings)(stored, random_stream(seed), scale=scale, mirrored=marked)
    assert torch.equal(now, earlier(stored, random_stream(seed), scale, marked, settings))


EXACT = [Flip("random"), Shift(0.15), VerticalFlip(), QuarterTurns(), Zoom(0.3, 0.1), Rotation(40)]


@pytest.mark.parametrize("change", EXACT, ids=lambda change: type(change).__name__)
@pytest.mark.parametrize("size", [(40, 40), (6, 24, 24)])
@examples(max_examples=30)
@given(seed=st.integers(0, 1000))
def test_boxes_move_with_the_pixels_that_they_surround(change: Transform, size: tuple[int, ...], seed: int) -> None:
    """A bright box in a dark sample: after the change, what is bright fills the moved box, to a pixel where values are interpolated."""
    is_moved_exactly = not isinstance(change, (Zoom, Rotation))
    lengths = torch.tensor(size)
    low = (lengths * 0.4 + torch.rand(len(size), generator=random_stream(seed)) * lengths * 0.1).floor()
    high = low + (lengths * 0.2).ceil()
    batch = torch.zeros(4, 1, *size)
    batch[(slice(None), slice(None), *(slice(int(one), int(two)) for one, two in zip(low, high, strict=True)))] = 1
    numbers = change.draw(BatchRandom(random_stream(seed), 4, slice(None)), size)
    moved = change.apply(batch, numbers)
    boxes = change.move_boxes(torch.stack([low, high])[None, None].expand(4, 1, -1, -1), numbers, size)
    for sample, box in zip(moved, boxes[:, 0], strict=True):
        places = (sample[0] > 0.5).nonzero().float()
        bright = torch.stack([places.amin(0), places.amax(0) + 1])
        if is_moved_exactly:
            assert torch.equal(bright, box)
        else:
            assert (bright >= box[:1] - 1).all()
            assert (bright <= box[1:] + 1).all()
            assert isinstance(change, Rotation) or torch.allclose(bright, box, atol=1.0)


def test_boxes_follow_a_whole_augmentation() -> None:
    augmentation = changes((24, 24), flip="random", translate=0.1, vertical_flip="random", rotate90="random", color=0.3)
    batch = torch.zeros(16, 3, 24, 24)
    batch[:, :, 8:12, 9:16] = 1
    numbers = augmentation.draw(batch, random_stream(0))
    boxes = augmentation.move_boxes(torch.tensor([[8.0, 9.0], [12.0, 16.0]]).expand(16, 1, 2, 2), numbers, (24, 24))
    unit = UnitScale(torch.tensor(1.0), torch.tensor(0.0))
    for sample, box in zip(augmentation(batch, random_stream(0), unit=unit), boxes[:, 0], strict=True):
        gray = sample.sum(0)
        places = (gray > (gray.min() + gray.max()) / 2).nonzero().float()
        assert torch.equal(torch.stack([places.amin(0), places.amax(0) + 1]), box)


def test_a_box_that_leaves_the_sample_is_cut_to_nothing() -> None:
    shift = Shift(0.5)
    numbers = (torch.tensor([8]), torch.tensor([4]))  # four down from the middle of the reach, none across
    assert shift.move_boxes(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]), numbers, (8, 8)).tolist() == [
        [[[0.0, 2.0], [0.0, 5.0]]]
    ]


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (6, 1, 16, 16), (4, 2, 6, 10, 10)])
@pytest.mark.long
def test_all_transforms_together_keep_the_shape_and_repeat(shape: tuple[int, ...]) -> None:
    size = shape[2:]
    settings = {name: value for name, value in ON.items() if name not in ("transform", "mixup", "cutmix")}
    if shape[1] == 2:
        settings.pop("policy")
    augmentation = changes(size, **settings)
    stored = torch.randint(0, 255, shape, dtype=torch.uint8, generator=random_stream(2))
    unit = UnitScale(torch.tensor(1.0), torch.tensor(0.0))
    first, second, other = (
        augmentation(stored, random_stream(0, word), scale=lambda values: values.float() / 255, unit=unit) for word in "aab"
    )
    assert first.shape == shape
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_unit_values_are_the_inverse_of_inputs() -> None:
    unit = UnitScale(torch.tensor([0.2, 0.3, 0.1]), torch.tensor([0.5, 0.4, 0.6]))
    batch = torch.randn(2, 3, 4, 5, generator=random_stream(0))
    assert torch.allclose(unit.inputs(unit.unit_values(batch)), batch, atol=1e-6)
    assert math.isclose(float(unit.unit_values(torch.zeros(1, 3, 1))[0, 2, 0]), 0.6, abs_tol=1e-6)
