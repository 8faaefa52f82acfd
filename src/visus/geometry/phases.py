"""Theoretical fields that differ between neighbors, as after an upsampling: they repeat after a fixed number of
positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from visus.geometry.enlarging import AxisOp

Interval = tuple[int, int]
"""First and last pixel."""

MAX_INTERVALS: Final = 4096
"""So many unlike neighbors are followed one by one; more come from odd chains of enlarging and shrinking alone."""


@dataclass(frozen=True)
class Phases:
    """The field of every position of a map, ignoring its ends.

    Args:
        intervals: the fields of positions 0, 1, ...; None for a position that reads nothing.
        shift: pixels from the field of a position to that of the one ``len(intervals)`` later.
    """

    intervals: tuple[Interval | None, ...]
    shift: int

    @classmethod
    def alike(cls, start: int | Fraction, size: int, stride: int | Fraction) -> Phases:
        """The fields of positions that are ``stride`` pixels apart; fractions of pixels are rounded outwards."""
        period = Fraction(stride).denominator
        firsts = [start + index * stride for index in range(period)]
        return cls(tuple((math.floor(first), math.ceil(first + size - 1)) for first in firsts), int(period * stride))

    def at(self, index: int) -> Interval | None:
        """The field of one position, before 0 too.

        >>> Phases(((0, 0), (0, 1)), 1).at(-1)
        (-1, 0)
        """
        times, phase = divmod(index, len(self.intervals))
        interval = self.intervals[phase]
        return None if interval is None else (interval[0] + times * self.shift, interval[1] + times * self.shift)

    def through(self, axis_op: AxisOp) -> Phases | None:
        """The fields after a window, a transposed window or an upsampling; None if the period is too long."""
        period = axis_op.period(len(self.intervals))
        if period > MAX_INTERVALS:
            return None
        shift = self.shift * period * axis_op.jump / len(self.intervals)
        return Phases(tuple(_union([self.at(tap) for tap in axis_op.taps(index)]) for index in range(period)), int(shift))

    def reduced(self) -> Phases:
        """The same fields with the shortest period.

        >>> Phases(((0, 2), (1, 3)), 2).reduced()
        Phases(intervals=((0, 2),), shift=1)
        """
        count = len(self.intervals)
        for period in range(1, count):
            if count % period or self.shift * period % count:
                continue
            shorter = Phases(self.intervals[:period], self.shift * period // count)
            if all(shorter.at(index) == interval for index, interval in enumerate(self.intervals)):
                return shorter
        return self

    @property
    def start(self) -> int | Fraction:
        """First pixel of the field of position 0. If that reads nothing, it is extrapolated from the first position that
        reads a pixel."""
        for index, interval in enumerate(self.intervals):
            if interval is not None:
                first = interval[0] - Fraction(index * self.shift, len(self.intervals))
                return first.numerator if first.denominator == 1 else first
        return 0

    def largest(self, num_positions: int | None = None) -> int:
        """Number of pixels of the longest field, at least 1. If ``num_positions`` is set, only the first positions count."""
        seen = self.intervals[:num_positions]
        return max((interval[1] - interval[0] + 1 for interval in seen if interval is not None), default=1)

    @property
    def center(self) -> Fraction:
        """Mean center of the fields of all positions, each shifted back to position 0."""
        stride = Fraction(self.shift, len(self.intervals))
        middles = [
            Fraction(interval[0] + interval[1], 2) - index * stride
            for index, interval in enumerate(self.intervals)
            if interval is not None
        ]
        return sum(middles, Fraction(0)) / len(middles) if middles else Fraction(0)


def hull_of_phases(paths: Sequence[Phases]) -> Phases | None:
    """The smallest field that contains those of all paths, for each position. All paths have the same mean stride.

    None if the period is too long.
    """
    period = math.lcm(*(len(path.intervals) for path in paths))
    if period > MAX_INTERVALS:
        return None
    shift = paths[0].shift * period // len(paths[0].intervals)
    return Phases(tuple(_union([path.at(index) for path in paths]) for index in range(period)), shift)


def _union(intervals: Sequence[Interval | None]) -> Interval | None:
    """The smallest interval that holds all of them; None if none holds a pixel."""
    seen = [interval for interval in intervals if interval is not None]
    return (min(first for first, _ in seen), max(last for _, last in seen)) if seen else None
