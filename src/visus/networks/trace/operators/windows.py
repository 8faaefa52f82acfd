"""Operators with windows: convolution, pooling, padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from visus.design.memory.convolution_buffers import ConvolutionBuffers
from visus.design.memory.saved import Bytes
from visus.geometry import TransposedWindow, Window
from visus.networks.trace.annotation import Axes
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.axis_dims import own_dims
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.mixing import grouped, reduced
from visus.networks.trace.coordinates.positions_read import along
from visus.networks.trace.coordinates.taps import Taps
from visus.networks.trace.coordinates.unions import united
from visus.networks.trace.operators.registry import Call, operator, per_input_axis, register
from visus.networks.trace.operators.shapes import is_channels_last, with_layout_of

# ---- convolutions ----


def _convolution_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, weight, bias, stride, padding, dilation, is_transposed, output_padding, groups = args
    shape, kernel = x.shape, weight.shape
    num_axes = len(shape) - 2
    channels = kernel[0] if is_transposed else kernel[1] * groups
    if len(kernel) != len(shape) or shape[1] != channels or len(stride) != num_axes or len(padding) != num_axes:
        return None
    if bias is not None and bias.shape[0] != (kernel[1] * groups if is_transposed else kernel[0]):
        return None
    if len(dilation) != num_axes or min(shape) < 1 or x.dtype != weight.dtype or shape[1] % groups or kernel[0] % groups:
        return None
    lengths = []
    for axis in range(num_axes):
        span = dilation[axis] * (kernel[axis + 2] - 1)
        if is_transposed:
            length = (shape[axis + 2] - 1) * stride[axis] - 2 * padding[axis] + span + output_padding[axis] + 1
        else:
            length = (shape[axis + 2] + 2 * padding[axis] - span - 1) // stride[axis] + 1
        if length < 1:
            return None
        lengths.append(length)
    return with_layout_of((shape[0], kernel[1] * groups if is_transposed else kernel[0], *lengths), x)


def _convolution_macs(args: Sequence[Any], out: Any) -> int:
    x, weight = args[0].shape, args[1].shape
    places = x if len(args) > 6 and args[6] is True else (out if isinstance(out, Tensor) else out[0]).shape
    return int(math.prod(places[2:]) * math.prod(weight) * x[0])


def _convolution_facts(
    x: Tensor, weight: Tensor, y_shape: Sequence[int], stride: Sequence[int], is_transposed: bool, groups: int
) -> ConvolutionBuffers:
    return ConvolutionBuffers(
        tuple(x.shape[1:]),
        tuple(y_shape[1:]),
        weight.nbytes,
        num_taps=weight[0, 0].numel(),
        num_groups=groups,
        is_strided=any(step > 1 for step in stride),
        is_transposed=is_transposed,
        is_channels_last=is_channels_last(x),
    )


def _max_bytes(moments: Sequence[Bytes], num_samples: int) -> int:
    return max((moment.of(num_samples) for moment in moments), default=0)


def _convolution_bytes(args: Any, out: Any) -> int:
    x, weight, _, stride, _, _, is_transposed, _, groups = args
    return _max_bytes(_convolution_facts(x, weight, out.shape, stride, is_transposed, groups).forward(), len(x))


def _convolution_backward_bytes(args: Any, out: Any) -> int:
    grad_output, x, weight, _, stride, _, _, is_transposed, _, groups = args[:10]
    facts = _convolution_facts(x, weight, grad_output.shape, stride, is_transposed, groups)
    moments = (*(facts.backward() if out[1] is not None else ()), *(facts.to_input() if out[0] is not None else ()))
    has_same_layout = is_channels_last(grad_output) if facts.is_channels_last else grad_output.is_contiguous()
    return _max_bytes(moments, len(x)) + (0 if has_same_layout else grad_output.nbytes)


register("convolution_backward", kind="window", workspace_bytes=_convolution_backward_bytes)


@operator(
    "convolution",
    kind="window",
    is_affine=True,
    shape=_convolution_shape,
    macs=_convolution_macs,
    workspace_bytes=_convolution_bytes,
)
@operator(
    *("_convolution", "convolution_overrideable", "cudnn_convolution", "mkldnn_convolution", "_slow_conv2d_forward"),
    kind="window",
    is_affine=True,
    macs=_convolution_macs,
)
def convolution(call: Call) -> Axes:
    """``convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    _, weight, _, stride, padding, dilation, is_transposed, _, groups = _convolution_arguments(call)
    shape, after = call.shape(0), call.out_shape
    num_axes = len(shape) - 2
    strides, pads, dilations = (per_input_axis(values, num_axes) for values in (stride, padding, dilation))
    make = taps_of.transposed if is_transposed else taps_of.window
    taps = [
        make(shape[axis + 2], after[axis + 2], weight.shape[axis + 2], strides[axis], pads[axis], dilations[axis])
        for axis in range(num_axes)
    ]
    if not is_transposed:
        call.unread_px = _unread(call, taps)
        call.axis_ops = tuple(map(_window, weight.shape[2:], strides, pads, dilations))
    else:
        extra = per_input_axis(call.args[7], num_axes)
        call.axis_ops = tuple(map(TransposedWindow, weight.shape[2:], strides, pads, extra, dilations))
    found = []
    unowned = _unowned(call, taps)
    for axis, terms in enumerate(call.axes(0) or ()):
        own, current = grouped(terms, shape, 1, groups, after[1]), (shape[0], after[1], *shape[2:])
        for dim, each in enumerate(taps, 2):
            if not each.is_identity:
                own = along(own, current, dim, each, dim in unowned)
            current = (*current[:dim], each.length, *current[dim + 1 :])
        found.append(_with_weights(call, axis, own, after))
    return tuple(found) if found else _weights_alone(call)


def _convolution_arguments(call: Call) -> tuple[Any, ...]:
    if call.name in ("convolution", "_convolution", "convolution_overrideable"):
        return tuple(call.args[:9])
    named = call.named()
    num_axes = len(call.shape(0)) - 2
    ones = [1] * num_axes
    return (
        *call.args[:2],
        None,
        named.get("stride", ones),
        named.get("padding", [0] * num_axes),
        named.get("dilation", ones),
        False,
        [0] * num_axes,
        named.get("groups", 1),
    )


def _with_weights(call: Call, axis: int, terms: Terms, after: Shape) -> Terms:
    """All positions depend on the whole of weights that were computed from the input."""
    for place in (1, 2):
        axes = call.axes(place) if place < len(call.args) else None
        if axes:
            shape = call.shape(place)
            call.is_hull |= any(not term.is_constant for term in axes[axis])
            terms = united((*terms, *reduced(axes[axis], shape, range(len(shape)), False)), after)
    return terms


def _weights_alone(call: Call) -> Axes:
    """A constant map convolved with weights that were computed from the input."""
    axes = call.axes(1) or call.axes(2) or ()
    shape = call.shape(1) if call.axes(1) else call.shape(2)
    call.is_hull = any(not term.is_constant for terms in axes for term in terms)
    return tuple(reduced(terms, shape, range(len(shape)), False) for terms in axes)


# ---- pooling ----


def _pool_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, kernel = args[0], args[1]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding = args[3] if len(args) > 3 else (0, 0)
    is_max = len(args) <= 4 or not isinstance(args[4], bool)
    dilation = args[4] if len(args) > 4 and is_max else (1, 1)
    ceil_mode = args[5] if len(args) > 5 and is_max else len(args) > 4 and args[4] is True
    if (
        kwargs
        or x.dim() != 4
        or any(isinstance(each, int) or len(each) != 2 for each in (kernel, stride, padding, dilation))
    ):
        return None
    lengths = []
    for axis in (0, 1):
        size, span = x.shape[axis + 2], dilation[axis] * (kernel[axis] - 1) + 1
        steps = size + 2 * padding[axis] - span
        if steps < 0 or 2 * padding[axis] > kernel[axis]:
            return None
        length = (-(-steps // stride[axis]) if ceil_mode else steps // stride[axis]) + 1
        if ceil_mode and (length - 1) * stride[axis] >= size + padding[axis]:
            length -= 1
        lengths.append(length)
    return with_layout_of((*x.shape[:2], *lengths), x)


def _pool_with_indices_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    out = _pool_shape(args, kwargs)
    return None if out is None else (out, torch.empty_like(out, dtype=torch.int64))


@operator("avg_pool2d", kind="pool", is_affine=True, shape=_pool_shape)
@operator("max_pool2d_with_indices", kind="pool", shape=_pool_with_indices_shape, label="max_pool2d")
@operator("max_pool3d_with_indices", kind="pool", label="max_pool3d")
@operator("avg_pool1d", "avg_pool3d", kind="pool", is_affine=True)
@operator("max_pool1d", "max_pool2d", "max_pool3d", kind="pool")
def pooling(call: Call) -> Axes:
    """``pool(x, kernel_size, stride=kernel_size, padding=0, ...)``, max pooling has a dilation."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    num_axes = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    kernel = per_input_axis(named["kernel_size"], num_axes)
    stride = per_input_axis(named.get("stride") or kernel, num_axes)
    padding = per_input_axis(named.get("padding", 0), num_axes)
    dilation = per_input_axis(named.get("dilation", 1), num_axes)
    first = len(shape) - num_axes
    taps = [
        taps_of.window(shape[first + axis], after[first + axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
        for axis in range(num_axes)
    ]
    call.unread_px = _unread(call, taps)
    ceil_mode = bool(named.get("ceil_mode", False))
    call.axis_ops = tuple(map(_window, kernel, stride, padding, dilation, [ceil_mode] * num_axes))
    return along_last_dims(call, taps)


@operator("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", kind="pool", is_affine=True)
@operator("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", kind="pool", is_affine=True)
@operator("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", kind="pool")
def adaptive_pooling(call: Call) -> Axes:
    """``pool(x, output_size)``; an output of one position depends on the whole axis."""
    shape, after = call.shape(0), call.out_shape
    num_axes = len(per_input_axis(call.args[1], 1)) if not isinstance(call.args[1], int) else 1
    num_axes = max(num_axes, int(call.name[-2]))
    found = []
    for terms in call.axes(0) or ():
        current = shape
        for dim in range(len(shape) - num_axes, len(shape)):
            if after[dim] == 1:
                terms = reduced(terms, current, (dim,), True)
            elif after[dim] != current[dim]:
                terms = along(terms, current, dim, taps_of.adaptive(current[dim], after[dim]))
            current = (*current[:dim], after[dim], *current[dim + 1 :])
        found.append(terms)
    return tuple(found)


# ---- padding ----


def _pad_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, pads = args[0], args[1]
    shape = list(x.shape)
    for index in range(len(pads) // 2):
        shape[-1 - index] += pads[2 * index] + pads[2 * index + 1]
    return with_layout_of(shape, x) if min(shape) > 0 else None


@operator("constant_pad_nd", kind="window", is_affine=True, pad_mode="constant", shape=_pad_shape, label="pad")
@operator("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", kind="window", is_affine=True, pad_mode="reflect")
@operator("replication_pad1d", "replication_pad2d", "replication_pad3d", kind="window", is_affine=True, pad_mode="replicate")
def padding(call: Call) -> Axes:
    """``pad(x, [before, after of the last axis, before, after of the one before it, ...])``."""
    mode, pads = call.operator.pad_mode, call.args[1]
    assert mode is not None, "each registration says it"
    call.pads = tuple((pads[index], pads[index + 1]) for index in range(len(pads) - 2, -1, -2))
    owns = call.own_dims(0)
    after = {len(call.shape(0)) - 1 - index: pads[2 * index + 1] for index in range(len(pads) // 2)}
    call.padded_px = _by_axis(call, after)
    found = []
    for terms in call.axes(0) or ():
        shape = call.shape(0)
        for index in range(len(pads) // 2):
            dim, (before, after) = len(shape) - 1 - index, pads[2 * index : 2 * index + 2]
            if before or after:
                each = taps_of.padded(shape[dim], before, after, mode)
                terms = along(terms, shape, dim, each, dim not in owns)
                shape = (*shape[:dim], each.length, *shape[dim + 1 :])
        found.append(terms)
    return tuple(found)


# ---- what they share ----


@lru_cache(1024)
def _window(kernel_size: int, stride: int, pad: int, dilation: int, ceil_mode: bool = False) -> Window:
    """A window with the same padding on both sides."""
    return Window(kernel_size, stride, (pad, pad), dilation, ceil_mode)


def _unread(call: Call, taps: Sequence[Taps]) -> tuple[int, ...]:
    """Positions at the far edge that no window reads, for each axis of the input."""
    first = len(call.shape(0)) - len(taps)
    return _by_axis(call, {dim: each.unread for dim, each in enumerate(taps, first)})


def _by_axis(call: Call, by_dim: Mapping[int, int]) -> tuple[int, ...]:
    """Numbers by dimension as numbers by axis of the input; 0 for an axis that has no dimension of its own."""
    return tuple(by_dim.get(min(own_dims((terms,)), default=-1), 0) for terms in call.axes(0) or ())


def along_last_dims(call: Call, taps: Sequence[Taps]) -> Axes:
    """The last dimensions resampled, with one ``Taps`` for each."""
    found = []
    first = len(call.shape(0)) - len(taps)
    unowned = _unowned(call, taps)
    for terms in call.axes(0) or ():
        shape = call.shape(0)
        for axis, each in enumerate(taps):
            dim = first + axis
            terms = along(terms, shape, dim, each, dim in unowned)
            shape = (*shape[:dim], each.length, *shape[dim + 1 :])
        found.append(terms)
    return tuple(found)


def _unowned(call: Call, taps: Sequence[Taps]) -> frozenset[int]:
    """Dimensions with positions that read padding alone, and that are no axis of the input."""
    if all(each.all_read for each in taps):
        return frozenset()
    first = len(call.shape(0)) - len(taps)
    return frozenset(dim for dim, each in enumerate(taps, first) if not each.all_read) - call.own_dims(0)
