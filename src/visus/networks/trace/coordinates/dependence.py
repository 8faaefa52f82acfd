"""The dependence of a tensor along one axis of the input: first and last coordinate for each element, exact and theoretical.

Shape letters: N dimensions of the tensor with lengths L1 ... LN. Arrays are (2, l1, ..., lN), broadcast over the tensor:
each l is the tensor's length, or 1 if all positions of the dimension are equal. Row 0 has first coordinates and row 1
negated last coordinates, so that every union is a minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visus.geometry import Field
from visus.geometry.exact_intervals import EMPTY, ExactIntervals
from visus.geometry.phases import Phases
from visus.networks.trace.coordinates.taps import Number, whole_or_fraction

Array = NDArray[Any]
Shape = tuple[int, ...]

MAX_NUMBERS: Final = (
    4_000_000  # numbers in one array; what would need more is replaced by its hull over the other dimensions
)


class Merged(NamedTuple):
    """An axis that was merged with other dimensions: element ``i`` of the merged one is at position ``i // inner % length``."""

    length: int
    inner: int


class Dependence:
    """The dependence of the elements of a tensor along one axis of the input. Frozen; ``memo`` caches derived values.

    Most tensors differ only along the dimension of the axis, and their theoretical fields are one field shifted by
    ``stride``. Such
    a dependence is *compact*: ``first`` and ``last`` are exact numbers, ``theoretical`` is None, and ``intervals`` has length 1 in
    all other dimensions. If all elements depend on the same coordinates, ``intervals`` is (2,) and fits every shape.

    Args:
        intervals: (2, l1, ..., lN): the exact coordinates read; ``EMPTY`` twice if nothing is read. Along a merged
            dimension, its length is that of ``merged``.
        theoretical: (2, l1, ..., lN): the theoretical fields, at position 0 of ``axis_dim`` if it exists. None if compact.
        stride: pixels from position to position; 0 if all positions read the same.
        axis_dim: the dimension that belongs to the axis alone, with one position of the map per index; None if there is
            none.
        axis_dims: all dimensions of the axis, including ``axis_dim``: several if it was cut into windows.
        first, last: theoretical first and last coordinate at position 0, if compact; ``EMPTY`` and ``-EMPTY`` if ``stride``
        is 0.
        is_whole, is_exact: as in ``Field``.
        is_approximate: whether there is no theoretical field; first, last and stride are then those of the largest field.
        phases: the theoretical field of each position, over all elements, if neighbors differ.
        merged: the layout of the axis in its only dimension, if it shares that with others; compact only.
    """

    def __init__(
        self,
        intervals: Array,
        theoretical: Array | None,
        stride: Number,
        axis_dim: int | None = None,
        axis_dims: frozenset[int] = frozenset(),
        *,
        first: Number = EMPTY,
        last: Number = -EMPTY,
        is_whole: bool = False,
        is_exact: bool = True,
        is_approximate: bool = False,
        phases: Phases | None = None,
        merged: Merged | None = None,
    ) -> None:
        self.intervals, self.stride = intervals, stride
        self.theoretical: Any = theoretical  # an array wherever it is read: compact dependences are asked by ``is_compact``
        self.axis_dim, self.axis_dims, self.merged = axis_dim, axis_dims, merged
        self.first, self.last, self.phases = first, last, phases
        self.is_whole, self.is_exact, self.is_approximate = is_whole, is_exact, is_approximate
        self.memo: dict[Any, Any] = {}

    @classmethod
    def of_input(cls, length: int, dim: int, num_dims: int) -> Dependence:
        """The dependence of an input: each position of ``dim`` on itself."""
        positions = np.arange(length)
        intervals = along_dim(np.stack([positions, -positions]), dim, num_dims)
        return cls(intervals, None, 1, dim, frozenset((dim,)), first=0, last=0)

    @classmethod
    def on_nothing(cls) -> Dependence:
        """The dependence of values that were not computed from the input."""
        return cls(np.full(2, EMPTY), None, 0)

    def replaced(self, **changes: Any) -> Dependence:
        """A copy with other attributes."""
        copied = object.__new__(Dependence)
        copied.__dict__.update(self.__dict__, memo={}, **changes)
        return copied

    @property
    def is_compact(self) -> bool:
        """Whether it differs at most along the dimension of the axis, and has one theoretical field."""
        return self.theoretical is None

    @property
    def is_constant(self) -> bool:
        """Whether all elements read the same."""
        return bool(self.intervals.size == 2)

    @property
    def has_nothing(self) -> bool:
        """Whether some element reads nothing."""
        found: bool | None = self.memo.get("has nothing")
        if found is None:
            found = self.memo["has nothing"] = bool(self.intervals[0].max(initial=0) >= EMPTY)
        return found

    def rearranged(self, sources: Sequence[int | None]) -> Dependence:
        """The same dependence with other dimensions.

        Args:
            sources: for each new dimension the old one, or None for an inserted one of length 1; omitted old dimensions have
                length 1.
        """
        if self.intervals.ndim == 1:
            return self
        places = {old: new for new, old in enumerate(sources) if old is not None}
        axis_dims = frozenset(places[dim] for dim in self.axis_dims if dim in places)
        if self.theoretical is None:
            return self.laid(next(iter(axis_dims), None), len(sources), self.merged)
        dropped = [old for old in range(self.intervals.ndim - 1) if old not in places]
        order = (0, *(old + 1 for old in (*places, *dropped)))
        index = (slice(None), *(np.newaxis if old is None else slice(None) for old in sources), *[0] * len(dropped))
        return self.replaced(
            intervals=self.intervals.transpose(order)[index],
            theoretical=self.theoretical.transpose(order)[index],
            axis_dim=None if self.axis_dim is None else places.get(self.axis_dim),
            axis_dims=axis_dims,
        )

    def laid(self, dim: int | None, num_dims: int = 0, merged: Merged | None = None) -> Dependence:
        """A compact dependence moved to another dimension; without one, all elements of any shape read the same.

        There is one object per dimension, so moving away and back returns the same object with its memo.
        """
        places: dict[Any, Dependence] | None = self.memo.get("places")
        if places is None:
            own = next(iter(self.axis_dims), None)
            places = self.memo["places"] = {(own, 0 if own is None else self.intervals.ndim - 1, self.merged): self}
        key = (None, 0, None) if dim is None else (dim, num_dims, merged)
        found = places.get(key)
        if found is None:
            row = self.intervals.reshape(2, -1)
            found = places[key] = self.replaced(
                intervals=row.reshape(2) if dim is None else along_dim(row, dim, num_dims),
                axis_dim=dim if merged is None else None,
                axis_dims=frozenset() if dim is None else frozenset((dim,)),
                merged=None if dim is None else merged,
            )
            found.memo["places"] = places
        return found

    def position_count(self, shape: Shape) -> int:
        """Number of positions of the axis in a tensor, if compact; 1 if the axis has no dimension left."""
        if self.merged is not None:
            return self.merged.length
        return 1 if self.axis_dim is None else shape[self.axis_dim]

    def hull(self) -> Dependence:
        """The dependence of one element on all of these; compact only."""
        found: Dependence | None = self.memo.get("hull")
        if found is None:
            intervals = hull_of(self.intervals.reshape(2, -1)).reshape(2)
            found = self.memo["hull"] = Dependence(intervals, None, 0, is_whole=True, is_exact=self.is_exact)
        return found

    def with_global_context(self) -> Dependence:
        """The dependence of each position on itself and on all of these; compact only."""
        found: Dependence | None = self.memo.get("global context")
        if found is None:
            hull = hull_of(self.intervals.reshape(2, -1))
            if self.axis_dim is None:
                found = self.replaced(intervals=hull, is_whole=True).laid(None)
            else:
                intervals = hull.reshape(2, *[1] * (self.intervals.ndim - 1))
                found = self.replaced(intervals=intervals, is_whole=True)
            self.memo["global context"] = found
        return found

    def with_arrays(self, shape: Shape) -> Dependence:
        """The same dependence with explicit arrays for a tensor of this shape; a merged dimension is expanded."""
        if self.theoretical is not None:
            return self
        ones = [1] * len(shape)
        kind = np.float64 if isinstance(self.first, Fraction) or isinstance(self.last, Fraction) else np.int64
        theoretical: Array = np.array([self.first, -self.last], dtype=kind).reshape(2, *ones)
        if self.axis_dim is not None:
            return self.replaced(theoretical=theoretical)
        if self.merged is None:
            return self.replaced(intervals=self.intervals.reshape(2, *ones), theoretical=theoretical, phases=None)
        (dim,) = self.axis_dims
        positions = np.arange(shape[dim]) // self.merged.inner % self.merged.length
        intervals = self.intervals
        if intervals.shape[dim + 1] > 1:
            intervals = intervals.take(positions, axis=dim + 1)
        if self.stride:
            line = moved_along(self.stride, positions) if self.phases is None else intervals_at(self.phases, positions)
            theoretical = along_dim(line, dim, len(shape)) + (theoretical if self.phases is None else 0)
        return self.replaced(intervals=intervals, theoretical=theoretical, phases=None, merged=None)

    def simplified(self, shape: Shape, look: bool = False) -> Dependence:
        """The same dependence, compact if possible. With ``look``, values are compared, not only sizes."""
        if self.theoretical is None:
            return self
        dep = self.compressed() if look and self.intervals.size <= 200_000 else self
        axis_dim, axis_dims, intervals, theoretical = dep.axis_dim, dep.axis_dims, dep.intervals, dep.theoretical
        num_positions = 1 if axis_dim is None else intervals.shape[axis_dim + 1]
        if theoretical.size != 2 or intervals.size != 2 * num_positions:
            return dep
        first, last = theoretical.reshape(2).tolist()
        found = dep.replaced(theoretical=None, first=EMPTY, last=-EMPTY, stride=0, phases=None, is_approximate=False)
        if dep.stride and first <= EMPTY // 2:
            found.first, found.last, found.stride = plain_number(first), -plain_number(last), dep.stride
            found.phases, found.is_approximate = dep.phases, dep.is_approximate
        if axis_dim is not None:
            found.axis_dims = frozenset((axis_dim,))
        elif len(axis_dims) == 1:
            (dim,) = axis_dims
            found.axis_dim, found.merged = (dim, None) if shape[dim] == 1 else (None, Merged(1, shape[dim]))
        else:
            found.intervals, found.axis_dims = intervals.reshape(2), frozenset()
        return found

    def compressed(self) -> Dependence:
        """The same dependence as arrays, with length 1 for dimensions along which all values are equal."""
        intervals, theoretical = self.intervals, self.theoretical
        for dim in range(intervals.ndim - 1):
            if dim != self.axis_dim:
                intervals, theoretical = without_repeats(intervals, dim), without_repeats(theoretical, dim)
        if intervals is self.intervals and theoretical is self.theoretical:
            return self
        return self.replaced(intervals=intervals, theoretical=theoretical)

    def bounded(self) -> Dependence:
        """The same dependence as arrays; if they are too large, its hull over the longest other dimensions."""
        intervals, theoretical, is_exact = self.intervals, self.theoretical, self.is_exact
        while intervals.size > MAX_NUMBERS:
            lengths = [0 if dim == self.axis_dim else length for dim, length in enumerate(intervals.shape[1:])]
            longest = int(np.argmax(lengths)) + 1
            if intervals.shape[longest] == 1:
                break
            intervals, theoretical = intervals.min(longest, keepdims=True), theoretical.min(longest, keepdims=True)
            is_exact = False
        if intervals is self.intervals:
            return self
        return self.replaced(intervals=intervals, theoretical=theoretical, is_exact=is_exact)

    def theoretical_field(self) -> Field:
        """The theoretical field alone; compact only."""
        size = math.ceil(self.last - self.first + 1)
        return Field(size, self.stride, self.first, self.is_whole, self.is_exact, phases=self.phases)

    def field(self, length: int, num_positions: int) -> Field:
        """The field of a map; compact only.

        Args:
            length: number of positions whose intervals the field keeps; 0 if the tensor has no dimension left for the axis.
            num_positions: total number of positions.
        """
        found: Field | None = self.memo.get(("field", length, num_positions))
        if found is None:
            row = self.intervals.reshape(2, -1)
            if not length:
                row = hull_of(row)
            elif row.shape[1] == 1 and length > 1:
                row = np.repeat(row, length, axis=1)
            intervals = ExactIntervals.of(row[0].tolist(), (-row[1]).tolist())
            found = self.memo["field", length, num_positions] = self._with_theoretical(intervals, num_positions)
        return found

    def _with_theoretical(self, intervals: ExactIntervals, num_positions: int) -> Field:
        """The field with what is read at its positions."""
        if self.stride == 0 or self.first > EMPTY // 2:
            first, last = intervals.hull() or (0, 0)
            return Field(last - first + 1, 0, first, is_whole=True, is_exact=self.is_exact, intervals=intervals)
        if self.phases is not None:
            size, start = self.phases.largest(num_positions), self.phases.start
        else:
            size, start = math.ceil(self.last - self.first + 1), self.first
        return Field(size, self.stride, start, self.is_whole, self.is_exact, intervals, self.phases)


Terms = tuple[Dependence, ...]
"""What a tensor depends on along one axis, as a union: dependences along different dimensions stay apart, which keeps arrays small."""


def flags_together(parts: Sequence[Dependence]) -> dict[str, Any]:
    """The flags of a union of several dependences."""
    return {
        "is_whole": any(part.is_whole for part in parts),
        "is_exact": all(part.is_exact for part in parts),
        "is_approximate": any(part.is_approximate for part in parts),
    }


def theoretical_numbers(field: Field) -> dict[str, Any]:
    """The theoretical field in the form of a compact dependence."""
    last = field.start + field.size - 1
    return {"first": field.start, "last": last, "stride": field.stride, "phases": field.phases}


def each(terms: Terms, rule: Callable[[Dependence], Dependence]) -> Terms:
    """Applies a rule to every term: the result of a union is the union of the results."""
    return (rule(terms[0]),) if len(terms) == 1 else tuple(rule(term) for term in terms)


def sees_nothing(axes: Sequence[Terms]) -> bool:
    """Whether no element of a tensor reads any pixel, for example if it depends only on another input; False without
    axes."""
    intervals = [term.intervals for terms in axes for term in terms]
    return bool(intervals) and all(bool((each == EMPTY).all()) for each in intervals)


# ---- arrays ----


def along_dim(row: Array, dim: int, num_dims: int) -> Array:
    """(2, positions) as an array that differs along one dimension."""
    return row.reshape(2, *[1] * dim, -1, *[1] * (num_dims - dim - 1))


def first_along(array: Array, dim: int) -> Array:
    """The values at index 0 of a dimension, which is kept with length 1."""
    return array if array.shape[dim + 1] == 1 else array[(slice(None),) * (dim + 1) + (slice(0, 1),)]


def without_repeats(array: Array, dim: int) -> Array:
    """The array with length 1 in a dimension along which all its numbers are the same."""
    if array.shape[dim + 1] > 1:
        first = first_along(array, dim)
        if bool((array == first).all()):
            return first
    return array


def least(array: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The minimum along axes of an array; ``EMPTY`` for an empty array."""
    found: Array = array.min(axes, keepdims=keepdims, initial=EMPTY)
    return found


def hull_of(row: Array) -> Array:
    """(2, 1): the union over all positions of (2, positions)."""
    return least(row, 1, True) if row.shape[1] != 1 else row


def fits(*shapes: Sequence[int]) -> bool:
    """Whether an array with the maximum length of each dimension stays within bounds."""
    lengths: list[int] = [max(each) for each in zip(*shapes, strict=True)]
    return bool(2 * math.prod(lengths) <= MAX_NUMBERS)


def settled(theoretical: Array) -> Array:
    """Theoretical fields after a shift; empty fields stay empty."""
    theoretical[theoretical > EMPTY // 2] = EMPTY
    return theoretical


def moved_along(stride: Number, positions: Array) -> Array:
    """(2, positions): distance of the field at each position from that at position 0."""
    shifts: Array = np.outer([1, -1], positions) * in_arrays(stride)
    return shifts


def alike(theoretical: Array, stride: Number) -> Phases:
    """The hull of theoretical fields as phases."""
    first, last = (plain_number(number) for number in theoretical.reshape(2, -1).min(1).tolist())
    return Phases.alike(first, math.ceil(-last - first + 1), stride)


def intervals_at(phases: Phases, positions: Sequence[int] | Array) -> Array:
    """(2, positions): theoretical fields at positions."""
    found = [phases.at(int(position)) or (EMPTY, -EMPTY) for position in positions]
    signed: Array = np.array(found, dtype=np.int64).reshape(-1, 2).T * np.array([[1], [-1]])
    return signed


# ---- numbers ----


def largest_stride(one: Number, other: Number) -> Number:
    """The stride of two joined paths; a path of stride 0 is a gate."""
    if one == 0 or other == 0:
        return one or other
    return max(one, other)


def in_arrays(number: Number) -> int | float:
    """A number in the form used in arrays."""
    return float(number) if isinstance(number, Fraction) else number


def plain_number(number: Any) -> Number:
    """An array's value as an int or a fraction with a small denominator."""
    if isinstance(number, float) and not number.is_integer():
        number = Fraction(number).limit_denominator(1 << 12)
    return whole_or_fraction(number) if isinstance(number, Fraction) else int(number)
