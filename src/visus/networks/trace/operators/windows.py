"""Rules for layers with windows: convolutions, pooling, padding, resizing, patches cut out and put back, pixel shuffles.

A rule takes the operation's call and the terms of one axis, and gives the terms of the output. This file knows the arguments of
PyTorch's operations with windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from visus.geometry import TransposedWindow, Window
from visus.networks.trace.calls import Axes, Call, per_axis, register
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.axis_dims import found_again, own_dims
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.layouts import flattened, permuted, reshaped
from visus.networks.trace.coordinates.reductions import grouped, reduced
from visus.networks.trace.coordinates.taps import Taps
from visus.networks.trace.coordinates.unions import united
from visus.networks.trace.coordinates.windows import along, spread


@register(
    "convolution",
    "_convolution",
    "cudnn_convolution",
    "convolution_overrideable",
    "_slow_conv2d_forward",
    "mkldnn_convolution",
)
def convolution(call: Call) -> Axes:
    """``convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)``."""
    _, weight, _, stride, padding, dilation, is_transposed, _, groups = _convolution_arguments(call)
    shape, after = call.shape(0), call.out_shape
    num_axes = len(shape) - 2
    strides, pads, dilations = (per_axis(values, num_axes) for values in (stride, padding, dilation))
    make = taps_of.transposed if is_transposed else taps_of.window
    taps = [
        make(shape[axis + 2], after[axis + 2], weight.shape[axis + 2], strides[axis], pads[axis], dilations[axis])
        for axis in range(num_axes)
    ]
    if not is_transposed:
        call.unread_px = _unread(call, taps)
        call.axis_ops = tuple(map(_window, weight.shape[2:], strides, pads, dilations))
    else:
        extra = per_axis(call.args[7], num_axes)
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


@lru_cache(1024)
def _window(kernel_size: int, stride: int, pad: int, dilation: int, ceil_mode: bool = False) -> Window:
    """The window of geometry with the same padding on both sides."""
    return Window(kernel_size, stride, (pad, pad), dilation, ceil_mode)


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
    """Weights that were computed from the input are seen as a whole by all positions."""
    for place in (1, 2):
        axes = call.axes(place) if place < len(call.args) else None
        if axes:
            shape = call.shape(place)
            call.is_hull |= any(not term.is_constant for term in axes[axis])
            terms = united((*terms, *reduced(axes[axis], shape, range(len(shape)), False)), after)
    return terms


def _weights_alone(call: Call) -> Axes:
    """A constant map under weights that were computed from the input."""
    axes = call.axes(1) or call.axes(2) or ()
    shape = call.shape(1) if call.axes(1) else call.shape(2)
    call.is_hull = any(not term.is_constant for terms in axes for term in terms)
    return tuple(reduced(terms, shape, range(len(shape)), False) for terms in axes)


@register(
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "avg_pool2d",
    "avg_pool3d",
    "avg_pool1d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
)
def pooling(call: Call) -> Axes:
    """``pool(x, kernel_size, stride=kernel_size, padding=0, ...)``, with dilation for the largest."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    num_axes = 3 if "3d" in call.name else 2 if "2d" in call.name else 1
    kernel = per_axis(named["kernel_size"], num_axes)
    stride = per_axis(named.get("stride") or kernel, num_axes)
    padding = per_axis(named.get("padding", 0), num_axes)
    dilation = per_axis(named.get("dilation", 1), num_axes)
    first = len(shape) - num_axes
    taps = [
        taps_of.window(shape[first + axis], after[first + axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
        for axis in range(num_axes)
    ]
    call.unread_px = _unread(call, taps)
    ceil_mode = bool(named.get("ceil_mode", False))
    call.axis_ops = tuple(map(_window, kernel, stride, padding, dilation, [ceil_mode] * num_axes))
    return _all_along(call, taps)


def _unread(call: Call, taps: Sequence[Taps]) -> tuple[int, ...]:
    """Positions at the far edge that no window reaches, for each axis of the input."""
    first = len(call.shape(0)) - len(taps)
    return _by_axis(call, {dim: each.unread for dim, each in enumerate(taps, first)})


def _by_axis(call: Call, by_dim: Mapping[int, int]) -> tuple[int, ...]:
    """A number of each dimension as one of each axis of the input; 0 for an axis that has no dimension of its own any more."""
    return tuple(by_dim.get(min(own_dims((terms,)), default=-1), 0) for terms in call.axes(0) or ())


def _all_along(call: Call, taps: Sequence[Taps]) -> Axes:
    """The last dimensions replaced by those of the taps, one for each."""
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
    """Dimensions with positions that read padding alone, in which no axis of the input lies."""
    if all(each.all_read for each in taps):
        return frozenset()
    first = len(call.shape(0)) - len(taps)
    return frozenset(dim for dim, each in enumerate(taps, first) if not each.all_read) - call.own_dims(0)


@register(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
def adaptive_pooling(call: Call) -> Axes:
    """``pool(x, output_size)``; an output of one position looks at the whole axis."""
    shape, after = call.shape(0), call.out_shape
    num_axes = len(per_axis(call.args[1], 1)) if not isinstance(call.args[1], int) else 1
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


@register(
    *(f"upsample_nearest{num}d" for num in (1, 2, 3)),
    *(f"_upsample_nearest_exact{num}d" for num in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
def resizing(call: Call) -> Axes:
    """``upsample(x, output_size, [align_corners], scales...)``."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    num_axes = len(shape) - 2
    mode = (
        "nearest-exact"
        if "exact" in call.name
        else next(word for word in ("nearest", "linear", "cubic") if word in call.name)
    )
    corners = bool(named.get("align_corners", False))
    if "scale_factors" in named:
        scales = list(named["scale_factors"] or [None] * num_axes)
    else:
        keys = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[num_axes]
        scales = [named.get(key) for key in keys]
    make = taps_of.antialiased if call.name.endswith("_aa") else taps_of.resized
    taps = [make(shape[2 + axis], after[2 + axis], mode, corners, scales[axis]) for axis in range(num_axes)]
    axis_ops = tuple(each.axis_op for each in taps if each.axis_op is not None)
    call.axis_ops = axis_ops if len(axis_ops) == num_axes else ()
    return _all_along(call, taps)


@register(
    "constant_pad_nd",
    *(f"reflection_pad{num}d" for num in (1, 2, 3)),
    *(f"replication_pad{num}d" for num in (1, 2, 3)),
)
def padding(call: Call) -> Axes:
    """``pad(x, [before, after of the last axis, before, after of the one before it, ...])``."""
    mode = {"con": "constant", "ref": "reflect", "rep": "replicate"}[call.name[:3]]
    pads = call.args[1]
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


@register("im2col")
def patches(call: Call) -> Axes:
    """``im2col(x, kernel_size, dilation, padding, stride)``: N C H W -> N (C kh kw) (places)."""
    shape = call.shape(0)
    (high, wide), (down, across), (above, left), (step_down, step_across) = (per_axis(value, 2) for value in call.args[1:5])
    height, width = shape[-2:]
    places = (
        (height + 2 * above - down * (high - 1) - 1) // step_down + 1,
        (width + 2 * left - across * (wide - 1) - 1) // step_across + 1,
    )
    rows = taps_of.window(height, places[0], high, step_down, above, down)
    columns = taps_of.window(width, places[1], wide, step_across, left, across)
    lead, first = shape[:-2], len(shape) - 2
    order = (*range(first), first + 1, first + 3, first, first + 2)
    turned = (*lead, high, wide, *places)
    found = []
    for terms in call.axes(0) or ():
        own = spread(spread(terms, shape, first + 1, columns), (*shape[:-1], places[1], wide), first, rows)
        found.append(permuted(own, order))
    return flattened(found, turned, call.out_shape)


@register("col2im")
def patches_put_back(call: Call) -> Axes:
    """``col2im(x, output_size, kernel_size, dilation, padding, stride)``: N (C kh kw) (places) -> N C H W."""
    sizes, kernels, dilations, pads, strides = (per_axis(value, 2) for value in call.args[1:6])
    shape, lead = call.shape(0), call.shape(0)[:-2]
    counts = [
        (sizes[axis] + 2 * pads[axis] - dilations[axis] * (kernels[axis] - 1) - 1) // strides[axis] + 1 for axis in (0, 1)
    ]
    channels = shape[-2] // (kernels[0] * kernels[1])
    first = len(lead) + 1
    cut = (*lead, channels, *kernels, *counts)
    order = (*range(first), first + 2, first, first + 3, first + 1)
    merged = (*lead, channels, counts[0] * kernels[0], counts[1] * kernels[1])
    found = []
    for terms in call.axes(0) or ():
        own = permuted(reshaped(terms, shape, cut), order)
        turned = tuple(cut[dim] for dim in order)
        own, current = reshaped(own, turned, merged), merged
        for axis in (0, 1):
            each = _folding(counts[axis], sizes[axis], kernels[axis], strides[axis], pads[axis], dilations[axis])
            own = along(own, current, first + axis, each)
            current = (*current[: first + axis], sizes[axis], *current[first + axis + 1 :])
        found.append(own)
    return found_again(found, call.out_shape)


def _folding(num_places: int, length: int, kernel: int, stride: int, before: int, dilation: int) -> Taps:
    """Which (place, tap) pairs, counted as place*kernel + tap, are added into each new position."""
    reached = np.arange(length)[:, None] + before - np.arange(kernel) * dilation
    places = np.where(reached % stride == 0, reached // stride, -1)
    is_inside = (places >= 0) & (places < num_places)
    table = np.where(is_inside, places * kernel + np.arange(kernel), num_places * kernel)
    plain = taps_of.transposed(num_places, length, kernel, stride, before, dilation)
    return Taps(table, num_places * kernel, plain.lowest * kernel, plain.highest * kernel, plain.scale * kernel)


@register("pixel_shuffle")
def pixel_shuffle(call: Call) -> Axes:
    """... (C r r) H W -> ... C (H r) (W r)."""
    (*lead, channels, height, width), factor = call.shape(0), call.args[1]
    first = len(lead)
    cut = (*lead, channels // factor**2, factor, factor, height, width)
    order = (*range(first + 1), first + 3, first + 1, first + 4, first + 2)
    return _relaid(call, cut, order)


@register("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Axes:
    """... C (H r) (W r) -> ... (C r r) H W."""
    (*lead, channels, height, width), factor = call.shape(0), call.args[1]
    first = len(lead)
    cut = (*lead, channels, height // factor, factor, width // factor, factor)
    order = (*range(first + 1), first + 2, first + 4, first + 1, first + 3)
    return _relaid(call, cut, order)


@register("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(call: Call) -> Axes:
    """N (g C) * -> N (C g) *."""
    shape, groups = call.shape(0), call.args[1]
    cut = (shape[0], groups, shape[1] // groups, *shape[2:])
    return _relaid(call, cut, (0, 2, 1, *range(3, len(cut))))


def _relaid(call: Call, cut: Shape, order: Sequence[int]) -> Axes:
    """Cut into more dimensions, put into a new order, merged into the shape of the output."""
    turned = tuple(cut[dim] for dim in order)
    parts = flattened(call.axes(0) or (), call.shape(0), cut)
    return flattened([permuted(terms, order) for terms in parts], turned, call.out_shape)
