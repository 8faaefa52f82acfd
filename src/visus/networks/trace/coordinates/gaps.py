"""Elements that read nothing, such as padding: an element that reads nothing on one axis reads nothing on any."""

from __future__ import annotations

from functools import partial

import numpy as np

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.coordinates.dependence import MAX_NUMBERS, Array, Dependence, Shape, Terms, each


def blanked(axes: tuple[Terms, ...], shape: Shape) -> tuple[Terms, ...]:
    """The axes, with elements that read nothing on one axis marked as reading nothing on any.

    Axes are followed separately, so the height alone marks padded rows while it has its own dimension. Before a join or a
    merge, every axis must mark them.
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
    """The terms with some elements marked as reading nothing. ``blank`` has the tensor's dimensions, or 1 if all positions
    are equal."""
    return each(terms, partial(_without, blank=blank, shape=shape))


def _without(term: Dependence, blank: Array, shape: Shape) -> Dependence:
    """A term with some elements that read nothing."""
    dep = term.with_arrays(shape)
    return dep.replaced(intervals=np.where(blank, EMPTY, dep.intervals)).simplified(shape, look=True)


def inexact(terms: Terms) -> Terms:
    """The same terms, marked as an upper bound."""
    return each(terms, lambda term: term.replaced(is_exact=False))
