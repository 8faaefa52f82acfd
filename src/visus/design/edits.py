"""A placed design changed by the paths of its nodes: layers removed, replaced or added."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Many

from visus.design.graph import Node, Route
from visus.design.items import Concat, Item, Sequence
from visus.design.layers.layer import Layer
from visus.design.plan import Design
from visus.design.rewrite import rewritten
from visus.errors import DesignError


def changed(nodes: Many[Node], change: Callable[[Node], Many[Item] | None], *, named: bool = False) -> Design | None:
    """The design of these nodes after a change, with repeats written out and new projections; None if the result is not a
    valid design.

    Args:
        change: for a node, the items that take its place (none to remove it), or None to keep it.
        named: keep every path, by naming every item; the first item that replaces a node inherits its name. Otherwise names
            are dropped, which avoids neighbors with the same name.

    >>> from visus.design import parse
    >>> changed(parse("2 * [conv(8, 3), relu]").place((1, 9, 9)), lambda node: [] if node.name == "relu1" else None)
    Design([[conv(8, 3, bias=True)], [conv(8, 3, bias=True)]])
    >>> changed(parse("conv(8, 3), relu").place((1, 9)), lambda node: [] if node.name == "relu1" else None, named=True)
    Design([conv(8, 3, bias=True, name="conv1")])
    """

    def change_item(item: Item, route: Route) -> Many[Item] | None:
        node = nodes_by_route.get(route)
        new = change(node) if node is not None else None
        if new is None or node is None:
            return None
        return [dataclasses.replace(each, name=None if index or not named else node.name) for index, each in enumerate(new)]

    try:
        items, nodes_by_route = _written_out(nodes, named=named)
        return Design(rewritten(items, change_item))
    except DesignError:
        return None


def without(nodes: Many[Node], paths: Iterable[str], *, named: bool = False) -> Design | None:
    """The design without the items at these paths."""
    left_out = set(paths)
    return changed(nodes, lambda node: [] if node.path in left_out else None, named=named)


def with_layer(nodes: Many[Node], path: str, layer: Item, *, named: bool = False) -> Design | None:
    """The design with another layer instead of the one at ``path``."""
    return with_layers(nodes, {path: layer}, named=named)


def with_layers(nodes: Many[Node], layers: Mapping[str, Item], *, named: bool = False) -> Design | None:
    """The design with other layers instead of those at these paths."""
    return changed(nodes, lambda node: [layers[node.path]] if node.path in layers else None, named=named)


def flat(nodes: Many[Node]) -> list[Node]:
    """The nodes with plain sequences flattened: layers, residuals and concats in order."""
    found: list[Node] = []
    for node in nodes:
        found += flat(node.branches[0]) if isinstance(node.layer, Sequence) and node.branches else [node]
    return found


def trunk(nodes: Many[Node]) -> list[Node]:
    """The nodes up to the last map: all nodes before the first layer that outputs features or one value per channel."""
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
    body = trunk(nodes)
    last = body[-1] if body else None

    def change(node: Node) -> Many[Item] | None:
        return [*_written_out([node], named=named)[0], *layers] if node is last else None

    if last is not None:
        return changed(nodes, change, named=named)
    try:
        return Design([*layers, *_written_out(nodes, named=named)[0]])
    except DesignError:
        return None


def leaves(nodes: Many[Node]) -> list[Node]:
    """All layers among the nodes and inside them, in order."""
    return [node for outer in nodes for node in outer.walk() if isinstance(node.layer, Layer)]


def _written_out(nodes: Many[Node], *, named: bool, route: Route = ()) -> tuple[list[Item], dict[Route, Node]]:
    """The items of nodes, repeats written out, and the node of each item by its route; a projection, which is not written, has none."""
    items: list[Item] = []
    found: dict[Route, Node] = {}
    for index, node in enumerate(nodes):
        here = (*route, index)
        found[here] = node
        children: list[Item] = []
        for branch_index, branch in enumerate(node.branches if isinstance(node.layer, Concat) else node.branches[:1]):
            if not isinstance(node.layer, Concat):
                children, inside = _written_out(branch, named=named, route=here)
            else:
                opened = branch[0].branches[0] if isinstance(branch[0].layer, Sequence) else branch
                layers, inside = _written_out(opened, named=named, route=(*here, branch_index))
                children.append(Sequence(tuple(layers), name=branch[0].name if named else None))
            found |= inside
        item = dataclasses.replace(node.layer, name=node.name if named else None)
        items.append(item if isinstance(item, Layer) else item.with_children(tuple(children)))
    return items, found
