"""Recurrent layers: each time step depends on itself and on all before it, or after it."""

from __future__ import annotations

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import Dependence, Shape, Terms, each


def recurrent(terms: Terms, shape: Shape, dim: int, *, is_reverse: bool = False) -> Terms:
    """The dependence of each position on itself and on all before it along ``dim``, or after it if ``is_reverse``.

    In theory each position depends on everything, as after attention: a recurrent layer has no window, so there is no size and stride.
    """

    def rule(term: Dependence) -> Dependence:
        if term.is_compact and dim not in term.axis_dims:
            return term
        dep = term.with_arrays(shape)
        order = (slice(None),) * (dim + 1) + (slice(None, None, -1 if is_reverse else 1),)
        intervals = np.minimum.accumulate(dep.intervals[order], dim + 1)[order]
        theoretical = np.full_like(dep.theoretical, EMPTY)
        whole = dep.replaced(intervals=intervals, theoretical=theoretical, stride=0, phases=None, is_whole=True)
        return whole.simplified(shape)

    return each(terms, rule)
