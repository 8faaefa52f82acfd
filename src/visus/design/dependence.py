"""Which positions of each map are read, found by a backward walk through axis operations, branches and joins.

A set of positions of a map is a union of boxes, which may have holes. A box has one bit set for each axis: bit ``i`` stands
for position ``i`` (see ``geometry.bitsets``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many

from visus.design.arguments import Shape
from visus.design.flow import INPUT, Flow
from visus.design.graph import Node
from visus.design.sizes import size_after
from visus.design.walk import flows_of
from visus.geometry import bits_read

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


def read_by(nodes: Many[Node], needed: Area, *, gates: bool = True) -> Area:
    """The input positions of ``nodes`` that the output positions ``needed`` depend on.

    Args:
        gates: count a layer with global context beside its window (a norm over space, a gate) as reading the whole map.
    """
    flows = flows_of(nodes)
    return areas_read(flows, nodes[0].input_shape, {len(flows) - 1: needed}, gates=gates)[INPUT] if flows else needed


def areas_read(flows: Many[Flow], input_shape: Shape, needed: Mapping[int, Area], *, gates: bool = True) -> dict[int, Area]:
    """The positions of each row and of the input that ``needed`` depends on, ``needed`` included.

    Args:
        flows: the rows, each after its sources.
        needed: output positions of some rows, by row index.
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
    """The positions of a source of this shape that a row reads for its output positions ``needed``."""
    size = shape[1:]
    if not needed:
        return ()
    is_map = len(shape) == len(flow.output_shape)
    if not size or not is_map or flow.context in ("global", "unknown") or (flow.context == "both" and gates):
        return everything(size)
    if flow.axis_ops and size_after(flow, size) == flow.output_shape[1:]:
        return smallest(tuple(map(bits_read, flow.axis_ops, size, box)) for box in needed)
    return needed if flow.output_shape[1:] == size else everything(size)


def num_positions(area: Area) -> int:
    """Number of positions of an area; a position in several boxes counts once.

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
    """The area projected onto one axis."""
    found = 0
    for box in area:
        found |= box[axis]
    return found


def has_holes(positions: int) -> bool:
    """Whether the positions have a gap between the first and the last on some axis.

    >>> has_holes(0b0110), has_holes(0b0101)
    (False, True)
    """
    from_first = positions >> (positions & -positions).bit_length() - 1 if positions else 0
    return from_first & (from_first + 1) != 0


def smallest(boxes: Iterable[Box]) -> Area:
    """The same union without boxes that another box contains."""
    kept: list[Box] = []
    for box in dict.fromkeys(boxes):
        if any(_lies_in(box, other) for other in kept):
            continue
        kept = [other for other in kept if not _lies_in(other, box)]
        kept.append(box)
    return tuple(kept)


def _lies_in(box: Box, other: Box) -> bool:
    return all(own & ~each == 0 for own, each in zip(box, other, strict=True))
