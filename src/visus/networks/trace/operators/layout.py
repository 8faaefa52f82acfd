"""Operators that move elements: reshape, permute, repeat, roll, pixel shuffle, concatenate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from visus.networks.trace.annotation import Axes, axes_of
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.axis_dims import found_again
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.gaps import blanked
from visus.networks.trace.coordinates.mixing import reduced
from visus.networks.trace.coordinates.positions_read import along
from visus.networks.trace.coordinates.reshaping import broadcast, flattened, permuted, reshaped, squeezed, unsqueezed
from visus.networks.trace.coordinates.unions import stacked
from visus.networks.trace.operators.registry import HULL, Call, Hull, operator
from visus.networks.trace.operators.shapes import new_like, same_layout

# ---- shapes and orders of dimensions ----


def _clone_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, layout = args[0], kwargs.get("memory_format", torch.preserve_format)
    if layout == torch.contiguous_format:
        return new_like(x.shape, x)
    if layout == torch.preserve_format:
        return same_layout(x)
    return None


@operator("clone", kind="move", shape=_clone_shape)
@operator("alias", "detach", "_to_copy", "to", "contiguous", "lift", "lift_fresh", "_pin_memory", kind="move")
@operator("alias_copy", "detach_copy", "lift_fresh_copy", kind="move")
def unchanged(call: Call) -> Axes | None:
    """The same elements."""
    return call.axes(0)


@operator("view", "view_copy", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", kind="move")
@operator("flatten", "unflatten", kind="move")
def view(call: Call) -> Axes:
    """``view(x, shape)``: the same elements in the same order."""
    shape, after = call.shape(0), call.out_shape
    axes = call.axes(0) or ()
    if shape == after:
        return axes
    return flattened(axes, shape, after)


@operator("as_strided", "as_strided_copy", "as_strided_scatter", kind="values")
def as_strided(call: Call) -> Axes | Hull:
    """``as_strided(x, size, stride)``: exact if no element moves, else the hull."""
    shape, size, stride = call.shape(0), tuple(call.args[1]), tuple(call.args[2])
    long = [dim for dim, length in enumerate(size) if length > 1]
    if shape == size and (len(long) < 2 or (call.name == "as_strided" and stride == call.args[0].stride())):
        return call.axes(0) or ()
    return HULL


@operator("permute", "permute_copy", kind="move")
def permute(call: Call) -> Axes:
    """``permute(x, dims)``: the dimensions in another order."""
    num_dims = len(call.shape(0))
    order = [dim % num_dims for dim in call.args[1]]
    return call.map_axes(lambda terms: permuted(terms, order))


@operator("transpose", "transpose_copy", "swapaxes", "swapdims", "t", "t_copy", "numpy_T", "mT", "adjoint", kind="move")
def transpose(call: Call) -> Axes:
    """``transpose(x, dim0, dim1)``, ``t(x)``: two dimensions swapped."""
    num_dims = len(call.shape(0))
    order = list(range(num_dims))
    one, other = (call.args[1] % num_dims, call.args[2] % num_dims) if len(call.args) > 2 else (-1, -2)
    if num_dims > 1:
        order[one], order[other] = order[other], order[one]
    return call.map_axes(lambda terms: permuted(terms, order))


@operator("unsqueeze", "unsqueeze_copy", kind="move")
def unsqueeze(call: Call) -> Axes:
    """``unsqueeze(x, dim)``: a new dimension of length 1."""
    dim = call.args[1] % len(call.out_shape)
    return call.map_axes(lambda terms: unsqueezed(terms, dim))


@operator("squeeze", "squeeze_copy", kind="move")
def squeeze(call: Call) -> Axes:
    """``squeeze(x, dim)``: dimensions of length 1 removed; all, or those of ``dim``."""
    shape = call.shape(0)
    named = call.args[1] if len(call.args) > 1 else range(len(shape))
    dims = [dim % len(shape) for dim in ([named] if isinstance(named, int) else named)] if shape else []
    gone = [dim for dim in dims if shape[dim] == 1]
    return call.map_axes(lambda terms: squeezed(terms, shape, gone))


@operator("view_as_real", "view_as_real_copy", kind="values")
def view_as_real(call: Call) -> Axes:
    """Adds a last dimension with the real and imaginary part."""
    num_dims = len(call.shape(0))
    return call.map_axes(lambda terms: unsqueezed(terms, num_dims))


@operator("view_as_complex", "view_as_complex_copy", kind="values")
def view_as_complex(call: Call) -> Axes:
    """Removes the last dimension, which has the real and imaginary part."""
    shape = call.shape(0)
    return call.map_axes(lambda terms: reduced(terms, shape, (len(shape) - 1,), False))


# ---- repeat, flip, roll ----


@operator("expand", "expand_copy", "broadcast_to", "expand_as", kind="move")
def expand(call: Call) -> Axes:
    """``expand(x, size)``: dimensions of length 1 repeated."""
    shape, after = call.shape(0), call.out_shape
    return call.map_axes(lambda terms: broadcast(terms, shape, after))


@operator("repeat", kind="values")
def repeat(call: Call) -> Axes:
    """``repeat(x, repeats)``: the tensor tiled along each dimension."""
    times = call.args[1]
    shape, found = call.shape(0), []
    padded = (1,) * (len(times) - len(shape)) + shape
    for terms in call.axes(0) or ():
        terms, current = broadcast(terms, shape, padded), padded
        for dim, num_times in enumerate(times):
            if num_times != 1:
                after = (*current[:dim], current[dim] * num_times, *current[dim + 1 :])
                if current[dim] == 1:
                    terms = broadcast(terms, current, after)
                else:
                    terms = along(terms, current, dim, taps_of.tiled(current[dim], num_times))
                current = after
        found.append(terms)
    return tuple(found)


@operator("flip", kind="values")
def flip(call: Call) -> Axes:
    """``flip(x, dims)``: dimensions reversed."""
    shape = call.shape(0)

    def rule(terms: Terms) -> Terms:
        for dim in call.args[1]:
            length = shape[dim]
            terms = along(terms, shape, dim % len(shape), taps_of.sliced(length, length - 1, length, -1))
        return terms

    return call.map_axes(rule)


@operator("roll", kind="values")
def roll(call: Call) -> Axes:
    """``roll(x, shifts, dims)``: dimensions shifted cyclically; without ``dims``, the flattened tensor."""
    named = call.named()
    shape = call.shape(0)
    shifts, dims = ([value] if isinstance(value, int) else value for value in (named["shifts"], named.get("dims", [])))

    def rule(terms: Terms) -> Terms:
        if not dims:
            flat = (math.prod(shape),)
            return reshaped(along(reshaped(terms, shape, flat), flat, 0, taps_of.rolled(flat[0], shifts[0])), flat, shape)
        for shift, dim in zip(shifts, dims, strict=True):
            terms = along(terms, shape, dim % len(shape), taps_of.rolled(shape[dim], shift))
        return terms

    return call.map_axes(rule)


# ---- pixel shuffle, channel shuffle ----


@operator("pixel_shuffle", kind="values")
def pixel_shuffle(call: Call) -> Axes:
    """``pixel_shuffle(x, r)``: ... (C r r) H W -> ... C (H r) (W r). The map is enlarged, so the stride of the fields is divided by r."""
    (*lead, channels, height, width), factor = call.shape(0), call.args[1]
    first = len(lead)
    cut = (*lead, channels // factor**2, factor, factor, height, width)
    order = (*range(first + 1), first + 3, first + 1, first + 4, first + 2)
    return _rearranged(call, cut, order)


@operator("pixel_unshuffle", kind="values")
def pixel_unshuffle(call: Call) -> Axes:
    """``pixel_unshuffle(x, r)``: ... C (H r) (W r) -> ... (C r r) H W."""
    (*lead, channels, height, width), factor = call.shape(0), call.args[1]
    first = len(lead)
    cut = (*lead, channels, height // factor, factor, width // factor, factor)
    order = (*range(first + 1), first + 2, first + 4, first + 1, first + 3)
    return _rearranged(call, cut, order)


@operator("channel_shuffle", "native_channel_shuffle", kind="values")
def channel_shuffle(call: Call) -> Axes:
    """``channel_shuffle(x, g)``: N (g C) * -> N (C g) *."""
    shape, groups = call.shape(0), call.args[1]
    cut = (shape[0], groups, shape[1] // groups, *shape[2:])
    return _rearranged(call, cut, (0, 2, 1, *range(3, len(cut))))


def _rearranged(call: Call, cut: Shape, order: Sequence[int]) -> Axes:
    """Split into more dimensions, permuted, and merged into the output's shape."""
    turned = tuple(cut[dim] for dim in order)
    parts = flattened(call.axes(0) or (), call.shape(0), cut)
    return flattened([permuted(terms, order) for terms in parts], turned, call.out_shape)


# ---- concatenation ----


def _cat_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    parts = args[0]
    first = parts[0]
    dim = args[1] if len(args) > 1 else 0
    dim += first.dim() if dim < 0 else 0
    others = [length for place, length in enumerate(first.shape) if place != dim]
    total = 0
    for part in parts:
        shape = part.shape
        if part.dim() != first.dim() or part.dtype != first.dtype or not part.is_contiguous():
            return None
        if [length for place, length in enumerate(shape) if place != dim] != others:
            return None
        total += shape[dim]
    return new_like((*first.shape[:dim], total, *first.shape[dim + 1 :]), first)


@operator("cat", kind="stack", shape=_cat_shape)
@operator("concat", "concatenate", kind="stack")
def cat(call: Call) -> Axes:
    """``cat(tensors, dim=0)``: concatenated along a dimension; empty one-dimensional tensors are skipped, as in torch."""
    parts = [part for part in call.args[0] if part.dim() > 1 or part.numel()] or list(call.args[0])
    dim = call.named().get("dim", 0) % parts[0].dim()
    return _stacked(call, [(part, tuple(part.shape)) for part in parts], dim, lambda terms: terms)


@operator("stack", kind="values")
def stack(call: Call) -> Axes:
    """``stack(tensors, dim=0)``: concatenated along a new dimension."""
    parts = call.args[0]
    dim = call.named().get("dim", 0) % (parts[0].dim() + 1)
    shapes = [(*part.shape[:dim], 1, *part.shape[dim:]) for part in parts]
    return _stacked(call, list(zip(parts, shapes, strict=True)), dim, lambda terms: unsqueezed(terms, dim))


def _stacked(call: Call, parts: Sequence[tuple[Tensor, Shape]], dim: int, first: Callable[[Terms], Terms]) -> Axes:
    seen = [None if (axes := axes_of(part)) is None else blanked(axes, tuple(part.shape)) for part, _ in parts]
    num_axes = next(len(axes) for axes in seen if axes is not None)
    found = []
    for axis in range(num_axes):
        paths = [(None if axes is None else first(axes[axis]), shape) for axes, (_, shape) in zip(seen, parts, strict=True)]
        terms, aligned = stacked(paths, dim)
        call.aligned &= aligned
        found.append(terms)
    return found_again(found, call.out_shape)
