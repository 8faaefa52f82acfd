"""Advice on convolutions, and on linear layers, in a row without an activation between them: together they are one layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from visus.design.advice.pieces import Advice
from visus.design.arguments import Shape
from visus.design.edits import changed
from visus.design.facts import AdviceFound, Candidate, Facts, costs
from visus.design.flow import INPUT
from visus.design.graph import Node
from visus.design.items import Item
from visus.design.layers.registry import relu as relu_layer
from visus.geometry import Window
from visus.tables import listed
from visus.units import write_number_of, write_shape


def missing_activation(facts: Facts) -> Iterator[AdviceFound]:
    """Pairs of convolutions, or of linear layers, without an activation between them, as one piece of advice.

    A deliberate factorization is none: a middle with fewer channels than both ends, grouped convolutions such as a depthwise and a
    pointwise one, windows along different axes, and a 1 x 1 convolution that saves weights.
    """
    pairs = [(first, second) for second in range(len(facts.rows)) if (first := _paired(facts, second)) is not None]
    if not pairs:
        return
    first, second = pairs[0]
    row, before = facts.rows[second], facts.rows[first]
    later = [facts.rows[place].path for _, place in pairs[1:]]
    others = f" The same holds for {write_number_of(len(later), 'later layer')} ({listed(later)})." if later else ""
    sentence = f"there is no activation between {before.path} and this layer, so the two {_one_layer(facts, first, second)}.{others}"
    paths = tuple(facts.rows[place].path for _, place in pairs)
    yield AdviceFound(Advice("activation", row.path, sentence, paths=paths), lambda: _with_activations(facts, pairs))


def _paired(facts: Facts, second: int) -> int | None:
    """The layer of the same kind whose output reaches this one without an activation, and no other; None if there is none."""
    if not _is_conv(facts, second) and not _is_linear(facts, second):
        return None
    place = second
    while facts.flows[place].is_direct and len(facts.flows[place].sources) == 1:
        source = facts.source(place)
        if source == INPUT or source in facts.account.ends or facts.readers[source] != [place]:
            return None
        kind = _is_conv if _is_conv(facts, second) else _is_linear
        if kind(facts, source):
            return None if _is_factorization(facts, source, second) else source
        if not facts.flows[source].is_affine or facts.rows[source].macs or not _may_lie_between(facts, source):
            return None
        place = source
    return None


def _may_lie_between(facts: Facts, place: int) -> bool:
    """Whether a row without weights leaves the pair one layer: a norm, which reads no neighbors, or an average pool; not an
    upsampling."""
    flow = facts.flows[place]
    is_local = all(isinstance(axis, Window) and axis.span == axis.stride == 1 for axis in flow.axis_ops)
    return flow.kind == "pool" or (is_local and flow.kind != "global pool")


def _pool_between(facts: Facts, first: int, second: int) -> str:
    """The path of the last pool between two layers; empty if there is none."""
    place = facts.source(second)
    while place != first:
        if facts.flows[place].kind == "pool":
            return facts.rows[place].path
        place = facts.source(place)
    return ""


def _is_conv(facts: Facts, place: int) -> bool:
    flow, row = facts.flows[place], facts.rows[place]
    return (
        flow.is_affine
        and flow.kind == "window"
        and bool(flow.windows)
        and row.macs > 0 < row.num_parameters
        and facts.is_map(row.output_shape)
    )


def _is_linear(facts: Facts, place: int) -> bool:
    """Whether a row gives features and uses each weight once; a module may flatten its input without a row."""
    flow, row = facts.flows[place], facts.rows[place]
    return (
        flow.is_affine
        and len(row.output_shape) == 1
        and row.num_parameters - row.macs in (0, row.output_shape[0])
        and row.macs > 0 < row.num_parameters
    )


def _is_factorization(facts: Facts, first: int, second: int) -> bool:
    into, middle, out = _channels(facts, first, second)
    if middle < min(into, out):
        return True
    if not _is_conv(facts, second):
        return False
    one, two = facts.flows[first].windows, facts.flows[second].windows
    if _num_groups(facts, first) > 1 or _num_groups(facts, second) > 1:
        return True
    if any(one_axis.span == 1 < two_axis.span for one_axis, two_axis in zip(one, two, strict=True)) and any(
        two_axis.span == 1 < one_axis.span for one_axis, two_axis in zip(one, two, strict=True)
    ):
        return True  # such as 1 x 7 and 7 x 1
    is_pointwise = any(all(window.span == 1 for window in windows) for windows in (one, two))
    return is_pointwise and _merged_weights(facts, first, second) > _weights(facts, first) + _weights(facts, second)


def _channels(facts: Facts, first: int, second: int) -> tuple[int, int, int]:
    """Channels or features that come in, those in the middle, and those that go out."""
    middle, out = facts.rows[first].output_shape[0], facts.rows[second].output_shape[0]
    is_conv = _is_conv(facts, first)
    return facts.shape_at(facts.source(first))[0] if is_conv else facts.rows[first].macs // middle, middle, out


def _num_groups(facts: Facts, place: int) -> int:
    full = facts.shape_at(facts.source(place))[0] * math.prod(facts.rows[place].output_shape)
    return full * math.prod(window.kernel_size for window in facts.flows[place].windows) // facts.rows[place].macs


def _weights(facts: Facts, place: int) -> int:
    """Weights of a convolution without groups or a linear layer, without its biases."""
    return facts.rows[place].macs // math.prod(facts.rows[place].output_shape[1:])


def _spans(facts: Facts, first: int, second: int) -> Shape:
    """Length of the one window on each axis that reads what both windows read."""
    windows = zip(facts.flows[first].windows, facts.flows[second].windows, strict=True)
    return tuple(one.span + (two.span - 1) * one.stride for one, two in windows)


def _merged_weights(facts: Facts, first: int, second: int) -> int:
    into, _, out = _channels(facts, first, second)
    return into * out * (_num_taps(facts, first, second) if _is_conv(facts, second) else 1)


def _num_taps(facts: Facts, first: int, second: int) -> int:
    """Positions that the one window reads; with dilation, not all inside of it."""
    axes = []
    for one, two in zip(facts.flows[first].windows, facts.flows[second].windows, strict=True):
        starts = [index * two.dilation * one.stride for index in range(two.kernel_size)]
        axes.append({start + index * one.dilation for start in starts for index in range(one.kernel_size)})
    return math.prod(map(len, axes))


def _one_layer(facts: Facts, first: int, second: int) -> str:
    """What the two layers compute no more than, with the numbers of weights."""
    into, _, out = _channels(facts, first, second)
    if pool := _pool_between(facts, first, second):
        return f"convolutions and the average pool {pool} compute no more than one convolution"
    one, two, merged = _weights(facts, first), _weights(facts, second), _merged_weights(facts, first, second)
    instead = f"= {merged:,} weights instead of {one:,} + {two:,} = {one + two:,}"
    if not _is_conv(facts, second):
        return f"linear layers compute no more than one: {into:,} x {out:,} {instead}"
    spans = _spans(facts, first, second)
    window, next_window = facts.flows[first].windows[0], facts.flows[second].windows[0]
    size = f"{window.span} + ({next_window.span} - 1) x {window.stride} = {spans[0]}"
    kernel = write_shape(spans) if len(spans) > 1 else f"length {spans[0]}"
    return (
        f"convolutions compute no more than one with a window of {kernel} ({size}): "
        f"{into:,} x {out:,} x {_num_taps(facts, first, second):,} {instead}"
    )


def _with_activations(facts: Facts, pairs: list[tuple[int, int]]) -> Iterator[Candidate]:
    """A relu before the second layer of each pair."""
    if not facts.nodes:
        yield Candidate("apply an activation between them, such as a ReLU")
        return
    paths = {facts.rows[facts.source(second)].path for _, second in pairs}

    def with_relu(node: Node) -> list[Item] | None:
        return [node.layer, relu_layer()] if node.path in paths else None

    design = changed(facts.nodes, with_relu, named=True)
    tried = facts.tried(design)
    if tried is not None:
        where = f"put relu before {facts.rows[pairs[0][1]].path}" if len(pairs) == 1 else "put relu between each pair"
        yield Candidate(f"{where}: {costs(tried.account)}", design, tried)
