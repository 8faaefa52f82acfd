"""The dependence of a tensor after values were written into a part of it, through a view."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import torch

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.annotation import Annotation, Axes
from visus.networks.trace.coordinates.axis_dims import explicit
from visus.networks.trace.coordinates.dependence import (
    Array,
    Dependence,
    Shape,
    Terms,
    first_along,
    flags_together,
    largest_stride,
    settled,
)
from visus.networks.trace.coordinates.mixing import hull
from visus.networks.trace.coordinates.taps import Number, whole_or_fraction
from visus.networks.trace.coordinates.unions import as_one, united
from visus.networks.trace.operators.shapes import META

MAX_INDEX: Final = 4_000_000  # elements of a tensor whose places are followed one by one


def written(mark: Annotation, axes: Axes | None, origin: Annotation | None = None) -> None:
    """Record that a tensor now has values that depend on ``axes``, as has that part of its source.

    ``origin`` is the annotation of the copied tensor. If it is another part of the same tensor, as in circular padding, the
    theoretical field continues as if the map did.
    """
    if 0 in mark.shape:
        return  # nothing was written
    chain = [mark]
    while chain[-1].source is not None:
        chain.append(chain[-1].source)
    root = chain[-1]
    while origin is not None and origin.source is not None:
        origin = origin.source
    if len(chain) == 1:
        root.axes = axes
    else:
        root.axes = _with_part(root, chain[-2::-1], axes, origin is root)
    root.version += 1


def _with_part(root: Annotation, views: list[Annotation], axes: Axes | None, goes_on: bool) -> Axes | None:
    """What the root sees with a part of it overwritten; ``views`` lead from the root to that part."""
    before = root.axes
    if axes is None and before is None:
        return None
    num_axes = len(axes if axes is not None else before or ())
    shape, part = root.shape, views[-1].shape
    box = _box(shape, views)
    index = _index(shape, views) if box is None else None
    found = []
    for axis in range(num_axes):
        old = before[axis] if before is not None else None
        new = axes[axis] if axes is not None else None
        if box is not None:
            found.append(_overwritten(old, shape, new, part, box, goes_on))
        elif index is not None:
            found.append(_scattered(old, shape, new, part, index))
        else:
            found.append(united([*(hull(old, shape) if old else ()), *(hull(new, part) if new else ())], shape))
    return tuple(found)


class _Box(NamedTuple):
    """A part that covers evenly spaced places of each dimension."""

    spans: list[Array]  # for each dimension of the root the places that are covered
    kept: list[int]  # the dimensions of the part that are longer than 1
    long: list[int]  # those of the root that they lie along


def _box(shape: Shape, views: list[Annotation]) -> _Box | None:
    """The part as a box of the root; None if it is none, or its dimensions stand in another order."""
    part = torch.empty(shape, device=META)
    strides = part.stride()
    for view in views:
        if view.part is None:
            return None
        part = view.part(part)
    rest, spans = part.storage_offset(), []
    for stride in strides:
        spans.append(np.array([rest // stride]))
        rest %= stride
    kept = [dim for dim, length in enumerate(part.shape) if length > 1]
    long: list[int] = []
    for dim in kept:
        length, apart = part.shape[dim], part.stride()[dim]
        along = next((root for root in range(len(shape)) if 0 < strides[root] <= apart and shape[root] > 1), None)
        if along is None or apart % strides[along] or (long and along <= long[-1]):
            return None
        spans[along] = spans[along] + np.arange(length) * (apart // strides[along])
        if spans[along][-1] >= shape[along]:
            return None
        long.append(along)
    return _Box(spans, kept, long) if part.numel() else None


def _index(shape: Shape, views: list[Annotation]) -> Array | None:
    """The places of the root that the part covers, counted through, in the part's shape; None if they are too many."""
    if math.prod(shape) > MAX_INDEX or any(view.part is None for view in views):
        return None
    index = torch.arange(math.prod(shape)).view(shape)
    for view in views:
        assert view.part is not None
        index = view.part(index)
    found: Array = index.numpy()
    return found


def _overwritten(old: Terms | None, shape: Shape, new: Terms | None, part: Shape, box: _Box, goes_on: bool) -> Terms:
    """One axis of a tensor a box of which holds new values."""
    partial = [dim for dim in range(len(shape)) if len(box.spans[dim]) < shape[dim]]
    after = _laid_into(new, part, box.kept, box.long, shape)
    if not partial:
        return ((after or Dependence.on_nothing()).simplified(shape, look=True),)
    before = as_one(old, shape) if old else None
    if before is not None and after is not None and before.axis_dim != after.axis_dim and before.stride and after.stride:
        before, after = explicit(before, shape), explicit(after, tuple(len(span) for span in box.spans))
    return (_pasted(before, after, shape, box.spans, partial, goes_on).simplified(shape, look=True),)


def _laid_into(new: Terms | None, part: Shape, kept: list[int], long: list[int], shape: Shape) -> Dependence | None:
    """What the part depends on, with one dimension for each of the root; with arrays."""
    if not new:
        return None
    dep = as_one(new, part)
    places = dict(zip(kept, long, strict=True))
    arrays = []
    for array in (dep.intervals, dep.theoretical):
        lengths = [1] * len(shape)
        for here, there in places.items():
            lengths[there] = array.shape[here + 1]
        arrays.append(array.reshape(2, *lengths))
    axis_dim = None if dep.axis_dim is None else places.get(dep.axis_dim)
    if axis_dim is None and len(part) == len(shape) and kept == long:
        axis_dim = dep.axis_dim
    axis_dims = frozenset(places[dim] for dim in dep.axis_dims if dim in places)
    return dep.replaced(
        intervals=arrays[0],
        theoretical=arrays[1],
        axis_dim=axis_dim,
        axis_dims=axis_dims if axis_dim is None else axis_dims | {axis_dim},
    )


def _pasted(
    before: Dependence | None,
    after: Dependence | None,
    shape: Shape,
    spans: list[Array],
    partial: list[int],
    goes_on: bool,
) -> Dependence:
    """New numbers at some places of old ones; both with arrays."""
    known = [dep for dep in (before, after) if dep is not None]
    axis_dim = next((dep.axis_dim for dep in reversed(known) if dep.axis_dim is not None), None)
    old_intervals, old_theoretical = _arrays_of(before, shape)
    new_intervals, new_theoretical = _arrays_of(after, shape)
    stride: Number = 0
    if after is not None and not goes_on:
        stride = after.stride
        if axis_dim is not None and axis_dim == after.axis_dim and stride:
            new_theoretical, stride = _placed(after, spans[axis_dim])
    places = {dim: spans[dim] for dim in partial}
    intervals, where = _room_for(old_intervals, new_intervals, shape, places)
    intervals[where] = new_intervals
    is_along_axis = axis_dim is not None and axis_dim in places
    if axis_dim is not None:
        places.pop(axis_dim, None)
        old_theoretical, new_theoretical = (
            first_along(old_theoretical, axis_dim),
            new_theoretical.min(axis_dim + 1, keepdims=True),
        )
    theoretical, where = _room_for(old_theoretical, new_theoretical, shape, places)
    if not (is_along_axis and goes_on):
        theoretical[where] = np.minimum(theoretical[where], new_theoretical) if is_along_axis else new_theoretical
    return Dependence(
        intervals,
        theoretical,
        largest_stride(before.stride, stride) if before is not None else stride,
        axis_dim,
        frozenset[int]().union(*(dep.axis_dims for dep in known)),
        **(flags_together(known) | {"is_approximate": any(dep.is_approximate or dep.phases is not None for dep in known)}),
    )


def _arrays_of(dep: Dependence | None, shape: Shape) -> tuple[Array, Array]:
    """Intervals and theoretical fields; those of nothing for None."""
    if dep is None:
        nothing = np.full((2, *[1] * len(shape)), EMPTY)
        return nothing, nothing
    return dep.intervals, dep.theoretical


def _room_for(old: Array, new: Array, shape: Shape, places: dict[int, Array]) -> tuple[Array, tuple[Array, ...]]:
    """A copy of old numbers with room for new ones, and where those go: ``places`` of some dimensions, all of the others."""
    pairs = zip(old.shape[1:], new.shape[1:], strict=True)
    lengths = [shape[dim] if dim in places else max(pair) for dim, pair in enumerate(pairs)]
    room = np.array(np.broadcast_to(old, (2, *lengths)), dtype=np.result_type(old.dtype, new.dtype))
    where = (places[dim] if dim in places else np.arange(length) for dim, length in enumerate(lengths))
    return room, np.ix_(np.arange(2), *where)


def _placed(dep: Dependence, span: Array) -> tuple[Array, Number]:
    """The theoretical field of values that were put at the places ``span`` of their axis, continued to its beginning."""
    apart = int(span[1] - span[0]) if len(span) > 1 else 1
    stride = whole_or_fraction(Fraction(dep.stride) / apart)
    shift = stride * int(span[0])
    kind = np.float64 if isinstance(shift, Fraction) else dep.theoretical.dtype
    turned = np.array([-shift, shift], dtype=kind).reshape(2, *[1] * (dep.theoretical.ndim - 1))
    return settled(dep.theoretical + turned), stride


def _scattered(old: Terms | None, shape: Shape, new: Terms | None, part: Shape, index: Array) -> Terms:
    """New numbers at places that are no box: every element is written out."""
    before, after = (as_one(old, shape) if old else None), (as_one(new, part) if new else None)
    intervals = np.broadcast_to(_arrays_of(before, shape)[0], (2, *shape)).copy()
    values = np.broadcast_to(_arrays_of(after, part)[0], (2, *part))
    intervals.reshape(2, -1)[:, index.reshape(-1)] = values.reshape(2, -1)
    known = [dep for dep in (before, after) if dep is not None]
    lowest = np.minimum.reduce([dep.theoretical.reshape(2, -1).min(1) for dep in known if dep.theoretical is not None])
    stride: Number = 0
    for dep in known:
        stride = largest_stride(stride, dep.stride)
    pasted = Dependence(
        intervals,
        lowest.reshape(2, *[1] * len(shape)),
        stride,
        None if before is None else before.axis_dim,
        **(flags_together(known) | {"is_approximate": True}),
    ).compressed()
    axis_dims = frozenset(dim for dim in range(len(shape)) if pasted.intervals.shape[dim + 1] > 1)
    return (pasted.replaced(axis_dims=axis_dims).simplified(shape, look=True),)
