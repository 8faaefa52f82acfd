"""What is really read on one axis: the first and last input pixel of every position of a map, padding counted as nothing.

A map knows the maps that it was made of. A question about a position is answered by a walk back to the input: at each map on
the way it holds the set of positions that are needed, so nothing is assumed about how neighbors follow each other. This file
knows coordinates on one axis.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from visus.geometry.bitsets import Positions, any_within, merged, mirrored_positions, positions_of_op, subsample_bits
from visus.geometry.enlarging import AxisOp

EMPTY: Final = 2**62
"""The first pixel of a position that reads no pixel; its last is -EMPTY, so that every union leaves it out."""

Interval = tuple[int, int]
"""First and last pixel."""

_Back = Callable[[Positions], Positions]
"""The positions of a source that a set of positions reads."""


class ExactIntervals:
    """First and last input pixel that each position of a map really reads. Frozen.

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
        sources: Sequence[tuple[ExactIntervals, _Back]] = (),
        table: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        """``table`` has first and last pixels where there are no sources; None for the input itself."""
        self._length, self._sources, self._table = length, tuple(sources), table
        self._depth: int = 1 + max((source._depth for source, _ in self._sources), default=-1)
        self._hull: tuple[Interval | None] | None = None  # of all positions; None while nobody has asked

    @classmethod
    def identity(cls, input_size: int) -> ExactIntervals:
        """Those of the input itself: each position reads its own pixel."""
        return cls(input_size)

    @classmethod
    def of(cls, first: Sequence[int], last: Sequence[int]) -> ExactIntervals:
        """Those that are known one by one; ``EMPTY`` and ``-EMPTY`` for a position that reads no pixel.

        >>> ExactIntervals.of([0, 2], [1, 3]).collapsed().at(0)
        (0, 3)
        """
        return cls(len(first), table=(first, last))

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> Any:
        """Copies are written out: a chain of maps can be longer than what Python copies."""
        pairs = [pair or (EMPTY, -EMPTY) for pair in self.pairs()]
        return ExactIntervals.of, ([first for first, _ in pairs], [last for _, last in pairs])

    def at(self, index: int) -> Interval | None:
        """First and last pixel that one position reads; None where it reads padding alone.

        Raises:
            IndexError: there is no such position.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} positions, and position {index} was asked for.")
        return self._read_by((index % len(self), 1))

    def pairs(self) -> list[Interval | None]:
        """``at`` of every position."""
        return [self.at(index) for index in range(len(self))]

    def hull(self) -> Interval | None:
        """First and last pixel that all positions read together."""
        if self._hull is None:
            self._hull = (self._read_by(_all(len(self))),)
        return self._hull[0]

    def through(self, axis_op: AxisOp) -> ExactIntervals:
        """What the positions after a window, a transposed window or an upsampling read."""
        return ExactIntervals(axis_op.output_size(len(self)), [(self, partial(positions_of_op, axis_op, len(self)))])

    def mirrored(self, before: int, after: int) -> ExactIntervals:
        """What the positions of a map read that is padded with its own pixels, mirrored at its first and its last.

        >>> ExactIntervals.identity(4).mirrored(2, 1).pairs()
        [(2, 2), (1, 1), (0, 0), (1, 1), (2, 2), (3, 3), (2, 2)]
        """
        return ExactIntervals(before + len(self) + after, [(self, partial(_mirrored, before, len(self)))])

    def collapsed(self) -> ExactIntervals:
        """What a single position reads that looks at the whole map."""
        return ExactIntervals(1, [(self, partial(_everything, len(self)))])

    def repeated(self, num_positions: int) -> ExactIntervals:
        """What a single position reads, for so many positions."""
        return ExactIntervals(num_positions, [(self, partial(_everything, 1))])

    def flattened(self, each: int, total: int) -> ExactIntervals:
        """What the values of a map read that lie in a row: ``each`` of them one after another are at one position of this axis.

        >>> ExactIntervals.identity(2).flattened(each=3, total=12).pairs()[:7]
        [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]
        """
        return ExactIntervals(total, [(self, partial(_laid_out, each, len(self)))])

    def _read_by(self, positions: Positions) -> Interval | None:
        """First and last pixel that these positions read together: each map on the way is left when all that it feeds has asked."""
        first, last = EMPTY, -EMPTY
        asked: dict[int, Positions] = {id(self): positions}
        waiting: list[tuple[int, int, ExactIntervals]] = [(-self._depth, id(self), self)]
        while waiting:
            _, key, reads = heapq.heappop(waiting)
            positions = asked.pop(key)
            if not positions[1]:
                continue
            if not reads._sources:
                ends = reads._ends(positions)
                first, last = min(first, ends[0]), max(last, ends[1])
            for source, back in reads._sources:
                read = back(positions)
                if id(source) in asked:
                    asked[id(source)] = merged(asked[id(source)], read)
                else:
                    asked[id(source)] = read
                    heapq.heappush(waiting, (-source._depth, id(source), source))
        return (first, last) if first <= last else None

    def _ends(self, positions: Positions) -> Interval:
        """First and last pixel of positions of the input, or of a table."""
        start, marks = positions
        if self._table is None:
            return start + (marks & -marks).bit_length() - 1, start + marks.bit_length() - 1
        firsts, lasts = self._table
        if not marks & (marks - 1):
            index = start + marks.bit_length() - 1
            return firsts[index], lasts[index]
        indices = [start + index for index in _set_bits(marks)]
        return min(firsts[index] for index in indices), max(lasts[index] for index in indices)


def union(paths: Sequence[ExactIntervals]) -> ExactIntervals:
    """What the positions of several paths read together; a path of one position is read by all."""
    longest = max(len(path) for path in paths)
    paths = [path.repeated(longest) if len(path) == 1 else path for path in paths]
    return ExactIntervals(longest, [(path, _same) for path in paths])


def concatenate(paths: Sequence[ExactIntervals]) -> ExactIntervals:
    """What the positions of several paths read that stand one after another.

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


def _everything(length: int, _: Positions) -> Positions:
    return _all(length)


def _part(start: int, length: int, positions: Positions) -> Positions:
    first, marks = positions[0] - start, positions[1]
    if first < 0:
        first, marks = 0, marks >> -first
    return first, marks & (1 << max(0, length - first)) - 1


def _mirrored(before: int, length: int, positions: Positions) -> Positions:
    return mirrored_positions(length, (positions[0] - before, positions[1]))


def _laid_out(each: int, length: int, positions: Positions) -> Positions:
    """Value ``i`` is at position ``i // each % length``."""
    first, marks = positions
    if not marks & (marks - 1):
        return (first + marks.bit_length() - 1) // each % length, 1
    once = (1 << each * length) - 1
    marks <<= first % (each * length)
    folded = 0
    while marks and folded != once:
        folded, marks = folded | marks & once, marks >> each * length
    return 0, subsample_bits(any_within(folded, each), each)


def _set_bits(marks: int) -> Iterator[int]:
    return (index for index, digit in enumerate(reversed(f"{marks:b}")) if digit == "1")
