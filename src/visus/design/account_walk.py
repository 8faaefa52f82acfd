"""The account of a design: a row for each layer and each join, with the receptive fields along every path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Many
from functools import partial

from visus.design.account import Account, Fields, Row
from visus.design.arguments import Shape
from visus.design.graph import Impossible, Node, propagate
from visus.design.items import Concat
from visus.design.layers.layer import Layer
from visus.design.memory.saved import num_bytes
from visus.design.memory.training_step import memory_of_nodes
from visus.design.plan import Design, check_input_shape
from visus.design.walk import Walk, flows_of, join_word
from visus.geometry import Field, concat_features, join_fields


def account(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of a design for one input.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_classes: the value of ``classes``.

    Raises:
        DesignError: a layer cannot take the shape that reaches it.

    >>> from visus.design import parse
    >>> costs = account(parse("conv(8, 3, padding=1), relu, globalpool, linear(classes)"), (3, 32, 32), 10)
    >>> costs.num_parameters, costs.macs, costs.rows[0].fields[0].size, costs.rows[0].fields[0].interval(0)
    (314, 221264, 3, (0, 1))
    """
    return account_of_nodes(design.place(input_shape, num_classes), input_shape)


def account_so_far(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of an impossible design up to the layer that fails; that of the whole design if none does.

    Raises:
        DesignError: the input shape is invalid.

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


def account_of_nodes(
    nodes: Many[Node], input_shape: Shape, *, with_memory: bool = True, with_fields: bool = True
) -> Account:
    """The account of a sequence of nodes. Memory and fields take most of the time and can be skipped."""
    shape = tuple(input_shape)
    start = {length: Field.of_input(length) for length in shape[1:]}
    walk = _Rows()
    walk.through(nodes, tuple(start[length] for length in shape[1:]) if with_fields else ())
    rows = walk.rows
    memory, saved = memory_of_nodes(nodes, shape) if with_memory else (None, ())
    kept = tuple(dataclasses.replace(row, bytes_saved=num) for row, num in zip(rows, saved, strict=True)) if saved else rows
    output_shape = nodes[-1].output_shape if nodes else shape
    return Account(shape, output_shape, tuple(kept), memory, partial(flows_of, nodes), (len(rows) - 1,))


class _Rows(Walk[Fields]):
    """Carries the receptive fields, one for each axis of the input."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def layer(self, node: Node, layer: Layer, value: Fields) -> Fields:
        fields = layer.fields_after(value, node.input_shape)
        size = node.input_shape[1:]
        self.rows.append(
            Row(
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
        )
        return fields

    def join(self, node: Node, ends: Many[Fields]) -> Fields:
        fields, aligned = _joined(node, ends)
        num = num_bytes(node.output_shape)
        self.rows.append(Row(node.path, join_word(node), node.output_shape, 0, 0, fields, aligned, bytes_output=num))
        return fields


def _joined(node: Node, ends: Many[Fields]) -> tuple[Fields, bool]:
    """The fields where paths meet, and whether the paths are aligned; features are concatenated along their axis."""
    axes = list(zip(*ends, strict=True))
    if isinstance(node.layer, Concat) and len(node.output_shape) == 1:
        lengths = [branch[-1].output_shape[0] for branch in node.branches]
        joined = [concat_features(axis, lengths) for axis in axes]
    else:  # the axes of a square image share their fields
        found = {tuple(map(id, axis)): axis for axis in axes}
        once = {key: join_fields(axis) for key, axis in found.items()}
        joined = [once[tuple(map(id, axis))] for axis in axes]
    return tuple(each.field for each in joined), all(each.aligned for each in joined)
