"""The account of a design: one walk over its nodes, receptive fields followed along every path.

This file knows how a node becomes a row and where paths meet. It must not know modules, tensors or torch.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from visus.design.account import Account, Fields, Row
from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers import Layer
from visus.design.plan import Design
from visus.geometry import Field, join


def account(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of a design for one input.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_classes: what ``classes`` stands for.

    Raises:
        DesignError: a layer cannot take the shape that reaches it.

    >>> from visus.design import parse
    >>> costs = account(parse("conv(8, 3, padding=1), relu, globalpool, linear(classes)"), (3, 32, 32), 10)
    >>> costs.num_parameters, costs.macs, costs.rows[0].fields[0].size, costs.rows[0].fields[0].box(0)
    (314, 221264, 3, (0, 1))
    """
    nodes = design.place(input_shape, num_classes)
    shape = tuple(input_shape)
    rows: list[Row] = []
    _add_all(rows, nodes, tuple(Field.of_input(length) for length in shape[1:]))
    return Account(shape, nodes[-1].output_shape, tuple(rows))


def _add_all(rows: list[Row], nodes: Many[Node], fields: Fields) -> Fields:
    for node in nodes:
        fields = _add(rows, node, fields)
    return fields


def _add(rows: list[Row], node: Node, fields: Fields) -> Fields:
    """Add the rows of a node that is reached by ``fields``; the fields after it come back."""
    layer = node.layer
    if isinstance(layer, Layer):
        fields = _after(layer, node.input_shape, fields)
        rows.append(Row(node.path, layer.text, node.output_shape, node.num_parameters, node.macs, fields))
        return fields
    ends = [_add_all(rows, branch, fields) for branch in node.branches]
    if not isinstance(layer, (Residual, Concat)):
        return ends[0]
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(fields)
    joined = [join(axis) for axis in zip(*ends, strict=True)]
    fields = tuple(each.field for each in joined)
    word = "sum" if isinstance(layer, Residual) else "stack"
    rows.append(Row(node.path, word, node.output_shape, 0, 0, fields, all(each.aligned for each in joined)))
    return fields


def _after(layer: Layer, shape: Shape, fields: Fields) -> Fields:
    if layer.sees == "map":
        return tuple(field.over() for field in fields)
    if layer.sees == "window and map" and len(shape) > 1:
        return tuple(field.gated() for field in fields)
    windows = layer.windows(len(shape) - 1) if len(shape) > 1 else ()
    return tuple(field.through(window) for field, window in zip(fields, windows, strict=True)) if windows else fields
