"""Operations over many positions: reductions, global context, groups of channels, running sums, frequencies, hulls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import Array, Dependence, Shape, Terms, each, least
from visus.networks.trace.coordinates.gaps import inexact
from visus.networks.trace.coordinates.unions import as_one


def reduced(terms: Terms, shape: Shape, dims: Sequence[int], keepdim: bool, keep_own: bool = True) -> Terms:
    """The dependence of a reduction over ``dims``; if the axis is among them, the whole axis is read.

    ``keep_own``: whether a kept dimension of length 1 still belongs to the axis.
    """
    gone = frozenset(dims)
    axes = tuple(dim + 1 for dim in sorted(gone))
    kept = range(len(shape)) if keepdim else [dim for dim in range(len(shape)) if dim not in gone]
    after = tuple(1 if dim in gone else shape[dim] for dim in kept)

    def rule(term: Dependence) -> Dependence:
        is_over = _is_over(term, gone)
        if term.is_compact:
            if not is_over:
                return term if keepdim else term.rearranged(kept)
            (dim,) = term.axis_dims
            return term.hull().laid(dim, len(after)) if keepdim and keep_own else term.hull()
        intervals, theoretical = least(term.intervals, axes, True), least(term.theoretical, axes, True)
        if is_over:
            own = term.axis_dim if keepdim and keep_own else None
            axis_dims = (term.axis_dims - gone) | (frozenset() if own is None else {own})
            whole = np.full_like(theoretical, EMPTY)
            dep = Dependence(intervals, whole, 0, own, axis_dims, is_whole=True, is_exact=term.is_exact)
        else:
            dep = term.replaced(intervals=intervals, theoretical=theoretical, axis_dims=term.axis_dims - gone)
        return (dep if keepdim else dep.rearranged(kept)).simplified(after)

    return each(terms, rule)


def _is_over(term: Dependence, dims: frozenset[int]) -> bool:
    """Whether a reduction over dimensions looks at the whole axis."""
    if term.axis_dim is not None:
        return term.axis_dim in dims
    return bool(term.axis_dims) and term.axis_dims <= dims


def with_global_context(terms: Terms, shape: Shape, dims: Sequence[int]) -> Terms:
    """The dependence of each position on itself and on all positions along ``dims``, as in a softmax or a norm."""
    gone = frozenset(dims)
    beside = any(term.axis_dims - gone for term in terms)  # such as the queries beside the keys of an attention

    def rule(term: Dependence) -> Dependence:
        is_over = _is_over(term, gone)
        if is_over and beside:
            return reduced((term,), shape, dims, True, False)[0]
        if term.is_compact:
            return term.with_global_context() if is_over else term
        kept = term.axis_dims if is_over else frozenset()  # a gate leaves the theoretical fields of the windows
        return term.replaced(
            intervals=least(term.intervals, tuple(dim + 1 for dim in sorted(gone)), True),
            theoretical=least(term.theoretical, tuple(dim + 1 for dim in sorted(gone - kept)), True),
            is_whole=term.is_whole or is_over,
        ).simplified(shape)

    return each(terms, rule)


def frequencies(terms: Terms, shape: Shape, dims: Sequence[int]) -> Terms:
    """The dependence of each frequency of a Fourier transform along ``dims``: all positions along them."""
    axes = tuple(dim + 1 for dim in dims)

    def rule(term: Dependence) -> Dependence:
        return term if term.theoretical is None else term.replaced(theoretical=least(term.theoretical, axes, True))

    return each(with_global_context(terms, shape, dims), rule)


def grouped(terms: Terms, shape: Shape, dim: int, num_groups: int, out_channels: int) -> Terms:
    """Mixes the channels along ``dim`` within groups into ``out_channels`` new ones."""
    after = (*shape[:dim], out_channels, *shape[dim + 1 :])

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term
        if num_groups == 1 and term.axis_dims == {dim}:
            return reduced((term,), shape, (dim,), True, False)[0]
        dep = term.with_arrays(shape)
        intervals, theoretical = (
            _mixed(array, dim + 1, num_groups, out_channels) for array in (dep.intervals, dep.theoretical)
        )
        if dep.axis_dim == dim:
            whole = np.full_like(theoretical, EMPTY)
            return Dependence(intervals, whole, 0, is_whole=True, is_exact=dep.is_exact).simplified(after)
        axis_dims = dep.axis_dims - {dim} if num_groups == 1 else dep.axis_dims
        mixed = dep.replaced(intervals=intervals, theoretical=theoretical, axis_dims=axis_dims)
        return mixed.simplified(after, look=num_groups == 1)

    return each(terms, rule)


def _mixed(array: Array, axis: int, num_groups: int, out_channels: int) -> Array:
    """The least numbers of each group along an axis of an array, once for each new channel."""
    if array.shape[axis] == 1:
        return array
    if num_groups == 1:
        return np.asarray(array.min(axis, keepdims=True))
    parts = array.reshape(*array.shape[:axis], num_groups, -1, *array.shape[axis + 1 :]).min(axis + 1)
    return np.repeat(parts, out_channels // num_groups, axis=axis)


def accumulated(terms: Terms, shape: Shape, dim: int) -> Terms:
    """The dependence of each position on all before it along ``dim``, as in a running sum."""

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term
        dep = term.with_arrays(shape)
        intervals, theoretical = (np.minimum.accumulate(array, dim + 1) for array in (dep.intervals, dep.theoretical))
        is_whole = dep.is_whole or dep.axis_dim == dim
        return dep.replaced(intervals=intervals, theoretical=theoretical, is_whole=is_whole).simplified(shape)

    return each(terms, rule)


def hull(terms: Terms, shape: Shape) -> Terms:
    """The dependence of a layer that reads everything, for a layer without a rule."""
    seen = reduced((as_one(terms, shape),), shape, range(len(shape)), False)
    return inexact(seen)
