"""Rewriting of designs from the outermost item to the innermost. Remedies, antialiasing and ``edits`` use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence as Many
from typing import TypeVar

from visus.design.graph import Route
from visus.design.items import Concat, Item, Repeat, Sequence
from visus.design.layers.convolution import Convolution
from visus.design.layers.layer import Layer
from visus.errors import DesignError

AnyItem = TypeVar("AnyItem", bound=Item)

Change = Callable[[Item, Route], "Many[Item] | None"]
"""For an item and its route: the items that take its place (none to remove it), or None to go on with the items inside it."""

Arrangement = Callable[[list[Item]], "list[Item]"]
"""For rewritten items in a row: the same items in another order."""


def rewritten(items: Many[Item], change: Change, arrange: Arrangement = list, route: Route = ()) -> tuple[Item, ...]:
    """The items after a change; an emptied group is removed too, but one branch of a concat may become empty.

    Args:
        arrange: reorders each sequence of items after the rewrite.
        route: route of the sequence in the design.

    Raises:
        DesignError: the result is not a valid design.

    >>> from visus.design import norm, parse
    >>> rewritten(parse("conv(8, 3), 2 * [relu, conv(8, 3)]").layers, lambda item, route: [norm()] if item.word == "relu" else None)
    (conv(8, 3), 2 * [norm, conv(8, 3)])
    """
    found: list[Item] = []
    for index, item in enumerate(items):
        new = change(item, (*route, index))
        found += _inside(item, change, arrange, (*route, index)) if new is None else new
    return tuple(arrange(found))


def _inside(item: Item, change: Change, arrange: Arrangement, route: Route) -> list[Item]:
    """The item around its rewritten children; nothing if none is left."""
    if isinstance(item, Layer):
        return [item]
    if isinstance(item, Concat):
        branches = [
            branch.with_children(rewritten(branch.children, change, arrange, (*route, index)))
            for index, branch in enumerate(item.branches)
        ]
        return [item.with_children(tuple(branches))] if any(branch.children for branch in branches) else []
    children = rewritten(item.children, change, arrange, route)
    if not children:
        return []
    if isinstance(item, Repeat) and len(children) > 1:
        return [item.with_children((Sequence(children),))]
    return [item.with_children(children)]


def item_at(items: Many[Item], route: Route) -> Item:
    """The item at a route."""
    item = items[route[0]]
    for index in route[1:]:
        item = item.children[index]
    return item


def replaced(items: Many[Item], route: Route, new: Many[Item]) -> tuple[Item, ...] | None:
    """The items with others instead of the one at ``route``; None if the result is not a valid design.

    >>> from visus.design import parse
    >>> replaced(parse("[conv(8, 3), relu], norm").layers, (0, 1), [])
    ([conv(8, 3)], norm)
    """
    siblings = item_at(items, route[:-1]).children if len(route) > 1 else items
    if not new and len(siblings) == 1:
        return None

    def change(item: Item, here: Route) -> Many[Item] | None:
        if here == route:
            return new
        return None if here == route[: len(here)] else [item]

    try:
        return rewritten(items, change)
    except DesignError:
        return None


def with_arguments(layer: AnyItem, **arguments: object) -> AnyItem | None:
    """The layer with some arguments changed; None if the layer rejects them."""
    try:
        return dataclasses.replace(layer, **arguments)  # type: ignore[arg-type]
    except (DesignError, TypeError):
        return None


def with_window(layer: Layer, num_axes: int, *, kernel_size: int | None = None, dilation: int | None = None) -> Layer | None:
    """The convolution with another kernel or dilation and the padding that keeps the size of its map; None if there is none.

    Padding grows on both sides by half the change of the span, so an odd change has no solution.
    """
    if not isinstance(layer, Convolution):
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
