"""A design written out from its nodes, with layers left out, changed or added: what a remedy is tried on.

This file knows how nodes become a design again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many

from visus.design.graph import Node
from visus.design.items import Concat, Item, Residual, Sequence
from visus.design.layers.registry import Conv, Depthwise, Layer
from visus.design.plan import Design
from visus.errors import DesignError

Change = Callable[[Node], "Many[Item] | None"]
"""For a node: the items that take its place (none to leave it out), or None to keep it as it is."""


def changed(nodes: Many[Node], change: Change, *, named: bool = False) -> Design | None:
    """The design of these nodes after a change, repeats written out; None where what is left is no design.

    Projections are made anew.

    Args:
        named: keep every path, by a name for every item; what takes an item's place takes its name. Otherwise names are left
            away, so that two layers of the same name cannot stand side by side.

    >>> from visus.design import parse
    >>> changed(parse("2 * [conv(8, 3), relu]").place((1, 9, 9)), lambda node: [] if node.name == "relu1" else None)
    Design([[conv(8, 3, bias=True)], [conv(8, 3, bias=True)]])
    >>> changed(parse("conv(8, 3), relu").place((1, 9)), lambda node: [] if node.name == "relu1" else None, named=True)
    Design([conv(8, 3, bias=True, name="conv1")])
    """
    try:
        return Design(_items(nodes, change, named))
    except DesignError:
        return None


def without(nodes: Many[Node], paths: Iterable[str], *, named: bool = False) -> Design | None:
    """The design without the items at these paths."""
    left_out = set(paths)
    return changed(nodes, lambda node: [] if node.path in left_out else None, named=named)


def with_layer(nodes: Many[Node], path: str, *layers: Item, named: bool = False) -> Design | None:
    """The design with other layers in the place of the one at ``path``."""
    return changed(nodes, lambda node: layers if node.path == path else None, named=named)


def with_arguments(layer: Layer, **arguments: object) -> Layer | None:
    """The layer with some arguments changed; None where it does not take them."""
    try:
        return dataclasses.replace(layer, **arguments)  # type: ignore[arg-type]
    except (DesignError, TypeError):
        return None


def with_window(layer: Layer, num_axes: int, *, kernel_size: int | None = None, dilation: int | None = None) -> Layer | None:
    """The layer with another kernel or dilation and the padding that gives the same size of map; None where there is none.

    Padding grows or shrinks on both sides by half of what the span does, so a change of the span by an odd number has none.
    """
    if not isinstance(layer, (Conv, Depthwise)):
        return None
    arguments = {name: value for name, value in (("kernel_size", kernel_size), ("dilation", dilation)) if value is not None}
    if layer.padding == "same":
        return with_arguments(layer, **arguments)
    if (bare := with_arguments(layer, **arguments, padding=0)) is None:
        return None
    pads = []
    for before, after in zip(layer.windows(num_axes), bare.windows(num_axes), strict=True):
        growth = after.span - before.span
        if growth % 2 or before.padding[0] + growth // 2 < 0:
            return None
        pads.append(before.padding[0] + growth // 2)
    return with_arguments(layer, **arguments, padding=pads[0] if len(set(pads)) == 1 else tuple(pads))


def flat(nodes: Many[Node]) -> list[Node]:
    """The nodes with plain sequences opened: layers, residuals and concats one after another."""
    found: list[Node] = []
    for node in nodes:
        found += flat(node.branches[0]) if isinstance(node.layer, Sequence) and node.branches else [node]
    return found


def trunk(nodes: Many[Node]) -> list[Node]:
    """The nodes up to the last map: all before the first layer that makes features, or one number of each map."""
    found: list[Node] = []
    for node in flat(nodes):
        if len(node.output_shape) < 2 or (isinstance(node.layer, Layer) and node.layer.context == "global"):
            break
        found.append(node)
    return found


def appended(nodes: Many[Node], layers: Many[Item], *, named: bool = False) -> Design | None:
    """The design with more layers after its last map.

    >>> from visus.design import conv, parse
    >>> appended(parse("[conv(8, 3), relu], globalpool").place((1, 9)), [conv(4, 3)])
    Design([[conv(8, 3, bias=True), relu, conv(4, 3)], globalpool])
    """
    keep: Change = lambda node: None  # noqa: E731
    body = trunk(nodes)
    if not body:
        try:
            return Design([*layers, *_items(nodes, keep, named)])
        except DesignError:
            return None
    last = body[-1]
    return changed(nodes, lambda node: [*_items([last], keep, named), *layers] if node is last else None, named=named)


def leaves(nodes: Many[Node]) -> list[Node]:
    """All layers among the nodes and inside them, in order."""
    return [node for outer in nodes for node in outer.walk() if isinstance(node.layer, Layer)]


def _items(nodes: Many[Node], change: Change, named: bool) -> list[Item]:
    items: list[Item] = []
    for node in nodes:
        name = node.name if named else None
        new = change(node)
        if new is not None:
            items += [dataclasses.replace(item, name=None if index else name) for index, item in enumerate(new)]
        elif isinstance(node.layer, Layer):
            items.append(dataclasses.replace(node.layer, name=name))
        elif (group := _group(node, change, named)) is not None:
            items.append(dataclasses.replace(group, name=name))
    return items


def _group(node: Node, change: Change, named: bool) -> Item | None:
    if isinstance(node.layer, Concat):
        opened = [branch[0].branches[0] if isinstance(branch[0].layer, Sequence) else branch for branch in node.branches]
        names = [branch[0].name if named else None for branch in node.branches]
        inner = [
            Sequence(tuple(_items(branch, change, named)), name=name) for branch, name in zip(opened, names, strict=True)
        ]
        return Concat(tuple(inner)) if any(each.layers for each in inner) else None
    children = tuple(_items(node.branches[0], change, named)) if node.branches else ()
    if not children:
        return None
    return Residual(children) if isinstance(node.layer, Residual) else Sequence(children)
