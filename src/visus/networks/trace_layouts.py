"""How sights follow a tensor whose elements are laid out under another shape, axes of the input merged and split.

This file knows terms and shapes. It must not know operations of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from visus.geometry.reads import NOTHING
from visus.networks.trace_sight import (
    LARGEST,
    Array,
    Grid,
    Line,
    Shape,
    Term,
    Terms,
    bounded,
    each,
    in_arrays,
    least,
    settled,
    simplest,
    to_grid,
)
from visus.networks.trace_taps import Number, stretched, whole_or_fraction


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
                if flat * term.length > above or flat % below:
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
    return simplest(_relaid(to_grid(term, shape), shape, after, others), after)


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


def _relaid(grid: Grid, shape: Shape, after: Shape, others: frozenset[int]) -> Grid:
    parts: list[tuple[range, range]] = list(_segments(shape, after))
    own: int | None = None
    step = grid.step
    reads, book = grid.reads, grid.book
    merged: int | None = None
    if grid.merged is not None:
        new = next(new for old, new in parts if grid.merged in old)
        merged = new[0] if len(new) == 1 else None
    if grid.own is not None:
        old, new = next((old, new) for old, new in parts if grid.own in old)
        long_old = [dim for dim in old if shape[dim] > 1]
        long_new = [dim for dim in new if after[dim] > 1]
        if long_old in ([grid.own], []) and long_new:
            own = long_new[0]
            below = math.prod(after[dim] for dim in long_new[1:])
            if below > 1:
                book = _with_steps(book, grid.own, shape[grid.own], step, below)
            step = step * below
        elif len(long_new) == 1 and long_old and long_old[0] == grid.own and not others.intersection(long_old[1:]):
            own = long_new[0]
            inner = math.prod(shape[dim] for dim in long_old[1:])
            book = book[tuple(slice(0, 1) if dim - 1 in old else slice(None) for dim in range(book.ndim))]
            step = whole_or_fraction(Fraction(step) / inner)
        elif long_old in ([grid.own], []):
            own = new[0] if len(new) == 1 else None
        else:
            merged = long_new[-1] if long_new else None
            if step:
                book = _with_steps(book, grid.own, shape[grid.own], step, shape[grid.own])
    reads = _refilled(reads, parts, shape, after)
    book = _refilled(book, parts, shape, after)
    if own is not None and book.shape[own + 1] > 1:
        book = book[(slice(None),) * (own + 1) + (slice(0, 1),)]
    return bounded(Grid(reads, book, own, step, grid.whole, grid.exact, merged=None if own is not None else merged))


def found_again(axes: Sequence[Terms], shape: Shape) -> tuple[Terms, ...]:
    """The dimensions of axes that were lost when windows were cut out, where these were put together again.

    Such a dimension is the only one along which what is read of its axis differs, it differs for no other axis, and it does not
    run backwards. The textbook knows no step there; it is taken for the pixels that are read, by the positions.
    """
    long = [_long_dims(terms, shape) for terms in axes]
    found = []
    for axis, terms in enumerate(axes):
        others = set().union(*long[:axis], *long[axis + 1 :])
        grid = terms[0]
        if (
            len(terms) == 1
            and isinstance(grid, Grid)
            and grid.own is None
            and len(long[axis]) == 1
            and not long[axis] & others
        ):
            terms = (simplest(_with_own(grid, shape, min(long[axis])), shape),)
        found.append(terms)
    return tuple(found)


def _long_dims(terms: Terms, shape: Shape) -> set[int]:
    """The dimensions along which what is read differs."""
    found: set[int] = set()
    for term in terms:
        if isinstance(term, Grid):
            found.update(dim for dim in range(len(shape)) if term.reads.shape[dim + 1] > 1)
        elif term.dim is not None and term.sight.reads.shape[1] > 1:
            found.add(term.dim)
    return found


def _with_own(grid: Grid, shape: Shape, own: int) -> Grid:
    reads = grid.reads.reshape(2, -1)
    steps = np.diff(reads * np.array([[1], [-1]]), axis=1)
    if reads.max() >= NOTHING or (steps < 0).any() or not steps.any():
        return grid
    step = max(1, round(int(-reads[1, -1] - reads[0, 0] + 1) / shape[own])) if grid.step else 0
    first = (slice(None),) * (own + 1) + (slice(0, 1),)
    return grid._replace(book=grid.book[first], own=own, step=step, merged=None)


def _with_steps(book: Array, own: int, length: int, step: Number, period: int) -> Array:
    """The textbook of every position along ``own``, the positions counted anew after each ``period``."""
    shifts = np.outer([1, -1], np.arange(length) % period) * in_arrays(step)
    lengths = [1] * (book.ndim - 1)
    lengths[own] = length
    return settled(book + shifts.reshape(2, *lengths))


def _refilled(array: Array, parts: Sequence[tuple[range, range]], shape: Shape, after: Shape) -> Array:
    """The numbers under the new shape; only stretches of dimensions along which they differ are written out."""
    full, new = [2], [2]
    for old_dims, new_dims in parts:
        if all(array.shape[dim + 1] == 1 for dim in old_dims):
            full += [1] * len(old_dims)
            new += [1] * len(new_dims)
        else:
            full += [shape[dim] for dim in old_dims]
            new += [after[dim] for dim in new_dims]
    if math.prod(full) > 4 * LARGEST:
        return least(array.reshape(2, -1), 1).reshape(2, *[1] * len(after))
    return np.broadcast_to(array, full).reshape(new)


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
