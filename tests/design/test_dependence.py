"""Positions that are read: equal to an oracle that knows no rules, which poisons one pixel and looks at what comes out."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.design import Design, concat, conv, globalpool, linear, maxpool, norm, parse, residual, se, transposed, upsample
from visus.design.dependence import (
    everything,
    has_holes,
    middle,
    num_positions,
    projection,
    read_by,
    read_through,
)
from visus.design.edits import changed, trunk
from visus.design.layers.registry import Conv
from visus.design.rewrite import with_window
from visus.design.walk import flows_of
from visus.errors import DesignError

from .poison import pixels_that_matter


def as_mask(area, size):
    """The positions of an area as a tensor of flags."""
    found = torch.zeros(size, dtype=torch.bool)
    for box in area:
        flags = torch.ones(size, dtype=torch.bool)
        for axis, bits in enumerate(box):
            own = torch.tensor([bool(bits >> index & 1) for index in range(size[axis])])
            flags &= own.reshape([-1 if other == axis else 1 for other in range(len(size))])
        found |= flags
    return found


windows = st.builds(
    lambda kernel, stride, padding, dilation: conv(2, kernel, stride=stride, padding=padding, dilation=dilation),
    *(st.integers(1, 3), st.integers(1, 4), st.integers(0, 1), st.integers(1, 3)),
)
uneven = st.builds(lambda tall, wide: conv(2, (tall, wide), stride=(wide, tall)), st.integers(1, 3), st.integers(1, 2))
enlarging = st.sampled_from(
    [transposed(2, 3, stride=2), transposed(2, 1, stride=3), upsample(2), upsample(2, mode="linear")]
)
pools = st.sampled_from([maxpool(2), maxpool(3, 2, padding=1, ceil_mode=True)])
layers = st.one_of(windows, uneven, pools, enlarging, st.just(norm()), st.just(se(1)))
branches = st.lists(windows, min_size=1, max_size=2)
items = st.one_of(
    layers,
    branches.map(lambda inner: residual(*inner)),
    st.lists(branches, min_size=2, max_size=2).map(lambda both: concat(*both)),
)


@given(inner=st.lists(items, min_size=1, max_size=3), size=st.tuples(st.integers(5, 9), st.integers(5, 9)))
def test_positions_that_are_read_equal_the_poisoned_oracle(inner, size):
    design, shape = Design(inner), (2, *size)
    try:
        nodes = design.place(shape)
    except DesignError:
        return
    reached = nodes[-1].output_shape[1:]
    everywhere = read_by(nodes, everything(reached))
    assert torch.equal(as_mask(everywhere, size), pixels_that_matter(design, shape))
    assert num_positions(everywhere) == int(as_mask(everywhere, size).sum())
    one = read_by(nodes, middle(reached))
    at = [length // 2 for length in reached]
    assert torch.equal(as_mask(one, size), pixels_that_matter(design, shape, at=at))
    assert num_positions(one) == int(as_mask(one, size).sum())


def test_layers_that_look_at_the_map_read_all_of_it():
    nodes = parse("conv(2, 1, stride=2), groupnorm(1), globalpool, linear(classes)").place((1, 6, 6), 3)
    assert num_positions(read_by(nodes, everything(()))) == 9
    assert num_positions(read_by(nodes[:2], middle((3, 3)))) == 9
    assert num_positions(read_by(nodes[:2], middle((3, 3)), gates=False)) == 1


def test_what_feeds_a_sum_is_the_body_and_what_stands_next_to_it():
    flows = flows_of(parse("conv(2, 1), residual(conv(2, 1), relu), concat([], [norm])").place((1, 4)))
    assert [(flow.kind, flow.sources) for flow in flows] == [
        *(("window", (-1,)), ("window", (0,)), ("values", (1,)), ("sum", (2, 0)), ("norm", (3,)), ("stack", (3, 4))),
    ]
    projected = flows_of(parse("residual(conv(2, 2, stride=2))").place((1, 4)))
    assert projected[-1].sources == (0, 2)  # the convolution, and the norm behind that of the projection


def test_a_row_without_a_word_for_what_it_reads_is_taken_to_read_all():
    (flow,) = flows_of(parse("conv(2, 1, stride=2)").place((1, 6)))
    assert read_through(flow, (1, 6), everything((3,))) == ((0b010101,),)
    assert read_through(dataclasses.replace(flow, context="unknown"), (1, 6), everything((3,))) == everything((6,))


def test_shadows_and_holes():
    area = ((0b001, 0b110), (0b100, 0b010))
    assert [projection(area, axis) for axis in (0, 1)] == [0b101, 0b110]
    assert [has_holes(projection(area, axis)) for axis in (0, 1)] == [True, False]
    assert not has_holes(0)


def test_a_design_written_out_from_its_nodes_costs_the_same():
    design = parse(
        "conv(8, 3), norm, 2 * [residual(conv(8, 3, padding=1), norm), concat([], [conv(8, 1)])], flatten, linear(classes)"
    )
    nodes = design.place((3, 9, 9), 4)
    again = changed(nodes, lambda node: None)
    assert [(node.output_shape, node.num_parameters, node.macs) for node in again.place((3, 9, 9))] == [
        (node.output_shape, node.num_parameters, node.macs) for node in nodes
    ]
    assert [node.path for node in trunk(nodes)] == [
        *("conv1", "norm1", "block1.residual1", "block1.concat1", "block2.residual1", "block2.concat1"),
    ]


@given(kernel=st.integers(1, 7), dilation=st.integers(1, 4), more=st.integers(1, 9), wider=st.integers(1, 5))
def test_a_changed_window_keeps_the_size_of_the_map_or_is_refused(kernel, dilation, more, wider):
    layer = Conv(4, kernel, padding=kernel // 2, dilation=dilation)
    new = with_window(layer, 1, kernel_size=more, dilation=wider)
    if new is not None:
        assert new.output_shape((3, 60)) == layer.output_shape((3, 60))
        assert new.windows(1)[0].span == wider * (more - 1) + 1


def test_a_network_of_features_reads_all_of_them():
    nodes = Design([linear(4), linear(2)]).place((8,))
    assert num_positions(read_by(nodes, everything(()))) == 1
    assert trunk(Design([globalpool()]).place((8, 3))) == []
