"""How sights follow a tensor whose dimensions are gathered, reduced, joined, permuted or laid out anew.

Every function takes the terms of one axis of the input and the shape of the tensor that has them, and gives the terms after.
This file knows terms and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import (
    MAX_NUMBERS,
    Array,
    Dependence,
    Grid,
    Line,
    Shape,
    Term,
    Terms,
    bounded,
    each,
    gather_along,
    in_arrays,
    least,
    settled,
    shifted_theoretical,
    simplest,
    to_grid,
)
from visus.networks.trace.coordinates.places import explicit, recovered
from visus.networks.trace.coordinates.taps import Number, Taps, whole_or_fraction
from visus.networks.trace.coordinates.unions import are_aligned, as_one, together, united


def along(terms: Terms, shape: Shape, dim: int, taps: Taps, notes_gaps: bool = False) -> Terms:
    """The positions of ``dim`` replaced by those of ``taps``.

    Positions that read nothing, such as padding, are noted where the axis lies along ``dim``; with ``notes_gaps`` in any case,
    as is needed where no other axis lies there that notes them.
    """
    everywhere = not taps.all_read and (notes_gaps or len(terms) > 1)
    after = (*shape[:dim], taps.length, *shape[dim + 1 :])

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim != dim and not everywhere:
                return term
            if term.dim == dim and term.inner == 1 and term.length == shape[dim]:
                return Line(term.sight.through(taps), dim, taps.length)
        grid = to_grid(term, shape)
        if grid.own == dim:
            theoretical, step, phases = shifted_theoretical(grid, taps)
        else:
            theoretical, step, phases = gather_along(grid.theoretical, taps, dim + 1), grid.step, grid.phases
        rough = grid.rough or (grid.phases is not None and phases is None and not isinstance(taps.scale, int))
        reads = gather_along(grid.reads, taps, dim + 1)
        gathered = grid._replace(reads=reads, theoretical=theoretical, step=step, phases=phases, rough=rough)
        return simplest(bounded(gathered), after, look=True)

    return each(terms, rule)


def reduced(terms: Terms, shape: Shape, dims: Sequence[int], keepdim: bool, keep_own: bool = True) -> Terms:
    """What is seen by a reduction over ``dims``; the axis, where it is among them, is looked at as a whole.

    ``keep_own`` says whether a dimension that is kept with length 1 still is that of the axis.
    """
    gone = set(dims)
    places = _places_after(len(shape), gone, keepdim)

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim is None:
                return term
            if term.dim in gone:
                return Line(term.sight.over(), places[term.dim] if keepdim and keep_own else None, 1)
            return Line(term.sight, places[term.dim], term.length, term.inner)
        over = term.own in gone or (term.own is None and bool(term.lies) and term.lies <= gone)
        axes = tuple(dim + 1 for dim in sorted(gone))
        reads, theoretical = (least(array, axes, keepdim) for array in (term.reads, term.theoretical))
        own = places.get(term.own) if term.own is not None and (not over or (keepdim and keep_own)) else None
        lies = frozenset(places[dim] for dim in term.lies - gone)
        if over:
            lies = lies if own is None else lies | {own}
            grid = Grid(reads, np.full_like(theoretical, EMPTY), own, 0, True, term.exact, lies=lies)
        else:
            grid = Grid(reads, theoretical, own, term.step, term.whole, term.exact, term.phases, lies, term.rough)
        after = tuple(1 if dim in gone else length for dim, length in enumerate(shape) if keepdim or dim not in gone)
        return simplest(grid, after)

    return each(terms, rule)


def with_global_context(terms: Terms, shape: Shape, dims: Sequence[int]) -> Terms:
    """What is seen where each place depends on itself and on all places along ``dims``, as in a softmax or a norm."""
    gone = set(dims)
    beside = any(_places(term) - gone for term in terms)  # such as the queries beside the keys of an attention

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim not in gone:
                return term
            if beside:
                return Line(term.sight.over(), None, 1)
            if term.inner == 1 and term.length == shape[term.dim]:
                return Line(term.sight.with_global_context(), *term[1:])
            return Line(term.sight.with_global_context(), None, 1)
        over = term.own in gone or (term.own is None and bool(term.lies) and term.lies <= gone)
        if over and beside:
            return next(iter(reduced((term,), shape, dims, True, False)))
        reads = least(term.reads, tuple(dim + 1 for dim in sorted(gone)), True)
        kept = term.lies if over else frozenset()  # a gate leaves the theoretical fields of the windows
        theoretical = least(term.theoretical, tuple(dim + 1 for dim in sorted(gone - kept)), True)
        return simplest(term._replace(reads=reads, theoretical=theoretical, whole=term.whole or over), shape)

    return each(terms, rule)


def _places(term: Term) -> frozenset[int]:
    """The dimensions in which a term has its axis."""
    if isinstance(term, Line):
        return frozenset() if term.dim is None else frozenset((term.dim,))
    return term.lies


def hull(terms: Terms, shape: Shape) -> Terms:
    """What a layer sees that looks at everything, taken for a layer without a rule."""
    (seen,) = (reduced((term,), shape, range(len(shape)), False) for term in [as_one(terms, shape)])
    return tuple(Line(term.sight.inexact(), None, 1) for term in seen if isinstance(term, Line))


def permuted(terms: Terms, order: Sequence[int]) -> Terms:
    """The dimensions in a new order."""

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            return term if term.dim is None else Line(term.sight, order.index(term.dim), term.length, term.inner)
        axes = (0, *(dim + 1 for dim in order))
        own = None if term.own is None else order.index(term.own)
        lies = frozenset(order.index(dim) for dim in term.lies)
        return term._replace(
            reads=term.reads.transpose(axes), theoretical=term.theoretical.transpose(axes), own=own, lies=lies
        )

    return each(terms, rule)


def unsqueezed(terms: Terms, dim: int) -> Terms:
    """A dimension of length 1 put in."""

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            return term if term.dim is None or term.dim < dim else term._replace(dim=term.dim + 1)
        own = term.own if term.own is None or term.own < dim else term.own + 1
        reads, theoretical = (np.expand_dims(array, dim + 1) for array in (term.reads, term.theoretical))
        return term._replace(reads=reads, theoretical=theoretical, own=own, lies=_shifted(term.lies, dim))

    return each(terms, rule)


def squeezed(terms: Terms, shape: Shape, dims: Sequence[int]) -> Terms:
    """Dimensions of length 1 taken out."""
    gone = set(dims)
    places = _places_after(len(shape), gone, False)
    after = tuple(length for dim, length in enumerate(shape) if dim not in gone)

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim is None:
                return term
            return Line(term.sight, None, 1) if term.dim in gone else term._replace(dim=places[term.dim])
        axes = tuple(dim + 1 for dim in sorted(gone))
        own = None if term.own is None else places.get(term.own)
        lies = frozenset(places[dim] for dim in term.lies - gone)
        reads, theoretical = (array.squeeze(axes) for array in (term.reads, term.theoretical))
        return simplest(term._replace(reads=reads, theoretical=theoretical, own=own, lies=lies), after)

    return each(terms, rule)


def broadcast(terms: Terms, shape: Shape, after: Shape) -> Terms:
    """Dimensions of length 1 seen by every position of a longer one; where that is the axis, the path is a gate."""
    if shape == after:
        return terms
    added = len(after) - len(shape)

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim is None:
                return term
            if shape[term.dim] == 1 != after[term.dim + added]:
                return Line(term.sight.over(), None, 1)
            return term._replace(dim=term.dim + added)
        ones = (1,) * added
        reads, theoretical = (array.reshape(2, *ones, *array.shape[1:]) for array in (term.reads, term.theoretical))
        own = None if term.own is None else term.own + added
        if own is not None and shape[own - added] == 1 != after[own]:
            return Grid(reads, np.full_like(theoretical, EMPTY), None, 0, True, term.exact)
        lies = frozenset(dim + added for dim in term.lies)
        return term._replace(reads=reads, theoretical=theoretical, own=own, lies=lies)

    return each(terms, rule)


def joined(paths: Sequence[tuple[Terms, Shape]], after: Shape) -> tuple[Terms, bool]:
    """Paths that meet element by element, and whether they are aligned."""
    first = paths[0][0]
    if all(terms is first and shape == after for terms, shape in paths):
        return first, True
    spread = [broadcast(terms, shape, after) for terms, shape in paths]
    return united((term for terms in spread for term in terms), after), are_aligned(spread)


def stacked(paths: Sequence[tuple[Terms | None, Shape]], dim: int) -> tuple[Terms, bool]:
    """Tensors one behind the other along ``dim``, and whether they are aligned; None has seen nothing."""
    lines = [terms[0] for terms, _ in paths if terms and len(terms) == 1 and isinstance(terms[0], Line)]
    known = [terms for terms, _ in paths if terms]
    total = sum(shape[dim] for _, shape in paths)
    if len(lines) == len(paths) and lines[0].dim != dim and all(line == lines[0] for line in lines[1:]):
        return (lines[0],), True
    own_dim = all(line.dim == dim and line.inner == 1 and line.length == _length(paths, line, dim) for line in lines)
    if len(lines) == len(known) and lines and own_dim:
        return (_end_to_end(paths, dim, total),), True
    after = (*paths[0][1][:dim], total, *paths[0][1][dim + 1 :])
    grids = [as_one(terms, shape) if terms else None for terms, shape in paths]
    owns = {
        grid.own for grid in grids if grid is not None and grid.step and (grid.own is not None or grid.theoretical.size > 2)
    }
    if len(owns) > 1:
        pairs = zip(grids, paths, strict=True)
        grids = [None if grid is None else explicit(grid, shape) for grid, (_, shape) in pairs]
    one = _stacked(grids, [shape for _, shape in paths], dim)
    for own in owns - {None} if len(owns) > 1 else ():
        one = recovered(one, own, after) or one  # type: ignore[arg-type]
    return (simplest(bounded(one), after),), one.own == dim or are_aligned(known)


def _stacked(grids: Sequence[Grid | None], shapes: Sequence[Shape], dim: int) -> Grid:
    """Grids one behind the other; they have the same dimension for the axis, or none has."""
    present = [grid for grid in grids if grid is not None]
    own = next((grid.own for grid in present if grid.own is not None), None)
    reads, is_hull = _stack([None if grid is None else grid.reads for grid in grids], shapes, dim)
    theoretical, is_rough = _stack([None if grid is None else grid.theoretical for grid in grids], shapes, dim)
    if own is not None and own == dim:
        theoretical = least(theoretical, own + 1, True)
    elif own is not None and theoretical.shape[own + 1] > 1:
        theoretical = theoretical[(slice(None),) * (own + 1) + (slice(0, 1),)]
    step: Number = 0
    for grid in present:
        step = grid.step if step == 0 else max(step, grid.step) if grid.step else step
    whole, exact = any(grid.whole for grid in present), all(grid.exact for grid in present) and not is_hull
    phases = together([(grid.phases, grid.theoretical, grid.step) for grid in present])
    lies = frozenset[int]().union(*(grid.lies for grid in present))
    return Grid(reads, theoretical, own, step, whole, exact, phases, lies, is_rough or any(grid.rough for grid in present))


def _length(paths: Sequence[tuple[Terms | None, Shape]], line: Line, dim: int) -> int:
    return next(shape[dim] for terms, shape in paths if terms and terms[0] is line)


def _end_to_end(paths: Sequence[tuple[Terms | None, Shape]], dim: int, total: int) -> Line:
    """Lines along ``dim`` put one behind the other; the theoretical field of the first goes on."""
    parts, theoretical = [], None
    place = 0
    for terms, shape in paths:
        length = shape[dim]
        if not terms:
            parts.append(np.full((2, length), EMPTY))
        else:
            sight = terms[0].sight  # type: ignore[union-attr]
            parts.append(sight.reads if sight.reads.shape[1] == length else np.repeat(sight.reads, length, axis=1))
            if theoretical is None or (theoretical.step == 0 and sight.step):
                first = (sight.first - place * sight.step, sight.last - place * sight.step)
                theoretical = Dependence(
                    parts[-1], *(first if sight.step else (sight.first, sight.last)), sight.step, False, True
                )
        place += length
    sights = [terms[0].sight for terms, _ in paths if terms]  # type: ignore[union-attr]
    assert theoretical is not None
    flags = any(sight.whole for sight in sights), all(sight.exact for sight in sights)
    return Line(
        Dependence(np.concatenate(parts, axis=1), theoretical.first, theoretical.last, theoretical.step, *flags), dim, total
    )


def _stack(arrays: Sequence[Array | None], shapes: Sequence[Shape], dim: int) -> tuple[Array, bool]:
    """Arrays one behind the other, and whether they were too large and are taken for their hull."""
    known = [array for array in arrays if array is not None]
    longest = [max(lengths) for lengths in zip(*(array.shape for array in known), strict=True)]
    total = sum(shape[dim] for shape in shapes)
    longest[dim + 1] = total
    if math.prod(longest) > MAX_NUMBERS:
        lowest = np.minimum.reduce([least(array.reshape(2, -1), 1) for array in known])
        return np.asarray(lowest.reshape(2, *[1] * (len(longest) - 1))), True
    kind = np.result_type(*(array.dtype for array in known))
    whole = np.full(longest, EMPTY, dtype=kind)
    place = 0
    for array, shape in zip(arrays, shapes, strict=True):
        if array is not None:
            part = (slice(None),) * (dim + 1) + (slice(place, place + shape[dim]),)
            whole[part] = array
        place += shape[dim]
    return whole, False


def grouped(terms: Terms, shape: Shape, dim: int, num_groups: int, out_channels: int) -> Terms:
    """The channels along ``dim`` mixed within groups, into ``out_channels`` new ones."""
    after = (*shape[:dim], out_channels, *shape[dim + 1 :])

    def rule(term: Term) -> Term:
        if isinstance(term, Line):
            if term.dim != dim:
                return term
            if num_groups == 1:
                return Line(term.sight.over(), None, 1)
        grid = to_grid(term, shape)
        if num_groups == 1 and grid.own is None and grid.lies == {dim}:
            return reduced((grid,), shape, (dim,), True, False)[0]
        own = None if grid.own == dim else grid.own
        reads, theoretical = (_mixed(array, dim + 1, num_groups, out_channels) for array in (grid.reads, grid.theoretical))
        if grid.own == dim:
            theoretical, step, whole = np.full_like(theoretical, EMPTY), 0, True
            return simplest(Grid(reads, theoretical, None, step, whole, grid.exact), after)
        lies = grid.lies - {dim} if num_groups == 1 else grid.lies
        return simplest(grid._replace(reads=reads, theoretical=theoretical, own=own, lies=lies), after, look=num_groups == 1)

    return each(terms, rule)


def _mixed(array: Array, dim: int, num_groups: int, out_channels: int) -> Array:
    if array.shape[dim] == 1:
        return array
    if num_groups == 1:
        return np.asarray(array.min(dim, keepdims=True))
    parts = array.reshape(*array.shape[:dim], num_groups, -1, *array.shape[dim + 1 :]).min(dim + 1)
    return np.repeat(parts, out_channels // num_groups, axis=dim)


def spread(terms: Terms, shape: Shape, dim: int, taps: Taps) -> Terms:
    """``dim`` replaced by two: the new positions, and behind them what each reads tap by tap."""
    num_taps = taps.table.shape[1]
    after = (*shape[:dim], taps.length, num_taps, *shape[dim + 1 :])

    def rule(term: Term) -> Term:
        if isinstance(term, Line) and term.dim != dim:
            return term if term.dim is None or term.dim < dim else term._replace(dim=term.dim + 1)
        grid = to_grid(term, shape)
        if grid.own == dim and grid.phases is not None:
            grid = explicit(grid, shape)
        arrays = []
        for array in (grid.reads, grid.theoretical):
            if array.shape[dim + 1] == 1:
                arrays.append(np.expand_dims(array, dim + 2))
                continue
            edge = np.full((*array.shape[: dim + 1], 1, *array.shape[dim + 2 :]), EMPTY, dtype=array.dtype)
            arrays.append(np.concatenate((array, edge), axis=dim + 1).take(taps.table, axis=dim + 1))
        reads, theoretical = arrays
        own = grid.own if grid.own is None or grid.own <= dim else grid.own + 1
        step = grid.step
        if grid.own == dim and step:
            first = np.arange(num_taps) * in_arrays(_apart(taps) * step) + in_arrays(taps.lowest * step)
            line = np.stack([first, -first]).reshape(2, *[1] * dim, 1, num_taps, *[1] * (len(shape) - dim - 1))
            theoretical, step = settled(theoretical + line), whole_or_fraction(Fraction(step * taps.scale))
        lies = _shifted(grid.lies, dim + 1) | ({dim + 1} if dim in grid.lies else frozenset())
        flags = grid.whole, grid.exact
        return simplest(bounded(Grid(reads, theoretical, own, step, *flags, grid.phases, lies, grid.rough)), after)

    return each(terms, rule)


def _shifted(dims: frozenset[int], place: int) -> frozenset[int]:
    """Dimensions after one was put in at a place."""
    return frozenset(dim if dim < place else dim + 1 for dim in dims)


def _apart(taps: Taps) -> Number:
    """Old positions between neighboring taps."""
    num_taps = taps.table.shape[1]
    return (taps.highest - taps.lowest) // (num_taps - 1) if num_taps > 1 else 0


def _places_after(num_dims: int, gone: set[int], keepdim: bool) -> dict[int, int]:
    """Where each dimension is found after those in ``gone`` were taken out."""
    if keepdim:
        return {dim: dim for dim in range(num_dims)}
    return {dim: place for place, dim in enumerate(dim for dim in range(num_dims) if dim not in gone)}


def accumulated(terms: Terms, shape: Shape, dim: int) -> Terms:
    """Each position with all before it along ``dim``, as for a running sum."""

    def rule(term: Term) -> Term:
        if isinstance(term, Line) and term.dim != dim:
            return term
        grid = to_grid(term, shape)
        reads, theoretical = (np.minimum.accumulate(array, dim + 1) for array in (grid.reads, grid.theoretical))
        return simplest(grid._replace(reads=reads, theoretical=theoretical, whole=grid.whole or grid.own == dim), shape)

    return each(terms, rule)


def inexact(terms: Terms) -> Terms:
    """The same, taken for a hull."""
    return each(
        terms,
        lambda term: term._replace(sight=term.sight.inexact()) if isinstance(term, Line) else term._replace(exact=False),
    )
