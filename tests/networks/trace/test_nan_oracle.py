"""The trace of any module: hard modules against the oracle that knows no rules, real networks operation by operation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from visus.design import Row, alexnet, convnext, densenet, efficientnet_lite, inception, mobilenet, resnet, vgg
from visus.networks import build
from visus.networks.trace import trace

from .hard_modules import HARD, Made, conv
from .nan_oracle import boxes, layers_of, operations_of, output_of

CASES = [(name, axis) for name, (_, shape) in HARD.items() for axis in range(len(shape) - 1)]


def dim_of(row: Row, axis: int) -> int | None:
    """The dimension of a tensor (batch counted) along which its field tells of positions; None where it is one for all."""
    length = len(row.fields[axis].intervals)
    if length == 1 and (axis + 1 >= len(row.output_shape) or row.output_shape[axis + 1] != 1):
        return None
    if axis + 1 < len(row.output_shape) and row.output_shape[axis + 1] == length:
        return axis + 2
    return next(dim + 1 for dim, size in enumerate(row.output_shape) if size == length)


@pytest.mark.parametrize(("name", "axis"), CASES)
def test_what_each_position_reads_is_what_poison_shows(name: str, axis: int) -> None:
    make, shape = HARD[name]
    torch.manual_seed(0)
    module = nn.Sequential(make(), nn.Identity())
    costs = trace(module, shape)
    touched = output_of(module, shape, axis)
    last = costs.rows[-1]
    assert (last.path, costs.output) == ("1", tuple(touched.shape[1:]))
    field = last.fields[axis]
    shown = boxes(touched, dim_of(last, axis))
    assert field.intervals.pairs() == shown
    assert field.is_exact
    assert not any("hull" in row.notes for row in costs.rows)


WINDOWS = (
    "chain",
    "dilation",
    "unequal kernels and strides",
    "strided 1 x 1",
    "pooling, ceil",
    "1-D",
    "3-D",
    "residual",
    "concat",
)


@pytest.mark.parametrize("name", WINDOWS)
def test_the_theoretical_field_is_what_poison_shows_away_from_the_border(name: str) -> None:
    make, shape = HARD[name]
    module = make()
    field = trace(module, shape).rows[-1].fields[0]
    for index, box in enumerate(boxes(output_of(module, shape, 0), 2)):
        first = field.start + index * field.stride
        if first >= 0 and first + field.size <= shape[1]:
            assert box == (first, first + field.size - 1)


def small(design: Any, shape: tuple[int, ...]) -> nn.Module:
    return build(design, shape, 4)


NETWORKS: dict[str, Any] = {
    "resnet": (lambda: small(resnet(18), (3, 48, 40)), (3, 48, 40)),
    "resnet of bottlenecks": (lambda: small(resnet(50), (3, 35, 33)), (3, 35, 33)),
    "alexnet": (lambda: small(alexnet(), (3, 63, 67)), (3, 63, 67)),
    "vgg": (lambda: small(vgg(11), (3, 33, 36)), (3, 33, 36)),
    "densenet": (lambda: small(densenet(121), (3, 33, 37)), (3, 33, 37)),
    "mobilenet": (lambda: small(mobilenet(2), (3, 40, 33)), (3, 40, 33)),
    "efficientnet_lite": (lambda: small(efficientnet_lite(0), (3, 33, 36)), (3, 33, 36)),
    "inception": (lambda: small(inception(), (3, 75, 80)), (3, 75, 80)),
    "convnext": (lambda: small(convnext("tiny"), (3, 40, 33)), (3, 40, 33)),
    **{
        name: HARD[name]
        for name in ("U-Net skip", "dense block", "squeeze and excite", "channels last, layer norm", "atrous pyramid")
    },
    **{name: HARD[name] for name in ("channels split, shuffled, grouped", "in place", "bands of channels")},
}


SLOW = ("inception", "resnet of bottlenecks", "vgg", "convnext", "densenet", "alexnet")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NETWORKS])
@pytest.mark.long
def test_every_intermediate_map_reads_what_poison_shows(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    costs = trace(module, shape, detail="operations")
    rows = [row for row in costs.rows if len(row.output_shape) == len(shape) and row.fields]
    num_compared = 0
    for axis in range(len(shape) - 1):
        shown = [
            (what, out) for what, out in operations_of(module, shape, axis) if out.dim() == len(shape) + 1 and out.any()
        ]
        place = 0
        for row in rows:
            while shown[place][1].shape[1:] != row.output_shape or named(shown[place][0]) != named(row.layer):
                place += 1
            if row.fields[axis].is_exact:
                assert row.fields[axis].intervals.pairs() == boxes(shown[place][1], dim_of(row, axis)), row.path
                num_compared += 1
            place += 1
    assert num_compared == 2 * len(rows) > 0


def named(operation: str) -> str:
    """An operation's name as rows have it, whichever way torch computes it."""
    name = operation.strip("_")
    return {
        "native_batch_norm": "batch_norm",
        "native_layer_norm": "layer_norm",
        "native_group_norm": "group_norm",
        "constant_pad_nd": "pad",
    }.get(name.removesuffix("_with_indices").removesuffix("_legit_no_training"), name.removesuffix("_with_indices"))


@pytest.mark.slow
def test_every_layer_of_inception_reads_what_poison_shows() -> None:
    shape = (3, 75, 75)
    torch.manual_seed(0)
    module = Made(lambda m, x: m.body[:9](x), body=small(inception(), (3, 139, 139)))
    rows = {row.path: row for row in trace(module, shape).rows}
    for path, touched in layers_of(module, shape, 0).items():
        assert rows[path].fields[0].intervals.pairs() == boxes(touched, dim_of(rows[path], 0)), path


def test_layers_that_split_channels_keep_their_own_fields() -> None:
    module = Made(
        lambda m, x: m.pick(torch.cat([m.narrow(x), m.wide(x)], 1)[:, :2]),
        narrow=conv(2, 1),
        wide=conv(2, 7, padding=3),
        pick=conv(of=2, padding=1),
    )
    field = trace(module, (4, 20, 20)).rows[-1].fields[0]
    assert (field.size, field.stride, field.start) == (3, 1, -1)
