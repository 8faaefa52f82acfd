"""Recurrent layers: each time step depends on itself and on all before it, or after it."""

from __future__ import annotations

import numpy as np

from visus.geometry import Window
from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import Array, Dependence, Shape, Terms, each, in_arrays, settled


def recurrent(terms: Terms, shape: Shape, dim: int) -> Terms:
    """The dependence of each position on itself and on all before it along ``dim``, as in a recurrent layer.

    It is that of a causal window as long as the dimension: of ``n`` positions and ``n - 1`` of padding before them.
    """
    num_before = shape[dim] - 1

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term
        dep = term.with_arrays(shape)
        intervals = np.minimum.accumulate(dep.intervals, dim + 1)
        if dep.axis_dim != dim or not dep.stride:
            theoretical = np.minimum.accumulate(dep.theoretical, dim + 1)
            return dep.replaced(intervals=intervals, theoretical=theoretical).simplified(shape)
        if dep.phases is not None:
            phases = dep.phases.through(Window(num_before + 1, padding=(num_before, 0)))
            if phases is None:
                return _without_theory(dep, intervals).simplified(shape)
            dep = dep.replaced(phases=phases.reduced())
        lengthened = np.array([in_arrays(num_before * dep.stride), 0]).reshape(2, *[1] * len(shape))
        theoretical = settled(dep.theoretical - lengthened)
        return dep.replaced(intervals=intervals, theoretical=theoretical).simplified(shape)

    return each(terms, rule)


def one_sided(terms: Terms, shape: Shape, dim: int, *, is_reverse: bool) -> Terms:
    """What is really read by one direction of a bidirectional layer, all positions before or after; it has no theoretical
    field of its own, since both directions together read everything."""

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term
        dep = term.with_arrays(shape)
        order = slice(None, None, -1 if is_reverse else 1)
        index = (slice(None),) * (dim + 1) + (order,)
        return _without_theory(dep, np.minimum.accumulate(dep.intervals[index], dim + 1)[index])

    return each(terms, rule)


def _without_theory(dep: Dependence, intervals: Array) -> Dependence:
    """A term with arrays whose positions count as reading everything, though each really reads its own interval."""
    theoretical = np.full_like(dep.theoretical, EMPTY)
    return dep.replaced(intervals=intervals, theoretical=theoretical, stride=0, phases=None, is_whole=True)
