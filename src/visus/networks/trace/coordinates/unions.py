"""Joined paths: the union of their dependences, elementwise or concatenated, and whether they are aligned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from visus.geometry import join_fields
from visus.geometry.exact_intervals import EMPTY
from visus.geometry.phases import Phases, hull_of_phases
from visus.networks.trace.coordinates.axis_dims import explicit, recovered
from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Dependence,
    Shape,
    Terms,
    alike,
    along_dim,
    first_along,
    fits,
    flags_together,
    hull_of,
    largest_stride,
    least,
    theoretical_numbers,
    without_repeats,
)
from visus.networks.trace.coordinates.reshaping import broadcast
from visus.networks.trace.coordinates.taps import Number


def joined(paths: Sequence[tuple[Terms, Shape]], after: Shape) -> tuple[Terms, bool]:
    """Paths joined element by element, and whether they are aligned."""
    first = paths[0][0]
    if all(terms is first and shape == after for terms, shape in paths):
        return first, True
    spread = [broadcast(terms, shape, after) for terms, shape in paths]
    return united((term for terms in spread for term in terms), after), are_aligned(spread)


def united(terms: Iterable[Dependence], shape: Shape) -> Terms:
    """The union of terms over one shape, with as few terms as possible without more memory."""
    kept: list[Dependence] = []
    for term in terms:
        for index, other in enumerate(kept):
            met = _met(other, term, shape)
            if met is not None:
                kept[index] = met
                break
        else:
            kept.append(term)
    return tuple(kept)


def as_one(terms: Terms, shape: Shape) -> Dependence:
    """All terms as one with arrays; a term that needs too much memory becomes the union over its positions."""
    one, *others = (term.with_arrays(shape) for term in terms)
    for other in others:
        if not all(fits(*(array.shape[1:] for array in pair)) for pair in _arrays(one, other)):
            hull = hull_of(other.intervals.reshape(2, -1)).reshape(2, *[1] * len(shape))
            other = Dependence(hull, np.full_like(hull, EMPTY), 0, is_whole=True, is_exact=False)
        one = _union(one, other, shape)
    return one


def _met(one: Dependence, other: Dependence, shape: Shape) -> Dependence | None:
    """Two terms as one; None if they lie along different dimensions, and one array of both would be long."""
    if one.is_compact and other.is_compact:
        if one.axis_dims == other.axis_dims and one.merged == other.merged:
            return compact_union(one, other)
        for line, constant in ((one, other), (other, one)):
            if constant.is_constant and (not constant.axis_dims or constant.stride == 0):
                return compact_union(line, constant)
        if one.axis_dims != other.axis_dims:
            return None
    one, other = one.with_arrays(shape), other.with_arrays(shape)
    for pair in _arrays(one, other):
        lengths = [max(pair) for pair in zip(pair[0].shape, pair[1].shape, strict=True)]
        if math.prod(lengths) > max(pair[0].size, pair[1].size, MAX_NUMBERS // 16):
            return None
    return _union(one, other, shape).simplified(shape)


def _arrays(one: Dependence, other: Dependence) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """What is read by both, and the theoretical fields of both."""
    return (one.intervals, other.intervals), (one.theoretical, other.theoretical)


def compact_union(one: Dependence, other: Dependence) -> Dependence:
    """Two compact terms as one with the layout of the first; the second has the same layout, or is constant."""
    if other is one:
        return one
    found: Dependence | None = one.memo.get(other)
    if found is not None:
        return found
    others = other.intervals
    if others.ndim != one.intervals.ndim:
        others = others.reshape(2, *[1] * (one.intervals.ndim - 1))
    intervals = np.minimum(one.intervals, others)
    if intervals.size > 2 and (one.is_whole or other.is_whole):
        (dim,) = one.axis_dims
        intervals = without_repeats(intervals, dim)
    flags = flags_together((one, other))
    if one.phases is None and other.phases is None:
        found = one.replaced(
            intervals=intervals,
            first=min(one.first, other.first),
            last=max(one.last, other.last),
            stride=largest_stride(one.stride, other.stride),
            **flags,
        )
    else:
        field = join_fields([each.theoretical_field() for each in (one, other) if each.stride]).field
        flags["is_exact"] &= field.is_exact
        found = one.replaced(intervals=intervals, **theoretical_numbers(field), **flags)
    one.memo[other] = found
    return found


def _union(one: Dependence, other: Dependence, shape: Shape) -> Dependence:
    """The union of two terms with arrays."""
    if one.axis_dim != other.axis_dim and _has_fields(one) and _has_fields(other):
        both = _union(explicit(one, shape), explicit(other, shape), shape)
        for dim in (one.axis_dim, other.axis_dim):
            again = None if dim is None else recovered(both, dim, shape)
            if again is not None:
                return again
        return both
    axis_dim = one.axis_dim if one.axis_dim is not None else other.axis_dim
    intervals, theoretical = (np.minimum(*pair) for pair in _arrays(one, other))
    if axis_dim is not None:
        theoretical = first_along(theoretical, axis_dim)
    stride = largest_stride(one.stride, other.stride)
    if (one.axis_dim is None) != (other.axis_dim is None):  # the stride of a lost axis says nothing
        stride = (one.stride or other.stride) if other.axis_dim is None else (other.stride or one.stride)
    return Dependence(
        intervals,
        theoretical,
        stride,
        axis_dim,
        one.axis_dims | other.axis_dims,
        phases=_phases_together((one, other)),
        **flags_together((one, other)),
    )


def _has_fields(dep: Dependence) -> bool:
    """Whether the elements of a term with arrays have theoretical fields that differ, by its axis or one by one."""
    return bool(dep.stride) and (dep.axis_dim is not None or dep.theoretical.size > 2)


def _phases_together(deps: Sequence[Dependence]) -> Phases | None:
    """The phases of paths that meet; None if all positions are alike, or the paths have unequal strides."""
    if all(dep.phases is None for dep in deps):
        return None
    chosen = [dep for dep in deps if dep.stride]
    if len({dep.stride for dep in chosen}) > 1:
        return None
    return hull_of_phases([dep.phases or alike(dep.theoretical, dep.stride) for dep in chosen])


# ---- end to end ----


def stacked(paths: Sequence[tuple[Terms | None, Shape]], dim: int) -> tuple[Terms, bool]:
    """Tensors concatenated along ``dim``, and whether they are aligned; None depends on nothing."""
    known = [terms for terms, _ in paths if terms]
    lines = [terms[0] for terms in known if len(terms) == 1 and terms[0].is_compact]
    if len(lines) == len(paths) and dim not in lines[0].axis_dims and all(line is lines[0] for line in lines):
        return (lines[0],), True
    after = (*paths[0][1][:dim], sum(shape[dim] for _, shape in paths), *paths[0][1][dim + 1 :])
    if len(lines) == len(known) and lines and all(line.axis_dim == dim for line in lines):
        return (_end_to_end([(terms[0] if terms else None, shape[dim]) for terms, shape in paths], dim, len(after)),), True
    parts = [as_one(terms, shape) if terms else None for terms, shape in paths]
    own = {part.axis_dim for part in parts if part is not None and _has_fields(part)}
    if len(own) > 1:
        parts = [None if part is None else explicit(part, shape) for part, (_, shape) in zip(parts, paths, strict=True)]
    one = _stacked(parts, [shape for _, shape in paths], dim)
    for axis_dim in own - {None} if len(own) > 1 else ():
        one = recovered(one, axis_dim, after) or one  # type: ignore[arg-type]
    return (one.bounded().simplified(after),), one.axis_dim == dim or are_aligned(known)


def _end_to_end(parts: Sequence[tuple[Dependence | None, int]], dim: int, num_dims: int) -> Dependence:
    """Compact terms along ``dim``, with their lengths, put one behind the other; the theoretical field of the first goes on."""
    rows: list[Array] = []
    first: Dependence | None = None
    start = place = 0
    for term, length in parts:
        if term is None:
            rows.append(np.full((2, length), EMPTY))
        else:
            row = term.intervals.reshape(2, -1)
            rows.append(row if row.shape[1] == length else np.repeat(row, length, axis=1))
            if first is None or (first.stride == 0 and term.stride):
                first, start = term, place
        place += length
    known = [term for term, _ in parts if term is not None]
    assert first is not None
    back = start * first.stride
    return Dependence(
        along_dim(np.concatenate(rows, axis=1), dim, num_dims),
        None,
        first.stride,
        dim,
        frozenset((dim,)),
        first=first.first - back,
        last=first.last - back,
        is_whole=any(term.is_whole for term in known),
        is_exact=all(term.is_exact for term in known),
    )


def _stacked(parts: Sequence[Dependence | None], shapes: Sequence[Shape], dim: int) -> Dependence:
    """Terms with arrays one behind the other; they have the same dimension for the axis, or none has."""
    known = [part for part in parts if part is not None]
    axis_dim = next((part.axis_dim for part in known if part.axis_dim is not None), None)
    intervals, is_hull = _stack([None if part is None else part.intervals for part in parts], shapes, dim)
    theoretical, is_theoretical_hull = _stack([None if part is None else part.theoretical for part in parts], shapes, dim)
    if axis_dim is not None:
        theoretical = least(theoretical, axis_dim + 1, True) if axis_dim == dim else first_along(theoretical, axis_dim)
    stride: Number = 0
    for part in known:
        stride = largest_stride(stride, part.stride)
    flags = flags_together(known)
    flags["is_exact"] &= not is_hull
    flags["is_approximate"] |= is_theoretical_hull
    axis_dims = frozenset[int]().union(*(part.axis_dims for part in known))
    return Dependence(intervals, theoretical, stride, axis_dim, axis_dims, phases=_phases_together(known), **flags)


def _stack(arrays: Sequence[Array | None], shapes: Sequence[Shape], dim: int) -> tuple[Array, bool]:
    """Arrays one behind the other, and whether they were too large and are replaced by their hull."""
    known = [array for array in arrays if array is not None]
    longest = [max(lengths) for lengths in zip(*(array.shape for array in known), strict=True)]
    longest[dim + 1] = sum(shape[dim] for shape in shapes)
    if math.prod(longest) > MAX_NUMBERS:
        lowest = np.minimum.reduce([least(array.reshape(2, -1), 1) for array in known])
        return np.asarray(lowest.reshape(2, *[1] * (len(longest) - 1))), True
    kind = np.result_type(*(array.dtype for array in known))
    whole = np.full(longest, EMPTY, dtype=kind)
    place = 0
    for array, shape in zip(arrays, shapes, strict=True):
        if array is not None:
            whole[(slice(None),) * (dim + 1) + (slice(place, place + shape[dim]),)] = array
        place += shape[dim]
    return whole, False


# ---- alignment ----


def are_aligned(paths: Sequence[Terms]) -> bool:
    """Whether joined paths have the same center at every position.

    Gates are aligned with all, and so is what reads the whole input at every position, as after attention.
    """
    seen: tuple[Number, Number] | None = None
    elements: Array | None = None
    for terms in paths:
        for term in terms:
            if term.is_whole and term.is_constant:
                continue
            if term.theoretical is not None and term.axis_dim is None and _has_fields(term):
                middles = term.theoretical[0] - term.theoretical[1]
                if elements is not None and not _are_equal(elements, middles):
                    return False
                elements = middles
                continue
            for stride, middle in _middles(term):
                if seen is None:
                    seen = (stride, middle)
                elif seen != (stride, middle):
                    return False
    return seen is None or elements is None


def _are_equal(one: Array, other: Array) -> bool:
    """Whether middles are the same wherever both are known."""
    lengths = zip(one.shape, other.shape, strict=True) if one.ndim == other.ndim else ()
    if one.ndim != other.ndim or any(a != b and 1 not in (a, b) for a, b in lengths):
        return False
    apart = np.abs(one - other)
    return not bool(((apart != 0) & (apart < EMPTY // 2)).any())


def _middles(term: Dependence) -> list[tuple[Number, Number]]:
    """Stride and twice the center of position 0, of each kind of field in a term."""
    if term.stride == 0:
        return []
    if term.phases is not None:
        return [(term.stride, 2 * term.phases.center)]
    if term.theoretical is None:
        return [(term.stride, term.first + term.last)]
    first, last = term.theoretical.reshape(2, -1)
    middles = (first - last)[first < EMPTY // 2]
    return [(term.stride, middles.min()), (term.stride, middles.max())] if middles.size else []
