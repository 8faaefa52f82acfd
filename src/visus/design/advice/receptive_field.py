"""Advice on receptive fields that are larger than the image, or smaller than the objects in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Many
from typing import Any, Final

from visus.design.account import Fields, Row
from visus.design.advice.pieces import Advice, per_axis_text
from visus.design.advice.unread_pixels import gaps
from visus.design.arguments import Shape
from visus.design.edits import appended, trunk, with_layer, without
from visus.design.facts import AdviceFound, Candidate, Facts, costs
from visus.design.graph import Node
from visus.design.items import Residual
from visus.design.layers.registry import Depthwise, Layer, conv, norm, relu
from visus.design.rewrite import with_window
from visus.geometry import Field
from visus.tables import listed
from visus.units import write_count, write_number_of, write_shape, write_share

_MAX_LAYERS: Final = 50  # more layers added are no remedy


def unproductive(facts: Facts) -> Iterator[AdviceFound]:
    """Layers that cannot add context: every position of their input already sees the whole image.

    Richter et al. 2021 (arXiv:2106.12307) ask it of the theoretical field alone, which is that of the middle position; the
    outermost positions, whose fields lie half outside of the image, may then still grow. Only layers with windows larger than 1
    count; other layers never add context.
    """
    found = _unproductive(facts)
    if not found:
        return
    rows = [row for row in facts.rows if row.path in found]
    parameters, macs = sum(row.num_parameters for row in rows), sum(row.macs for row in rows)
    one = len(rows) == 1
    sizes = per_axis_text([field.size for field in found[rows[0].path]])
    sentence = (
        f"every position of the input of this layer already sees the whole image of {write_shape(facts.input_size)} "
        f"(receptive field {sizes} px): this layer{'' if one else f' and {len(rows) - 1} later'} cannot add context. "
        f"{'It holds' if one else 'They hold'} {write_count(parameters)} parameters "
        f"({write_share(parameters / max(1, facts.account.num_parameters))} of all) and {write_count(macs)} multiply-adds."
        f"{_grown_before(facts, found)}"
    )
    advice = Advice("unproductive", rows[0].path, sentence, paths=tuple(row.path for row in rows))
    yield AdviceFound(advice, lambda: _more_use(facts, found))


def object_size(facts: Facts) -> Iterator[AdviceFound]:
    """The image is smaller than an object, or the receptive field of the last map is."""
    row, wanted = facts.last_map(), facts.object_px
    if wanted is None or row is None:
        return
    if wanted > min(facts.input_size):
        sentence = (
            f"an object of {wanted} px does not fit into the image of {write_shape(facts.input_size)}, so no image shows one whole. "
            "Give the size of objects in images of this size, or use larger images."
        )
        yield AdviceFound(Advice("object", "", sentence))
        return
    sizes = [field.size for field in row.fields]
    if min(sizes) >= wanted or facts.whole_tokens() is not None:
        return
    most = "" if facts.is_exact(facts.places[row.path]) else "at most "
    sentence = (
        f"the last map has a receptive field of {most}{per_axis_text(sizes)} px, {wanted - min(sizes)} less than an object of {wanted} px: "
        "no position sees such an object whole, and a detector cannot find a border that it does not see."
    )
    advice = Advice("object", row.path, sentence, paths=(row.path,))
    yield AdviceFound(advice, lambda: _wider_sight(facts, row, wanted))


# ---- layers that add nothing ----


def _unproductive(facts: Facts) -> dict[str, Fields]:
    """The fields of what enters each layer that can add nothing, by path."""
    return {
        path: fields
        for path, (fields, lengths) in _covering(facts).items()
        if all(map(_see_everything, fields, facts.input_size, lengths))
    }


def _covering(facts: Facts) -> dict[str, tuple[Fields, Shape]]:
    """The fields of what enters each layer with a window, and the lengths of that map, where the theoretical field covers the image."""
    found = {}
    for place, (row, flow) in enumerate(zip(facts.rows, facts.flows, strict=True)):
        if not row.num_parameters or all(window.span == 1 for window in flow.windows):
            continue
        source = facts.source(place)
        fields, shape = facts.fields_at(source), facts.shape_at(source)
        if not facts.is_map(shape) or not facts.is_exact(source):
            continue
        if all(field.stride != 0 and field.size >= length for field, length in zip(fields, facts.input_size, strict=True)):
            found[row.path] = fields, shape[1:]
    return found


def _see_everything(field: Field, image_px: int, num_positions: int) -> bool:
    """Whether every position on an axis sees the whole image, through windows alone: a gate would show it to all positions."""
    first, last = field.theoretical(0), field.theoretical(num_positions - 1)
    if first is None or last is None or first[1] < image_px - 1 or last[0] > 0:
        return False
    return field.intervals is None or len(set(field.intervals.pairs())) == 1


def _seen_px(field: Field, image_px: int, position: int) -> int:
    """Pixels of the image in the theoretical field of a position."""
    first, last = field.theoretical(position) or (0, -1)
    return min(last, image_px - 1) - max(first, 0) + 1


def _middle_sees(field: Field, image_px: int, num_positions: int) -> bool:
    """Whether a middle position on an axis sees the whole image."""
    return image_px in (_seen_px(field, image_px, (num_positions - 1) // 2), _seen_px(field, image_px, num_positions // 2))


def _grown_before(facts: Facts, found: Mapping[str, Fields]) -> str:
    """The layers before those found that Richter's criterion counts too, as a sentence with a space before it; empty if there are none."""
    covering = _covering(facts)
    others = [
        path
        for path, each in covering.items()
        if path not in found and all(map(_middle_sees, each[0], facts.input_size, each[1]))
    ]
    if not others:
        return ""
    fields, lengths = covering[others[0]]
    axis = min(range(len(fields)), key=lambda axis: _seen_px(fields[axis], facts.input_size[axis], 0))
    length = facts.input_size[axis]
    smallest = min(_seen_px(fields[axis], length, position) for position in (0, lengths[axis] - 1))
    return (
        f" From {others[0]} on, the middle position sees the whole image (Richter et al. 2021 count these layers too), but the fields of the "
        f"outermost positions still grow from {smallest} to {length} px."
    )


def _more_use(facts: Facts, found: Mapping[str, Fields]) -> Iterator[Candidate]:
    """A larger image, and the design without the blocks that add nothing."""
    needed = max(math.ceil(field.end) for fields in found.values() for field in fields) + 1
    if not facts.nodes:
        if needed <= 2 * max(facts.input_size):
            yield Candidate(f"use images of {needed} px or more (computed from the receptive fields, not tried)")
        return
    shape = (facts.input_shape[0], *(max(length, needed) for length in facts.input_size))
    if max(shape[1:]) <= 2 * max(facts.input_size):
        design = without(facts.nodes, (), named=True)
        larger = facts.tried(design, shape)
        if larger is not None and not _unproductive(larger):
            yield Candidate(
                f"use images of {write_shape(shape[1:])}: {write_count(larger.account.macs)} multiply-adds", design, larger
            )
    blocks = list(_droppable(facts.nodes, set(found)))
    design = without(facts.nodes, blocks, named=True) if blocks else None
    smaller = facts.tried(design)
    if smaller is not None and smaller.account.output == facts.account.output:
        named = blocks[0] if len(blocks) == 1 else f"{len(blocks)} blocks ({listed(blocks)})"
        left = len(_unproductive(smaller))
        rest = f", which leaves {left} of these {len(found)} layers" if left else ""
        yield Candidate(f"remove {named}: {costs(smaller.account)}{rest}", design, smaller, is_partial=True)


def _droppable(nodes: Many[Node], useless: set[str]) -> Iterator[str]:
    """The outermost items that keep the shape, are no lone layer's part and whose windows all add nothing."""
    for node in nodes:
        spatial = {each.path for each in node.walk() if each.num_parameters and _is_spatial(each)}
        lone = isinstance(node.layer, Depthwise)  # what mixes its channels would stay
        if node.input_shape == node.output_shape and spatial and spatial <= useless and not lone:
            yield node.path
        else:
            for branch in node.branches:
                yield from _droppable(branch if not isinstance(node.layer, Residual) else [], useless)


def _is_spatial(node: Node) -> bool:
    windows = node.layer.windows(len(node.input_shape) - 1) if isinstance(node.layer, Layer) else ()
    return any(window.span > 1 for window in windows)


# ---- objects ----


def _wider_sight(facts: Facts, row: Row, wanted: int) -> Iterator[Candidate]:
    """More dilation, more layers, or smaller images."""
    if not facts.nodes:
        return
    sizes = [field.size for field in row.fields]
    if trunk(facts.nodes):
        yield from _dilated(facts, wanted - min(sizes), wanted)
        yield from _more_layers(facts, row, wanted)
    reduced = tuple(length * min(sizes) // wanted for length in facts.input_size)
    if 4 * min(sizes) >= wanted and min(reduced) > 0:
        sizes_px = [wanted * less / length for less, length in zip(reduced, facts.input_size, strict=True)]
        design = without(facts.nodes, (), named=True)
        smaller = facts.tried(design, (facts.input_shape[0], *reduced), object_px=math.ceil(max(sizes_px)))
        if smaller is not None and _sees(smaller, math.ceil(max(sizes_px))):
            text = f"resize images to {write_shape(reduced)}, where the object has {max(sizes_px):.3g} px"
            yield Candidate(text, design, smaller)


def _more_layers(facts: Facts, row: Row, wanted: int) -> Iterator[Candidate]:
    stride = min(float(field.stride) for field in row.fields)
    count = math.ceil((wanted - min(field.size for field in row.fields)) / (2 * stride))
    if count > _MAX_LAYERS:
        return
    layers = [part for _ in range(count) for part in (conv(row.output_shape[0], 3, padding=1), norm(), relu())]
    design = appended(facts.nodes, layers, named=True)
    deeper = facts.tried(design)
    if deeper is not None and _sees(deeper, wanted):
        text = f"add {write_number_of(count, 'layer')} of conv({row.output_shape[0]}, 3, padding=1), norm, relu: {costs(deeper.account)}"
        yield Candidate(text, design, deeper)


def _dilated(facts: Facts, missing: int, wanted: int) -> Iterator[Candidate]:
    """The last convolution with the smallest dilation that is wide enough, if it leaves no gaps."""
    num_axes = len(facts.input_size)
    convs = [node for outer in trunk(facts.nodes) for node in outer.walk() if node.num_parameters and _is_spatial(node)]
    if not convs:
        return
    node: Any = convs[-1]
    reach = max(window.kernel_size // 2 for window in node.layer.windows(num_axes))
    fields = facts.fields_at(facts.source(facts.places[node.path]))
    stride = min((float(field.stride) for field in fields if field.stride), default=1.0)
    least = max(window.dilation for window in node.layer.windows(num_axes)) + math.ceil(missing / (2 * reach * stride))
    for dilation in (least, least + 1):
        if dilation > min(node.output_shape[1:]) // (2 * reach):  # further taps read nothing but padding
            return
        layer = with_window(node.layer, num_axes, dilation=dilation)
        design = with_layer(facts.nodes, node.path, layer, named=True) if layer else None
        wider = facts.tried(design)
        if wider is not None and _sees(wider, wanted):
            if not any(True for _ in gaps(wider)):
                yield Candidate(f"set dilation={dilation} in {node.path}: {costs(wider.account)}", design, wider)
            return


def _sees(facts: Facts, wanted: int) -> bool:
    row = facts.last_map()
    return row is not None and min(field.size for field in row.fields) >= wanted
