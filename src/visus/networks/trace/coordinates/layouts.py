"""How sights follow a tensor whose elements are laid out under another shape, axes of the input merged and split.

This file knows terms and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Grid,
    Line,
    Shape,
    Term,
    Terms,
    bounded,
    compressed,
    each,
    least,
    simplest,
    to_grid,
)
from visus.networks.trace.coordinates.places import blanked, explicit, found_again, lying, recovered
from visus.networks.trace.coordinates.taps import Number, stretched


def flattened(axes: Sequence[Terms], shape: Shape, after: Shape) -> tuple[Terms, ...]:
    """All axes under another shape, each with the dimension that is its own, where there is one."""
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
    """The same elements in order, under another shape.

    Where the axis is merged with dimensions behind it that are no other axis of the input (``others``), as when a map is
    enlarged by repeating its rows, the merged dimension is that of the axis.
    """
    if shape == after:
        return terms
    return each(terms, lambda term: _reshaped(term, shape, after, others))


def _reshaped(term: Term, shape: Shape, after: Shape, others: frozenset[int]) -> Term:
    if isinstance(term, Line):
        if term.dim is None:
            return term
        if term.length == 1 and (place := _kept_place(term, shape, after)) is not None:
            return Line(term.sight, place, 1)
        flat = term.inner * math.prod(shape[term.dim + 1 :])
        below = 1
        for dim in range(len(after) - 1, -1, -1):
            above = below * after[dim]
            if below <= flat < above:
                period = flat * term.length
                if period > above or flat % below or (above % period and math.prod(after[:dim]) > 1):
                    break
                inner = flat // below
                if (
                    inner > term.inner == 1
                    and term.length * inner == after[dim]
                    and _merges_alone(term, shape, inner, others)
                ):
                    return Line(term.sight.through(stretched(term.length, inner)), dim, after[dim])
                return Line(term.sight, dim, term.length, inner)
            below = above
        if term.length == 1:
            return Line(term.sight, None, 1)
    return simplest(_relaid(to_grid(term, shape), shape, after), after)


def _merges_alone(line: Line, shape: Shape, inner: int, others: frozenset[int]) -> bool:
    """Whether the dimensions behind a line that are merged into it are no axis of the input."""
    assert line.dim is not None
    dim = line.dim + 1
    while inner > 1 and dim < len(shape):
        if dim in others and shape[dim] > 1:
            return False
        inner //= shape[dim]
        dim += 1
    return True


def _kept_place(line: Line, shape: Shape, after: Shape) -> int | None:
    """Where a dimension of length 1 is found under the new shape: the dimensions behind it stay as they were."""
    assert line.dim is not None
    behind = shape[line.dim + 1 :]
    place = len(after) - 1 - len(behind)
    is_kept = line.inner == 1 and place >= 0 and after[place] == 1 and after[place + 1 :] == behind
    return place if is_kept else None


def _relaid(grid: Grid, shape: Shape, after: Shape) -> Grid:
    """A grid under another shape; its axis keeps a dimension that is neither cut nor merged."""
    parts = list(_segments(shape, after))
    own: int | None = None
    outer: tuple[int, Number] | None = None  # where the axis is cut: the dimension of its parts, pixels from part to part
    if grid.own is not None:
        old, new = next(part for part in parts if grid.own in part[0])
        long_old = [dim for dim in old if shape[dim] > 1]
        long_new = [dim for dim in new if after[dim] > 1]
        if long_old == [grid.own] and len(long_new) == 1:
            own = long_new[0]
        elif not long_old and len(new) == 1:
            own = new[0]
        elif grid.own in long_old:
            if long_old == [grid.own]:
                outer = long_new[0], grid.step * math.prod(after[dim] for dim in long_new[1:])
            grid = explicit(grid, shape)
    reads, is_hull = _refilled(grid.reads, parts, shape, after)
    theoretical, is_rough = _refilled(grid.theoretical, parts, shape, after)
    flags = grid.whole, grid.exact and not is_hull
    relaid = compressed(Grid(reads, theoretical, own, grid.step, *flags, grid.phases, rough=grid.rough or is_rough))
    lies = frozenset[int]() if own is None else frozenset((own,))
    for old, new in parts:
        if grid.lies.intersection(old):
            lies |= _holding(relaid, [dim for dim in new if after[dim] > 1])
    relaid = bounded(relaid._replace(lies=lies))
    again = None if outer is None else recovered(relaid, outer[0], after, outer[1])
    return relaid if again is None else again


def _holding(grid: Grid, dims: Sequence[int]) -> frozenset[int]:
    """Those of the dimensions, into which an axis was cut, along which its numbers differ."""
    if len(dims) == 1:
        return frozenset(dims)
    return frozenset(dim for dim in dims if max(grid.reads.shape[dim + 1], grid.theoretical.shape[dim + 1]) > 1)


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
