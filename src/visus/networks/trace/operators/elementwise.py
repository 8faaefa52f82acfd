"""Operators that compute element by element: arithmetic, activations, choices by a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visus.networks.trace.annotation import Axes, axes_of
from visus.networks.trace.coordinates.dependence import MAX_NUMBERS, Shape
from visus.networks.trace.coordinates.gaps import blanked, without
from visus.networks.trace.coordinates.positions_read import along
from visus.networks.trace.coordinates.reshaping import broadcast
from visus.networks.trace.coordinates.taps import sliced
from visus.networks.trace.coordinates.unions import joined
from visus.networks.trace.operators.registry import HULL, Call, Hull, operator
from visus.networks.trace.operators.shapes import FLOATS, broadcast_shape, new_like, same_layout

_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("sigmoid", "tanh", "hardtanh", "hardsigmoid", "hardswish"),
)
_FUNCTIONS = (
    *("neg", "abs", "square", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sin", "cos", "erf"),
    *("clamp", "clamp_min", "clamp_max"),
)


def one_tensor_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The shape of a function of one tensor of floats."""
    x = args[0]
    if kwargs or x.dtype not in FLOATS or any(isinstance(value, Tensor) for value in args[1:]):
        return None
    return same_layout(x)


def two_tensors_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The shape of two tensors broadcast to each other, or of a tensor and a number."""
    one, other = args[0], args[1]
    if (kwargs and set(kwargs) != {"alpha"}) or not isinstance(one, Tensor) or one.dtype not in FLOATS:
        return None
    if not isinstance(other, Tensor):
        return None if isinstance(other, complex) else same_layout(one)
    if other.dtype != one.dtype:
        return None
    if one.shape == other.shape:
        return same_layout(one)
    shape = broadcast_shape(one.shape, other.shape)
    if shape is None:
        return None
    if shape == tuple(one.shape):
        return same_layout(one)
    return same_layout(other) if shape == tuple(other.shape) else new_like(shape, one)


@operator(*_ACTIVATIONS, *_FUNCTIONS, kind="values", shape=one_tensor_shape)
@operator("add", kind="sum", is_affine=True, shape=two_tensors_shape)
@operator("sub", "rsub", "mul", kind="values", is_affine=True, shape=two_tensors_shape)
@operator("div", "maximum", "minimum", "pow", kind="values", shape=two_tensors_shape)
@operator("lerp", "addcmul", "addcdiv", "fmod", "remainder", "heaviside", "threshold", kind="values")
@operator("prelu", "_prelu_kernel", "softshrink", "hardshrink", "log_sigmoid", "log_sigmoid_forward", kind="values")
@operator("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional", "glu_jvp", "_masked_scale", kind="values")
def pointwise(call: Call) -> Axes:
    """Each output element depends on the input elements at the same position."""
    return _join(call, list(call.dependent_tensors()), call.out_shape)


@operator(torch.Tag.pointwise, kind="values")
def tagged_pointwise(call: Call) -> Axes | Hull:
    """An unregistered operator that torch tags as pointwise. An operator with several outputs, such as ``frexp``, needs its
    own registration."""
    return pointwise(call) if isinstance(call.out, Tensor) else HULL


@operator("where", kind="values")
def where(call: Call) -> Axes | None:
    """``where(condition, one, other)``: if the condition's values are known, each position depends on one of the two."""
    if len(call.args) < 3 or axes_of(call.args[0]) is not None:
        return pointwise(call)
    return _choose(call, call.args[0], call.axes(1), call.axes(2))


@operator("masked_fill", kind="values")
def masked_fill(call: Call) -> Axes | None:
    """``masked_fill(x, mask, value)``: if the mask's values are known, masked positions depend only on the value."""
    if axes_of(call.args[1]) is not None:
        return pointwise(call)
    return _choose(call, call.args[1], axes_of(call.args[2]), call.axes(0))


def _choose(call: Call, mask: Tensor, one: Axes | None, other: Axes | None) -> Axes | None:
    """One of two by a mask that does not depend on the input; the hull of both where the mask's values are unknown."""
    if one is not None and one is other:
        return pointwise(call)
    if not mask.is_meta and mask.numel() and bool((mask == mask.reshape(-1)[0]).all()):
        axes, place = (one, 1) if mask.reshape(-1)[0] else (other, 2)
        if call.name == "masked_fill":
            place = 2 if axes is one else 0
        return None if axes is None else _join(call, [call.args[place]], call.out_shape)
    after = call.out_shape
    if mask.is_meta or 2 * math.prod(after) > MAX_NUMBERS:
        call.is_hull |= mask.numel() != 1
        return pointwise(call)
    taken = mask.detach().cpu().numpy().reshape(*[1] * (len(after) - mask.dim()), *mask.shape) != 0
    values = (call.args[2], call.args[0]) if call.name == "masked_fill" else call.args[1:3]
    paths = [
        [without(broadcast(terms, tuple(value.shape), after), blank, after) for terms in axes]
        for axes, value, blank in ((one, values[0], ~taken), (other, values[1], taken))
        if axes is not None
    ]
    found = []
    for seen in zip(*paths, strict=True):
        terms, aligned = joined([(terms, after) for terms in seen], after)
        call.aligned &= aligned
        found.append(terms)
    return tuple(found)


def _join(call: Call, paths: Sequence[Tensor], after: Shape) -> Axes:
    first = axes_of(paths[0])
    assert first is not None
    if len(paths) == 1:
        shape = tuple(paths[0].shape)
        return first if shape == after else tuple(broadcast(terms, shape, after) for terms in first)
    shapes = [tuple(path.shape) for path in paths]
    seen = [blanked(axes_of(path) or (), shape) for path, shape in zip(paths, shapes, strict=True)]
    found = []
    for axis in range(len(first)):
        terms, aligned = joined([(axes[axis], shape) for axes, shape in zip(seen, shapes, strict=True)], after)
        call.aligned &= aligned
        found.append(terms)
    return tuple(found)


@operator("tril", "triu", kind="values")
def triangle(call: Call) -> Axes:
    """``tril(x, diagonal=0)``: the zeros outside of the triangle count as dependent on the input too."""
    call.is_hull = True
    return call.axes(0) or ()


@operator("glu", kind="values")
def glu(call: Call) -> Axes:
    """``glu(x, dim=-1)``: the first half of a dimension, gated by the second."""
    shape, after = call.shape(0), call.out_shape
    dim = call.named().get("dim", -1) % len(shape)
    half = after[dim]
    found = []
    for terms in call.axes(0) or ():
        halves = [(along(terms, shape, dim, sliced(shape[dim], start, half, 1)), after) for start in (0, half)]
        both, aligned = joined(halves, after)
        call.aligned &= aligned
        found.append(both)
    return tuple(found)


@operator("complex", "polar", kind="values")
def complex_number(call: Call) -> Axes:
    """``complex(real, imaginary)``: each element depends on the elements of both at its position."""
    paths = [(each, tuple(value.shape)) for value in call.args[:2] if (each := axes_of(value)) is not None]
    return tuple(
        joined([(axes[axis], shape) for axes, shape in paths], call.out_shape)[0] for axis in range(len(paths[0][0]))
    )


@operator("dropout", "native_dropout", "_fused_dropout", "feature_dropout", kind="values", is_affine=True)
@operator("alpha_dropout", "bernoulli", "normal", kind="values")
@operator("positive", "conj", "_conj", "_conj_physical", "resolve_conj", "_neg_view", "resolve_neg", kind="values")
@operator("real", "imag", "nan_to_num", "copysign", "fake_quantize_per_tensor_affine", kind="values")
def same_places(call: Call) -> Axes | None:
    """Each element depends on the element of the first argument at the same position."""
    return call.axes(0)
