"""Rules for operations that move elements and compute nothing: shapes, orders, slices, copies, concatenation.

A rule takes the operation's call and gives what the output sees. This file knows the arguments of PyTorch's operations that
move elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from visus.networks.trace.calls import HULL, Axes, Call, Hull, axes_of, register
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.axis_dims import found_again
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.gaps import blanked
from visus.networks.trace.coordinates.layouts import broadcast, flattened, permuted, reshaped, squeezed, unsqueezed
from visus.networks.trace.coordinates.reductions import reduced
from visus.networks.trace.coordinates.unions import joined, stacked
from visus.networks.trace.coordinates.windows import along, spread


@register(
    *("alias", "detach", "clone", "_to_copy", "contiguous", "lift_fresh", "lift", "to", "dropout", "native_dropout"),
    *("view_of", "_conj", "conj", "positive", "feature_dropout", "alpha_dropout", "resolve_conj", "resolve_neg"),
    *("_neg_view", "real", "imag", "_conj_physical", "detach_copy", "alias_copy", "lift_fresh_copy", "bernoulli"),
    *("_fused_dropout", "_pin_memory", "nan_to_num", "copysign", "normal", "fake_quantize_per_tensor_affine"),
)
def unchanged(call: Call) -> Axes | None:
    """Each element sees what it saw."""
    return call.axes(0)


@register("view", "_unsafe_view", "reshape", "_reshape_alias", "_reshape_copy", "view_copy", "flatten", "unflatten")
def view(call: Call) -> Axes:
    """The same elements in order, under the shape of the output."""
    shape, after = call.shape(0), call.out_shape
    axes = call.axes(0) or ()
    if shape == after:
        return axes
    return flattened(axes, shape, after)


@register("as_strided", "as_strided_copy", "as_strided_scatter")
def as_strided(call: Call) -> Axes | Hull:
    """The same elements in the same order, or any of them."""
    shape, size, stride = call.shape(0), tuple(call.args[1]), tuple(call.args[2])
    long = [dim for dim, length in enumerate(size) if length > 1]
    if shape == size and (len(long) < 2 or (call.name == "as_strided" and stride == call.args[0].stride())):
        return call.axes(0) or ()
    return HULL


@register("permute", "permute_copy")
def permute(call: Call) -> Axes:
    """The dimensions in the order of the second argument."""
    num_dims = len(call.shape(0))
    order = [dim % num_dims for dim in call.args[1]]
    return _each(call, lambda terms: permuted(terms, order))


@register("transpose", "transpose_copy", "swapaxes", "swapdims", "t", "t_copy", "numpy_T", "mT", "adjoint")
def transpose(call: Call) -> Axes:
    """Two dimensions exchanged; for ``t`` the only two."""
    num_dims = len(call.shape(0))
    order = list(range(num_dims))
    one, other = (call.args[1] % num_dims, call.args[2] % num_dims) if len(call.args) > 2 else (-1, -2)
    if num_dims > 1:
        order[one], order[other] = order[other], order[one]
    return _each(call, lambda terms: permuted(terms, order))


@register("unsqueeze", "unsqueeze_copy")
def unsqueeze(call: Call) -> Axes:
    """A dimension of length 1 put in."""
    dim = call.args[1] % len(call.out_shape)
    return _each(call, lambda terms: unsqueezed(terms, dim))


@register("squeeze", "squeeze_copy")
def squeeze(call: Call) -> Axes:
    """Dimensions of length 1 taken out: all, or those that are named."""
    shape = call.shape(0)
    named = call.args[1] if len(call.args) > 1 else range(len(shape))
    dims = [dim % len(shape) for dim in ([named] if isinstance(named, int) else named)] if shape else []
    gone = [dim for dim in dims if shape[dim] == 1]
    return _each(call, lambda terms: squeezed(terms, shape, gone))


@register("expand", "expand_copy", "broadcast_to", "expand_as")
def expand(call: Call) -> Axes:
    """Dimensions of length 1 repeated."""
    shape, after = call.shape(0), call.out_shape
    return _each(call, lambda terms: broadcast(terms, shape, after))


@register("repeat")
def repeat(call: Call) -> Axes:
    """The tensor end to end, so many times along each dimension."""
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


@register("slice", "slice_copy", "narrow", "narrow_copy")
def slice_of(call: Call) -> Axes:
    """``slice(x, dim=0, start=None, end=None, step=1)``."""
    named = call.named()
    shape = call.shape(0)
    dim = named.get("dim", 0) % len(shape)
    start, step = named.get("start") or 0, named.get("step", 1)
    start = min(max(start + shape[dim] if start < 0 else start, 0), shape[dim])
    length = call.out_shape[dim]
    if (start, length, step) == (0, shape[dim], 1):
        return call.axes(0) or ()
    return _along(call, dim, taps_of.sliced(shape[dim], start, length, step))


@register("select", "select_copy")
def select(call: Call) -> Axes:
    """One place of a dimension, which is taken out."""
    shape = call.shape(0)
    dim, place = call.args[1] % len(shape), call.args[2]
    return _each(call, lambda terms: _selected(terms, shape, dim, place % shape[dim]))


def _selected(terms: Terms, shape: Shape, dim: int, place: int) -> Terms:
    one = along(terms, shape, dim, taps_of.sliced(shape[dim], place, 1, 1))
    return squeezed(one, (*shape[:dim], 1, *shape[dim + 1 :]), (dim,))


@register(
    "split",
    "split_with_sizes",
    "chunk",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "unsafe_chunk",
    "tensor_split",
    "split_copy",
    "split_with_sizes_copy",
)
def split(call: Call) -> list[Axes | None]:
    """Parts one behind the other along a dimension."""
    shape = call.shape(0)
    dim = call.named().get("dim", 0) % len(shape)
    found: list[Axes | None] = []
    start = 0
    for part in call.out:
        length = part.shape[dim]
        found.append(_along(call, dim, taps_of.sliced(shape[dim], start, length, 1)))
        start += length
    return found


@register("unbind", "unbind_copy")
def unbind(call: Call) -> list[Axes | None]:
    """Each place of a dimension as a tensor."""
    shape = call.shape(0)
    dim = call.named().get("dim", 0) % len(shape)
    return [_each(call, lambda terms, place=place: _selected(terms, shape, dim, place)) for place in range(shape[dim])]  # type: ignore[misc]


@register("unfold", "unfold_copy")
def unfold(call: Call) -> Axes:
    """``x.unfold(dim, size, step)``: windows along ``dim``, what they hold in a new last dimension."""
    shape = call.shape(0)
    dim, size, step = call.args[1] % len(shape), call.args[2], call.args[3]
    taps = taps_of.window(shape[dim], call.out_shape[dim], size, step, 0, 1)
    order = [each for each in range(len(shape) + 1) if each != dim + 1] + [dim + 1]
    return _each(call, lambda terms: permuted(spread(terms, shape, dim, taps), order))


@register("flip")
def flip(call: Call) -> Axes:
    """Dimensions in reverse."""
    shape = call.shape(0)

    def rule(terms: Terms) -> Terms:
        for dim in call.args[1]:
            length = shape[dim]
            terms = along(terms, shape, dim % len(shape), taps_of.sliced(length, length - 1, length, -1))
        return terms

    return _each(call, rule)


@register("roll")
def roll(call: Call) -> Axes:
    """Dimensions moved round; without dimensions, all elements in order."""
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

    return _each(call, rule)


@register("index_select", "index_select_backward")
def index_select(call: Call) -> Axes:
    """Places of a dimension by a list; a list whose values are unknown may name any of them."""
    dim = call.args[1] % max(len(call.shape(0)), 1)
    return _picked(call, dim, call.args[2])


def _picked(call: Call, dim: int, index: Tensor) -> Axes:
    shape, after = call.shape(0), call.out_shape
    if not index.is_meta:
        return _along(call, dim, taps_of.picked(shape[dim], index.detach().cpu().reshape(-1).tolist()))
    call.is_hull = call.needs_data = True
    return _each(
        call,
        lambda terms: broadcast(reduced(terms, shape, (dim,), True, False), (*shape[:dim], 1, *shape[dim + 1 :]), after),
    )


@register("index", "_unsafe_index")
def index(call: Call) -> Axes | Hull:
    """``x[..., index, ...]`` with one list of places, all known; anything else may name any place."""
    shape, after = call.shape(0), call.out_shape
    places = [(dim, each) for dim, each in enumerate(call.args[1]) if each is not None]
    if call.axes(0) is None or any(axes_of(value) is not None for _, value in places):
        return HULL
    if len(places) == 1 and not places[0][1].is_meta and places[0][1].dtype != torch.bool:
        dim, values = places[0]
        flat = (*shape[:dim], values.numel(), *shape[dim + 1 :])
        taps = taps_of.picked(shape[dim], values.detach().cpu().reshape(-1).tolist())
        return _each(call, lambda terms: reshaped(along(terms, shape, dim, taps), flat, after))
    side_by_side = all(dim == places[0][0] + place for place, (dim, _) in enumerate(places))
    if len(places) > 1 and side_by_side and all(not value.is_meta and value.dtype != torch.bool for _, value in places):
        return _each(call, lambda terms: _pointed(terms, shape, places, after))
    call.needs_data = any(value.is_meta for _, value in places)
    return HULL


def _pointed(terms: Terms, shape: Shape, places: Sequence[tuple[int, Tensor]], after: Shape) -> Terms:
    """Several lists of places, one for each of several dimensions that stand side by side."""
    first, count = places[0][0], len(places)
    lists = np.broadcast_arrays(*(np.asarray(value.detach().cpu()) for _, value in places))
    lengths = shape[first : first + count]
    flat = np.ravel_multi_index(
        [values.reshape(-1) % length for values, length in zip(lists, lengths, strict=True)], lengths
    )
    merged = (*shape[:first], math.prod(lengths), *shape[first + count :])
    one = along(reshaped(terms, shape, merged), merged, first, taps_of.picked(merged[first], flat.tolist()))
    return reshaped(one, (*merged[:first], len(flat), *merged[first + 1 :]), after)


@register("cat", "concat", "concatenate")
def cat(call: Call) -> Axes:
    """Tensors one behind the other along a dimension; empty ones of one dimension count as none."""
    parts = [part for part in call.args[0] if part.dim() > 1 or part.numel()] or list(call.args[0])
    dim = call.named().get("dim", 0) % parts[0].dim()
    return _stacked(call, [(part, tuple(part.shape)) for part in parts], dim, lambda terms: terms)


@register("stack")
def stack(call: Call) -> Axes:
    """Tensors one behind the other along a new dimension."""
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


@register("view_as_real", "view_as_real_copy")
def view_as_real(call: Call) -> Axes:
    """A last dimension of real and imaginary part."""
    num_dims = len(call.shape(0))
    return _each(call, lambda terms: unsqueezed(terms, num_dims))


@register("view_as_complex", "view_as_complex_copy")
def view_as_complex(call: Call) -> Axes:
    """The last dimension of real and imaginary part taken out."""
    shape = call.shape(0)
    return _each(call, lambda terms: reduced(terms, shape, (len(shape) - 1,), False))


@register("diagonal", "diagonal_copy")
def diagonal(call: Call) -> Axes:
    """Places where two dimensions have the same number; taken for all places of both."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    dims = [named.get("dim1", 0) % len(shape), named.get("dim2", 1) % len(shape)]
    call.is_hull = True
    return _each(call, lambda terms: unsqueezed(reduced(terms, shape, dims, False), len(after) - 1))


@register("complex", "polar")
def both(call: Call) -> Axes:
    """Two tensors, element by element."""
    paths = [(each, tuple(value.shape)) for value in call.args[:2] if (each := axes_of(value)) is not None]
    return tuple(
        joined([(axes[axis], shape) for axes, shape in paths], call.out_shape)[0] for axis in range(len(paths[0][0]))
    )


def _each(call: Call, rule: Callable[[Terms], Terms]) -> Axes:
    return tuple(rule(terms) for terms in call.axes(0) or ())


def _along(call: Call, dim: int, taps: taps_of.Taps) -> Axes:
    shape = call.shape(0)
    return tuple(along(terms, shape, dim, taps) for terms in call.axes(0) or ())
