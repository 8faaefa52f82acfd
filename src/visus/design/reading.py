"""Which positions are really read, one by one: a walk backwards from what is needed, through lenses, branches and joins.

A set of positions of a map is a union of boxes with holes: for each, one whole number for each axis, whose bit ``i`` stands
for position ``i``. This file knows which positions feed which. It must not know parameters, receptive fields or advice.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from functools import lru_cache

from visus.design.arguments import Shape
from visus.design.graph import Node
from visus.design.items import Concat, Residual
from visus.design.layers import Layer
from visus.geometry import Lens

Box = tuple[int, ...]
"""Positions of a map: those whose index on every axis is a set bit of that axis's number."""

Area = tuple[Box, ...]
"""The union of boxes."""


def everything(size: Shape) -> Area:
    """All positions of a map of this size; without axes, all features.

    >>> everything((3,))
    ((7,),)
    """
    return (tuple((1 << length) - 1 for length in size),)


def middle(size: Shape) -> Area:
    """The one position in the middle of a map."""
    return (tuple(1 << length // 2 for length in size),)


@lru_cache(maxsize=4096)
def positions_read(lens: Lens, input_size: int, places: int) -> int:
    """The positions of an axis that these places of a lens read.

    >>> from visus.geometry import Window
    >>> bin(positions_read(Window(2, dilation=2), 5, 0b001)), bin(positions_read(Window(1, stride=2), 5, 0b111))
    ('0b101', '0b10101')
    """
    read = 0
    while places:
        lowest = places & -places
        for position in lens.taps(lowest.bit_length() - 1):
            if 0 <= position < input_size:
                read |= 1 << position
        places ^= lowest
    return read


def read_by(nodes: Many[Node], needed: Area, *, gates: bool = True) -> Area:
    """The positions of the map that enters ``nodes`` which feed the positions ``needed`` of what leaves them.

    Args:
        gates: whether a layer that looks at the whole map beside its window (a norm over space, a gate) reads all of it.
    """
    for node in reversed(nodes):
        needed = _read_by_one(node, needed, gates)
    return needed


def _read_by_one(node: Node, needed: Area, gates: bool) -> Area:
    layer = node.layer
    if isinstance(layer, Layer):
        return _read_by_layer(layer, node, needed, gates)
    ends = [read_by(branch, needed, gates=gates) for branch in node.branches]
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(needed)
    return _united(ends) if isinstance(layer, (Residual, Concat)) else ends[0]


def _read_by_layer(layer: Layer, node: Node, needed: Area, gates: bool) -> Area:
    size = node.input_shape[1:]
    if not needed or not size:
        return needed
    if layer.sees == "map" or len(node.output_shape) != len(node.input_shape):
        return everything(size)
    if layer.sees == "window and map" and gates:
        return everything(size)
    lenses = layer.lenses(len(size))
    if (
        lenses
        and tuple(lens.output_size(length) for lens, length in zip(lenses, size, strict=True)) == node.output_shape[1:]
    ):
        return _smallest(tuple(map(positions_read, lenses, size, box)) for box in needed)
    return needed if node.output_shape[1:] == size else everything(size)


def first_read(node: Node) -> Area:
    """The positions of the map that enters ``node`` which the first layers inside it read, wherever their own output goes."""
    layer = node.layer
    if isinstance(layer, Layer):
        return _read_by_one(node, everything(node.output_shape[1:]), gates=True)
    everywhere = everything(node.input_shape[1:])
    ends = [first_read(branch[0]) if branch else everywhere for branch in node.branches]
    if isinstance(layer, Residual) and len(ends) == 1:
        ends.append(everywhere)
    return _united(ends) if ends else everywhere


def num_positions(area: Area) -> int:
    """How many positions an area has; those in several boxes count once.

    >>> num_positions(((0b11, 0b01), (0b01, 0b11)))
    3
    """
    if not area:
        return 0
    if not area[0]:
        return 1
    if len(area) == 1:
        total = 1
        for axis in area[0]:
            total *= axis.bit_count()
        return total
    longest = max(box[0].bit_length() for box in area)
    return sum(num_positions(_smallest(box[1:] for box in area if box[0] >> index & 1)) for index in range(longest))


def shadow(area: Area, axis: int) -> int:
    """The positions of one axis on which the area has any position."""
    found = 0
    for box in area:
        found |= box[axis]
    return found


def has_holes(positions: int) -> bool:
    """Whether there is a gap between the first and the last of the positions of an axis.

    >>> has_holes(0b0110), has_holes(0b0101)
    (False, True)
    """
    from_first = positions >> (positions & -positions).bit_length() - 1 if positions else 0
    return from_first & (from_first + 1) != 0


def _united(areas: Iterable[Area]) -> Area:
    return _smallest(box for area in areas for box in area)


def _smallest(boxes: Iterable[Box]) -> Area:
    """The same union without boxes that lie in another one."""
    kept: list[Box] = []
    for box in dict.fromkeys(boxes):
        if any(_lies_in(box, other) for other in kept):
            continue
        kept = [other for other in kept if not _lies_in(other, box)]
        kept.append(box)
    return tuple(kept)


def _lies_in(box: Box, other: Box) -> bool:
    return all(own & ~each == 0 for own, each in zip(box, other, strict=True))
