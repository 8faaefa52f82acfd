"""The receptive field of a whole tensor on each axis of the input, and whether it is approximate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visus.geometry import Field
from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.axis_dims import differing, lying
from visus.networks.trace.coordinates.dependence import Dependence, Shape, Terms, least, plain_number
from visus.networks.trace.coordinates.gaps import blanked
from visus.networks.trace.coordinates.unions import compact_union


def fields_of(axes: Sequence[Terms], shape: Shape) -> tuple[Field, ...]:
    """The receptive field on each axis of the input, for the whole tensor: the hull over all dimensions but that of the axis.

    If the axis has no dimension of its own, as after a shuffle of the pixels, a map has its field along the usual dimension
    of the axis. A tensor that is not a map, such as a flattened one, has the union over all its positions.
    """
    found = [_of_compact(terms, shape) for terms in axes]
    if None not in found:
        return tuple(found)  # type: ignore[arg-type]
    axes = blanked(tuple(axes), shape)
    return tuple(_field_of(terms, shape, _usual_dim(axes, axis, shape)) for axis, terms in enumerate(axes))


def _of_compact(terms: Terms, shape: Shape) -> Field | None:
    """The field of one compact term, the most frequent case; None for all else."""
    term = terms[0]
    if len(terms) > 1 or not term.is_compact or term.has_nothing:
        return None
    length = term.position_count(shape)
    if term.axis_dim is not None:
        return term.field(length, length) if term.axis_dim else None
    return term.field(0, length) if term.is_constant else None


def _usual_dim(axes: Sequence[Terms], axis: int, shape: Shape) -> int | None:
    """The dimension of an axis in a map that holds its pixels in another order; None in what is no map."""
    if len(shape) != len(axes) + 2:
        return None
    places = [lying(terms, shape) for terms in axes]
    spatial = sorted(frozenset[int]().union(*places))
    if 0 in spatial:  # windows, merged into the batch
        return None
    among_channels = 1 in spatial and (1 in shape[2:] or 1 not in places[0])  # and not channels that stand last
    return spatial[axis] if len(spatial) == len(axes) and not among_channels else axis + 2


def _field_of(terms: Terms, shape: Shape, usual: int | None) -> Field:
    if len(terms) == 1 and terms[0].is_compact:
        term, length = terms[0], terms[0].position_count(shape)
        if term.axis_dim is not None:
            return term.field(length, length)
        if not term.axis_dims or term.axis_dims == {0} or term.is_constant:
            return term.field(0, length)
        if usual is None:
            return _in_a_row(term, shape)
    own = next((term.axis_dim for term in terms if term.axis_dim is not None), None)
    if (own is None or shape[own] == 1) and not all(term.is_constant for term in terms):
        dims = lying(terms, shape)
        if not dims and len(shape) > 2:  # such as the states of a recurrent layer, stacked one behind the other
            dims = frozenset[int]().union(*map(differing, terms))
        own = usual if usual is not None else next(iter(dims)) if len(dims) == 1 and 0 not in dims else own
    elif usual is not None and own is not None and own != usual and usual in _reading_differs(terms, shape):
        own = usual
    first, *others = (_onto(term.with_arrays(shape), own) for term in terms)
    for other in others:
        first = compact_union(first, other)
    length = 1 if own is None else shape[own]
    return first.field(0 if own is None else length, length)


def _reading_differs(terms: Terms, shape: Shape) -> frozenset[int]:
    """The dimensions along which what is really read differs."""
    lengths = [term.with_arrays(shape).compressed().intervals.shape[1:] for term in terms]
    return frozenset(dim for each in lengths for dim, length in enumerate(each) if length > 1)


def _in_a_row(term: Dependence, shape: Shape) -> Field:
    """The field of a dimension into which the axis was merged, place by place; the theoretical field is that of the map."""
    (dim,), (length, inner) = term.axis_dims, term.merged or (1, 1)
    found: Field | None = term.memo.get(("in a row", shape[dim], inner))
    if found is None:
        positions = np.arange(shape[dim]) // inner % length
        row = term.replaced(intervals=term.intervals.reshape(2, -1)[:, positions])
        found = term.memo["in a row", shape[dim], inner] = row.field(shape[dim], length)
    return found


def are_approximate(axes: Sequence[Terms], shape: Shape) -> bool:
    """Whether there is no theoretical field on some axis; its size is then that of the largest field, its stride an
    estimate."""
    if all(term.is_compact for terms in axes for term in terms):
        return any(term.is_approximate for terms in axes for term in terms)
    is_map = (_usual_dim(axes, 0, shape) or 0) > 1
    return any(_is_approximate(terms, is_map) for terms in axes)


def has_pairs(axes: Sequence[Terms], shape: Shape) -> bool:
    """Whether each value of a tensor that is no map belongs to two positions of an axis, as scores between queries and keys do."""
    if len(shape) == len(axes) + 2:
        return False
    for terms in axes:
        dims = [(term.axis_dim,) if term.axis_dim is not None else tuple(term.axis_dims) for term in terms]
        if len({own for own in dims if len(own) == 1 and own[0] and shape[own[0]] > 1}) > 1:
            return True
    return False


def _is_approximate(terms: Terms, is_map: bool) -> bool:
    if any(term.is_approximate for term in terms):
        return True
    if not is_map or any(term.axis_dim is not None for term in terms):
        return False
    return any(not term.is_constant and not term.is_compact and bool(term.stride) for term in terms)


def _onto(dep: Dependence, dim: int | None) -> Dependence:
    """The hull of a term with arrays over all dimensions but one, as if there were no other; compact."""
    axes = tuple(axis for axis in range(1, dep.intervals.ndim) if dim is None or axis != dim + 1)
    found = Dependence(
        least(dep.intervals, axes).reshape(2, -1),
        None,
        0,
        0,
        frozenset((0,)),
        is_whole=dep.is_whole,
        is_exact=dep.is_exact,
    )
    first, last = (plain_number(number) for number in least(dep.theoretical.reshape(2, -1), 1).tolist())
    if dep.stride == 0 or first > EMPTY // 2:
        return found
    found.first, found.last, found.stride = first, -last, dep.stride
    found.phases, found.is_approximate = dep.phases, dep.is_approximate
    if dep.axis_dim is None:
        sizes = -dep.theoretical[0] - dep.theoretical[1]
        found.last = first + plain_number(sizes[np.abs(sizes) < EMPTY // 2].max())
    return found
