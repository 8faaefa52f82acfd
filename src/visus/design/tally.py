"""The account of a design: one walk over its nodes, receptive fields followed along every path.

This file knows how a node becomes a row and where paths meet. It must not know modules, tensors or torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Many

from visus.design.account import Account, Fields, Row
from visus.design.arguments import Shape
from visus.design.graph import Impossible, Node, propagate
from visus.design.items import Concat, Residual
from visus.design.keeping import num_bytes
from visus.design.layer import Layer
from visus.design.memory import memory_of_nodes
from visus.design.plan import Design, check_input_shape
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
    return account_of_nodes(design.place(input_shape, num_classes), input_shape)


def account_so_far(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of an impossible design up to the layer that fails; that of the whole where none does.

    Raises:
        DesignError: the input shape is none.

    >>> from visus.design import parse
    >>> [row.path for row in account_so_far(parse("conv(8, 3), relu, conv(8, 3), conv(8, 3)"), (1, 6, 6)).rows]
    ['conv1', 'relu1', 'conv2']
    """
    shape = check_input_shape(input_shape)
    try:
        nodes = propagate(design.layers, shape, num_classes)
    except Impossible as failure:
        return dataclasses.replace(account_of_nodes(failure.nodes, shape), memory=None)
    return account_of_nodes(nodes, shape)


def account_of_nodes(nodes: Many[Node], input_shape: Shape) -> Account:
    """The account of nodes one after another."""
    shape = tuple(input_shape)
    rows: list[Row] = []
    _add_all(rows, nodes, tuple(Field.of_input(length) for length in shape[1:]))
    memory, saved = memory_of_nodes(nodes, shape)
    kept = (dataclasses.replace(row, bytes_saved=num) for row, num in zip(rows, saved, strict=True))
    return Account(shape, nodes[-1].output_shape if nodes else shape, tuple(kept), memory)


def _add_all(rows: list[Row], nodes: Many[Node], fields: Fields) -> Fields:
    for node in nodes:
        fields = _add(rows, node, fields)
    return fields


def _add(rows: list[Row], node: Node, fields: Fields) -> Fields:
    """Add the rows of a node that is reached by ``fields``; the fields after it come back."""
    layer = node.layer
    if isinstance(layer, Layer):
        fields = _after(layer, node.input_shape, fields)
        rows.append(_row(node, layer, fields))
        return fields
    ends = [_add_all(rows, branch, fields) for branch in node.branches]
    if not isinstance(layer, (Residual, Concat)):
        return ends[0]
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(fields)
    joined = [join(axis) for axis in zip(*ends, strict=True)]
    fields = tuple(each.field for each in joined)
    word = "sum" if isinstance(layer, Residual) else "stack"
    aligned = all(each.aligned for each in joined)
    rows.append(Row(node.path, word, node.output_shape, 0, 0, fields, aligned, bytes_output=num_bytes(node.output_shape)))
    return fields


def _row(node: Node, layer: Layer, fields: Fields) -> Row:
    size = node.input_shape[1:]
    return Row(
        node.path,
        layer.text,
        node.output_shape,
        node.num_parameters,
        node.macs,
        fields,
        bytes_weights=layer.bytes_weights(node.input_shape),
        bytes_output=num_bytes(node.output_shape),
        unread_px=tuple(
            window.unread_border(length)
            for window, length in zip(layer.windows(len(size)) if size else (), size, strict=False)
        ),
    )


def _after(layer: Layer, shape: Shape, fields: Fields) -> Fields:
    if layer.sees == "map":
        return tuple(field.over() for field in fields)
    if layer.sees == "window and map" and len(shape) > 1:
        return tuple(field.gated() for field in fields)
    lenses = layer.lenses(len(shape) - 1) if len(shape) > 1 else ()
    return tuple(field.through(lens) for field, lens in zip(fields, lenses, strict=True)) if lenses else fields
