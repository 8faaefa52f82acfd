"""What the positions of one tensor see of one axis of the input: first and last pixel, theoretical and exact.

Every operation is a minimum: of first pixels, and of last pixels with their sign turned. ``Dependence`` holds the numbers of one
axis, a ``Line`` lays them along one dimension of a tensor, a ``Grid`` holds numbers that differ along several dimensions. A
tensor has a tuple of such ``Terms``, which together are their union. This file knows numbers and dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visus.geometry import Field, Window, join
from visus.geometry.exact_intervals import EMPTY, ExactIntervals
from visus.geometry.phases import Phases
from visus.networks.trace.coordinates.taps import Number, Taps, whole_or_fraction

Array = NDArray[Any]
Shape = tuple[int, ...]

MAX_NUMBERS: Final = 4_000_000  # numbers in one array; what would need more is taken for its hull over the other dimensions


class Dependence:
    """What the positions along one dimension see of one axis of the input. Frozen in use; results of rules are kept in ``memo``.

    Args:
        reads: (2, positions): first pixel and minus the last that each really reads, ``EMPTY`` twice where it reads none;
            one position stands for all where all read the same.
        first, last: theoretical first and last pixel of position 0; ``EMPTY`` and ``-EMPTY`` where ``step`` is 0.
        step: pixels from position to position; 0 where all positions see the same.
        whole, exact: as ``is_whole`` and ``is_exact`` of ``Field``.
        phases: the theoretical fields one by one, where neighbors are not alike.
        rough: whether there is no theoretical field here, and ``first``, ``last`` and ``step`` are those of the largest.
    """

    __slots__ = ("exact", "first", "last", "memo", "phases", "reads", "rough", "step", "whole")

    def __init__(
        self,
        reads: Array,
        first: Number,
        last: Number,
        step: Number,
        whole: bool,
        exact: bool,
        phases: Phases | None = None,
        rough: bool = False,
    ) -> None:
        self.reads, self.first, self.last, self.step = reads, first, last, step
        self.whole, self.exact, self.phases, self.rough = whole, exact, phases, rough
        self.memo: dict[Any, Any] = {}

    @classmethod
    def of_input(cls, length: int) -> Dependence:
        places = np.arange(length)
        return cls(np.stack([places, -places]), 0, 0, 1, False, True)

    def through(self, taps: Taps) -> Dependence:
        """What the new positions see that read these by ``taps``."""
        found: Dependence | None = self.memo.get(taps)
        if found is None:
            reads = _gather(self.reads, taps, 1)
            axis_op = taps.axis_op
            if axis_op is not None and self.step and (self.phases is not None or not isinstance(axis_op, Window)):
                theoretical = self.theoretical().through(axis_op)
                found = Dependence(
                    reads, *_numbers(theoretical), self.whole, theoretical.is_exact, theoretical.phases, self.rough
                )
            elif self.phases is not None:
                phases = moved(self.phases, taps)
                numbers = _shifted(self, taps) if phases is None else _mean(phases)
                found = Dependence(reads, *numbers, self.whole, self.exact, phases, self.rough or phases is None)
            else:
                found = Dependence(reads, *_shifted(self, taps), self.whole, self.exact, None, self.rough)
            self.memo[taps] = found
        return found

    def theoretical(self) -> Field:
        """The theoretical field alone."""
        size = math.ceil(self.last - self.first + 1)
        return Field(size, self.step, self.first, self.whole, self.exact, phases=self.phases)

    def over(self) -> Dependence:
        """What one position sees that looks at all of these."""
        found: Dependence | None = self.memo.get("over")
        if found is None:
            found = self.memo["over"] = Dependence(hull_of(self.reads), EMPTY, -EMPTY, 0, True, self.exact)
        return found

    def with_global_context(self) -> Dependence:
        """What each position sees that looks at its own place and at all of these."""
        found: Dependence | None = self.memo.get("gated")
        if found is None:
            hull = hull_of(self.reads)
            theoretical = self.first, self.last, self.step
            found = self.memo["gated"] = Dependence(hull, *theoretical, True, self.exact, self.phases, self.rough)
        return found

    def inexact(self) -> Dependence:
        """The same, taken for a hull."""
        return Dependence(self.reads, self.first, self.last, self.step, self.whole, False, self.phases, self.rough)

    def join(self, other: Dependence) -> Dependence:
        """What the positions of both together see."""
        if other is self:
            return self
        found: Dependence | None = self.memo.get(other)
        if found is None:
            reads = np.minimum(self.reads, other.reads)
            whole = self.whole or other.whole
            if whole and reads.shape[1] > 1 and bool((reads == reads[:, :1]).all()):
                reads = reads[:, :1]
            exact, rough = self.exact and other.exact, self.rough or other.rough
            if self.phases is None and other.phases is None:
                theoretical = min(self.first, other.first), max(self.last, other.last), largest_step(self.step, other.step)
                found = Dependence(reads, *theoretical, whole, exact, None, rough)
            else:
                both = join([each.theoretical() for each in (self, other) if each.step]).field
                found = Dependence(reads, *_numbers(both), whole, exact and both.is_exact, both.phases, rough)
            self.memo[other] = found
        return found

    def field(self, length: int, num_positions: int) -> Field:
        """The field of a map.

        Args:
            length: number of positions that are told one by one; 0 where the tensor has no dimension for the axis any more.
            num_positions: number of positions that there are.
        """
        found: Field | None = self.memo.get(("field", length, num_positions))
        if found is None:
            reads = self.reads if length else hull_of(self.reads)
            if reads.shape[1] == 1 and length > 1:
                reads = np.repeat(reads, length, axis=1)
            found = _field(ExactIntervals.of(reads[0].tolist(), (-reads[1]).tolist()), self, num_positions)
            self.memo["field", length, num_positions] = found
        return found


class Line(NamedTuple):
    """A sight laid along one dimension; all other dimensions see the same.

    Args:
        sight: what the positions see.
        dim: the dimension; None where the tensor has none for the axis any more, and every element sees the same.
        length: number of positions of the axis.
        inner: so many neighboring places of ``dim`` belong to the same position, as where width was merged into height.
    """

    sight: Dependence
    dim: int | None
    length: int
    inner: int = 1


class Grid(NamedTuple):
    """Numbers that differ along several dimensions, such as those of channels that came in by different paths.

    Args:
        reads: (2, ...) as in ``Dependence``; each dimension of the tensor has its own length here, or 1 where all are the same.
        theoretical: (2, ...) first and minus last of the theoretical field, of position 0 of ``own``; of every element where there is none.
        own: the dimension of the axis, where there is one.
        step, whole, exact, phases, rough: as in ``Dependence``; the phases are those of all together.
        lies: all dimensions in which the axis lies, ``own`` among them: several where it was cut into windows.
    """

    reads: Array
    theoretical: Array
    own: int | None
    step: Number
    whole: bool
    exact: bool
    phases: Phases | None = None
    lies: frozenset[int] = frozenset()
    rough: bool = False


Term = Line | Grid
Terms = tuple[Term, ...]


def blank() -> Line:
    """What is seen by values that do not depend on the input."""
    nothing = np.full((2, 1), EMPTY)
    return Line(Dependence(nothing, EMPTY, -EMPTY, 0, False, True), None, 1)


def sees_nothing(axes: Sequence[Terms]) -> bool:
    """Whether no element of a tensor reads any pixel, as those that come of another input alone; False without axes."""
    reads = [term.sight.reads if isinstance(term, Line) else term.reads for terms in axes for term in terms]
    return bool(reads) and all(bool((each == EMPTY).all()) for each in reads)


def largest_step(one: Number, other: Number) -> Number:
    """The step of two paths that meet; a path of step 0 is a gate."""
    if one == 0 or other == 0:
        return one or other
    return max(one, other)


def is_constant(term: Term) -> bool:
    """Whether all elements of the tensor read the same."""
    return (term.sight.reads if isinstance(term, Line) else term.reads).size == 2


def to_grid(term: Term, shape: Shape) -> Grid:
    """A term as a grid over the dimensions of its tensor."""
    if isinstance(term, Grid):
        return term
    sight, dim = term.sight, term.dim
    ones = [1] * len(shape)
    theoretical = np.array([sight.first, -sight.last], dtype=_kind(sight)).reshape(2, *ones)
    flags = sight.step, sight.whole, sight.exact
    if dim is None:
        return Grid(sight.reads.reshape(2, *ones), theoretical, None, *flags, rough=sight.rough)
    reads, lies = sight.reads, frozenset((dim,))
    if term.inner == 1 and term.length == shape[dim]:
        ones[dim] = reads.shape[1]
        return Grid(reads.reshape(2, *ones), theoretical, dim, *flags, sight.phases, lies, sight.rough)
    places = (np.arange(shape[dim]) // term.inner) % term.length
    reads = reads if reads.shape[1] == 1 else reads[:, places]
    if sight.step:
        ones[dim] = shape[dim]
        shifts = np.outer([1, -1], places) * in_arrays(sight.step)
        theoretical = theoretical.reshape(2, 1) + shifts if sight.phases is None else intervals_at(sight.phases, places)
        theoretical = theoretical.reshape(2, *ones)
    ones[dim] = reads.shape[1]
    return Grid(reads.reshape(2, *ones), theoretical, None, *flags, lies=lies, rough=sight.rough)


def simplest(grid: Grid, shape: Shape, look: bool = False) -> Term:
    """A grid as a line where its numbers differ along the axis alone; with ``look``, numbers are compared and not sizes only."""
    if look and grid.reads.size <= 200_000:
        grid = compressed(grid)
    reads, theoretical, own = grid.reads, grid.theoretical, grid.own
    if theoretical.size == 2 and reads.size == 2 * (1 if own is None else reads.shape[own + 1]):
        first, last = theoretical.reshape(2).tolist()
        flags = grid.whole, grid.exact
        if grid.step == 0 or first > EMPTY // 2:
            sight = Dependence(reads.reshape(2, -1), EMPTY, -EMPTY, 0, *flags)
        else:
            numbers = plain_number(first), -plain_number(last), grid.step
            sight = Dependence(reads.reshape(2, -1), *numbers, *flags, grid.phases, grid.rough)
        if own is None and len(grid.lies) == 1:
            (dim,) = grid.lies
            return Line(sight, dim, 1, shape[dim])
        return Line(sight, own, 1 if own is None else shape[own])
    return grid


def compressed(grid: Grid) -> Grid:
    """The grid without the dimensions along which all its numbers are the same."""
    reads, theoretical = grid.reads, grid.theoretical
    for dim in range(1, reads.ndim):
        if dim - 1 != grid.own:
            first = (slice(None),) * dim + (slice(0, 1),)
            if reads.shape[dim] > 1 and bool((reads == reads[first]).all()):
                reads = reads[first]
            if theoretical.shape[dim] > 1 and bool((theoretical == theoretical[first]).all()):
                theoretical = theoretical[first]
    return grid._replace(reads=reads, theoretical=theoretical)


def bounded(grid: Grid) -> Grid:
    """The grid, or its hull over the longest other dimensions where it holds too many numbers."""
    reads, theoretical, exact = grid.reads, grid.theoretical, grid.exact
    while reads.size > MAX_NUMBERS:
        lengths = [0 if dim - 1 == grid.own else reads.shape[dim] for dim in range(1, reads.ndim)]
        longest = int(np.argmax(lengths)) + 1
        if reads.shape[longest] == 1:
            break
        reads, theoretical, exact = reads.min(longest, keepdims=True), theoretical.min(longest, keepdims=True), False
    return grid._replace(reads=reads, theoretical=theoretical, exact=exact)


def fits(*shapes: Sequence[int]) -> bool:
    """Whether an array over the longest of each dimension stays within bounds."""
    lengths: list[int] = [max(each) for each in zip(*shapes, strict=True)]
    return bool(2 * math.prod(lengths) <= MAX_NUMBERS)


def least(array: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The minimum along dimensions; ``EMPTY`` of no numbers at all."""
    found: Array = array.min(axes, keepdims=keepdims, initial=EMPTY)
    return found


def each(terms: Terms, rule: Callable[[Term], Term]) -> Terms:
    """The rule for every term: all rules give the union of what they give for the parts."""
    return (rule(terms[0]),) if len(terms) == 1 else tuple(rule(term) for term in terms)


def gather_along(array: Array, taps: Taps, dim: int) -> Array:
    """The least of the old numbers along ``dim`` for each new position."""
    return _gather(array, taps, dim)


def _gather(array: Array, taps: Taps, dim: int) -> Array:
    if array.shape[dim] == 1:
        if taps.all_read:
            return array
        array = array if taps.old_length == 1 else np.repeat(array, taps.old_length, axis=dim)
    if taps.all_read and taps.table.shape[1] == 1:
        return array.take(taps.table[:, 0], axis=dim)
    edge = list(array.shape)
    edge[dim] = 1
    longer = np.concatenate((array, np.full(edge, EMPTY, dtype=array.dtype)), axis=dim)
    table = taps.table
    if array.ndim == 2 and table.size <= 4096:
        return np.minimum.reduce(longer.take(table, axis=1), axis=2)  # type: ignore[no-any-return]
    least = longer.take(table[:, 0], axis=dim)
    for tap in range(1, table.shape[1]):
        np.minimum(least, longer.take(table[:, tap], axis=dim), out=least)
    return least


def _shifted(sight: Dependence, taps: Taps) -> tuple[Number, Number, Number]:
    """First, last and step of the theoretical field after taps."""
    step = sight.step
    if step == 0:
        return sight.first, sight.last, 0
    low, high = sorted((taps.lowest * step, taps.highest * step))
    return plain_number(sight.first + low), plain_number(sight.last + high), plain_number(step * taps.scale)


def shifted_theoretical(grid: Grid, taps: Taps) -> tuple[Array, Number, Phases | None]:
    """Theoretical field, step and phases of a grid after taps along its own dimension."""
    if grid.step == 0:
        return grid.theoretical, grid.step, None
    phases, axis_op = grid.phases, taps.axis_op
    if axis_op is not None and (phases is not None or not isinstance(axis_op, Window)):
        if phases is None:
            first, last = (plain_number(least) for least in grid.theoretical.reshape(2, -1).min(1).tolist())
            phases = Phases.alike(first, math.ceil(-last - first + 1), grid.step)
        phases = phases.through(axis_op)
        phases = None if phases is None else phases.reduced()
    elif phases is not None:
        phases = moved(phases, taps)
    phases = phases if phases is not None and len(phases.intervals) > 1 else None
    low, high = sorted((taps.lowest * grid.step, taps.highest * grid.step))
    kind = np.float64 if isinstance(low, Fraction) or isinstance(high, Fraction) else grid.theoretical.dtype
    shift = np.array([low, -high], dtype=kind).reshape(2, *[1] * (grid.theoretical.ndim - 1))
    return settled(grid.theoretical + shift), plain_number(grid.step * taps.scale), phases


def moved(phases: Phases, taps: Taps) -> Phases | None:
    """Phases after taps that go on evenly beyond the border; None where they do so by a fraction."""
    low, high, scale = taps.lowest, taps.highest, taps.scale
    if not (isinstance(low, int) and isinstance(high, int) and isinstance(scale, int)):
        return None
    found: list[tuple[int, int] | None] = []
    for index in range(len(phases.intervals)):
        read = [phases.at(place) for place in range(low + index * scale, high + index * scale + 1)]
        seen = [interval for interval in read if interval is not None]
        found.append((min(first for first, _ in seen), max(last for _, last in seen)) if seen else None)
    return Phases(tuple(found), phases.shift * scale).reduced()


def _mean(phases: Phases) -> tuple[Number, Number, Number]:
    """First, last and step of the theoretical field of phases."""
    start = phases.start
    return start, start + phases.largest() - 1, whole_or_fraction(Fraction(phases.shift, len(phases.intervals)))


def intervals_at(phases: Phases, places: Sequence[int] | Array) -> Array:
    """(2, places): first and minus last of the theoretical field at positions."""
    found = [phases.at(int(place)) or (EMPTY, -EMPTY) for place in places]
    signed: Array = np.array(found, dtype=np.int64).reshape(-1, 2).T * np.array([[1], [-1]])
    return signed


def settled(theoretical: Array) -> Array:
    """The numbers of a theoretical field after a shift: what was nothing still is."""
    theoretical[theoretical > EMPTY // 2] = EMPTY
    return theoretical


def hull_of(reads: Array) -> Array:
    return least(reads, 1, True) if reads.shape[1] != 1 else reads


def _field(reads: ExactIntervals, sight: Dependence, num_positions: int) -> Field:
    if sight.step == 0 or sight.first > EMPTY // 2:
        first, last = reads.hull() or (0, 0)
        return Field(last - first + 1, 0, first, is_whole=True, is_exact=sight.exact, intervals=reads)
    if sight.phases is not None:
        size, start = sight.phases.largest(num_positions), sight.phases.start
    else:
        size, start = math.ceil(sight.last - sight.first + 1), sight.first
    return Field(size, sight.step, start, sight.whole, sight.exact, reads, sight.phases)


def _numbers(theoretical: Field) -> tuple[Number, Number, Number]:
    """First, last and step of a theoretical field."""
    return theoretical.start, theoretical.start + theoretical.size - 1, theoretical.stride


def in_arrays(number: Number) -> int | float:
    """A number as arrays hold it."""
    return float(number) if isinstance(number, Fraction) else number


def _kind(sight: Dependence) -> Any:
    return np.float64 if isinstance(sight.first, Fraction) or isinstance(sight.last, Fraction) else np.int64


def plain_number(number: Any) -> Number:
    """A whole number as an int; numbers of arrays are near fractions of small denominators."""
    if isinstance(number, float) and not number.is_integer():
        number = Fraction(number).limit_denominator(1 << 12)
    if isinstance(number, Fraction):
        return number.numerator if number.denominator == 1 else number
    return int(number)
