"""Operators whose output depends on all positions along some dimensions: sum, max, cumsum, sort, Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from visus.networks.trace.annotation import Axes
from visus.networks.trace.coordinates.dependence import Terms
from visus.networks.trace.coordinates.mixing import accumulated, frequencies, reduced, with_global_context
from visus.networks.trace.coordinates.reshaping import broadcast
from visus.networks.trace.operators.elementwise import pointwise
from visus.networks.trace.operators.registry import Call, operator
from visus.networks.trace.operators.shapes import FLOATS, new_like


def reduced_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The shape without the dimensions of the second argument."""
    x = args[0]
    if kwargs or len(args) < 2 or not isinstance(args[1], (list, tuple)) or not args[1] or x.dtype not in FLOATS:
        return None
    gone = {dim % x.dim() for dim in args[1]}
    keepdim = len(args) > 2 and args[2]
    return new_like([1 if dim in gone else length for dim, length in enumerate(x.shape) if keepdim or dim not in gone], x)


@operator("mean", "amax", kind="global pool", shape=reduced_shape)
@operator("sum", "amin", kind="values", shape=reduced_shape)
@operator("prod", "any", "all", "var", "std", "var_mean", "std_mean", "logsumexp", "nansum", "nanmean", kind="values")
@operator("max", "min", "aminmax", "argmax", "argmin", "median", "nanmedian", "mode", "kthvalue", kind="values")
@operator("norm", "linalg_vector_norm", "linalg_matrix_norm", "frobenius_norm", "nuclear_norm", kind="values")
@operator("count_nonzero", "hash_tensor", kind="values")
def reduction(call: Call) -> Axes | list[Axes | None]:
    """``sum(x, dim, keepdim=False)``: over some dimensions, or all; ``max(x, other)`` is element by element."""
    named = call.named()
    if isinstance(named.get("other"), Tensor):
        return pointwise(call)
    shape = call.shape(0)
    dims = named.get("dim")
    if isinstance(dims, int):
        dims = [dims]
    gone = [dim % len(shape) for dim in dims] if dims else list(range(len(shape)))
    keepdim = bool(named.get("keepdim", False))
    found = tuple(reduced(terms, shape, gone, keepdim) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


@operator("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "_cummax_helper", "_cummin_helper", kind="values")
def cumulative(call: Call) -> Axes | list[Axes | None]:
    """``cumsum(x, dim)``: each position depends on all before it along a dimension."""
    shape = call.shape(0)
    dim = call.named()["dim"] % max(len(shape), 1)
    found = tuple(accumulated(terms, shape, dim) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


@operator("sort", "argsort", "topk", "msort", "renorm", kind="values")
def sorting(call: Call) -> list[Axes | None] | Axes:
    """``sort(x, dim=-1)``: each position depends on all along a dimension."""
    named = call.named()
    shape = call.shape(0)
    dim = named.get("dim", -1) % max(len(shape), 1)
    after = call.out_shape

    def rule(terms: Terms) -> Terms:
        if after == shape:
            return with_global_context(terms, shape, (dim,))
        kept = reduced(terms, shape, (dim,), True, False)
        return broadcast(kept, (*shape[:dim], 1, *shape[dim + 1 :]), after)

    found = tuple(rule(terms) for terms in call.axes(0) or ())
    return [found] * len(call.out) if isinstance(call.out, (tuple, list)) else found


@operator("_fft_r2c", "_fft_c2c", "_fft_c2r", kind="values")
def fourier(call: Call) -> Axes:
    """Each frequency depends on all positions along the dimensions."""
    shape = call.shape(0)
    dims = [dim % len(shape) for dim in call.args[1]]
    return tuple(frequencies(terms, shape, dims) for terms in call.axes(0) or ())
