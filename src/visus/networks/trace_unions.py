"""Where paths meet: the union of what they see, whether they look at the same middle, the field of the whole.

This file knows terms and shapes. It must not know operations of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from visus.geometry import Field
from visus.geometry.phases import Phases
from visus.geometry.phases import hull as hull_of_phases
from visus.geometry.reads import NOTHING
from visus.networks.trace_sight import (
    LARGEST,
    Array,
    Grid,
    Line,
    Shape,
    Sight,
    Term,
    Terms,
    fits,
    hull_of,
    largest_step,
    least,
    plain_number,
    simplest,
    to_grid,
)
from visus.networks.trace_taps import Number


def as_one(terms: Terms, shape: Shape) -> Grid:
    """All terms as one grid; terms that would need too much room become what all their positions see."""
    grids = [to_grid(term, shape) for term in terms]
    one = grids[0]
    for other in grids[1:]:
        if not fits(one.reads.shape[1:], other.reads.shape[1:]):
            hull = hull_of(other.reads.reshape(2, -1)).reshape(2, *[1] * len(shape))
            other = Grid(hull, np.full_like(hull, NOTHING), None, 0, True, False)
        one = _smaller(one, other)
    return one


def united(terms: Iterable[Term], shape: Shape) -> Terms:
    """The union of terms over one shape, with as few terms as cost no room."""
    kept: list[Term] = []
    for term in terms:
        for index, other in enumerate(kept):
            met = _met(other, term, shape)
            if met is not None:
                kept[index] = met
                break
        else:
            kept.append(term)
    return tuple(kept)


def _met(one: Term, other: Term, shape: Shape) -> Term | None:
    """Two terms as one; None where they lie along different dimensions, and one array of both would be long."""
    if isinstance(one, Line) and isinstance(other, Line):
        if one[1:] == other[1:]:
            sight = one.sight.join(other.sight)
            return one if sight is one.sight else Line(sight, *one[1:])
        for line, constant in ((one, other), (other, one)):
            if constant.sight.reads.shape[1] == 1 and (constant.dim is None or constant.sight.step == 0):
                return Line(line.sight.join(constant.sight), *line[1:])
        if one.dim != other.dim:
            return None
    grids = to_grid(one, shape), to_grid(other, shape)
    lengths = [max(pair) for pair in zip(grids[0].reads.shape, grids[1].reads.shape, strict=True)]
    if math.prod(lengths) > max(grids[0].reads.size, grids[1].reads.size, LARGEST // 16):
        return None
    return simplest(_smaller(*grids), shape)


def _smaller(one: Grid, other: Grid) -> Grid:
    own = one.own if one.own is not None else other.own
    book = np.minimum(one.book, other.book)
    if own is not None and book.shape[own + 1] > 1:
        book = book[(slice(None),) * (own + 1) + (slice(0, 1),)]
    step = largest_step(one.step, other.step)
    if (one.own is None) != (other.own is None):  # the step of a lost axis says nothing
        step = (one.step or other.step) if other.own is None else (other.step or one.step)
    flags = one.whole or other.whole, one.exact and other.exact
    phases = together([(each.phases, each.book, each.step) for each in (one, other)])
    merged = one.merged if one.merged is not None else other.merged
    return Grid(np.minimum(one.reads, other.reads), book, own, step, *flags, phases, merged if own is None else None)


def together(paths: Sequence[tuple[Phases | None, Array, Number]]) -> Phases | None:
    """The phases of paths that meet; None where all positions are alike, or the paths have unequal steps."""
    if all(phases is None for phases, _, _ in paths):
        return None
    chosen = [path for path in paths if path[2]]
    if len({step for _, _, step in chosen}) > 1:
        return None
    known = []
    for phases, book, step in chosen:
        first, last = (plain_number(least) for least in book.reshape(2, -1).min(1).tolist())
        known.append(phases or Phases.alike(first, math.ceil(-last - first + 1), step))
    return hull_of_phases(known)


def are_aligned(paths: Sequence[Terms]) -> bool:
    """Whether paths that meet look at the same middle at every position; gates are aligned with all."""
    seen: tuple[Number, Number] | None = None
    for terms in paths:
        for term in terms:
            for step, middle in _middles(term):
                if seen is None:
                    seen = (step, middle)
                elif seen != (step, middle):
                    return False
    return True


def _middles(term: Term) -> Iterable[tuple[Number, Number]]:
    """Step and twice the centre of position 0, of each kind of field in a term."""
    if isinstance(term, Line):
        sight = term.sight
        middle = sight.first + sight.last if sight.phases is None else 2 * sight.phases.centre
        return [(sight.step, middle)] if sight.step else []
    if term.step == 0:
        return []
    if term.phases is not None:
        return [(term.step, 2 * term.phases.centre)]
    first, last = term.book.reshape(2, -1)
    middles = (first - last)[first < NOTHING // 2]
    return [(term.step, middles.min()), (term.step, middles.max())] if middles.size else []


def field_of(terms: Terms, shape: Shape) -> Field:
    """The receptive field on one axis, for the whole tensor: the hull over all dimensions but that of the axis."""
    if len(terms) == 1 and isinstance(terms[0], Line):
        sight, dim, length, inner = terms[0]
        return sight.field(length if dim is not None and inner == 1 and length == shape[dim] else 0, length)
    own = next((term.dim if isinstance(term, Line) else term.own for term in terms if _has_own(term, shape)), None)
    sights = [_onto(to_grid(term, shape), own) for term in terms]
    length = 1 if own is None else shape[own]
    united_sight = sights[0]
    for sight in sights[1:]:
        united_sight = united_sight.join(sight)
    return united_sight.field(0 if own is None else length, length)


def _has_own(term: Term, shape: Shape) -> bool:
    if isinstance(term, Grid):
        return term.own is not None
    return term.dim is not None and term.inner == 1 and term.length == shape[term.dim]


def _onto(grid: Grid, own: int | None) -> Sight:
    """The hull of a grid over all dimensions but one."""
    others = tuple(dim for dim in range(1, grid.reads.ndim) if own is None or dim != own + 1)
    book = least(grid.book.reshape(2, -1), 1).tolist()
    first, last = plain_number(book[0]), -plain_number(book[1])
    if grid.step == 0 or first > NOTHING // 2:
        first, last = NOTHING, -NOTHING
    return Sight(least(grid.reads, others).reshape(2, -1), first, last, grid.step, grid.whole, grid.exact, grid.phases)
