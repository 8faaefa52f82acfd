"""What is really read on one axis: first and last input pixel of every position of a map, padding counted as nothing.

This file knows coordinates on one axis. It must not know layers, a second axis, networks or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from visus.geometry.enlarging import TransposedWindow, Upsampling
from visus.geometry.window import Window

Lens = Window | TransposedWindow | Upsampling
"""What a map is looked at through on one axis, on the way to the next map."""

NOTHING: Final = 2**62
"""The first pixel of a position that reads no pixel; its last is -NOTHING, so that every union leaves it out."""


@dataclass(frozen=True, eq=False, repr=False)
class Reads:
    """First and last input pixel that each position of a map really reads; both rows have one number for each position.

    >>> Reads.identity(8).through(Window(3, stride=2, padding=(1, 1))).pairs()
    [(0, 1), (1, 3), (3, 5), (5, 7)]
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
        return None if self.first[index] == NOTHING else (self.first[index], self.last[index])

    def pairs(self) -> list[tuple[int, int] | None]:
        """``at`` of every position."""
        return [self.at(index) for index in range(len(self))]

    def gather(self, taps: Iterable[range]) -> Reads:
        """What new positions read: the union of the old positions that each range names; those outside the map are none."""
        slices = [_inside(positions, len(self)) for positions in taps]
        return Reads(
            [min(self.first[each], default=NOTHING) for each in slices],
            [max(self.last[each], default=-NOTHING) for each in slices],
        )

    def through(self, lens: Lens) -> Reads:
        """What the positions after a window, a transposed window or an upsampling read."""
        if not isinstance(lens, Window):
            return self.gather(lens.taps_inside(index, len(self)) for index in range(lens.output_size(len(self))))
        if lens.reflect:
            return self.mirrored(*lens.padding).through(replace(lens, padding=(0, 0), reflect=False))
        starts = range(-lens.padding[0], lens.output_size(len(self)) * lens.stride - lens.padding[0], lens.stride)
        return self.gather(range(start, start + lens.span, lens.dilation) for start in starts)

    def mirrored(self, before: int, after: int) -> Reads:
        """What the positions of a map read that is padded with its own pixels, mirrored at its first and its last.

        >>> Reads.identity(4).mirrored(2, 1).pairs()
        [(2, 2), (1, 1), (0, 0), (1, 1), (2, 2), (3, 3), (2, 2)]
        """
        size = len(self)
        positions = [*range(before, 0, -1), *range(size), *range(size - 2, size - 2 - after, -1)]
        return Reads([self.first[index] for index in positions], [self.last[index] for index in positions])

    def over(self) -> Reads:
        """What a single position reads that looks at the whole map."""
        return Reads([min(self.first)], [max(self.last)])

    def repeated(self, num_positions: int) -> Reads:
        """What a single position reads, for so many positions."""
        return Reads([self.first[0]] * num_positions, [self.last[0]] * num_positions)


def unite(paths: Sequence[Reads]) -> Reads:
    """What the positions of several paths read together; a path of one position is read by all."""
    longest = max(len(path) for path in paths)
    paths = [path.repeated(longest) if len(path) == 1 else path for path in paths]
    return Reads(
        [min(positions) for positions in zip(*(path.first for path in paths), strict=True)],
        [max(positions) for positions in zip(*(path.last for path in paths), strict=True)],
    )


def _inside(positions: range, size: int) -> slice:
    """The positions that lie in a map of this size, as a slice."""
    first = positions.start
    if first < 0:
        first += -(first // positions.step) * positions.step
    return slice(first, max(first, min(positions.stop, size)), positions.step)
