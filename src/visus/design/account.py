"""What a design costs and sees: a row for each layer with shape, parameters, multiply-adds and receptive field; the totals.

This file knows how nodes are added up. It must not know how a table is printed.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers import Layer
from visus.design.plan import Design
from visus.geometry import Field, join

Fields = tuple[Field, ...]
"""One receptive field for each axis of the input; none for an input of features."""


@dataclass(frozen=True)
class Row:
    """A layer, or the place where the paths of a residual or a concat meet (which costs no parameters and no multiply-adds).

    Args:
        path: the layer's path in the design.
        text: the layer as it is written, its bias and number of classes decided; ``sum`` and ``stack`` where paths meet.
        output_shape: ``(channels, *spatial)`` or ``(features,)``.
        num_parameters: number of trained values.
        macs: multiply-adds for one item.
        fields: the receptive field on each axis of the input; all that is read of it after a layer that looks at all positions.
        aligned: whether all paths that meet here look at the same middle; True for a layer.
    """

    path: str
    text: str
    output_shape: Shape
    num_parameters: int
    macs: int
    fields: Fields
    aligned: bool = True

    def to_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return {
            "path": self.path,
            "layer": self.text,
            "output_shape": list(self.output_shape),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "fields": [
                {"size": field.size, "step": _plain(field.step), "start": _plain(field.start)} for field in self.fields
            ],
            "aligned": self.aligned,
        }


@dataclass(frozen=True)
class Account:
    """The rows of a design in the order of computation, and their totals."""

    input_shape: Shape
    output_shape: Shape
    rows: tuple[Row, ...]

    @property
    def num_parameters(self) -> int:
        """Number of trained values of the whole design."""
        return sum(row.num_parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole design for one item."""
        return sum(row.macs for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The account as plain data."""
        return {
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "num_parameters": self.num_parameters,
            "macs": self.macs,
            "rows": [row.to_json() for row in self.rows],
        }


def account(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of a design for one input.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_classes: what ``classes`` stands for.

    Raises:
        DesignError: a layer cannot take the shape that reaches it.

    >>> from visus.design import parse
    >>> costs = account(parse("conv(8, 3, padding=1), relu, globalpool, linear(classes)"), (3, 32, 32), 10)
    >>> costs.num_parameters, costs.macs, costs.rows[0].fields[0]
    (314, 221264, Field(size=3, step=1, start=-1))
    """
    nodes = design.place(input_shape, num_classes)
    shape = tuple(input_shape)
    tally = _Tally(shape[1:])
    tally.add_all(nodes, tuple(Field() for _ in shape[1:]))
    return Account(shape, nodes[-1].output_shape, tuple(tally.rows))


class _Tally:
    """One walk over the nodes, gathering rows."""

    def __init__(self, input_size: Shape) -> None:
        self.input_size = input_size
        self.rows: list[Row] = []

    def add_all(self, nodes: Many[Node], fields: Fields) -> Fields:
        for node in nodes:
            fields = self.add(node, fields)
        return fields

    def add(self, node: Node, fields: Fields) -> Fields:
        """Add the rows of a node that is reached by ``fields``; the fields after it come back."""
        layer = node.layer
        if isinstance(layer, Layer):
            fields = self.after(layer, node.input_shape, fields)
            self.rows.append(Row(node.path, layer.text, node.output_shape, node.num_parameters, node.macs, fields))
            return fields
        ends = [self.add_all(branch, fields) for branch in node.branches]
        if not isinstance(layer, (Residual, Concat)):
            return ends[0]
        if isinstance(layer, Residual) and len(ends) == 1:
            ends.append(fields)
        joined = [join(axis) for axis in zip(*ends, strict=True)]
        fields = tuple(each.field for each in joined)
        word = "sum" if isinstance(layer, Residual) else "stack"
        self.rows.append(Row(node.path, word, node.output_shape, 0, 0, fields, all(each.aligned for each in joined)))
        return fields

    def after(self, layer: Layer, shape: Shape, fields: Fields) -> Fields:
        if len(shape) == 1:
            return fields
        if layer.sees_whole_axis:
            told = zip(fields, shape[1:], self.input_size, strict=True)
            return tuple(field.over(num_positions, size) for field, num_positions, size in told)
        windows = layer.windows(len(shape) - 1)
        return tuple(field.through(window) for field, window in zip(fields, windows, strict=True)) if windows else fields


def _plain(number: object) -> int | float:
    value = float(number)  # type: ignore[arg-type]
    return int(value) if value == int(value) else value
