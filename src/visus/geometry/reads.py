"""What is really read on one axis: first and last input pixel of every position of a map, padding counted as nothing.

Inside a long map what is read recurs, so only its borders and one period are looked at; the rest follows. This file knows
coordinates on one axis. It must not know layers, a second axis, networks or torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from visus.geometry.enlarging import TransposedWindow, Upsampling
from visus.geometry.recurring import Chained, Chosen, Laid, Recurring, choose_each, extremes
from visus.geometry.window import Window

Lens = Window | TransposedWindow | Upsampling
"""What a map is looked at through on one axis, on the way to the next map."""

NOTHING: Final = 2**62
"""The first pixel of a position that reads no pixel; its last is -NOTHING, so that every union leaves it out.

Where such positions recur they count on from there: a position reads nothing wherever its first pixel lies after its last.
"""

_FEW_TAPS: Final = 8  # so many numbers are compared one by one


@dataclass(frozen=True, eq=False, repr=False)
class Reads:
    """First and last input pixel that each position of a map really reads; both rows have one number for each position.

    >>> Reads.identity(8).through(Window(3, stride=2, padding=(1, 1))).pairs()
    [(0, 1), (1, 3), (3, 5), (5, 7)]
    >>> Reads.identity(10**9).through(Window(3, stride=2, padding=(1, 1))).at(10**8)
    (199999999, 200000001)
    """

    first: Sequence[int]
    last: Sequence[int]

    @classmethod
    def identity(cls, input_size: int) -> Reads:
        """Those of the input itself: each position reads its own pixel."""
        return cls(range(input_size), range(input_size))

    def __len__(self) -> int:
        return len(self.first)

    def at(self, index: int) -> tuple[int, int] | None:
        """First and last pixel that one position reads; None where it reads padding alone.

        Raises:
            IndexError: there is no such position.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} positions, and position {index} was asked for.")
        first, last = self.first[index], self.last[index]
        return (first, last) if first <= last else None

    def pairs(self) -> list[tuple[int, int] | None]:
        """``at`` of every position."""
        return [self.at(index) for index in range(len(self))]

    def through(self, lens: Lens) -> Reads:
        """What the positions after a window, a transposed window or an upsampling read."""
        if isinstance(lens, Window) and lens.reflect:
            return self.mirrored(*lens.padding).through(replace(lens, padding=(0, 0), reflect=False))
        size, first, last = len(self), Recurring.of(self.first), Recurring.of(self.last)
        num_positions = lens.output_size(size)
        begin, period, times = _recurrence(first, lens, num_positions)
        moved = int(period * lens.step) // len(first.pattern)  # so many times of the pattern of before are one of now
        found = []
        for choose, nothing, row in ((min, NOTHING, first), (max, -NOTHING, last)):
            parts = [
                _chosen(choose, nothing, row, [_inside(_taps(lens, place, size), size) for place in range(*places)])
                for places in ((0, begin), (begin, begin + period), (begin + period * times, num_positions))
            ]
            found.append(Recurring(parts[0], parts[1], row.shift * moved, times, parts[2]))
        return Reads(*found)

    def mirrored(self, before: int, after: int) -> Reads:
        """What the positions of a map read that is padded with its own pixels, mirrored at its first and its last.

        >>> Reads.identity(4).mirrored(2, 1).pairs()
        [(2, 2), (1, 1), (0, 0), (1, 1), (2, 2), (3, 3), (2, 2)]
        """
        size = len(self)
        rows = [Recurring.of(row) for row in (self.first, self.last)]
        return Reads(
            *(
                replace(
                    row,
                    head=[*row.part(1, before + 1)[::-1], *row.head],
                    tail=[*row.tail, *row.part(size - 1 - after, size - 1)[::-1]],
                )
                for row in rows
            )
        )

    def over(self) -> Reads:
        """What a single position reads that looks at the whole map."""
        return Reads([min(extremes(self.first))], [max(extremes(self.last))])

    def repeated(self, num_positions: int) -> Reads:
        """What a single position reads, for so many positions."""
        return Reads(*(Recurring((), (row[0],), 0, num_positions, ()) for row in (self.first, self.last)))

    def laid_out(self, each: int, total: int) -> Reads:
        """What the values of a map read that lie in a row: ``each`` of them one after another are at one position of this axis.

        >>> Reads.identity(2).laid_out(each=3, total=12).pairs()[:7]
        [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (0, 0)]
        """
        return Reads(Laid(self.first, each, total), Laid(self.last, each, total))


def unite(paths: Sequence[Reads]) -> Reads:
    """What the positions of several paths read together; a path of one position is read by all."""
    longest = max(len(path) for path in paths)
    paths = [path.repeated(longest) if len(path) == 1 else path for path in paths]
    first, last = [path.first for path in paths], [path.last for path in paths]
    return Reads(_united(min, first), _united(max, last))


def chain(paths: Sequence[Reads]) -> Reads:
    """What the positions of several paths read that stand one after another.

    >>> chain([Reads.identity(2), Reads.identity(1)]).pairs()
    [(0, 0), (1, 1), (0, 0)]
    """
    return Reads(Chained([path.first for path in paths]), Chained([path.last for path in paths]))


_Choose = Callable[..., int]


def _united(choose: _Choose, rows: Sequence[Sequence[int]]) -> Sequence[int]:
    """The least of the rows at each place, or the greatest."""
    if any(isinstance(row, (Laid, Chained, Chosen)) for row in rows):
        return Chosen(choose, tuple(rows))
    found = choose_each(choose, [Recurring.of(row) for row in rows])
    return found or [choose(numbers) for numbers in zip(*rows, strict=True)]


def _recurrence(row: Recurring, lens: Lens, num_positions: int) -> tuple[int, int, int]:
    """From which position on what is read recurs, after how many positions, and how many times; (all, 1, 0) where it does not.

    ``lens.step`` says it all: so many positions (its denominator) come of so many of before (its numerator), and the next as many
    read the same so many further on. They do so where all that is read lies in the pattern of ``row``.
    """
    away, block = lens.step.numerator, lens.step.denominator
    if not row.times or 2 * block > num_positions:
        return num_positions, 1, 0
    taps = [each for each in map(lens.taps, range(block)) if each]
    lowest, highest = (
        min(each[0] for each in taps),
        max(each[-1] for each in taps) + 1,
    )  # upsampling multiplies one more by 0
    first = max(0, -((lowest - len(row.head)) // away))
    end = min((row.end - 1 - highest) // away + 1, num_positions // block)
    recurs = len(row.pattern) // math.gcd(len(row.pattern), away)
    times = max(0, end - first) // recurs
    return (first * block, recurs * block, times) if times > 1 else (num_positions, 1, 0)


def _taps(lens: Lens, position: int, size: int) -> range:
    return lens.taps(position) if isinstance(lens, Window) else lens.taps_inside(position, size)


def _inside(positions: range, size: int) -> range:
    """The positions that lie in a map of this size."""
    first = positions.start
    if first < 0:
        first += -(first // positions.step) * positions.step
    return range(first, max(first, min(positions.stop, size)), positions.step)


def _chosen(choose: _Choose, nothing: int, row: Recurring, taps: Sequence[range]) -> list[int]:
    """The least of the numbers that each range names, or the greatest; ``nothing`` where it names none."""
    named = [each for each in taps if each]
    if not named:
        return [nothing] * len(taps)
    low = min(each[0] for each in named)
    part = row.part(low, max(each[-1] for each in named) + 1)
    if max(map(len, named)) <= _FEW_TAPS:
        return [choose(part[each.start - low : each.stop - low : each.step]) if each else nothing for each in taps]
    levels, step = [part], named[0].step  # at level n the least of 2**n numbers, each a step after the one before
    for level in range(max(map(len, named)).bit_length() - 1):
        levels.append(list(map(choose, levels[-1], levels[-1][step << level :])))
    return [_of_levels(choose, levels, each, low) if each else nothing for each in taps]


def _of_levels(choose: _Choose, levels: Sequence[Sequence[int]], tap: range, low: int) -> int:
    """The least of the numbers that a range names: of as many as a power of two from its first on, and of as many to its last."""
    level = len(tap).bit_length() - 1
    return choose(levels[level][tap[0] - low], levels[level][tap[-(1 << level)] - low])
