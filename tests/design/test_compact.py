"""The default network at all of its scales: what the usual one was stays, each sees the whole item, wider ones have more to compute."""

from __future__ import annotations

import pytest

from visus.design import account, compact, parse, resolve_network
from visus.design.families.compact import MAX_WHOLE_PX, SCALES
from visus.design.items import Sequence
from visus.design.layers.registry import Conv
from visus.errors import DesignError
from visus.training.facts import SMALL_PX

SHAPES = [
    *((1, side) for side in (1, 3, 5, 8, 20, 70, 400, 8_000)),
    *((3, side, side + 5) for side in (1, 2, 3, 5, 8, 11, 12, 28, 32, 40, 41, 64, 96, 128, 160, 161, 224)),
    *((1, side, side + 5) for side in (5, 28, 40, 41)),
    *((1, side, side, side + 1) for side in (1, 2, 4, 7, 16, 33, 64)),
]
BY_HAND = """
sequence(whiten(2), gelu, name="stem"),
sequence(conv(64, 3, padding=1, bias=False), maxpool(2), norm, gelu, conv(64, 3, padding=1, bias=False), norm, gelu, name="stage1"),
sequence(conv(256, 3, padding=1, bias=False), maxpool(2), norm, gelu, conv(256, 3, padding=1, bias=False), norm, gelu, name="stage2"),
sequence(conv(256, 3, padding=1, bias=False), maxpool(2), norm, gelu, conv(256, 3, padding=1, bias=False), norm, gelu, name="stage3"),
globalpool("max"), linear(classes)
"""


def stages(shape: tuple[int, ...], scale: float, num_samples: int | None = None) -> list[Sequence]:
    layers = compact(shape, 10, num_samples, scale=scale).layers
    return [layer for layer in layers if isinstance(layer, Sequence) and str(layer.name).startswith("stage")]


def convs(stage: Sequence) -> list[Conv]:
    return [layer for layer in stage.layers if isinstance(layer, Conv)]


def test_without_a_scale_it_is_the_network_that_it_was():
    assert compact((3, 32, 32), 10, 50_000) == parse(BY_HAND)
    for shape in SHAPES:
        assert compact(shape, 10, 500) == compact(shape, 10, 500, scale=1)


@pytest.mark.parametrize(
    ("shape", "num_samples", "width"),
    [
        ((3, 40, 60), 20_000, 64),
        ((1, 40, 60), 20_000, 48),
        ((1, 41, 60), 20_000, 32),
        ((1, 40, 60), 19_999, 32),
        ((3, 40, 60), None, 32),
    ],
)
def test_many_small_images_have_a_wider_first_stage_and_gray_ones_one_between(shape, num_samples, width):
    assert convs(stages(shape, 1, num_samples)[0])[0].out_channels == width
    assert MAX_WHOLE_PX == SMALL_PX, "the recipe asks for the same images"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_last_map_sees_the_whole_shorter_side_or_has_nothing_left_to_pool(shape, scale):
    side, pool = min(shape[1:]), 4 if len(shape) == 2 else 2
    axis = shape[1:].index(side)
    rows = account(compact(shape, 10, scale=scale), shape, 10).rows
    last = next(row for row in reversed(rows) if row.path.startswith("stage"))
    assert last.fields[axis].size >= side or last.output_shape[1:][axis] < pool


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_samples", [500, 50_000])
def test_channels_are_multiples_of_8_near_the_scale(shape, num_samples):
    first = convs(stages(shape, 1, num_samples)[0])[0].out_channels
    for scale in SCALES:
        for place, stage in enumerate(stages(shape, scale, num_samples)):
            wanted = scale * first * (4 if place else 1)
            for layer in convs(stage):
                assert layer.out_channels % 8 == 0
                assert abs(layer.out_channels - wanted) <= 4 or (wanted < 4 and layer.out_channels == 8)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_wider_scale_never_computes_less(shape):
    macs = [account(compact(shape, 10, scale=scale), shape, 10).macs for scale in SCALES]
    assert macs[1:] == sorted(macs[1:])
    assert macs[0] <= macs[2]  # where channels are few already, its further stage may cost more than half of them save
    assert len(shape) != 3 or min(shape[1:]) < 12 or 3 * macs[0] < macs[2] < macs[-1] / 3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_widest_has_the_stages_of_the_usual_one_and_the_narrowest_at_least_as_many(shape):
    counts = {scale: [len(convs(stage)) for stage in stages(shape, scale)] for scale in SCALES}
    assert {scale: set(found) for scale, found in counts.items()} == {0.25: {1}, 0.5: {2}, 1: {2}, 1.5: {2}, 2: {3}}
    assert len(counts[0.25]) >= len(counts[1]) == len(counts[0.5]) == len(counts[1.5]) == len(counts[2])


def test_a_scale_can_be_written_in_the_notation():
    facts = {"input_shape": (3, 32, 32), "num_classes": 10}
    for scale in SCALES:
        design = compact((3, 32, 32), 10, scale=scale)
        assert resolve_network(f"compact(scale={scale})", **facts) == design == parse(design.text)


@pytest.mark.parametrize("scale", [0, 3, -1, True, "wide"])
def test_a_scale_that_does_not_exist_is_reported(scale):
    with pytest.raises(DesignError) as caught:
        compact((3, 32, 32), scale=scale)
    assert str(caught.value) == f"compact comes in the scales 0.25, 0.5, 1, 1.5, 2, not {scale!r}."
