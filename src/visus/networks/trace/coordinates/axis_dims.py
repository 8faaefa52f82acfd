"""The dimension of a tensor that belongs to an axis. It is lost if maps are cut and merged, and recovered from the
coordinates.

If no dimension belongs to the axis alone, as after merging windows into the batch, every element has its own coordinates. A
dimension belongs to the axis again once the theoretical fields along it are periodic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.geometry.phases import MAX_INTERVALS, Phases
from visus.networks.trace.coordinates.dependence import (
    Array,
    Dependence,
    Shape,
    Terms,
    along_dim,
    in_arrays,
    intervals_at,
    least,
    moved_along,
    plain_number,
    settled,
)
from visus.networks.trace.coordinates.taps import Number, whole_or_fraction


def own_dims(axes: Sequence[Terms]) -> frozenset[int]:
    """The dimensions of a tensor that belong to axes of the input."""
    return frozenset(term.axis_dim for terms in axes for term in terms if term.axis_dim is not None)


def differing(term: Dependence) -> set[int]:
    """The dimensions along which the dependence differs, by size; arrays are compressed first."""
    found = {dim for dim, length in enumerate(term.intervals.shape[1:]) if length > 1}
    if term.theoretical is None:
        return found
    found |= {dim for dim, length in enumerate(term.theoretical.shape[1:]) if length > 1}
    return found | ({term.axis_dim} if term.axis_dim is not None and term.stride else set())


def lying(terms: Terms, shape: Shape) -> frozenset[int]:
    """The dimensions of the axis."""
    found = set[int]()
    for term in terms:
        if term.merged is None or term.merged.length > 1 or term.merged.inner == 1:  # else one position, repeated
            found |= term.axis_dims
    return frozenset(dim for dim in found if shape[dim] > 1)


def explicit(dep: Dependence, shape: Shape) -> Dependence:
    """The dependence with an explicit theoretical field for every element, and no dimension for the axis alone."""
    axis_dim, theoretical = dep.axis_dim, dep.theoretical
    if axis_dim is None or not dep.stride:
        return dep.replaced(axis_dim=None)
    positions, is_approximate = np.arange(shape[axis_dim]), dep.is_approximate
    if dep.phases is not None:
        is_approximate |= any(theoretical.shape[dim + 1] > 1 for dim in dep.axis_dims)
        theoretical = along_dim(intervals_at(dep.phases, positions), axis_dim, len(shape))
    else:
        theoretical = settled(theoretical + along_dim(moved_along(dep.stride, positions), axis_dim, len(shape)))
    stride = finest(theoretical, dep.axis_dims, dep.stride)
    return dep.replaced(theoretical=theoretical, axis_dim=None, phases=None, stride=stride, is_approximate=is_approximate)


def finest(theoretical: Array, dims: frozenset[int], stride: Number) -> Number:
    """The minimum distance in pixels between the fields of neighbors."""
    found = []
    for dim in dims:
        apart = np.abs(np.diff(theoretical[0], axis=dim))
        apart = apart[(apart > 0) & (apart < EMPTY // 2)]
        if apart.size:
            found.append(plain_number(apart.min()))
    return min(found, default=stride)


def found_again(axes: Sequence[Terms], shape: Shape) -> tuple[Terms, ...]:
    """The axes with their own dimensions recovered, if they had lost them.

    Along such a dimension, the dependence on no other axis differs. The batch dimension does not count.
    """
    if all(term.is_compact or term.axis_dim is not None for terms in axes for term in terms):
        return tuple(axes)
    axes = [tuple(_looked_at(term) for term in terms) for terms in axes]
    dims: list[set[int]] = [set().union(*(differing(term) for term in terms)) for terms in axes]
    found = []
    for axis, terms in enumerate(axes):
        others: set[int] = {0}.union(*dims[:axis], *dims[axis + 1 :])
        usual = axis + 2 if len(shape) == len(axes) + 2 else None
        found.append(tuple(_with_own(term, shape, dims[axis], others, usual) for term in terms))
    return tuple(found)


def _looked_at(term: Dependence) -> Dependence:
    """The same compressed, lying only where its numbers still differ."""
    if term.is_compact:
        return term
    dep = term.compressed()
    return dep if dep.axis_dim is not None else dep.replaced(axis_dims=dep.axis_dims & differing(dep))


def _with_own(term: Dependence, shape: Shape, dims: set[int], others: set[int], usual: int | None) -> Dependence:
    """The same with a dimension of the axis alone, where one of ``dims`` is that; ``usual`` is the one it has in a map."""
    if term.is_compact or term.axis_dim is not None or any(shape[dim] > 1 for dim in term.axis_dims & others):
        return term
    alone = sorted((dims & term.axis_dims or dims) - others, key=lambda dim: (dim != usual, dim))
    for dim in alone:
        again = recovered(term, dim, shape)
        if again is not None:
            return again.simplified(shape)
    if len(alone) == 1 == len(dims) or (usual is not None and alone == [usual]):
        return _taken_for_own(term, alone[0], shape).simplified(shape)
    return term


def _taken_for_own(dep: Dependence, dim: int, shape: Shape) -> Dependence:
    """A dimension taken for the axis's, though fields do not follow each other evenly there: their size is that of the largest."""
    if not dep.stride:
        return dep.replaced(axis_dim=dim, axis_dims=dep.axis_dims | {dim})
    sizes = -dep.theoretical[0] - dep.theoretical[1]
    sizes = sizes[np.abs(sizes) < EMPTY // 2]
    first = least(dep.theoretical[0].reshape(-1), 0)
    if not sizes.size:
        return dep
    theoretical = np.array([first, -(first + sizes.max())]).reshape(2, *[1] * len(shape))
    return dep.replaced(theoretical=theoretical, axis_dim=dim, axis_dims=dep.axis_dims | {dim}, is_approximate=True)


def recovered(dep: Dependence, dim: int, shape: Shape, stride: Number = 0) -> Dependence | None:
    """The same with ``dim`` as the dimension of the axis; None if the fields along it are not periodic.

    At the border, where taps lie outside the map, fields may be smaller than the inner ones predict. If the mean ``stride``
    is known, all positions may differ.
    """
    length, theoretical = shape[dim], dep.theoretical
    if not dep.stride or length < 2 or theoretical.shape[dim + 1] != length:
        return None
    ends = least(theoretical, tuple(axis for axis in range(1, theoretical.ndim) if axis != dim + 1))
    ends = ends * np.array([[1], [-1]])
    for edge in (0, length // 4):
        period = _period(ends[:, edge : length - edge])
        if period is not None:
            again = _repeating(dep, dim, shape, ends, period, edge)
            if again is not None:
                return again
    if stride and length <= MAX_INTERVALS and stride * length == int(stride * length) and np.abs(ends).max() < EMPTY // 2:
        return _repeating(dep, dim, shape, np.hstack([ends, ends + int(stride * length)]), length, 0)
    return None


def _period(ends: Array) -> int | None:
    """So many positions later the fields are the same, moved; None if they never are. ``ends`` is (2, positions)."""
    length = ends.shape[1]
    if np.abs(ends).max() > EMPTY // 2:
        return None
    for period in range(1, min(length // 2, MAX_INTERVALS) + 1):
        apart = ends[:, period:] - ends[:, :-period]
        if apart[0, 0] != 0 and (apart == apart[0, 0]).all():
            return period
    return None


def _repeating(dep: Dependence, dim: int, shape: Shape, ends: Array, period: int, edge: int) -> Dependence | None:
    """The same with fields that repeat themselves along a dimension; None if those at the border are larger."""
    length = ends.shape[1]
    start = -(-edge // period) * period  # a position of the first phase
    if start + 2 * period > length:
        return None
    shift = plain_number(ends[0, start + period] - ends[0, start])
    times, phases = np.divmod(np.arange(length), period)
    foretold = ends[:, start + phases] + (times - start // period) * in_arrays(shift)
    seen = np.abs(ends[0]) < EMPTY // 2
    if (foretold[0] > ends[0])[seen].any() or (foretold[1] < ends[1])[seen].any():
        return None
    back = np.array([-1, 1]).reshape(2, *[1] * len(shape)) * (start // period) * in_arrays(shift)
    theoretical = settled(dep.theoretical.take([start], axis=dim + 1) + back)
    unlike = None
    if period > 1:
        first, last = foretold[:, :period]
        intervals = tuple(
            (math.floor(low), math.ceil(high)) for low, high in zip(first.tolist(), last.tolist(), strict=True)
        )
        if not isinstance(shift, int):
            return None
        unlike = Phases(intervals, shift)
    return dep.replaced(
        theoretical=theoretical,
        axis_dim=dim,
        axis_dims=dep.axis_dims | {dim},
        stride=whole_or_fraction(Fraction(shift) / period),
        phases=unlike,
    )
