"""Operators that pick parts of a tensor: slices, splits, lists of indices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visus.networks.trace.annotation import Axes, axes_of, tensors
from visus.networks.trace.coordinates import taps as taps_of
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.mixing import reduced
from visus.networks.trace.coordinates.positions_read import along
from visus.networks.trace.coordinates.reshaping import broadcast, reshaped, squeezed, unsqueezed
from visus.networks.trace.operators.registry import HULL, Call, Hull, operator


@operator("slice", "slice_copy", "narrow", "narrow_copy", kind="values")
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


@operator("select", "select_copy", kind="values")
def select(call: Call) -> Axes:
    """``select(x, dim, index)``: one index of a dimension, which is removed."""
    shape = call.shape(0)
    dim, place = call.args[1] % len(shape), call.args[2]
    return call.map_axes(lambda terms: _selected(terms, shape, dim, place % shape[dim]))


def _selected(terms: Terms, shape: Shape, dim: int, place: int) -> Terms:
    one = along(terms, shape, dim, taps_of.sliced(shape[dim], place, 1, 1))
    return squeezed(one, (*shape[:dim], 1, *shape[dim + 1 :]), (dim,))


@operator("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", kind="move")
@operator("tensor_split", "split_copy", "split_with_sizes_copy", kind="move")
def split(call: Call) -> list[Axes | None]:
    """``split(x, sizes, dim=0)``: consecutive parts of a dimension."""
    shape = call.shape(0)
    dim = call.named().get("dim", 0) % len(shape)
    found: list[Axes | None] = []
    start = 0
    for part in call.out:
        length = part.shape[dim]
        found.append(_along(call, dim, taps_of.sliced(shape[dim], start, length, 1)))
        start += length
    return found


@operator("unbind", "unbind_copy", kind="move")
def unbind(call: Call) -> list[Axes | None]:
    """``unbind(x, dim=0)``: each index of a dimension as a tensor."""
    shape = call.shape(0)
    dim = call.named().get("dim", 0) % len(shape)
    return [call.map_axes(lambda terms, place=place: _selected(terms, shape, dim, place)) for place in range(shape[dim])]  # type: ignore[misc]


@operator("index_select", "index_select_backward", kind="values")
def index_select(call: Call) -> Axes:
    """``index_select(x, dim, index)``: if the index values are unknown, the hull of the dimension."""
    dim = call.args[1] % max(len(call.shape(0)), 1)
    return _picked(call, dim, call.args[2])


def _picked(call: Call, dim: int, index: Tensor) -> Axes:
    shape, after = call.shape(0), call.out_shape
    if not index.is_meta:
        return _along(call, dim, taps_of.picked(shape[dim], index.detach().cpu().reshape(-1).tolist()))
    call.is_hull = call.needs_data = True
    return call.map_axes(
        lambda terms: broadcast(reduced(terms, shape, (dim,), True, False), (*shape[:dim], 1, *shape[dim + 1 :]), after)
    )


def _masks(args: Sequence[Any]) -> Iterator[Tensor]:
    """The masks among the indices: the output's shape depends on their values, and not on those of lists of indices."""
    return (value for value in tensors(args[1]) if value.dtype in (torch.bool, torch.uint8))


@operator("index", "_unsafe_index", kind="values", read_arguments=_masks)
def index(call: Call) -> Axes | Hull:
    """``x[..., index, ...]`` with known lists of indices for consecutive dimensions; the hull for anything else."""
    shape, after = call.shape(0), call.out_shape
    places = [(dim, each) for dim, each in enumerate(call.args[1]) if each is not None]
    if call.axes(0) is None or any(axes_of(value) is not None for _, value in places):
        return HULL
    if len(places) == 1 and not places[0][1].is_meta and places[0][1].dtype != torch.bool:
        dim, values = places[0]
        flat = (*shape[:dim], values.numel(), *shape[dim + 1 :])
        taps = taps_of.picked(shape[dim], values.detach().cpu().reshape(-1).tolist())
        return call.map_axes(lambda terms: reshaped(along(terms, shape, dim, taps), flat, after))
    are_consecutive = all(dim == places[0][0] + place for place, (dim, _) in enumerate(places))
    if len(places) > 1 and are_consecutive and all(not value.is_meta and value.dtype != torch.bool for _, value in places):
        return call.map_axes(lambda terms: _picked_by_several(terms, shape, places, after))
    call.needs_data = any(value.is_meta for _, value in places)
    return HULL


def _picked_by_several(terms: Terms, shape: Shape, places: Sequence[tuple[int, Tensor]], after: Shape) -> Terms:
    """Several lists of indices, one for each of several consecutive dimensions."""
    first, count = places[0][0], len(places)
    lists = np.broadcast_arrays(*(np.asarray(value.detach().cpu()) for _, value in places))
    lengths = shape[first : first + count]
    flat = np.ravel_multi_index(
        [values.reshape(-1) % length for values, length in zip(lists, lengths, strict=True)], lengths
    )
    merged = (*shape[:first], math.prod(lengths), *shape[first + count :])
    one = along(reshaped(terms, shape, merged), merged, first, taps_of.picked(merged[first], flat.tolist()))
    return reshaped(one, (*merged[:first], len(flat), *merged[first + 1 :]), after)


@operator("diagonal", "diagonal_copy", kind="values")
def diagonal(call: Call) -> Axes:
    """``diagonal(x, offset=0, dim1=0, dim2=1)``: counts as dependent on all positions of both dimensions."""
    named = call.named()
    shape, after = call.shape(0), call.out_shape
    dims = [named.get("dim1", 0) % len(shape), named.get("dim2", 1) % len(shape)]
    call.is_hull = True
    return call.map_axes(lambda terms: unsqueezed(reduced(terms, shape, dims, False), len(after) - 1))


@operator("one_hot", kind="values")
def one_hot(call: Call) -> Axes:
    """``one_hot(x, num_classes)``: a new last dimension."""
    num_dims = len(call.shape(0))
    return tuple(unsqueezed(terms, num_dims) for terms in call.axes(0) or ())


def _along(call: Call, dim: int, taps: taps_of.Taps) -> Axes:
    shape = call.shape(0)
    return tuple(along(terms, shape, dim, taps) for terms in call.axes(0) or ())
