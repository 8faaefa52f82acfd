"""Where paths meet: the union of what they see, whether they look at the same middle, the field of the whole.

This file knows terms and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from visus.geometry import Field
from visus.geometry.exact_intervals import EMPTY
from visus.geometry.phases import Phases, hull_of_phases
from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Dependence,
    Grid,
    Line,
    Shape,
    Term,
    Terms,
    compressed,
    fits,
    hull_of,
    is_constant,
    largest_step,
    least,
    plain_number,
    simplest,
    to_grid,
)
from visus.networks.trace.coordinates.places import blanked, differing, explicit, has_blank, lying, recovered
from visus.networks.trace.coordinates.taps import Number


def as_one(terms: Terms, shape: Shape) -> Grid:
    """All terms as one grid; terms that would need too much room become what all their positions see."""
    grids = [to_grid(term, shape) for term in terms]
    one = grids[0]
    for other in grids[1:]:
        if not (
            fits(one.reads.shape[1:], other.reads.shape[1:]) and fits(one.theoretical.shape[1:], other.theoretical.shape[1:])
        ):
            hull = hull_of(other.reads.reshape(2, -1)).reshape(2, *[1] * len(shape))
            other = Grid(hull, np.full_like(hull, EMPTY), None, 0, True, False)
        one = _smaller(one, other, shape)
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
    for arrays in ([grid.reads for grid in grids], [grid.theoretical for grid in grids]):
        lengths = [max(pair) for pair in zip(arrays[0].shape, arrays[1].shape, strict=True)]
        if math.prod(lengths) > max(arrays[0].size, arrays[1].size, MAX_NUMBERS // 16):
            return None
    return simplest(_smaller(*grids, shape), shape)


def _smaller(one: Grid, other: Grid, shape: Shape) -> Grid:
    """The union of two grids."""
    if one.own != other.own and all(
        grid.step and (grid.own is not None or grid.theoretical.size > 2) for grid in (one, other)
    ):
        both = _smaller(explicit(one, shape), explicit(other, shape), shape)
        for own in (one.own, other.own):
            again = None if own is None else recovered(both, own, shape)
            if again is not None:
                return again
        return both
    own = one.own if one.own is not None else other.own
    theoretical = np.minimum(one.theoretical, other.theoretical)
    if own is not None and theoretical.shape[own + 1] > 1:
        theoretical = theoretical[(slice(None),) * (own + 1) + (slice(0, 1),)]
    step = largest_step(one.step, other.step)
    if (one.own is None) != (other.own is None):  # the step of a lost axis says nothing
        step = (one.step or other.step) if other.own is None else (other.step or one.step)
    flags = one.whole or other.whole, one.exact and other.exact
    phases = together([(each.phases, each.theoretical, each.step) for each in (one, other)])
    reads = np.minimum(one.reads, other.reads)
    return Grid(reads, theoretical, own, step, *flags, phases, one.lies | other.lies, one.rough or other.rough)


def together(paths: Sequence[tuple[Phases | None, Array, Number]]) -> Phases | None:
    """The phases of paths that meet; None where all positions are alike, or the paths have unequal steps."""
    if all(phases is None for phases, _, _ in paths):
        return None
    chosen = [path for path in paths if path[2]]
    if len({step for _, _, step in chosen}) > 1:
        return None
    known = []
    for phases, theoretical, step in chosen:
        first, last = (plain_number(least) for least in theoretical.reshape(2, -1).min(1).tolist())
        known.append(phases or Phases.alike(first, math.ceil(-last - first + 1), step))
    return hull_of_phases(known)


def are_aligned(paths: Sequence[Terms]) -> bool:
    """Whether paths that meet look at the same middle at every position; gates are aligned with all."""
    seen: tuple[Number, Number] | None = None
    elements: Array | None = None
    for terms in paths:
        for term in terms:
            if isinstance(term, Grid) and term.own is None and term.step and term.theoretical.size > 2:
                middles = term.theoretical[0] - term.theoretical[1]
                if elements is not None and not _are_equal(elements, middles):
                    return False
                elements = middles
                continue
            for step, middle in _middles(term):
                if seen is None:
                    seen = (step, middle)
                elif seen != (step, middle):
                    return False
    return seen is None or elements is None


def _are_equal(one: Array, other: Array) -> bool:
    """Whether middles are the same wherever both are known."""
    lengths = zip(one.shape, other.shape, strict=True) if one.ndim == other.ndim else ()
    if one.ndim != other.ndim or any(a != b and 1 not in (a, b) for a, b in lengths):
        return False
    apart = np.abs(one - other)
    return not bool(((apart != 0) & (apart < EMPTY // 2)).any())


def _middles(term: Term) -> Iterable[tuple[Number, Number]]:
    """Step and twice the center of position 0, of each kind of field in a term."""
    if isinstance(term, Line):
        sight = term.sight
        middle = sight.first + sight.last if sight.phases is None else 2 * sight.phases.center
        return [(sight.step, middle)] if sight.step else []
    if term.step == 0:
        return []
    if term.phases is not None:
        return [(term.step, 2 * term.phases.center)]
    first, last = term.theoretical.reshape(2, -1)
    middles = (first - last)[first < EMPTY // 2]
    return [(term.step, middles.min()), (term.step, middles.max())] if middles.size else []


def fields_of(axes: Sequence[Terms], shape: Shape) -> tuple[Field, ...]:
    """The receptive field on each axis of the input, for the whole tensor: the hull over all dimensions but that of the axis.

    A map in which the axis has no dimension of its own, as after a shuffle of its pixels, is told along the dimension that the
    axis has in a map; a tensor that is none, such as a flattened one, is told by what all its positions see together.
    """
    told = [_of_line(terms, shape) for terms in axes]
    if None not in told:
        return tuple(told)  # type: ignore[arg-type]
    axes = blanked(tuple(axes), shape)
    return tuple(_field_of(terms, shape, _usual(axes, axis, shape)) for axis, terms in enumerate(axes))


def _of_line(terms: Terms, shape: Shape) -> Field | None:
    """The field of a line with a dimension of its own, the most frequent case; None for all else."""
    if len(terms) > 1 or not isinstance(terms[0], Line) or has_blank(terms[0]):
        return None
    sight, dim, length, inner = terms[0]
    if dim is None or (sight.reads.shape[1] == 1 and length != shape[dim]):
        return sight.field(0, length)
    return sight.field(length, length) if dim and inner == 1 and length == shape[dim] else None


def _usual(axes: Sequence[Terms], axis: int, shape: Shape) -> int | None:
    """The dimension of an axis in a map that holds its pixels in another order."""
    if len(shape) != len(axes) + 2:
        return None
    places = [lying(terms, shape) for terms in axes]
    spatial = sorted(frozenset[int]().union(*places))
    if 0 in spatial:  # windows, merged into the batch
        return None
    among_channels = 1 in spatial and (1 in shape[2:] or 1 not in places[0])  # and not channels that stand last
    return spatial[axis] if len(spatial) == len(axes) and not among_channels else axis + 2


def _field_of(terms: Terms, shape: Shape, usual: int | None) -> Field:
    if len(terms) == 1 and isinstance(terms[0], Line):
        sight, dim, length, inner = terms[0]
        is_own = dim is not None and inner == 1 and length == shape[dim]
        if dim is None or dim == 0 or is_own or sight.reads.shape[1] == 1:
            return sight.field(length if is_own else 0, length)
        if usual is None:
            return _in_a_row(terms[0], shape).field(shape[dim], length)
    own = next((term.dim if isinstance(term, Line) else term.own for term in terms if _has_own(term, shape)), None)
    if (own is None or shape[own] == 1) and not all(is_constant(term) for term in terms):
        lies = lying(terms, shape)
        if not lies and len(shape) > 2:  # such as the states of a recurrent layer, stacked one behind the other
            lies = frozenset[int]().union(*map(differing, terms))
        own = usual if usual is not None else next(iter(lies)) if len(lies) == 1 and 0 not in lies else own
    elif usual is not None and own is not None and own != usual and usual in _spread(terms, shape):
        own = usual
    sights = [_onto(to_grid(term, shape), own) for term in terms]
    length = 1 if own is None else shape[own]
    united_sight = sights[0]
    for sight in sights[1:]:
        united_sight = united_sight.join(sight)
    return united_sight.field(0 if own is None else length, length)


def _spread(terms: Terms, shape: Shape) -> frozenset[int]:
    """The dimensions along which what is really read differs."""
    grids = [compressed(to_grid(term, shape)) for term in terms]
    return frozenset(dim for grid in grids for dim, length in enumerate(grid.reads.shape[1:]) if length > 1)


def _in_a_row(line: Line, shape: Shape) -> Dependence:
    """What each place of a dimension sees into which the axis was merged; the theoretical field is that of the map."""
    assert line.dim is not None
    sight, total = line.sight, shape[line.dim]
    found: Dependence | None = sight.memo.get(("row", total, line.inner))
    if found is None:
        reads = sight.reads[:, np.arange(total) // line.inner % line.length]
        theoretical = sight.first, sight.last, sight.step
        found = Dependence(reads, *theoretical, sight.whole, sight.exact, sight.phases, sight.rough)
        sight.memo["row", total, line.inner] = found
    return found


def are_rough(axes: Sequence[Terms], shape: Shape) -> bool:
    """Whether there is no theoretical field for what is seen of some axis: its size is then that of the largest, its step a guess."""
    grids = False
    for terms in axes:
        for term in terms:
            if isinstance(term, Grid):
                grids = True
            elif term.sight.rough:
                return True
    if not grids:
        return False
    is_map = (_usual(axes, 0, shape) or 0) > 1
    return any(_is_rough(terms, shape, is_map) for terms in axes)


def _is_rough(terms: Terms, shape: Shape, is_map: bool) -> bool:
    if any(term.sight.rough if isinstance(term, Line) else term.rough for term in terms):
        return True
    if not is_map or any(_has_own(term, shape) for term in terms):
        return False
    return any(not is_constant(term) and isinstance(term, Grid) and bool(term.step) for term in terms)


def _has_own(term: Term, shape: Shape) -> bool:
    if isinstance(term, Grid):
        return term.own is not None
    return term.dim is not None and term.inner == 1 and term.length == shape[term.dim]


def _onto(grid: Grid, own: int | None) -> Dependence:
    """The hull of a grid over all dimensions but one."""
    others = tuple(dim for dim in range(1, grid.reads.ndim) if own is None or dim != own + 1)
    reads = least(grid.reads, others).reshape(2, -1)
    theoretical = least(grid.theoretical.reshape(2, -1), 1).tolist()
    first, last = plain_number(theoretical[0]), -plain_number(theoretical[1])
    if grid.step == 0 or first > EMPTY // 2:
        return Dependence(reads, EMPTY, -EMPTY, 0, grid.whole, grid.exact)
    if grid.own is None:
        sizes = -grid.theoretical[0] - grid.theoretical[1]
        last = first + plain_number(sizes[np.abs(sizes) < EMPTY // 2].max())
    return Dependence(reads, first, last, grid.step, grid.whole, grid.exact, grid.phases, grid.rough)
