"""Operators that extract patches, and add them up again: ``torch.nn.Unfold``, ``torch.nn.Fold``, ``Tensor.unfold``."""

from __future__ import annotations

import numpy as np

from visus.networks.trace.annotation import Axes
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.axis_dims import found_again
from visus.networks.trace.coordinates.positions_read import along, spread
from visus.networks.trace.coordinates.reshaping import flattened, permuted, reshaped
from visus.networks.trace.coordinates.taps import Taps
from visus.networks.trace.operators.registry import Call, operator, per_input_axis


@operator("im2col", kind="values")
def patches(call: Call) -> Axes:
    """``im2col(x, kernel_size, dilation, padding, stride)``: N C H W -> N (C kh kw) positions."""
    shape = call.shape(0)
    (high, wide), (down, across), (above, left), (step_down, step_across) = (
        per_input_axis(value, 2) for value in call.args[1:5]
    )
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


@operator("col2im", kind="values")
def fold_patches(call: Call) -> Axes:
    """``col2im(x, output_size, kernel_size, dilation, padding, stride)``: N (C kh kw) positions -> N C H W."""
    sizes, kernels, dilations, pads, strides = (per_input_axis(value, 2) for value in call.args[1:6])
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
    """Which (window, tap) pairs, numbered window * kernel + tap, are added at each position."""
    reached = np.arange(length)[:, None] + before - np.arange(kernel) * dilation
    places = np.where(reached % stride == 0, reached // stride, -1)
    is_inside = (places >= 0) & (places < num_places)
    table = np.where(is_inside, places * kernel + np.arange(kernel), num_places * kernel)
    plain = taps_of.transposed(num_places, length, kernel, stride, before, dilation)
    return Taps(table, num_places * kernel, plain.lowest * kernel, plain.highest * kernel, plain.scale * kernel)


@operator("unfold", "unfold_copy", kind="values")
def unfold(call: Call) -> Axes:
    """``x.unfold(dim, size, step)``: windows along ``dim``, whose elements are a new last dimension."""
    shape = call.shape(0)
    dim, size, step = call.args[1] % len(shape), call.args[2], call.args[3]
    taps = taps_of.window(shape[dim], call.out_shape[dim], size, step, 0, 1)
    order = [each for each in range(len(shape) + 1) if each != dim + 1] + [dim + 1]
    return call.map_axes(lambda terms: permuted(spread(terms, shape, dim, taps), order))
