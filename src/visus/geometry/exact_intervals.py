"""Exact receptive fields on one axis: the first and last input pixel that each position of a map reads, without padding.

A map knows the maps that it was computed from. A query for a position walks back to the input. At each map on the way, the
walk keeps the set of positions that are read, so it needs no assumption about the spacing of neighbors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from visus.geometry.bitsets import Positions, any_within, clip, merge, positions_read, reflect, subsample_bits
from visus.geometry.enlarging import AxisOp

EMPTY: Final = 2**62
"""First pixel of a position that reads no pixel; its last pixel is -EMPTY, so that a union ignores it."""

Interval = tuple[int, int]
"""First and last pixel."""

_ReadOfSource = Callable[[Positions], Positions]
"""From a set of positions to the positions of a source that they read."""


class ExactIntervals:
    """First and last input pixel that each position of a map reads. Frozen.

    >>> from visus.geometry import Window
    >>> ExactIntervals.identity(8).through(Window(3, stride=2, padding=(1, 1))).pairs()
    [(0, 1), (1, 3), (3, 5), (5, 7)]
    >>> ExactIntervals.identity(10**9).through(Window(3, stride=2, padding=(1, 1))).at(10**8)
    (199999999, 200000001)
    """

    __slots__ = ("_depth", "_hull", "_length", "_sources", "_table")

    def __init__(
        self,
        length: int,
        sources: Sequence[tuple[ExactIntervals, _ReadOfSource]] = (),
        table: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        """``table`` holds first and last pixels of a map without sources; it is None for the input itself."""
        self._length, self._sources, self._table = length, tuple(sources), table
        self._depth: int = 1 + max((source._depth for source, _ in self._sources), default=-1)
        self._hull: tuple[Interval | None] | None = None  # of all positions; None until it is computed

    @classmethod
    def identity(cls, input_size: int) -> ExactIntervals:
        """The intervals of the input itself: each position reads its own pixel."""
        return cls(input_size)

    @classmethod
    def of(cls, first: Sequence[int], last: Sequence[int]) -> ExactIntervals:
        """Intervals from their first and last pixels; ``EMPTY`` and ``-EMPTY`` for a position that reads no pixel.

        >>> ExactIntervals.of([0, 2], [1, 3]).collapsed().at(0)
        (0, 3)
        """
        return cls(len(first), table=(first, last))

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> Any:
        """A copy is a table: Python cannot copy a long chain of maps, which is nested too deeply."""
        pairs = [pair or (EMPTY, -EMPTY) for pair in self.pairs()]
        return ExactIntervals.of, ([first for first, _ in pairs], [last for _, last in pairs])

    def at(self, index: int) -> Interval | None:
        """First and last pixel that one position reads; None if it reads only padding.

        Raises:
            IndexError: there is no such position.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} positions, and position {index} was asked for.")
        return self._interval_of((index % len(self), 1))

    def pairs(self) -> list[Interval | None]:
        """``at`` of every position."""
        return [self.at(index) for index in range(len(self))]

    def hull(self) -> Interval | None:
        """First and last pixel that all positions read together."""
        if self._hull is None:
            self._hull = (self._interval_of(_all(len(self))),)
        return self._hull[0]

    def through(self, axis_op: AxisOp) -> ExactIntervals:
        """The intervals after a window, a transposed window or an upsampling."""
        return ExactIntervals(axis_op.output_size(len(self)), [(self, partial(positions_read, axis_op, len(self)))])

    def mirrored(self, before: int, after: int) -> ExactIntervals:
        """The intervals after padding with mirrored positions, as in ``torch.nn.ReflectionPad1d``.

        >>> ExactIntervals.identity(4).mirrored(2, 1).pairs()
        [(2, 2), (1, 1), (0, 0), (1, 1), (2, 2), (3, 3), (2, 2)]
        """
        return ExactIntervals(before + len(self) + after, [(self, partial(_mirrored, before, len(self)))])

    def collapsed(self) -> ExactIntervals:
        """The interval of a single position that reads the whole map."""
        return ExactIntervals(1, [(self, partial(_whole_axis, len(self)))])

    def repeated(self, num_positions: int) -> ExactIntervals:
        """``num_positions`` positions that each read what the single position of this map reads."""
        return ExactIntervals(num_positions, [(self, partial(_whole_axis, 1))])

    def flattened(self, each: int, total: int) -> ExactIntervals:
        """The intervals of all values of a map in the order of ``torch.flatten``.

        Args:
            each: number of consecutive values that share a position of this axis: the product of the lengths of the axes
                after it.
            total: number of values.

        >>> ExactIntervals.identity(2).flattened(each=3, total=12).pairs()[:7]
        [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]
        """
        return ExactIntervals(total, [(self, partial(_of_flattened, each, len(self)))])

    def _interval_of(self, positions: Positions) -> Interval | None:
        """First and last pixel that these positions read together. Each map is visited once, after all the maps that read it."""
        first, last = EMPTY, -EMPTY
        needed: dict[int, Positions] = {id(self): positions}
        waiting: list[tuple[int, int, ExactIntervals]] = [(-self._depth, id(self), self)]
        while waiting:
            _, key, map_ = heapq.heappop(waiting)
            positions = needed.pop(key)
            if not positions[1]:
                continue
            if not map_._sources:
                ends = map_._ends(positions)
                first, last = min(first, ends[0]), max(last, ends[1])
            for source, back in map_._sources:
                read = back(positions)
                if id(source) in needed:
                    needed[id(source)] = merge(needed[id(source)], read)
                else:
                    needed[id(source)] = read
                    heapq.heappush(waiting, (-source._depth, id(source), source))
        return (first, last) if first <= last else None

    def _ends(self, positions: Positions) -> Interval:
        """First and last pixel of positions of the input, or of a table."""
        start, bits = positions
        if self._table is None:
            return start + (bits & -bits).bit_length() - 1, start + bits.bit_length() - 1
        firsts, lasts = self._table
        if not bits & (bits - 1):
            index = start + bits.bit_length() - 1
            return firsts[index], lasts[index]
        indices = [start + index for index in _set_bits(bits)]
        return min(firsts[index] for index in indices), max(lasts[index] for index in indices)


def union(paths: Sequence[ExactIntervals]) -> ExactIntervals:
    """The intervals after a sum or a channel concatenation of several paths; a path with one position is broadcast."""
    longest = max(len(path) for path in paths)
    paths = [path.repeated(longest) if len(path) == 1 else path for path in paths]
    return ExactIntervals(longest, [(path, _same) for path in paths])


def concatenate(paths: Sequence[ExactIntervals]) -> ExactIntervals:
    """The intervals after a concatenation of several paths along this axis.

    >>> concatenate([ExactIntervals.identity(2), ExactIntervals.identity(1)]).pairs()
    [(0, 0), (1, 1), (0, 0)]
    """
    sources, start = [], 0
    for path in paths:
        sources.append((path, partial(_part, start, len(path))))
        start += len(path)
    return ExactIntervals(start, sources)


def _all(length: int) -> Positions:
    return 0, (1 << length) - 1


def _same(positions: Positions) -> Positions:
    return positions


def _whole_axis(length: int, _: Positions) -> Positions:
    return _all(length)


def _part(start: int, length: int, positions: Positions) -> Positions:
    return clip(length, (positions[0] - start, positions[1]))


def _mirrored(before: int, length: int, positions: Positions) -> Positions:
    return reflect(length, (positions[0] - before, positions[1]))


def _of_flattened(each: int, length: int, positions: Positions) -> Positions:
    """Value ``i`` is at position ``i // each % length``."""
    first, bits = positions
    if not bits & (bits - 1):
        return (first + bits.bit_length() - 1) // each % length, 1
    once = (1 << each * length) - 1
    bits <<= first % (each * length)
    folded = 0
    while bits and folded != once:
        folded, bits = folded | bits & once, bits >> each * length
    return 0, subsample_bits(any_within(folded, each), each)


def _set_bits(bits: int) -> Iterator[int]:
    return (index for index, digit in enumerate(reversed(f"{bits:b}")) if digit == "1")
