"""A traversal of the nodes of a design, from the input through branches and joins to the output.

Rows, flows and memory are three walks that carry different values: receptive fields, row indices, tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Many
from typing import Generic, Literal, TypeVar

from visus.design.flow import INPUT, Flow
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers.layer import Layer

Value = TypeVar("Value")


class Walk(ABC, Generic[Value]):
    """The steps at each layer and each join; nodes are visited in the order of computation."""

    @abstractmethod
    def layer(self, node: Node, layer: Layer, value: Value) -> Value:
        """The value after a layer."""

    @abstractmethod
    def join(self, node: Node, ends: Many[Value]) -> Value:
        """The value after a residual or a concat, from the outputs of its paths; the last path of a residual is its
        input."""

    def hold(self, value: Value) -> None:
        """Add a holder to the value, like a variable in a module's ``forward``."""

    def release(self, value: Value) -> None:
        """Remove one holder from the value."""

    def through(self, nodes: Many[Node], value: Value) -> Value:
        """The value after a sequence of nodes. The result is held; the caller also holds the given value."""
        self.hold(value)
        for node in nodes:
            after = self._after(node, value)
            self.release(value)
            value = after
        return value

    def _after(self, node: Node, value: Value) -> Value:
        if isinstance(node.layer, Layer):
            return self.layer(node, node.layer, value)
        ends = [self.through(branch, value) for branch in node.branches]
        if isinstance(node.layer, Residual) and len(ends) == 1:
            ends.append(self.through((), value))
        if isinstance(node.layer, (Residual, Concat)):
            return self.join(node, ends)
        for other in ends[1:]:  # branches of a design that failed before they joined
            self.release(other)
        return ends[0] if ends else self.through((), value)


def join_word(node: Node) -> Literal["sum", "stack"]:
    """The word for the row of a join.

    >>> from visus.design import parse
    >>> [join_word(node) for node in parse("residual(relu), concat([], [relu])").place((1, 8))]
    ['sum', 'stack']
    """
    return "sum" if isinstance(node.layer, Residual) else "stack"


def flows_of(nodes: Many[Node]) -> tuple[Flow, ...]:
    """A flow for each layer, sum and stack, in the order of an account's rows.

    >>> from visus.design import parse
    >>> flows = flows_of(parse("conv(4, 3, padding=1), residual(relu)").place((1, 8)))
    >>> [(flow.kind, flow.sources) for flow in flows]
    [('window', (-1,)), ('values', (0,)), ('sum', (1, 0))]
    """
    walk = _Flows()
    walk.through(nodes, INPUT)
    return tuple(walk.flows)


class _Flows(Walk[int]):
    """Carries the place of the row that a value comes from."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []

    def layer(self, node: Node, layer: Layer, value: int) -> int:
        num_axes = len(node.input_shape) - 1
        axis_ops = layer.axis_ops(num_axes) if num_axes else ()
        return self._add(
            Flow(
                layer.row_kind,
                node.output_shape,
                (value,),
                axis_ops,
                layer.context,
                layer.normed(node.input_shape),
                layer.is_affine,
            )
        )

    def join(self, node: Node, ends: Many[int]) -> int:
        return self._add(Flow(join_word(node), node.output_shape, tuple(dict.fromkeys(ends))))

    def _add(self, flow: Flow) -> int:
        self.flows.append(flow)
        return len(self.flows) - 1
