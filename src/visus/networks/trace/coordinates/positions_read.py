"""Dimensions with new positions that read the old ones: windows, padding, resizing, slices, lists of indices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from visus.geometry import Window
from visus.geometry.exact_intervals import EMPTY
from visus.geometry.phases import Phases
from visus.networks.trace.coordinates.axis_dims import explicit
from visus.networks.trace.coordinates.dependence import (
    Array,
    Dependence,
    Shape,
    Terms,
    alike,
    along_dim,
    each,
    in_arrays,
    plain_number,
    settled,
    theoretical_numbers,
)
from visus.networks.trace.coordinates.taps import Number, Taps, whole_or_fraction


def along(terms: Terms, shape: Shape, dim: int, taps: Taps, notes_gaps: bool = False) -> Terms:
    """Replaces the positions of ``dim`` by those of ``taps``.

    Positions that read nothing, such as padding, are marked if the axis lies along ``dim``. ``notes_gaps`` marks them in any
    case, which is needed if no other axis there does.
    """
    everywhere = not taps.all_read and (notes_gaps or len(terms) > 1)
    after = (*shape[:dim], taps.length, *shape[dim + 1 :])

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and term.axis_dim == dim:
            return through(term, taps)
        if term.is_compact and dim not in term.axis_dims and not everywhere:
            return term
        dep = term.with_arrays(shape)
        intervals, theoretical = _gather(dep.intervals, taps, dim + 1), dep.theoretical
        stride, phases = dep.stride, dep.phases
        if dep.axis_dim == dim:
            theoretical, stride, phases = _shifted_arrays(dep, theoretical, taps)
        else:
            theoretical = _gather(theoretical, taps, dim + 1)
        is_lost = dep.phases is not None and phases is None and not isinstance(taps.scale, int)
        gathered = dep.replaced(
            intervals=intervals,
            theoretical=theoretical,
            stride=stride,
            phases=phases,
            is_approximate=dep.is_approximate or is_lost,
        )
        return gathered.bounded().simplified(after, look=True)

    return each(terms, rule)


def through(dep: Dependence, taps: Taps) -> Dependence:
    """The dependence of new positions that read those of the axis; compact only, and cached for a dependence and taps."""
    found: Dependence | None = dep.memo.get(taps)
    if found is not None:
        return found
    (dim,) = dep.axis_dims
    intervals, axis_op = _gather(dep.intervals, taps, dim + 1), taps.axis_op
    if axis_op is not None and dep.stride and (dep.phases is not None or not isinstance(axis_op, Window)):
        field = dep.theoretical_field().through(axis_op)
        found = dep.replaced(intervals=intervals, is_exact=field.is_exact, **theoretical_numbers(field))
    else:
        phases = None if dep.phases is None else _moved(dep.phases, taps)
        first, last, stride = _shifted(dep, taps) if phases is None else _mean(phases)
        found = dep.replaced(
            intervals=intervals,
            first=first,
            last=last,
            stride=stride,
            phases=phases,
            is_approximate=dep.is_approximate or (dep.phases is not None and phases is None),
        )
    dep.memo[taps] = found
    return found


def spread(terms: Terms, shape: Shape, dim: int, taps: Taps) -> Terms:
    """Replaces ``dim`` by two dimensions: the new positions, then the taps of each."""
    num_taps = taps.table.shape[1]
    after = (*shape[:dim], taps.length, num_taps, *shape[dim + 1 :])
    sources = (*range(dim + 1), None, *range(dim + 1, len(shape)))

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term.rearranged(sources)
        dep = term.with_arrays(shape)
        if dep.axis_dim == dim and dep.phases is not None:
            dep = explicit(dep, shape)
        intervals, theoretical = _tap_by_tap(dep.intervals, taps, dim), _tap_by_tap(dep.theoretical, taps, dim)
        stride = dep.stride
        if dep.axis_dim == dim and stride:
            apart = (taps.highest - taps.lowest) // (num_taps - 1) if num_taps > 1 else 0
            first = np.arange(num_taps) * in_arrays(apart * stride) + in_arrays(taps.lowest * stride)
            theoretical = settled(theoretical + along_dim(np.stack([first, -first]), dim + 1, len(after)))
            stride = whole_or_fraction(Fraction(stride * taps.scale))
        axis_dims = frozenset(each if each <= dim else each + 1 for each in dep.axis_dims)
        found = dep.replaced(
            intervals=intervals,
            theoretical=theoretical,
            stride=stride,
            axis_dim=dep.axis_dim if dep.axis_dim is None or dep.axis_dim <= dim else dep.axis_dim + 1,
            axis_dims=axis_dims | {dim + 1} if dim in dep.axis_dims else axis_dims,
        )
        return found.bounded().simplified(after)

    return each(terms, rule)


# ---- numbers ----


def _gather(array: Array, taps: Taps, axis: int) -> Array:
    """The least of the old numbers along an axis of an array for each new position."""
    if array.shape[axis] == 1:
        if taps.all_read:
            return array
        array = array if taps.old_length == 1 else np.repeat(array, taps.old_length, axis=axis)
    table = taps.table
    if taps.all_read and table.shape[1] == 1:
        return array.take(table[:, 0], axis=axis)
    longer = _with_nothing(array, axis)
    if array.size == 2 * array.shape[axis] and table.size <= 4096:
        return np.minimum.reduce(longer.take(table, axis=axis), axis=axis + 1)  # type: ignore[no-any-return]
    least = longer.take(table[:, 0], axis=axis)
    for tap in range(1, table.shape[1]):
        np.minimum(least, longer.take(table[:, tap], axis=axis), out=least)
    return least


def _with_nothing(array: Array, axis: int) -> Array:
    """The array with one more place along an axis, that of the taps that read nothing."""
    edge = list(array.shape)
    edge[axis] = 1
    return np.concatenate((array, np.full(edge, EMPTY, dtype=array.dtype)), axis=axis)


def _tap_by_tap(array: Array, taps: Taps, dim: int) -> Array:
    """The old numbers along ``dim`` for each new position and tap."""
    if array.shape[dim + 1] == 1:
        return np.expand_dims(array, dim + 2)
    return _with_nothing(array, dim + 1).take(taps.table, axis=dim + 1)


def _shifted(dep: Dependence, taps: Taps) -> tuple[Number, Number, Number]:
    """First, last and stride of the one theoretical field after taps."""
    stride = dep.stride
    if stride == 0:
        return dep.first, dep.last, 0
    low, high = sorted((taps.lowest * stride, taps.highest * stride))
    return plain_number(dep.first + low), plain_number(dep.last + high), plain_number(stride * taps.scale)


def _shifted_arrays(dep: Dependence, theoretical: Array, taps: Taps) -> tuple[Array, Number, Phases | None]:
    """Theoretical fields, stride and phases after taps along the axis's own dimension."""
    stride, phases, axis_op = dep.stride, dep.phases, taps.axis_op
    if stride == 0:
        return theoretical, stride, None
    if axis_op is not None and (phases is not None or not isinstance(axis_op, Window)):
        phases = (phases or alike(theoretical, stride)).through(axis_op)
        phases = None if phases is None else phases.reduced()
    elif phases is not None:
        phases = _moved(phases, taps)
    phases = phases if phases is not None and len(phases.intervals) > 1 else None
    low, high = sorted((taps.lowest * stride, taps.highest * stride))
    kind = np.float64 if isinstance(low, Fraction) or isinstance(high, Fraction) else theoretical.dtype
    shift = np.array([low, -high], dtype=kind).reshape(2, *[1] * (theoretical.ndim - 1))
    return settled(theoretical + shift), plain_number(stride * taps.scale), phases


def _moved(phases: Phases, taps: Taps) -> Phases | None:
    """Phases after taps that go on evenly beyond the border; None if they do so by a fraction."""
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
    """First, last and stride of the theoretical field of phases."""
    start = phases.start
    return start, start + phases.largest() - 1, whole_or_fraction(Fraction(phases.shift, len(phases.intervals)))
