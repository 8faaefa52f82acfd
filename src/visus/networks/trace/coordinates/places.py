"""In which dimension of a tensor an axis of the input lies: given up where maps are cut and merged, found again by its numbers.

Where no dimension is that of the axis alone, as in windows that were merged into the batch, every element has its own numbers.
A dimension is that of the axis again where the theoretical fields along it repeat themselves. This file knows terms and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.geometry.phases import MAX_INTERVALS, Phases
from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Grid,
    Line,
    Shape,
    Term,
    Terms,
    compressed,
    each,
    in_arrays,
    intervals_at,
    least,
    plain_number,
    settled,
    simplest,
    to_grid,
)
from visus.networks.trace.coordinates.taps import Number, whole_or_fraction


def differing(term: Term) -> set[int]:
    """The dimensions along which what is seen differs, by size; a grid is compressed before."""
    if isinstance(term, Line):
        return {term.dim} if term.dim is not None and term.sight.reads.shape[1] > 1 else set()
    lengths = zip(term.reads.shape[1:], term.theoretical.shape[1:], strict=True)
    found = {dim for dim, pair in enumerate(lengths) if max(pair) > 1}
    return found | ({term.own} if term.own is not None and term.step else set())


def lying(terms: Terms, shape: Shape) -> frozenset[int]:
    """The dimensions in which the axis lies."""
    found: set[int] = set()
    for term in terms:
        if isinstance(term, Grid):
            found |= term.lies
        elif term.dim is not None and (term.length > 1 or term.inner == 1):
            found.add(term.dim)
    return frozenset(dim for dim in found if shape[dim] > 1)


def explicit(grid: Grid, shape: Shape) -> Grid:
    """The same with the theoretical field of every element written out, and no dimension for the axis alone."""
    own = grid.own
    if own is None or not grid.step:
        return grid._replace(own=None)
    lengths = [1] * len(shape)
    lengths[own] = shape[own]
    if grid.phases is not None:
        theoretical = intervals_at(grid.phases, np.arange(shape[own])).reshape(2, *lengths)
        grid = grid._replace(rough=grid.rough or any(grid.theoretical.shape[dim + 1] > 1 for dim in grid.lies))
    else:
        shifts = np.outer([1, -1], np.arange(shape[own])) * in_arrays(grid.step)
        theoretical = settled(grid.theoretical + shifts.reshape(2, *lengths))
    return grid._replace(theoretical=theoretical, own=None, phases=None, step=finest(theoretical, grid.lies, grid.step))


def finest(theoretical: Array, lies: frozenset[int], step: Number) -> Number:
    """Pixels between the fields of neighbors, where these differ least."""
    found = []
    for dim in lies:
        apart = np.abs(np.diff(theoretical[0], axis=dim))
        apart = apart[(apart > 0) & (apart < EMPTY // 2)]
        if apart.size:
            found.append(plain_number(apart.min()))
    return min(found, default=step)


def blanked(axes: tuple[Terms, ...], shape: Shape) -> tuple[Terms, ...]:
    """The axes, where an element that reads nothing of one axis reads nothing of any.

    The axes are followed one by one, so the rows of a padded map are known to read nothing by their height alone, as long as
    they stand in a dimension of their own. What meets other paths or is merged must know it by every axis.
    """
    if len(axes) < 2 or not any(has_blank(term) for terms in axes for term in terms):
        return axes
    blank: Array | None = None
    for terms in axes:
        nothing: Array | None = None
        for term in terms:
            places = to_grid(term, shape).reads[0] >= EMPTY
            nothing = places if nothing is None else nothing & places
        if nothing is not None and nothing.any():
            blank = nothing if blank is None else blank | nothing
    if blank is None or 2 * blank.size > MAX_NUMBERS:
        return axes if blank is None else tuple(each(terms, _inexact) for terms in axes)
    return tuple(without(terms, blank, shape) for terms in axes)


def has_blank(term: Term) -> bool:
    """Whether some position reads nothing."""
    if isinstance(term, Grid):
        return bool(term.reads[0].max(initial=0) >= EMPTY)
    found: bool | None = term.sight.memo.get("blank")
    if found is None:
        found = term.sight.memo["blank"] = bool(term.sight.reads[0].max(initial=0) >= EMPTY)
    return found


def without(terms: Terms, blank: Array, shape: Shape) -> Terms:
    """The terms, where some elements read nothing; ``blank`` has the tensor's dimensions, or 1 where all are the same."""
    return each(terms, partial(_without, blank=blank, shape=shape))


def _without(term: Term, blank: Array, shape: Shape) -> Term:
    """A term with some elements that read nothing."""
    grid = to_grid(term, shape)
    return simplest(grid._replace(reads=np.where(blank, EMPTY, grid.reads)), shape, look=True)


def _inexact(term: Term) -> Term:
    return term._replace(sight=term.sight.inexact()) if isinstance(term, Line) else term._replace(exact=False)


def found_again(axes: Sequence[Terms], shape: Shape) -> tuple[Terms, ...]:
    """The axes with the dimensions that are theirs alone, where they had lost them.

    Such a dimension is one along which what is seen of no other axis differs. The batch is none.
    """
    if all(isinstance(term, Line) or term.own is not None for terms in axes for term in terms):
        return tuple(axes)
    axes = [tuple(_looked_at(term) if isinstance(term, Grid) else term for term in terms) for terms in axes]
    along: list[set[int]] = [set().union(*(differing(term) for term in terms)) for terms in axes]
    found = []
    for axis, terms in enumerate(axes):
        others: set[int] = {0}.union(*along[:axis], *along[axis + 1 :])
        usual = axis + 2 if len(shape) == len(axes) + 2 else None
        found.append(tuple(_with_own(term, shape, along[axis], others, usual) for term in terms))
    return tuple(found)


def _looked_at(grid: Grid) -> Grid:
    """The grid compressed, lying only where its numbers still differ."""
    grid = compressed(grid)
    return grid if grid.own is not None else grid._replace(lies=grid.lies & differing(grid))


def _with_own(term: Term, shape: Shape, along: set[int], others: set[int], usual: int | None) -> Term:
    if isinstance(term, Line) or term.own is not None or any(shape[dim] > 1 for dim in term.lies & others):
        return term
    alone = sorted((along & term.lies or along) - others, key=lambda dim: (dim != usual, dim))
    for dim in alone:
        again = recovered(term, dim, shape)
        if again is not None:
            return simplest(again, shape)
    if len(alone) == 1 == len(along) or (usual is not None and alone == [usual]):
        return simplest(_taken_for_own(term, alone[0], shape), shape)
    return term


def _taken_for_own(grid: Grid, dim: int, shape: Shape) -> Grid:
    """A dimension that is the axis's, though its fields do not follow each other evenly: their size is that of the largest."""
    if not grid.step:
        return grid._replace(own=dim, lies=grid.lies | {dim})
    sizes = -grid.theoretical[0] - grid.theoretical[1]
    sizes = sizes[np.abs(sizes) < EMPTY // 2]
    first = least(grid.theoretical[0].reshape(-1), 0)
    if not sizes.size:
        return grid
    theoretical = np.array([first, -(first + sizes.max())]).reshape(2, *[1] * len(shape))
    return grid._replace(theoretical=theoretical, own=dim, rough=True, lies=grid.lies | {dim})


def recovered(grid: Grid, dim: int, shape: Shape, step: Number = 0) -> Grid | None:
    """The grid with ``dim`` as the dimension of the axis; None where the fields along it do not repeat themselves.

    At the border, where taps of a window had nothing to lie on, fields may be smaller than those further in foretell. Where
    the mean ``step`` is known, the positions that there are may all be unlike.
    """
    length = shape[dim]
    theoretical = grid.theoretical
    if not grid.step or length < 2 or theoretical.shape[dim + 1] != length:
        return None
    lines = least(theoretical, tuple(each for each in range(1, theoretical.ndim) if each != dim + 1)) * np.array([[1], [-1]])
    for edge in (0, length // 4):
        period = _period(lines[:, edge : length - edge])
        if period is not None:
            again = _repeating(grid, dim, shape, lines, period, edge)
            if again is not None:
                return again
    if step and length <= MAX_INTERVALS and step * length == int(step * length) and np.abs(lines).max() < EMPTY // 2:
        return _repeating(grid, dim, shape, np.hstack([lines, lines + int(step * length)]), length, 0)
    return None


def _period(lines: Array) -> int | None:
    """So many positions later the fields are the same, moved; None where they never are."""
    length = lines.shape[1]
    if np.abs(lines).max() > EMPTY // 2:
        return None
    for period in range(1, min(length // 2, MAX_INTERVALS) + 1):
        apart = lines[:, period:] - lines[:, :-period]
        if apart[0, 0] != 0 and (apart == apart[0, 0]).all():
            return period
    return None


def _repeating(grid: Grid, dim: int, shape: Shape, lines: Array, period: int, edge: int) -> Grid | None:
    """The grid with fields that repeat themselves along a dimension; None where those at the border are larger."""
    length = lines.shape[1]
    start = -(-edge // period) * period  # a position of the first phase
    if start + 2 * period > length:
        return None
    shift = plain_number(lines[0, start + period] - lines[0, start])
    times, phases = np.divmod(np.arange(length), period)
    foretold = lines[:, start + phases] + (times - start // period) * in_arrays(shift)
    seen = np.abs(lines[0]) < EMPTY // 2
    if (foretold[0] > lines[0])[seen].any() or (foretold[1] < lines[1])[seen].any():
        return None
    place = [slice(None)] * grid.theoretical.ndim
    place[dim + 1] = slice(start, start + 1)
    back = np.array([-1, 1]).reshape(2, *[1] * len(shape)) * (start // period) * in_arrays(shift)
    theoretical = settled(grid.theoretical[tuple(place)] + back)
    step = whole_or_fraction(Fraction(shift) / period)
    unlike = None
    if period > 1:
        first, last = foretold[:, :period]
        intervals = tuple(
            (math.floor(low), math.ceil(high)) for low, high in zip(first.tolist(), last.tolist(), strict=True)
        )
        if not isinstance(shift, int):
            return None
        unlike = Phases(intervals, shift)
    return grid._replace(theoretical=theoretical, own=dim, step=step, phases=unlike, lies=grid.lies | {dim})
