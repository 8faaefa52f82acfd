"""The same elements with other dimensions: permuted, inserted, removed, repeated or reshaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.axis_dims import explicit, found_again, lying, recovered
from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Dependence,
    Merged,
    Shape,
    Terms,
    each,
    least,
)
from visus.networks.trace.coordinates.gaps import blanked
from visus.networks.trace.coordinates.positions_read import through
from visus.networks.trace.coordinates.taps import Number, stretched


def permuted(terms: Terms, order: Sequence[int]) -> Terms:
    """The dimensions in a new order."""
    return each(terms, lambda term: term.rearranged(order))


def unsqueezed(terms: Terms, dim: int) -> Terms:
    """Inserts a dimension of length 1."""
    return each(terms, lambda term: term.rearranged((*range(dim), None, *range(dim, term.intervals.ndim - 1))))


def squeezed(terms: Terms, shape: Shape, dims: Sequence[int]) -> Terms:
    """Removes dimensions of length 1."""
    kept = [dim for dim in range(len(shape)) if dim not in dims]
    after = tuple(shape[dim] for dim in kept)
    return each(terms, lambda term: term.rearranged(kept).simplified(after))


def broadcast(terms: Terms, shape: Shape, after: Shape) -> Terms:
    """Broadcasts dimensions of length 1. If such a dimension is the axis, the path is a gate."""
    if shape == after:
        return terms
    added = len(after) - len(shape)
    sources = (*[None] * added, *range(len(shape)))

    def rule(term: Dependence) -> Dependence:
        dim = term.axis_dim
        if dim is None or shape[dim] != 1 or after[dim + added] == 1:
            return term.rearranged(sources) if added else term
        if term.is_compact:
            return term.hull()
        whole = np.full_like(term.theoretical, EMPTY)
        gate = Dependence(term.intervals, whole, 0, is_whole=True, is_exact=term.is_exact)
        return gate.rearranged(sources)

    return each(terms, rule)


def flattened(axes: Sequence[Terms], shape: Shape, after: Shape) -> tuple[Terms, ...]:
    """All axes after a reshape, each with its own dimension if it has one."""
    if shape == after:
        return tuple(axes)
    axes = blanked(tuple(axes), shape)
    places = [lying(terms, shape) for terms in axes]
    found = [
        reshaped(terms, shape, after, frozenset().union(*places[:axis], *places[axis + 1 :]))
        for axis, terms in enumerate(axes)
    ]
    return found_again(found, after)


def reshaped(terms: Terms, shape: Shape, after: Shape, others: frozenset[int] = frozenset()) -> Terms:
    """The same elements in order, with another shape.

    If the axis is merged with later dimensions that are not other axes of the input (``others``), the merged dimension
    belongs to the axis. An example is a map enlarged by repeating its rows.
    """
    if shape == after:
        return terms
    return each(terms, lambda term: _reshaped(term, shape, after, others))


def _reshaped(term: Dependence, shape: Shape, after: Shape, others: frozenset[int]) -> Dependence:
    if term.is_compact:
        if not term.axis_dims:
            return term
        found = _reshaped_compact(term, shape, after, others)
        if found is not None:
            return found
    return _relaid(term.with_arrays(shape), shape, after).simplified(after)


def _reshaped_compact(term: Dependence, shape: Shape, after: Shape, others: frozenset[int]) -> Dependence | None:
    """A compact term under another shape; None if no single dimension holds its axis any more."""
    (old_dim,) = term.axis_dims
    length, old_inner = term.merged or (shape[old_dim], 1)
    if length == 1 and old_inner == 1:
        place = _kept_place(old_dim, shape, after)
        if place is not None:
            return term.laid(place, len(after))
    flat = old_inner * math.prod(shape[old_dim + 1 :])  # neighboring elements at one position
    period = flat * length
    below = 1
    for dim in range(len(after) - 1, -1, -1):
        above = below * after[dim]
        if below <= flat < above:
            if period > above or flat % below or (above % period and math.prod(after[:dim]) > 1):
                break
            inner = flat // below
            is_stretched = inner > old_inner == 1 and length * inner == after[dim]
            if is_stretched and _merges_alone(old_dim, shape, inner, others):
                return through(term, stretched(length, inner)).laid(dim, len(after))
            is_own = inner == 1 and length == after[dim]
            return term.laid(dim, len(after), None if is_own else Merged(length, inner))
        below = above
    return term.laid(None) if length == 1 else None


def _merges_alone(dim: int, shape: Shape, inner: int, others: frozenset[int]) -> bool:
    """Whether the dimensions behind ``dim`` that are merged into it are no axis of the input."""
    dim += 1
    while inner > 1 and dim < len(shape):
        if dim in others and shape[dim] > 1:
            return False
        inner //= shape[dim]
        dim += 1
    return True


def _kept_place(dim: int, shape: Shape, after: Shape) -> int | None:
    """Where a dimension of length 1 is found under the new shape: the dimensions behind it stay as they were."""
    behind = shape[dim + 1 :]
    place = len(after) - 1 - len(behind)
    return place if place >= 0 and after[place] == 1 and after[place + 1 :] == behind else None


def _relaid(dep: Dependence, shape: Shape, after: Shape) -> Dependence:
    """A term with arrays under another shape; its axis keeps a dimension that is neither cut nor merged."""
    parts = list(_segments(shape, after))
    axis_dim: int | None = None
    outer: tuple[int, Number] | None = None  # where the axis is cut: the dimension of its parts, pixels from part to part
    if dep.axis_dim is not None:
        old, new = next(part for part in parts if dep.axis_dim in part[0])
        long_old = [dim for dim in old if shape[dim] > 1]
        long_new = [dim for dim in new if after[dim] > 1]
        if long_old == [dep.axis_dim] and len(long_new) == 1:
            axis_dim = long_new[0]
        elif not long_old and len(new) == 1:
            axis_dim = new[0]
        elif dep.axis_dim in long_old:
            if long_old == [dep.axis_dim]:
                outer = long_new[0], dep.stride * math.prod(after[dim] for dim in long_new[1:])
            dep = explicit(dep, shape)
    intervals, is_hull = _refilled(dep.intervals, parts, shape, after)
    theoretical, is_theoretical_hull = _refilled(dep.theoretical, parts, shape, after)
    relaid = dep.replaced(
        intervals=intervals,
        theoretical=theoretical,
        axis_dim=axis_dim,
        axis_dims=frozenset(),
        is_exact=dep.is_exact and not is_hull,
        is_approximate=dep.is_approximate or is_theoretical_hull,
    ).compressed()
    axis_dims = frozenset[int]() if axis_dim is None else frozenset((axis_dim,))
    for old, new in parts:
        if dep.axis_dims.intersection(old):
            axis_dims |= _holding(relaid, [dim for dim in new if after[dim] > 1])
    relaid = relaid.replaced(axis_dims=axis_dims).bounded()
    again = None if outer is None else recovered(relaid, outer[0], after, outer[1])
    return relaid if again is None else again


def _holding(dep: Dependence, dims: Sequence[int]) -> frozenset[int]:
    """Those of the dimensions, into which an axis was cut, along which its numbers differ."""
    if len(dims) == 1:
        return frozenset(dims)
    lengths = dep.intervals.shape[1:], dep.theoretical.shape[1:]
    return frozenset(dim for dim in dims if max(each[dim] for each in lengths) > 1)


def _refilled(array: Array, parts: Sequence[tuple[range, range]], shape: Shape, after: Shape) -> tuple[Array, bool]:
    """The numbers under the new shape, and whether they were too many and are taken for their hull.

    Only stretches of dimensions along which they differ are written out.
    """
    full, new = [2], [2]
    for old_dims, new_dims in parts:
        if all(array.shape[dim + 1] == 1 for dim in old_dims):
            full += [1] * len(old_dims)
            new += [1] * len(new_dims)
        else:
            full += [shape[dim] for dim in old_dims]
            new += [after[dim] for dim in new_dims]
    if math.prod(full) > 4 * MAX_NUMBERS:
        return least(array.reshape(2, -1), 1).reshape(2, *[1] * len(after)), True
    return np.broadcast_to(array, full).reshape(new), False


def _segments(shape: Shape, after: Shape) -> Iterator[tuple[range, range]]:
    """Stretches of old and new dimensions that hold the same elements, as short as can be."""
    i = j = 0
    while i < len(shape) or j < len(after):
        first_i, first_j = i, j
        old = shape[i] if i < len(shape) else 1
        new = after[j] if j < len(after) else 1
        i, j = min(i + 1, len(shape)), min(j + 1, len(after))
        while old != new:
            if old < new:
                old *= shape[i]
                i += 1
            else:
                new *= after[j]
                j += 1
        if i == len(shape):  # dimensions of length 1 at the end
            while j < len(after) and after[j] == 1:
                j += 1
        if j == len(after):
            while i < len(shape) and shape[i] == 1:
                i += 1
        yield range(first_i, i), range(first_j, j)
