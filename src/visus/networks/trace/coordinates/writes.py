"""What a tensor sees after values were written into a part of it, through a view.

This file knows marks and their sources.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
import torch

from visus.geometry.exact_intervals import EMPTY
from visus.networks.trace.annotation import Annotation, Axes
from visus.networks.trace.coordinates.dependence import (
    Array,
    Grid,
    Line,
    Shape,
    Terms,
    blank,
    compressed,
    largest_step,
    settled,
    simplest,
)
from visus.networks.trace.coordinates.moves import hull
from visus.networks.trace.coordinates.places import explicit
from visus.networks.trace.coordinates.taps import Number, whole_or_fraction
from visus.networks.trace.coordinates.unions import as_one, united
from visus.networks.trace.operators.shapes import META

MAX_INDEX: Final = 4_000_000  # elements of a tensor whose places are followed one by one


def written(mark: Annotation, axes: Axes | None, origin: Annotation | None = None) -> None:
    """Note that a tensor now holds values that see ``axes``, and that its source holds them there too.

    ``origin`` is the mark of the tensor that the values were copied from. Where it is another part of the same tensor, as in
    circular padding, the theoretical field goes on as if the map did.
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
    """The part as a box of the root; None where it is none, or its dimensions stand in another order."""
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
    """The places of the root that the part covers, counted through, in the part's shape; None where they are too many."""
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
    grid = _laid_into(new, part, box.kept, box.long, shape)
    if not partial:
        return (simplest(grid, shape, look=True),) if grid is not None else (blank(),)
    before = as_one(old, shape) if old else None
    if before is not None and grid is not None and before.own != grid.own and before.step and grid.step:
        before, grid = explicit(before, shape), explicit(grid, tuple(len(span) for span in box.spans))
    return (_pasted(before, grid, shape, box.spans, partial, goes_on),)


def _laid_into(new: Terms | None, part: Shape, kept: list[int], long: list[int], shape: Shape) -> Grid | None:
    """The part's grid with one dimension for each of the root."""
    if not new:
        return None
    grid = as_one(new, part)
    lengths = [1] * len(shape)
    book_lengths = [1] * len(shape)
    for here, there in zip(kept, long, strict=True):
        lengths[there], book_lengths[there] = grid.reads.shape[here + 1], grid.theoretical.shape[here + 1]
    places = dict(zip(kept, long, strict=True))
    own = None if grid.own is None else places.get(grid.own)
    if own is None and grid.own is not None and len(part) == len(shape) and kept == long:
        own = grid.own
    lies = frozenset(places[dim] for dim in grid.lies if dim in places) | (frozenset() if own is None else {own})
    reads, theoretical = grid.reads.reshape(2, *lengths), grid.theoretical.reshape(2, *book_lengths)
    return grid._replace(reads=reads, theoretical=theoretical, own=own, lies=lies)


def _pasted(
    before: Grid | None, grid: Grid | None, shape: Shape, spans: list[Array], partial: list[int], goes_on: bool
) -> Grid | Line:
    """New numbers at some places of old ones."""
    some = grid if grid is not None else before
    assert some is not None
    own = grid.own if grid is not None and grid.own is not None else before.own if before is not None else None
    step: Number = 0
    ones = (2, *[1] * len(shape))
    old_reads = before.reads if before is not None else np.full(ones, EMPTY)
    old_book = before.theoretical if before is not None else np.full(ones, EMPTY)
    new_reads = grid.reads if grid is not None else np.full(ones, EMPTY)
    new_book = grid.theoretical if grid is not None else np.full(ones, EMPTY)
    if grid is not None and not goes_on:
        step = grid.step
        if own is not None and own == grid.own and step:
            new_book, step = _placed_book(grid, spans[own])
    lengths = [2] + [
        shape[dim] if dim in partial else max(old_reads.shape[dim + 1], new_reads.shape[dim + 1])
        for dim in range(len(shape))
    ]
    reads = np.broadcast_to(old_reads, lengths).copy()
    where = np.ix_(
        np.arange(2), *(spans[dim] if dim in partial else np.arange(lengths[dim + 1]) for dim in range(len(shape)))
    )
    reads[where] = new_reads
    lengths = [2] + [
        1 if dim == own else shape[dim] if dim in partial else max(old_book.shape[dim + 1], new_book.shape[dim + 1])
        for dim in range(len(shape))
    ]
    if own is not None and old_book.shape[own + 1] > 1:
        old_book = old_book[(slice(None),) * (own + 1) + (slice(0, 1),)]
    if own is not None and new_book.shape[own + 1] > 1:
        new_book = new_book.min(own + 1, keepdims=True)
    kind = np.result_type(old_book.dtype, new_book.dtype)
    theoretical = np.broadcast_to(old_book, lengths).astype(kind).copy()
    where = np.ix_(
        np.arange(2),
        *(
            np.arange(1) if dim == own else spans[dim] if dim in partial else np.arange(lengths[dim + 1])
            for dim in range(len(shape))
        ),
    )
    overlaps = own is not None and own in partial
    if not (overlaps and goes_on):
        theoretical[where] = np.minimum(theoretical[where], new_book) if overlaps else new_book
    others = [each for each in (before, grid) if each is not None]
    step = largest_step(before.step, step) if before is not None else step
    flags = any(each.whole for each in others), all(each.exact for each in others)
    lies = frozenset[int]().union(*(each.lies for each in others))
    rough = any(each.rough or each.phases is not None for each in others)
    pasted = Grid(reads, theoretical, own, step, *flags, lies=lies, rough=rough)
    return simplest(pasted, shape, look=True)


def _placed_book(grid: Grid, span: Array) -> tuple[Array, Number]:
    """The theoretical field of values that were put at the places ``span`` of their axis, continued to its beginning."""
    apart = int(span[1] - span[0]) if len(span) > 1 else 1
    step = whole_or_fraction(Fraction(grid.step) / apart)
    shift = step * int(span[0])
    kind = np.float64 if isinstance(shift, Fraction) else grid.theoretical.dtype
    turned = np.array([-shift, shift], dtype=kind).reshape(2, *[1] * (grid.theoretical.ndim - 1))
    return settled(grid.theoretical + turned), step


def _scattered(old: Terms | None, shape: Shape, new: Terms | None, part: Shape, index: Array) -> Terms:
    """New numbers at places that are no box: every element is written out."""
    total = math.prod(shape)
    before, after = (as_one(old, shape) if old else None), (as_one(new, part) if new else None)
    own = before.own if before is not None else None
    reads = np.full((2, *shape), EMPTY) if before is None else np.broadcast_to(before.reads, (2, *shape)).copy()
    if after is not None:
        values = np.broadcast_to(after.reads, (2, *part)).reshape(2, -1)
    else:
        values = np.full((2, index.size), EMPTY)
    reads.reshape(2, total)[:, index.reshape(-1)] = values
    known = [grid for grid in (before, after) if grid is not None]
    theoretical = np.minimum.reduce([grid.theoretical.reshape(2, -1).min(1) for grid in known]).reshape(2, *[1] * len(shape))
    step: Number = 0
    for grid in known:
        step = largest_step(step, grid.step)
    flags = any(grid.whole for grid in known), all(grid.exact for grid in known)
    pasted = compressed(Grid(reads, theoretical, own, step, *flags, rough=True))
    lies = frozenset(dim for dim in range(len(shape)) if pasted.reads.shape[dim + 1] > 1)
    return (simplest(pasted._replace(lies=lies), shape, look=True),)
