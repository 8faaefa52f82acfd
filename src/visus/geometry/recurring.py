"""Rows of whole numbers told by a rule instead of one by one: a map of a million positions costs no more than a small one.

This file knows numbers in a row, and which rules they follow. It must not know pixels, windows, networks or torch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


class Numbers(Sequence[int]):
    """Numbers in a row that are found when they are asked for. Abstract."""

    @abstractmethod
    def find(self, index: int) -> int:
        """The number at a place from 0 on."""

    @abstractmethod
    def extremes(self) -> Iterable[int]:
        """Some of the numbers, the least and the greatest among them."""

    def __getitem__(self, index: Any) -> Any:
        """The number at a place, as for a list; a slice gives a list."""
        if isinstance(index, slice):
            return [self.find(place) for place in range(*index.indices(len(self)))]
        return self.find(range(len(self))[index])


@dataclass(frozen=True, eq=False)
class Recurring(Numbers):
    """A head, a pattern that comes so many times, each time ``shift`` more than the time before, and a tail.

    >>> list(Recurring([0, 0], [1, 1], 2, 3, [6]))
    [0, 0, 1, 1, 3, 3, 5, 5, 6]
    """

    head: Sequence[int]
    pattern: Sequence[int]
    shift: int
    times: int
    tail: Sequence[int]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Recurring:
        """The same numbers; those that follow no known rule are all head.

        >>> Recurring.of(range(3, 9, 2))
        Recurring(head=(), pattern=(3,), shift=2, times=3, tail=())
        """
        if isinstance(numbers, Recurring):
            return numbers
        if isinstance(numbers, range):
            return cls((), (numbers.start,), numbers.step, len(numbers), ())
        return cls(numbers, (0,), 0, 0, ())

    @property
    def end(self) -> int:
        """The place after the last time of the pattern."""
        return len(self.head) + len(self.pattern) * self.times

    def __len__(self) -> int:
        return self.end + len(self.tail)

    def find(self, index: int) -> int:
        if index < len(self.head):
            return self.head[index]
        if index >= self.end:
            return self.tail[index - self.end]
        times, phase = divmod(index - len(self.head), len(self.pattern))
        return self.pattern[phase] + times * self.shift

    def extremes(self) -> Iterable[int]:
        last = (self.times - 1) * self.shift
        pattern = [*self.pattern, *(number + last for number in self.pattern)] if self.times else []
        return [*self.head, *pattern, *self.tail]

    def part(self, first: int, end: int) -> list[int]:
        """The numbers from place ``first`` to before place ``end``; both lie in the row.

        >>> Recurring([0, 0], [1, 1], 2, 3, [6]).part(1, 6)
        [0, 1, 1, 3, 3]
        """
        before, period = len(self.head), len(self.pattern)
        low, high = max(first, before) - before, min(end, self.end) - before
        found = list(self.head[first:end])
        if low < high:
            begin = low // period
            recurs = range(begin * self.shift, -(-high // period) * self.shift, self.shift) if self.shift else ()
            block = [number + more for more in recurs for number in self.pattern]
            block = block or [*self.pattern] * (-(-high // period) - begin)
            found += block[low - begin * period : high - begin * period]
        return found + list(self.tail[max(0, first - self.end) : max(0, end - self.end)])


@dataclass(frozen=True, eq=False)
class Laid(Numbers):
    """The numbers of one axis as often as the values of a map have them that are laid out in a row.

    >>> list(Laid([7, 8], each=2, total=8)), list(Laid([7, 8], each=1, total=8))
    ([7, 7, 8, 8, 7, 7, 8, 8], [7, 8, 7, 8, 7, 8, 7, 8])
    """

    numbers: Sequence[int]
    each: int
    total: int

    def __len__(self) -> int:
        return self.total

    def find(self, index: int) -> int:
        return self.numbers[index // self.each % len(self.numbers)]

    def extremes(self) -> Iterable[int]:
        return extremes(self.numbers)


class Chained(Numbers):
    """Rows one after another.

    >>> list(Chained([range(2), [5]]))
    [0, 1, 5]
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = [row for row in rows if len(row)]
        self.starts = [0, *accumulate(map(len, self.rows))]

    def __len__(self) -> int:
        return self.starts[-1]

    def find(self, index: int) -> int:
        place = max(place for place, start in enumerate(self.starts[:-1]) if start <= index)
        return self.rows[place][index - self.starts[place]]

    def extremes(self) -> Iterable[int]:
        return [number for row in self.rows for number in extremes(row)]


@dataclass(frozen=True, eq=False)
class Chosen(Numbers):
    """At each place the least of several rows of one length, or the greatest: as ``choose``, which is min or max, says.

    >>> list(Chosen(min, ([3, 5], [4, 4])))
    [3, 4]
    """

    choose: Callable[[Iterable[int]], int]
    rows: tuple[Sequence[int], ...]

    def __len__(self) -> int:
        return len(self.rows[0])

    def find(self, index: int) -> int:
        return self.choose(row[index] for row in self.rows)

    def extremes(self) -> Iterable[int]:
        """Of the least numbers, the least; of the greatest, the greatest."""
        return [self.choose(number for row in self.rows for number in extremes(row))]


def extremes(numbers: Sequence[int]) -> Iterable[int]:
    """Some of the numbers, the least and the greatest among them."""
    if isinstance(numbers, range):
        return numbers if len(numbers) < 2 else (numbers[0], numbers[-1])
    return numbers.extremes() if isinstance(numbers, Numbers) else numbers


def choose_each(choose: Callable[..., int], rows: Sequence[Recurring]) -> Recurring | None:
    """At each place the least of the rows, or the greatest (``choose`` is min or max); all rows have one length.

    None where that follows no rule that is cheaper than to look at every place.

    >>> found = choose_each(min, [Recurring.of(range(100)), Recurring([9], [0], 0, 99, [])])
    >>> found.part(0, 4), found.times
    ([0, 0, 0, 0], 99)
    """
    before, end = max(len(row.head) for row in rows), min(row.end for row in rows)
    period = math.lcm(*(len(row.pattern) for row in rows))
    times = max(0, end - before) // period
    if times < 2:
        return None
    starts = [row.part(before, before + period) for row in rows]
    shifts = [row.shift * period // len(row.pattern) for row in rows]
    found, moves = [], set(shifts)
    for numbers in zip(*starts, strict=True):
        lasts = [number + (times - 1) * shift for number, shift in zip(numbers, shifts, strict=True)]
        ends = choose(numbers), choose(lasts)
        found.append(ends[0])
        moves &= {shift for *both, shift in zip(numbers, lasts, shifts, strict=True) if tuple(both) == ends}
    if not moves:  # another row is chosen further on, or the places of the pattern drift apart
        return None
    head, tail = (
        [choose(numbers) for numbers in zip(*(row.part(*places) for row in rows), strict=True)]
        for places in ((0, before), (before + period * times, len(rows[0])))
    )
    return Recurring(head, found, moves.pop(), times, tail)
