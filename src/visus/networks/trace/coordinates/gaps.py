"""Elements that read nothing, such as padding: what reads nothing of one axis reads nothing of any."""

from __future__ import annotations

from functools import partial

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import MAX_NUMBERS, Array, Dependence, Shape, Terms, each


def blanked(axes: tuple[Terms, ...], shape: Shape) -> tuple[Terms, ...]:
    """The axes, where an element that reads nothing of one axis reads nothing of any.

    The axes are followed one by one, so the rows of a padded map are known to read nothing by their height alone, as long as
    they stand in a dimension of their own. What meets other paths or is merged must know it by every axis.
    """
    if len(axes) < 2 or not any(term.has_nothing for terms in axes for term in terms):
        return axes
    blank: Array | None = None
    for terms in axes:
        nothing: Array | None = None
        for term in terms:
            places = term.with_arrays(shape).intervals[0] >= EMPTY
            nothing = places if nothing is None else nothing & places
        if nothing is not None and nothing.any():
            blank = nothing if blank is None else blank | nothing
    if blank is None:
        return axes
    if 2 * blank.size > MAX_NUMBERS:
        return tuple(inexact(terms) for terms in axes)
    return tuple(without(terms, blank, shape) for terms in axes)


def without(terms: Terms, blank: Array, shape: Shape) -> Terms:
    """The terms, where some elements read nothing; ``blank`` has the tensor's dimensions, or 1 where all are the same."""
    return each(terms, partial(_without, blank=blank, shape=shape))


def _without(term: Dependence, blank: Array, shape: Shape) -> Dependence:
    """A term with some elements that read nothing."""
    dep = term.with_arrays(shape)
    return dep.replaced(intervals=np.where(blank, EMPTY, dep.intervals)).simplified(shape, look=True)


def inexact(terms: Terms) -> Terms:
    """The same, marked as a hull that may be larger than what is read."""
    return each(terms, lambda term: term.replaced(is_exact=False))
