"""Matrix products and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visus.networks.trace.annotation import Axes, axes_of
from visus.networks.trace.coordinates.dependence import Dependence
from visus.networks.trace.coordinates.mixing import reduced
from visus.networks.trace.coordinates.reshaping import broadcast
from visus.networks.trace.coordinates.unions import united
from visus.networks.trace.operators.registry import HULL, Call, Hull, operator, register
from visus.networks.trace.operators.shapes import broadcast_shape, new_like

# ---- matrix products ----


def _product_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if kwargs:
        return None
    one, other = args[-2], args[-1]
    if not isinstance(other, Tensor) or one.shape[-1] != other.shape[-2] or one.dtype != other.dtype:
        return None
    if len(one.shape) == 3 and one.shape[0] != other.shape[0]:
        return None
    shape = (*one.shape[:-1], other.shape[-1])
    if len(args) == 3 and broadcast_shape(args[0].shape, shape) != shape:
        return None
    return new_like(shape, one)


def _product_macs(args: Sequence[Any], out: Any) -> int:
    one, other = [value for value in args if isinstance(value, Tensor)][-2:]
    return int(math.prod(one.shape) * other.shape[-1])


def _linear_macs(args: Sequence[Any], out: Any) -> int:
    return int(math.prod(args[0].shape) * args[1].shape[0])


def _sparse_product_macs(args: Sequence[Any], out: Any) -> int:
    """Multiply-adds of a product with a sparse matrix."""
    one, other = [value for value in args if isinstance(value, Tensor)][-2:]
    if one.layout == torch.strided:
        return int(one.shape[0] * other._nnz())
    return int(one._nnz() * other.shape[-1])


def _product(call: Call, one: int, other: int, added: int | None = None) -> Axes:
    """A matrix product of two arguments: it sums over the last dimension of one and the second to last of the other."""
    after = call.out_shape
    found: list[list[Dependence]] = []
    for place, gone in ((one, -1), (other, -2)):
        axes, shape = call.axes(place), call.shape(place)
        for axis, terms in enumerate(axes or ()):
            if axis == len(found):
                found.append([])
            found[axis] += reduced(terms, shape, (len(shape) + gone,), True, False)
    if added is not None and (axes := call.axes(added)) is not None:
        shape = call.shape(added)
        for axis, terms in enumerate(axes):
            if axis == len(found):
                found.append([])
            found[axis] += broadcast(terms, shape, after)
    return tuple(tuple(terms) if len(terms) == 1 else united(terms, after) for terms in found)


@operator("mm", "bmm", kind="values", is_affine=True, shape=_product_shape, macs=_product_macs)
@operator("_int_mm", kind="values", macs=_product_macs)
@operator("matmul", kind="values", is_affine=True)
def matrix_product(call: Call) -> Axes:
    """``mm(a, b)``: each output depends on a row of ``a`` and a column of ``b``."""
    return _product(call, 0, 1)


@operator("addmm", "baddbmm", kind="values", is_affine=True, shape=_product_shape, macs=_product_macs)
@operator("_addmm_activation", kind="values", macs=_product_macs)
def matrix_product_added(call: Call) -> Axes:
    """``addmm(added, a, b)``."""
    return _product(call, 1, 2, 0)


@operator("linear", "mkldnn_linear", kind="values", is_affine=True, macs=_linear_macs)
def linear(call: Call) -> Axes | Hull:
    """``linear(x, weight, bias)`` as a single operator."""
    if any(axes_of(value) is not None for value in call.args[1:]):
        return HULL
    shape = call.shape(0)
    return tuple(reduced(terms, shape, (len(shape) - 1,), True, False) for terms in call.axes(0) or ())


@operator("mv", "dot", "vdot", "addmv", kind="values")
def vector_product(call: Call) -> Axes:
    """``mv(matrix, vector)``, ``dot(a, b)``."""
    after, found = call.out_shape, []
    values = [value for value in call.args if isinstance(value, Tensor)]
    for value in values[-2:]:
        shape = tuple(value.shape)
        axes = axes_of(value)
        if axes is not None:
            found.append([reduced(terms, shape, (len(shape) - 1,), False) for terms in axes])
    if len(values) > 2 and (axes := axes_of(values[0])) is not None:
        found.append([broadcast(terms, tuple(values[0].shape), after) for terms in axes])
    return tuple(united([term for terms in paths for term in terms], after) for paths in zip(*found, strict=True))


register("_sparse_addmm", "_sparse_mm", kind="values", macs=_sparse_product_macs)

# ---- attention ----


def _attention_macs(args: Sequence[Any], out: Any) -> int:
    query, key, value = (each.shape for each in args[:3])
    return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


@operator(
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    "_scaled_dot_product_fused_attention_overrideable",
    kind="values",
    macs=_attention_macs,
)
def attention(call: Call) -> list[Axes | None]:
    """``attention(query, key, value, ...)``, each N heads T D: each query depends on all keys and values."""
    out = call.out if isinstance(call.out, Tensor) else call.out[0]
    after = tuple(out.shape)
    mask: Any = call.named().get("attn_mask", call.named().get("attn_bias"))
    found: list[list[Dependence]] = []
    given: list[tuple[Any, tuple[int, ...]]] = [
        (call.args[0], (-1,)),
        (call.args[1], (-2, -1)),
        (call.args[2], (-2,)),
        (mask, (-1,)),
    ]
    for value, gone in given:
        axes = axes_of(value)
        for axis, terms in enumerate(axes or ()):
            shape = tuple(value.shape)
            if axis == len(found):
                found.append([])
            less = reduced(terms, shape, [len(shape) + dim for dim in gone], True, False)
            kept = tuple(1 if dim - len(shape) in gone else length for dim, length in enumerate(shape))
            found[axis] += broadcast(less, kept, after) if len(kept) < len(after) else less
    return [tuple(united(terms, after) for terms in found)]
