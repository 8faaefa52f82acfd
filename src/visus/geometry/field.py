"""Receptive fields on one axis: which input pixels a position of a map depends on.

This file knows size, step and start of a field, how a window widens it and how several paths join. It must not know layers,
a second axis, networks or torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from visus.errors import GeometryError
from visus.geometry.window import Window


@dataclass(frozen=True)
class Field:
    """The textbook field on one axis: position ``i`` sees the pixels from ``start + i*step`` on, ``size`` of them.

    Padding is continued as if the picture went on, so ``start`` may be negative and the field longer than the picture.
    A ``step`` of 0 says that every position sees the same pixels (after a layer that looks at the whole axis).

    Args:
        size: number of pixels from the first to the last, at least 1.
        step: pixels from the field of one position to that of the next.
        start: first pixel of the field of position 0.
    """

    size: int = 1
    step: int | Fraction = 1
    start: int | Fraction = 0

    @classmethod
    def whole(cls, input_size: int) -> Field:
        """The field of a position that sees the whole axis of ``input_size`` pixels."""
        return cls(size=input_size, step=0, start=0)

    def over(self, num_positions: int, input_size: int) -> Field:
        """What all positions of a map see together, inside the axis: the field after a layer that looks at the whole map.

        >>> Field(size=3, step=2, start=-1).over(num_positions=5, input_size=10)
        Field(size=10, step=0, start=0)
        """
        if self.step == 0:
            return self
        lowest = max(0, -((self.end - 1) // self.step))  # the first position that sees a pixel and not padding alone
        highest = min(num_positions - 1, (input_size - 1 - self.start) // self.step)
        first = max(self.start + lowest * self.step, 0)
        end = min(self.end + highest * self.step, input_size)
        return Field(size=max(1, int(-(-(end - first) // 1))), step=0, start=first)

    @property
    def centre(self) -> Fraction:
        """Middle of the field of position 0, in pixels; half-way between two pixels for an even size.

        >>> Field(size=4, start=-1).centre
        Fraction(1, 2)
        """
        return Fraction(self.start) + Fraction(self.size - 1, 2)

    @property
    def end(self) -> int | Fraction:
        """First pixel after the field of position 0."""
        return self.start + self.size

    def through(self, window: Window) -> Field:
        """The field after one more window: Dumoulin and Visin 2016 (arXiv:1603.07285), relations 5 and 6, composed.

        >>> Field().through(Window(3, stride=2, padding=(1, 1))).through(Window(3, padding=(1, 1)))
        Field(size=7, step=2, start=-3)
        """
        size = self.size + (window.span - 1) * self.step
        if size != int(size):
            raise GeometryError(
                f"a window spanning {window.span} positions {self.step} px apart covers no whole number of pixels."
            )
        return Field(
            size=int(size),
            step=self.step * window.stride,
            start=self.start - window.padding[0] * self.step,
        )


@dataclass(frozen=True)
class Joined:
    """The field of several paths together, and whether they look at the same place.

    ``aligned`` is True where all steps and all centres are equal: only then does every path see the same middle, at every
    position. A path that sees the same at every position is aligned with all.
    """

    field: Field
    aligned: bool


def join(fields: Sequence[Field]) -> Joined:
    """The smallest field that holds those of all paths that end in one map, as for an addition or a concatenation.

    A path that sees the same at every position makes the joined field its own. Paths of unequal steps drift apart from position
    to position; their joined field is that of position 0, with the largest step, and is not aligned.

    Raises:
        GeometryError: there is no path.

    >>> join([Field(size=3, start=-1), Field(size=5, start=-2)])
    Joined(field=Field(size=5, step=1, start=-2), aligned=True)
    >>> join([Field(size=1, step=2, start=0), Field(size=2, step=2, start=0)]).aligned
    False
    """
    if not fields:
        raise GeometryError("a join needs at least one path, and there is none.")
    whole = [field for field in fields if field.step == 0]
    chosen = whole or fields
    start = min(field.start for field in chosen)
    end = max(field.end for field in chosen)
    hull = Field(size=int(-(-(end - start) // 1)), step=max(field.step for field in chosen), start=start)
    steps = {field.step for field in chosen}
    centres = {field.centre for field in chosen}
    return Joined(field=hull, aligned=bool(whole) or (len(steps) == 1 and len(centres) == 1))
