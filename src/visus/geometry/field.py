"""Receptive fields on one axis: which input pixels a position of a map depends on.

This file knows size, step and start of a field, how a window widens it and how several paths join.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from visus.errors import GeometryError
from visus.geometry.enlarging import AxisOp
from visus.geometry.phases import Interval, Phases, hull
from visus.geometry.reads import Reads, chain, unite
from visus.geometry.window import Window


@dataclass(frozen=True)
class Field:
    """The field on one axis, twice: theoretical (``size``, ``step``, ``start``) and exact (``box``, what is really read).

    In theory position ``i`` sees the pixels from ``start + i*step`` on, ``size`` of them; padding is continued as if
    the image went on, so ``start`` may be negative and the field longer than the image. After an upsampling or a transposed
    convolution with a stride the step is a fraction and neighbors differ: ``size`` is the largest, ``step`` the mean, and
    ``theoretical`` tells of each position.

    Args:
        size: number of pixels from the first to the last, at least 1.
        step: pixels from the field of one position to that of the next; 0 where every position sees the same pixels.
        start: first pixel of the field of position 0.
        is_whole: whether every position depends on all positions of some earlier map (global pooling, a gate, attention). Such a
            dependence beside windows, as through a squeeze-and-excite gate, leaves ``size`` and ``step`` those of the windows.
        is_exact: whether the figures are exact; False where an operation without a rule was taken for one that sees everything.
        reads: what each position really reads; ``box`` tells it. None where only the theoretical field is known.
        phases: the fields of the positions one by one, where they are not all alike; None where they are.
    """

    size: int = 1
    step: int | Fraction = 1
    start: int | Fraction = 0
    is_whole: bool = False
    is_exact: bool = True
    reads: Reads | None = field(default=None, compare=False, repr=False)
    phases: Phases | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_input(cls, input_size: int) -> Field:
        """The field of the input's own positions."""
        return cls(reads=Reads.identity(input_size))

    @classmethod
    def whole(cls, input_size: int) -> Field:
        """The field of a position that sees the whole axis of ``input_size`` pixels."""
        return cls(size=input_size, step=0, is_whole=True, reads=Reads.identity(input_size).over())

    def box(self, index: int = 0) -> tuple[int, int] | None:
        """First and last pixel that position ``index`` really reads, inside the image; None where it reads padding alone.

        Of a map that was laid out in a row, positions are its values, channel by channel. Where all positions read the same, every
        index is answered with what they read.

        Raises:
            IndexError: there is no such position.
            GeometryError: only the theoretical field is known.

        >>> Field.of_input(8).through(Window(3, padding=(1, 1))).box(0)
        (0, 1)
        """
        if self.reads is None:
            raise GeometryError("only the theoretical field is known here, and not what is really read.")
        return self.reads.at(0 if len(self.reads) == 1 else index)

    def over(self) -> Field:
        """What all positions of the map see together, inside the image: the field after a layer that looks at the whole map.

        >>> Field.of_input(10).through(Window(3, stride=2, padding=(1, 1))).over()
        Field(size=10, step=0, start=0, is_whole=True, is_exact=True)
        """
        if self.reads is None:
            raise GeometryError("only the theoretical field is known here, and not what is really read.")
        reads = self.reads.over()
        first, last = self.reads.hull() or (0, 0)
        return Field(last - first + 1, 0, first, is_whole=True, is_exact=self.is_exact, reads=reads)

    def gated(self) -> Field:
        """The field after a layer whose positions depend on their own values and on the whole map, as for a norm over space.

        Size, step and start stay those of the windows; ``is_whole`` and ``box`` tell of the map.

        >>> Field.of_input(10).through(Window(3, padding=(1, 1))).gated().box(0)
        (0, 9)
        """
        if self.reads is None:
            raise GeometryError("only the theoretical field is known here, and not what is really read.")
        return replace(self, is_whole=True, reads=self.reads.over().repeated(len(self.reads)))

    def laid_out(self, each: int, total: int) -> Field:
        """The field after all values of a map are laid out in a row, the last axis fastest, channel by channel.

        Size, step and start stay those of the map; ``box`` tells of each value.

        Args:
            each: so many values one after another are at one position of this axis: the product of the lengths of the axes after it.
            total: so many values there are.

        >>> rows, columns = Field.of_input(2).laid_out(3, 12), Field.of_input(3).laid_out(1, 12)
        >>> rows.box(4), columns.box(4), rows.box(11), columns.box(11)  # value 4 is at (1, 1) of channel 0
        ((1, 1), (1, 1), (1, 1), (2, 2))
        """
        return self if self.reads is None else replace(self, reads=self.reads.laid_out(each, total))

    def theoretical(self, index: int = 0) -> Interval | None:
        """First and last pixel of the theoretical field of one position, padding continued; None where it sees nothing.

        Positions are those of the map, after it was laid out in a row too.

        A step of a fraction of a pixel, without fields known one by one, is rounded outwards.

        >>> Field.of_input(8).through(Window(3, padding=(1, 1))).theoretical(0)
        (-1, 1)
        """
        if self.phases is not None:
            return self.phases.at(index)
        first = self.start + index * self.step
        return math.floor(first), math.ceil(first + self.size - 1)

    @property
    def center(self) -> Fraction:
        """Middle of the field of position 0, in pixels; half-way between two pixels for an even size.

        Where neighbors differ, it is where the middles of all positions lie in the mean.

        >>> Field(size=4, start=-1).center
        Fraction(1, 2)
        """
        if self.phases is not None:
            return self.phases.center
        return Fraction(self.start) + Fraction(self.size - 1, 2)

    @property
    def end(self) -> int | Fraction:
        """First pixel after the field of position 0."""
        return self.start + self.size

    def through(self, lens: AxisOp) -> Field:
        """The field after one more window: Dumoulin and Visin 2016 (arXiv:1603.07285), relations 5 and 6, composed.

        Through a transposed window or an upsampling, and from there on, the field of each position is the union of those that it
        is made of; ``size`` is the largest of them, and ``step`` is divided by the stride or the scale (Araujo, Norris and Sim
        2019, doi:10.23915/distill.00021).

        >>> Field().through(Window(3, stride=2, padding=(1, 1))).through(Window(3, padding=(1, 1)))
        Field(size=7, step=2, start=-3, is_whole=False, is_exact=True)
        """
        reads = self.reads.through(lens) if self.reads is not None else None
        step = self.step * lens.step
        if isinstance(lens, Window) and self.phases is None:
            return replace(
                self,
                size=math.ceil(self.size + (lens.span - 1) * self.step),
                step=_plain(step),
                start=self.start - lens.padding[0] * self.step,
                reads=reads,
            )
        phases = (self.phases or Phases.alike(self.start, self.size, self.step)).through(lens)
        if phases is None:  # too many unlike neighbors to follow
            first = self.theoretical(lens.taps(0).start) or (math.floor(self.start), 0)
            size = math.ceil(self.size + (lens.span - 1) * self.step)
            return replace(self, size=size, step=step, start=first[0], is_exact=False, reads=reads, phases=None)
        return self._with(phases, step, reads)

    def _with(self, phases: Phases, step: int | Fraction, reads: Reads | None) -> Field:
        """The field with other fields of its positions, one by one or, where they are alike, all at once."""
        phases = phases.reduced()
        known = phases if len(phases.intervals) > 1 else None
        size = phases.largest(len(reads) if reads is not None else None)
        return replace(self, size=size, step=_plain(step), start=phases.start, reads=reads, phases=known)


@dataclass(frozen=True)
class Joined:
    """The field of several paths together, and whether they look at the same place.

    ``aligned`` is True where all steps and all centers are equal: only then does every path see the same middle, at every
    position (in the mean over neighbors, where one of them was upsampled). A path that sees the same at every position is
    aligned with all.
    """

    field: Field
    aligned: bool


def join(fields: Sequence[Field]) -> Joined:
    """The smallest field that holds those of all paths that end in one map, as for an addition or a concatenation.

    A path that sees the same at every position is a gate: the joined field keeps size and step of the others, and is whole. Paths
    of unequal steps drift apart from position to position; their joined field is that of position 0, with the largest step, and
    is not aligned.

    Raises:
        GeometryError: there is no path.

    >>> join([Field(size=3, start=-1), Field(size=5, start=-2)])
    Joined(field=Field(size=5, step=1, start=-2, is_whole=False, is_exact=True), aligned=True)
    >>> join([Field(size=1, step=2, start=0), Field(size=2, step=2, start=0)]).aligned
    False
    """
    if not fields:
        raise GeometryError("a join needs at least one path, and there is none.")
    chosen = [each for each in fields if each.step != 0] or fields
    steps = {each.step for each in chosen}
    start = min(each.start for each in chosen)
    end = max(each.end for each in chosen)
    reads = [each.reads for each in fields if each.reads is not None]
    joined = Field(
        size=math.ceil(end - start),
        step=max(steps),
        start=start,
        is_whole=any(each.is_whole for each in fields),
        is_exact=all(each.is_exact for each in fields),
        reads=unite(reads) if len(reads) == len(fields) else None,
    )
    if len(steps) == 1 and any(each.phases is not None for each in chosen):
        phases = hull([each.phases or Phases.alike(each.start, each.size, each.step) for each in chosen])
        joined = joined._with(phases, joined.step, joined.reads) if phases else replace(joined, is_exact=False)
    centers = {each.center for each in chosen}
    return Joined(field=joined, aligned=len(steps) == 1 and len(centers) == 1)


def beside(fields: Sequence[Field], lengths: Sequence[int]) -> Joined:
    """The field of rows of features that stand one after another, as for a concatenation of them.

    Size, step and start are those of the smallest field that holds all, aligned as for ``join``; ``box`` tells of each feature.

    Args:
        lengths: number of features of each row.

    Raises:
        GeometryError: there is no row.

    >>> beside([Field.of_input(2), Field.whole(2)], [2, 5]).field.box(3)
    (0, 1)
    """
    aligned = join([replace(each, reads=None) for each in fields]).aligned
    rows = [each.reads for each in fields if each.reads is not None]
    told = [row.repeated(length) if len(row) == 1 else row for row, length in zip(rows, lengths, strict=False)]
    start = min(each.start for each in fields)
    field = Field(
        size=math.ceil(max(each.end for each in fields) - start),
        step=max(each.step for each in fields),
        start=start,
        is_whole=any(each.is_whole for each in fields),
        is_exact=all(each.is_exact for each in fields),
        reads=chain(told) if len(rows) == len(fields) else None,
    )
    return Joined(field, aligned)


def _plain(step: int | Fraction) -> int | Fraction:
    """A whole number as such."""
    return step.numerator if step.denominator == 1 else step
