"""Receptive fields on one axis: which input pixels a position of a map depends on, how a window widens them and how paths join."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from visus.errors import GeometryError
from visus.geometry.enlarging import AxisOp
from visus.geometry.exact_intervals import ExactIntervals, concatenate, union
from visus.geometry.phases import Interval, Phases, hull_of_phases
from visus.geometry.window import Window


@dataclass(frozen=True)
class Field:
    """The receptive field on one axis: theoretical (``size``, ``stride``, ``start``) and exact (``interval``).

    The theoretical field of position ``i`` is the ``size`` pixels from ``start + i*stride`` on. It counts padding as image,
    so ``start`` may be negative and the field longer than the image. After an upsampling or a strided transposed
    convolution, the stride is a fraction and the fields of neighbors differ. ``size`` is then the maximum, ``stride`` the
    mean, and ``theoretical`` returns the field of each position.

    Args:
        size: number of pixels from the first to the last, at least 1.
        stride: pixels from the field of one position to that of the next; 0 if every position depends on the same pixels.
        start: first pixel of the field of position 0.
        is_whole: whether every position depends on all positions of some earlier map (global pooling, a gate, attention), or on
            all before its own (a recurrent layer, a running sum). If
            a layer also has windows, as with a squeeze-and-excite gate, ``size`` and ``stride`` are those of the windows.
        is_exact: False if the field is an upper bound. An operation without a rule counts as reading everything.
        intervals: the pixels that each position reads, which ``interval`` returns; None if only the theoretical field is
            known.
        phases: the theoretical field of each position; None if all have the same size and spacing.
    """

    size: int = 1
    stride: int | Fraction = 1
    start: int | Fraction = 0
    is_whole: bool = False
    is_exact: bool = True
    intervals: ExactIntervals | None = field(default=None, compare=False, repr=False)
    phases: Phases | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_input(cls, input_size: int) -> Field:
        """The field of the input itself: each position reads its own pixel."""
        return cls(intervals=ExactIntervals.identity(input_size))

    @classmethod
    def whole(cls, input_size: int) -> Field:
        """The field of a position that reads the whole axis of ``input_size`` pixels."""
        return cls(size=input_size, stride=0, is_whole=True, intervals=ExactIntervals.identity(input_size).collapsed())

    def interval(self, index: int = 0) -> tuple[int, int] | None:
        """First and last pixel inside the image that position ``index`` reads; None if it reads only padding.

        After ``flattened``, positions are the values of the map, channel by channel. If all positions read the same pixels,
        every index returns them.

        Raises:
            IndexError: there is no such position.
            GeometryError: only the theoretical field is known.

        >>> Field.of_input(8).through(Window(3, padding=(1, 1))).interval(0)
        (0, 1)
        """
        if self.intervals is None:
            raise GeometryError("only the theoretical field is known here, not the exact one.")
        return self.intervals.at(0 if len(self.intervals) == 1 else index)

    def hull(self) -> Field:
        """The field after a layer that reads the whole map: the union over all positions, inside the image.

        >>> Field.of_input(10).through(Window(3, stride=2, padding=(1, 1))).hull()
        Field(size=10, stride=0, start=0, is_whole=True, is_exact=True)
        """
        if self.intervals is None:
            raise GeometryError("only the theoretical field is known here, not the exact one.")
        collapsed = self.intervals.collapsed()
        first, last = self.intervals.hull() or (0, 0)
        return Field(last - first + 1, 0, first, is_whole=True, is_exact=self.is_exact, intervals=collapsed)

    def with_global_context(self) -> Field:
        """The field after a layer whose positions depend on their own values and on the whole map, such as a norm over the
        spatial axes.

        Size, stride and start stay those of the windows; ``is_whole`` and ``interval`` include the whole map.

        >>> Field.of_input(10).through(Window(3, padding=(1, 1))).with_global_context().interval(0)
        (0, 9)
        """
        if self.intervals is None:
            raise GeometryError("only the theoretical field is known here, not the exact one.")
        return replace(self, is_whole=True, intervals=self.intervals.collapsed().repeated(len(self.intervals)))

    def flattened(self, each: int, total: int) -> Field:
        """The field after flattening: all values of the map, channel by channel, in the order of ``torch.flatten``.

        Size, stride and start stay those of the map; ``interval`` returns the pixels of each value.

        Args:
            each: number of consecutive values that share a position of this axis: the product of the lengths of the axes
                after it.
            total: number of values.

        >>> rows, columns = Field.of_input(2).flattened(3, 12), Field.of_input(3).flattened(1, 12)
        >>> rows.interval(4), columns.interval(4), rows.interval(11), columns.interval(11)  # value 4 is at (1, 1) of channel 0
        ((1, 1), (1, 1), (1, 1), (2, 2))
        """
        return self if self.intervals is None else replace(self, intervals=self.intervals.flattened(each, total))

    def theoretical(self, index: int = 0) -> Interval | None:
        """First and last pixel of the theoretical field of one position, padding included; None if the position reads
        nothing.

        The index counts positions of the map, even after flattening. Fractions of a pixel are rounded outwards.

        >>> Field.of_input(8).through(Window(3, padding=(1, 1))).theoretical(0)
        (-1, 1)
        """
        if self.phases is not None:
            return self.phases.at(index)
        first = self.start + index * self.stride
        return math.floor(first), math.ceil(first + self.size - 1)

    @property
    def center(self) -> Fraction:
        """Middle of the field of position 0, in pixels; half-way between two pixels for an even size.

        If the fields of neighbors differ, it is the mean over all positions, each shifted back to position 0.

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

    def through(self, axis_op: AxisOp) -> Field:
        """The field after one more window: Dumoulin and Visin 2016 (arXiv:1603.07285), relations 5 and 6, composed.

        From a transposed window or an upsampling on, the field of each position is the union of the fields that it is computed
        from; ``size`` is the largest of them, and ``stride`` is divided by the stride or the scale (Araujo, Norris and Sim
        2019, doi:10.23915/distill.00021).

        >>> Field().through(Window(3, stride=2, padding=(1, 1))).through(Window(3, padding=(1, 1)))
        Field(size=7, stride=2, start=-3, is_whole=False, is_exact=True)
        """
        intervals = self.intervals.through(axis_op) if self.intervals is not None else None
        stride = self.stride * axis_op.jump
        if isinstance(axis_op, Window) and self.phases is None:
            return replace(
                self,
                size=math.ceil(self.size + (axis_op.span - 1) * self.stride),
                stride=_plain(stride),
                start=self.start - axis_op.padding[0] * self.stride,
                intervals=intervals,
            )
        phases = (self.phases or Phases.alike(self.start, self.size, self.stride)).through(axis_op)
        if phases is None:  # too many unlike neighbors to follow
            first = self.theoretical(axis_op.taps(0).start) or (math.floor(self.start), 0)
            size = math.ceil(self.size + (axis_op.span - 1) * self.stride)
            return replace(self, size=size, stride=stride, start=first[0], is_exact=False, intervals=intervals, phases=None)
        return self._with(phases, stride, intervals)

    def _with(self, phases: Phases, stride: int | Fraction, intervals: ExactIntervals | None) -> Field:
        """The field with new theoretical fields of its positions; ``phases`` stays None if they are all alike."""
        phases = phases.reduced()
        known = phases if len(phases.intervals) > 1 else None
        size = phases.largest(len(intervals) if intervals is not None else None)
        return replace(self, size=size, stride=_plain(stride), start=phases.start, intervals=intervals, phases=known)


@dataclass(frozen=True)
class Joined:
    """The combined field of several paths, and whether the paths are aligned.

    ``aligned`` is True if all strides and all centers are equal: only then do all paths have the same center at every
    position. If a path was upsampled, this holds for the mean over neighbors. A path whose positions all read the same
    pixels is aligned with every other.
    """

    field: Field
    aligned: bool


def join_fields(fields: Sequence[Field]) -> Joined:
    """The smallest field that contains the fields of all paths, as for an addition or a concatenation along the channels.

    A path whose positions all read the same pixels counts as a gate: the result keeps the size and stride of the other
    paths, and its ``is_whole`` is True. The fields of paths with different strides drift apart. The result then is the field
    of position 0 with the largest stride, not aligned.

    Raises:
        GeometryError: there is no path.

    >>> join_fields([Field(size=3, start=-1), Field(size=5, start=-2)])
    Joined(field=Field(size=5, stride=1, start=-2, is_whole=False, is_exact=True), aligned=True)
    >>> join_fields([Field(size=1, stride=2, start=0), Field(size=2, stride=2, start=0)]).aligned
    False
    """
    if not fields:
        raise GeometryError("a join needs at least one path, and there is none.")
    chosen = [each for each in fields if each.stride != 0] or fields
    strides = {each.stride for each in chosen}
    start = min(each.start for each in chosen)
    end = max(each.end for each in chosen)
    intervals = [each.intervals for each in fields if each.intervals is not None]
    joined = Field(
        size=math.ceil(end - start),
        stride=max(strides),
        start=start,
        is_whole=any(each.is_whole for each in fields),
        is_exact=all(each.is_exact for each in fields),
        intervals=union(intervals) if len(intervals) == len(fields) else None,
    )
    if len(strides) == 1 and any(each.phases is not None for each in chosen):
        phases = hull_of_phases([each.phases or Phases.alike(each.start, each.size, each.stride) for each in chosen])
        joined = joined._with(phases, joined.stride, joined.intervals) if phases else replace(joined, is_exact=False)
    centers = {each.center for each in chosen}
    return Joined(field=joined, aligned=len(strides) == 1 and len(centers) == 1)


def concat_features(fields: Sequence[Field], lengths: Sequence[int]) -> Joined:
    """The field after a concatenation of features.

    Size, stride, start and alignment are those of ``join_fields``; ``interval`` returns the pixels of each feature.

    Args:
        lengths: number of features of each path.

    Raises:
        GeometryError: there is no path.

    >>> concat_features([Field.of_input(2), Field.whole(2)], [2, 5]).field.interval(3)
    (0, 1)
    """
    aligned = join_fields([replace(each, intervals=None) for each in fields]).aligned
    rows = [each.intervals for each in fields if each.intervals is not None]
    broadcast = [row.repeated(length) if len(row) == 1 else row for row, length in zip(rows, lengths, strict=False)]
    start = min(each.start for each in fields)
    field = Field(
        size=math.ceil(max(each.end for each in fields) - start),
        stride=max(each.stride for each in fields),
        start=start,
        is_whole=any(each.is_whole for each in fields),
        is_exact=all(each.is_exact for each in fields),
        intervals=concatenate(broadcast) if len(rows) == len(fields) else None,
    )
    return Joined(field, aligned)


def _plain(stride: int | Fraction) -> int | Fraction:
    """An int if the stride is a whole number."""
    return stride.numerator if stride.denominator == 1 else stride
