"""The account of a design: one walk over its nodes, receptive fields followed along every path.

This file knows how a node becomes a row and where paths meet.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence as Many
from functools import partial
from typing import Any

from visus.design.account import Account, Fields, Row
from visus.design.arguments import Shape
from visus.design.flow import flows_of
from visus.design.graph import Impossible, Node, propagate
from visus.design.items import Concat, Residual
from visus.design.layers.registry import Flatten, GroupNorm, Layer, LayerNorm, Softmax
from visus.design.memory import memory_of_nodes
from visus.design.plan import Design, check_input_shape
from visus.design.saved_tensors import num_bytes
from visus.geometry import Field, Window, concat_features, join


def account(design: Design, input_shape: Shape, num_classes: int | None = None) -> Account:
    """The account of a design for one input.

    Args:
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        num_classes: what ``classes`` stands for.

    Raises:
        DesignError: a layer cannot take the shape that reaches it.

    >>> from visus.design import parse
    >>> costs = account(parse("conv(8, 3, padding=1), relu, globalpool, linear(classes)"), (3, 32, 32), 10)
    >>> costs.num_parameters, costs.macs, costs.rows[0].fields[0].size, costs.rows[0].fields[0].interval(0)
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


def account_of_nodes(
    nodes: Many[Node], input_shape: Shape, *, with_memory: bool = True, with_fields: bool = True
) -> Account:
    """The account of nodes one after another; its memory and its fields take most of the time, and may be left out."""
    shape = tuple(input_shape)
    rows: list[Row] = []
    start = {length: Field.of_input(length) for length in shape[1:]}
    _add_all(rows, nodes, tuple(start[length] for length in shape[1:]) if with_fields else (), {})
    memory, saved = memory_of_nodes(nodes, shape) if with_memory else (None, ())
    kept = tuple(dataclasses.replace(row, bytes_saved=num) for row, num in zip(rows, saved, strict=True)) if saved else rows
    output_shape = nodes[-1].output_shape if nodes else shape
    return Account(shape, output_shape, tuple(kept), memory, partial(flows_of, nodes), (len(rows) - 1,))


_OWN_PLACE = Window(1)  # leaves every field as it is

_Memo = dict[tuple[Any, ...], tuple[Any, Any]]
"""What became of fields: by their identities and what they went through; the fields stand beside it, so that they stay alive."""


def _add_all(rows: list[Row], nodes: Many[Node], fields: Fields, memo: _Memo) -> Fields:
    for node in nodes:
        fields = _add(rows, node, fields, memo)
    return fields


def _add(rows: list[Row], node: Node, fields: Fields, memo: _Memo) -> Fields:
    """Add the rows of a node that is reached by ``fields``; the fields after it come back."""
    layer = node.layer
    if isinstance(layer, Layer):
        fields = _after(layer, node.input_shape, fields, memo)
        rows.append(_row(node, layer, fields))
        return fields
    ends = [_add_all(rows, branch, fields, memo) for branch in node.branches]
    if not isinstance(layer, (Residual, Concat)):
        return ends[0]
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(fields)
    fields, aligned = _met(node, ends, memo)
    word = "sum" if isinstance(layer, Residual) else "stack"
    rows.append(Row(node.path, word, node.output_shape, 0, 0, fields, aligned, bytes_output=num_bytes(node.output_shape)))
    return fields


def _met(node: Node, ends: Many[Fields], memo: _Memo) -> tuple[Fields, bool]:
    """The fields where paths meet, and whether these are aligned; rows of features are stacked one after another."""
    axes = zip(*ends, strict=True)
    if isinstance(node.layer, Concat) and len(node.output_shape) == 1:
        lengths = [branch[-1].output_shape[0] for branch in node.branches]
        joined = [concat_features(axis, lengths) for axis in axes]
    else:
        joined = [_once(memo, ("join", *map(id, axis)), axis, join) for axis in axes]
    return tuple(each.field for each in joined), all(each.aligned for each in joined)


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


def _after(layer: Layer, shape: Shape, fields: Fields, memo: _Memo) -> Fields:
    """The fields after a layer that is reached by a shape with these fields."""
    size = shape[1:]
    if layer.context == "global":
        return tuple(_once(memo, ("over", id(field)), field, Field.hull) for field in fields)
    if isinstance(layer, Flatten) and size:
        return tuple(field.flattened(math.prod(size[axis + 1 :]), math.prod(shape)) for axis, field in enumerate(fields))
    if not size and isinstance(layer, (LayerNorm, Softmax, GroupNorm)):  # over all features, or over a group of them
        is_exact = getattr(layer, "num_groups", 1) == 1
        return tuple(
            dataclasses.replace(field.with_global_context(), is_exact=field.is_exact and is_exact) for field in fields
        )
    if layer.context == "both" and size:
        return tuple(_once(memo, ("gated", id(field)), field, Field.with_global_context) for field in fields)
    axis_ops = layer.axis_ops(len(size)) if size and fields else ()
    if not axis_ops:
        return fields
    return tuple(
        field if axis_op == _OWN_PLACE else _once(memo, (axis_op, id(field)), field, partial(Field.through, axis_op=axis_op))
        for field, axis_op in zip(fields, axis_ops, strict=True)
    )


def _once(memo: _Memo, key: tuple[Any, ...], given: Any, work: Callable[[Any], Any]) -> Any:
    """What ``work`` makes of ``given``; the axes of a square image and the branches of a concat often ask the same."""
    found = memo.get(key)
    if found is None:
        found = memo[key] = (work(given), given)
    return found[0]
