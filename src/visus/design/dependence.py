"""Which positions are really read, one by one: a walk backwards from what is needed, through axis operations, branches and joins.

A set of positions of a map is a union of boxes with holes: for each, one whole number for each axis, whose bit ``i`` stands for
position ``i``. This file knows which positions feed which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from functools import lru_cache

from visus.design.arguments import Shape
from visus.design.flow import INPUT, Flow, flows_of
from visus.design.graph import Node
from visus.geometry import AxisOp, Window, bits_read

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
def positions_read(axis_op: AxisOp, input_size: int, places: int) -> int:
    """The positions of an axis that these places of an axis operation read.

    >>> from visus.geometry import Window
    >>> bin(positions_read(Window(2, dilation=2), 5, 0b001)), bin(positions_read(Window(1, stride=2), 5, 0b111))
    ('0b101', '0b10101')
    """
    return bits_read(axis_op, input_size, places)


def read_by(nodes: Many[Node], needed: Area, *, gates: bool = True) -> Area:
    """The positions of the map that enters ``nodes`` which feed the positions ``needed`` of what leaves them.

    Args:
        gates: whether a layer that looks at the whole map beside its window (a norm over space, a gate) reads all of it.
    """
    flows = flows_of(nodes)
    return areas_read(flows, nodes[0].input_shape, {len(flows) - 1: needed}, gates=gates)[INPUT] if flows else needed


def areas_read(flows: Many[Flow], input_shape: Shape, needed: Mapping[int, Area], *, gates: bool = True) -> dict[int, Area]:
    """For each row, and for the input, the positions of what comes out of it that feed ``needed``, itself included.

    Args:
        flows: the rows, each after those that feed it.
        needed: positions of what comes out of some rows, by their places.
        gates: as for ``read_by``.
    """
    found: dict[int, Area] = {INPUT: (), **needed}
    for place in range(len(flows) - 1, -1, -1):
        area = found.get(place)
        if not area:
            continue
        for source in flows[place].sources:
            shape = input_shape if source == INPUT else flows[source].output_shape
            read, known = read_through(flows[place], shape, area, gates=gates), found.get(source)
            found[source] = smallest((*known, *read)) if known else read
    return found


def read_through(flow: Flow, shape: Shape, needed: Area, *, gates: bool = True) -> Area:
    """The positions of a source of this shape that a row reads for the positions ``needed`` of what comes out of it."""
    size = shape[1:]
    if not needed:
        return ()
    is_map = len(shape) == len(flow.output_shape)
    if not size or not is_map or flow.context in ("global", "unknown") or (flow.context == "both" and gates):
        return everything(size)
    if flow.axis_ops and output_size(flow, size) == flow.output_shape[1:]:
        if needed == everything(flow.output_shape[1:]):
            return (tuple(map(all_read, flow.axis_ops, size, flow.output_shape[1:])),)
        return smallest(tuple(map(positions_read, flow.axis_ops, size, box)) for box in needed)
    return needed if flow.output_shape[1:] == size else everything(size)


def output_size(flow: Flow, size: Shape) -> Shape:
    """The size of the map that the axis operations of a row make of one of this size; none where they do not fit."""
    pairs = list(zip(flow.axis_ops, size, strict=True)) if len(flow.axis_ops) == len(size) else []
    return (
        tuple(axis_op.output_size(length) for axis_op, length in pairs)
        if all(axis_op.fits(length) for axis_op, length in pairs)
        else ()
    )


@lru_cache(maxsize=4096)
def all_read(axis_op: AxisOp, input_size: int, num_places: int) -> int:
    """The positions of an axis that all places of an axis operation read together."""
    if (
        isinstance(axis_op, Window)
        and not axis_op.reflect
        and axis_op.dilation == 1
        and axis_op.stride <= axis_op.kernel_size
    ):
        first, last = -axis_op.padding[0], (num_places - 1) * axis_op.stride + axis_op.kernel_size - axis_op.padding[0]
        return ((1 << max(0, min(last, input_size))) - 1) & ~((1 << max(0, first)) - 1)
    return positions_read(axis_op, input_size, (1 << num_places) - 1)


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
    return sum(num_positions(smallest(box[1:] for box in area if box[0] >> index & 1)) for index in range(longest))


def projection(area: Area, axis: int) -> int:
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


def smallest(boxes: Iterable[Box]) -> Area:
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
