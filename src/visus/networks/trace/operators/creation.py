"""Operators that create or overwrite values: zeros, random numbers, copies."""

from __future__ import annotations

from visus.networks.trace.annotation import Axes
from visus.networks.trace.coordinates.reshaping import broadcast
from visus.networks.trace.operators.registry import Call, operator


@operator("empty", "empty_strided", kind="values", is_uninitialized=True)
@operator("fill", "zero", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", kind="values")
@operator("randint_like", "new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", kind="values")
@operator("normal_", "uniform", "random", "exponential", "_assert_async", kind="values")
def new_values(call: Call) -> None:
    """New values, which do not depend on the input."""
    return


@operator("copy", kind="values", copied_argument=1)
def copy(call: Call) -> Axes | None:
    """``copy_(x, source)``: depends only on the source."""
    axes = call.axes(1)
    if axes is None:
        return None
    shape, after = call.shape(1), call.shape(0)
    return axes if shape == after else tuple(broadcast(terms, shape, after) for terms in axes)
