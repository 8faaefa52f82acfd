"""What feeds each row of an account, and how the row reads it: the same plain view of a design and of a traced module.

This file knows how the nodes of a design become this view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Final, Literal

from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers.registry import GlobalPool, GroupNorm, Layer, LayerNorm, Norm, Pool, Softmax
from visus.geometry import AxisOp, Window

INPUT: Final = -1
"""The place of the network's input among the sources of a row."""

Kind = Literal["window", "pool", "global pool", "norm", "softmax", "sum", "stack", "values"]
"""What a row does; ``values`` for anything that advice has no word for."""

Context = Literal["local", "global", "both", "unknown"]
"""What each number that comes out depends on: its window (or its own position), all positions, both, or nobody knows."""


@dataclass(frozen=True)
class Normed:
    """What a norm divides by the deviation of.

    Args:
        by: ``"batch"``, ``"group"`` or ``"layer"``.
        channels: channels or features that come in.
        num_groups: groups of a group norm, else 1.
        num_values: so many values of one sample share a mean and a deviation; those of the batch's other samples come on top.
    """

    by: Literal["batch", "group", "layer"]
    channels: int
    num_groups: int
    num_values: int


@dataclass(frozen=True)
class Flow:
    """What enters a row, and what it looks at it through.

    Args:
        kind: what the row does.
        output_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        sources: the places of the rows whose outputs enter; ``INPUT`` for the input of the network.
        axis_ops: what each axis is looked at through; empty where each position sees itself alone, or ``context`` says more.
        context: what each number that comes out depends on.
        normed: over what a norm is taken.
    """

    kind: Kind
    output_shape: Shape
    sources: tuple[int, ...]
    axis_ops: tuple[AxisOp, ...] = ()
    context: Context = "local"
    normed: Normed | None = None

    @property
    def windows(self) -> tuple[Window, ...]:
        """The window on each axis; empty where the row has none, or one that enlarges."""
        windows = tuple(axis_op for axis_op in self.axis_ops if isinstance(axis_op, Window))
        return windows if len(windows) == len(self.axis_ops) else ()


def flows_of(nodes: Many[Node]) -> tuple[Flow, ...]:
    """A flow for each layer, sum and stack, in the order of an account's rows.

    >>> from visus.design import parse
    >>> flows = flows_of(parse("conv(4, 3, padding=1), residual(relu)").place((1, 8)))
    >>> [(flow.kind, flow.sources) for flow in flows]
    [('window', (-1,)), ('values', (0,)), ('sum', (1, 0))]
    """
    found: list[Flow] = []
    _add_all(found, nodes, INPUT)
    return tuple(found)


def _add_all(found: list[Flow], nodes: Many[Node], source: int) -> int:
    for node in nodes:
        source = _add(found, node, source)
    return source


def _add(found: list[Flow], node: Node, source: int) -> int:
    """Add the flows of a node that is fed by ``source``; the place of what comes out of it."""
    layer = node.layer
    if isinstance(layer, Layer):
        found.append(_flow(layer, node, source))
        return len(found) - 1
    ends = [_add_all(found, branch, source) for branch in node.branches]
    if not isinstance(layer, (Residual, Concat)):
        return ends[0] if ends else source
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(source)
    found.append(Flow("sum" if isinstance(layer, Residual) else "stack", node.output_shape, tuple(dict.fromkeys(ends))))
    return len(found) - 1


_KINDS: Final[dict[type[Layer], Kind]] = {
    GlobalPool: "global pool",
    Norm: "norm",
    LayerNorm: "norm",
    GroupNorm: "norm",
    Softmax: "softmax",
}


def _flow(layer: Layer, node: Node, source: int) -> Flow:
    num_axes = len(node.input_shape) - 1
    axis_ops = layer.axis_ops(num_axes) if num_axes else ()
    kind = _KINDS.get(type(layer)) or ("pool" if isinstance(layer, Pool) else "window" if axis_ops else "values")
    return Flow(kind, node.output_shape, (source,), axis_ops, layer.context, _normed(layer, node.input_shape))


def _normed(layer: Layer, shape: Shape) -> Normed | None:
    channels, positions = shape[0], math.prod(shape[1:])
    if isinstance(layer, Norm):
        return Normed("batch", channels, 1, positions)
    if isinstance(layer, GroupNorm):
        return Normed("group", channels, layer.num_groups, channels // layer.num_groups * positions)
    return Normed("layer", channels, 1, channels) if isinstance(layer, LayerNorm) else None
