"""The part of a look page that shows every layer: its statistics, its feature maps, the strongest of them over the sample.

Shape letters: C channels, * spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from visus.design.account import Fields
from visus.examine.layer_calls import Array
from visus.examine.map_placement import place_nearest
from visus.pages.look.facts import LayerLook, LookedSample, LookFacts
from visus.pages.parts.charts import bars
from visus.pages.parts.document import Section, figure, folded
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import MAX_SLICES, map_image, sample_block_means
from visus.pages.parts.table import table, table_row
from visus.units import write_number_of, write_shape, write_share, write_size

OPEN_LAYERS: Final = 32
OPEN_MAPS: Final = 7  # the rest is folded
SHOWN_PX: Final = 84  # the side of a map on the page, about
OVER_PX: Final = 128
MAPS_BYTES: Final = 1_000_000
MAX_BARS: Final = 200
_LISTED: Final = 24
# Number of maps of a layer, their longest side, and number of maps over the sample: the first choice that fits is taken.
_CHOICES: Final = (
    (16, 128, 2), (12, 128, 2), (10, 96, 2), (8, 96, 1), (7, 64, 1), (6, 64, 1), (4, 48, 1), (3, 32, 1), (2, 32, 0), (1, 24, 0),
)  # fmt: skip
_TOO_MUCH: Final = 4
_BYTES_PER_PX, _BYTES_BESIDE, _BYTES_PER_COLOR_PX = 0.85, 420, 1.9


@dataclass(frozen=True)
class Allowance:
    """How much of each layer is drawn.

    Args:
        num_maps: maps of each layer.
        side_px: longest side of a map; larger ones are drawn as means of blocks.
        num_over: maps over the sample.
    """

    num_maps: int
    side_px: int
    num_over: int


def _largest_that_fits(facts: LookFacts) -> tuple[Allowance, list[str]]:
    """The largest allowance that keeps all layers under ``MAPS_BYTES`` on the page, and the page text of each layer.

    Choices that are many times too large by an estimate, made for maps of noise, are not drawn.
    """
    choices = [Allowance(*each) for each in _CHOICES]
    for chosen in choices[:-1]:
        estimate = sum(_estimate(layer, facts.sample, chosen) for layer in facts.layers) * 4 / 3
        if estimate > _TOO_MUCH * MAPS_BYTES:
            continue
        parts = [_layer(facts, layer, chosen) for layer in facts.layers]
        if sum(map(len, parts)) <= MAPS_BYTES:
            return chosen, parts
    return choices[-1], [_layer(facts, layer, choices[-1]) for layer in facts.layers]


def _estimate(layer: LayerLook, sample: LookedSample, chosen: Allowance) -> float:
    spatial = layer.shape[1:]
    if math.prod(spatial) <= 1:
        return _BYTES_BESIDE
    pixels = _pixels(spatial, chosen.side_px)
    count = min(chosen.num_maps, layer.shape[0])
    over = min(chosen.num_over, layer.shape[0]) * (_BYTES_PER_COLOR_PX * _pixels(sample.spatial, OVER_PX) + _BYTES_BESIDE)
    return count * (_BYTES_PER_PX * pixels + _BYTES_BESIDE) + over


def _pixels(spatial: tuple[int, ...], side: int) -> float:
    """Number of drawn values of a map or a sample of this size."""
    if len(spatial) == 1:
        return 8 * min(spatial[0], 400)
    plane = spatial[-2:]
    times = -(-max(plane) // side)
    return math.prod(-(-length // times) for length in plane) * (MAX_SLICES if len(spatial) == 3 else 1)


def layers_section(facts: LookFacts) -> Section:
    """Every layer in the order of computation: a table of all, then one part for each."""
    chosen, parts = _largest_that_fits(facts)
    order = escape(_order_sentence(facts))
    has_maps = any(math.prod(layer.shape[1:]) > 1 for layer in facts.layers)
    said = (
        f"<p>A feature map shows where a filter responds. {order} At most {write_number_of(chosen.num_maps, 'map')} of each layer are drawn, "
        f"those with the highest values on this {facts.sample.noun} first, with their numbers and maxima. All maps of a layer share one "
        "scale.</p>"
        if has_maps
        else f"<p>{order}</p>"
    )
    if len(parts) > OPEN_LAYERS:
        parts = [
            folded(f"{layer.path}: {write_shape(layer.shape)}", part)
            for layer, part in zip(facts.layers, parts, strict=True)
        ]
    return Section("Layer by layer", said + _table(facts) + "".join(parts))


def _order_sentence(facts: LookFacts) -> str:
    """How the size of the maps and the receptive field change from the first layer to the last."""
    maps = [layer for layer in facts.layers if math.prod(layer.shape[1:]) > 1]
    if not maps:
        return "No layer of this network has feature maps: every unit reads the whole sample."
    first, last = maps[0], maps[-1]
    text = f"The size of the maps goes from {write_shape(first.shape[1:])} in {first.path} to {write_shape(last.shape[1:])} in {last.path}"
    if first.fields and last.fields:
        widest = _widest(maps)
        text += f", and the receptive field from {field_words(first)} to {field_words(widest)}"
        text += f" in {widest.path}" if field_words(widest) != field_words(last) else ""
    return text + "."


def _widest(maps: Sequence[LayerLook]) -> LayerLook:
    """The layer with the largest receptive field, the last of several: the last layer may be a shortcut around it."""
    return max(
        reversed(maps),
        key=lambda layer: (
            bool(layer.fields) and all(each.stride == 0 for each in layer.fields),
            max((each.size for each in layer.fields), default=0),
        ),
    )


def field_words(layer: LayerLook) -> str:
    """The theoretical receptive field of a layer, in words; empty if unknown.

    Its padding is continued, so it may be larger than the sample.
    """
    if not layer.fields:
        return ""
    if all(each.stride == 0 for each in layer.fields):
        return "the whole input"
    size = write_size(each.size for each in layer.fields)
    return size + (" and, through a gate or a norm, the whole input" if any(each.is_whole for each in layer.fields) else "")


def _table(facts: LookFacts) -> str:
    rows = []
    for layer in facts.layers:
        cells = [
            escape(write_shape(layer.shape)),
            escape(layer.field) or "\u2013",
            write_share(layer.zero_share),
            layer.num_dead,
            f"{len(layer.sparse):,}",
        ]
        rows.append(table_row(layer.path or "(the module)", cells))
    columns = ["Layer", "Shape", f"Receptive field, {facts.sample.unit} / stride", "Zeros", "Dead", "Sparse"]
    over = f"{facts.num_over:,} samples" if facts.num_over > 1 else f"this {facts.sample.noun} alone"
    caption = f"Layers in the order of computation; zeros on this {facts.sample.noun}, dead and sparse {facts.channels} over {over}"
    notes = [note for note in (facts.dash, facts.missing.get("layers", "")) if note]
    return table(caption, columns, rows) + "".join(f'<p class="under">{escape(note)}</p>' for note in notes)


def _layer(facts: LookFacts, layer: LayerLook, chosen: Allowance) -> str:
    title = f"<h3>{escape(layer.path or 'the module')} <span class='under'>{escape(layer.layer)}</span></h3>"
    spatial = layer.shape[1:]
    words = " ".join(_sentences(facts, layer))
    drawn = _vector(layer) if math.prod(spatial) <= 1 else _maps(facts, layer, chosen)
    return f'<div class="layer">{title}<p>{escape(words)}</p>{drawn}</div>'


def _sentences(facts: LookFacts, layer: LayerLook) -> list[str]:
    spatial = layer.shape[1:]
    if math.prod(spatial) <= 1:
        sentences = [f"{write_number_of(layer.shape[0], 'number')}."]
    else:
        sentences = [f"{write_number_of(layer.shape[0], 'map')} of {write_shape(spatial)}."]
    if layer.fields:
        has_stride = any(each.stride for each in layer.fields)
        stride = f", stride {write_strides(layer.fields)} {facts.sample.unit}" if has_stride else ""
        sentences.append(f"Receptive field: {field_words(layer)}{stride}.")
    if layer.zero_share > 0:
        sentences.append(f"{write_share(layer.zero_share)} of the values are exactly 0.")
    over = f"over {facts.num_over:,} samples" if facts.num_over > 1 else f"on this {facts.sample.noun}"
    if layer.dead:
        sentences.append(f"Dead, never positive {over}: {_numbers(layer.dead, layer.noun)}.")
    elif layer.never_positive and not layer.is_rectified and math.prod(spatial) > 1:
        sentences.append(
            f"Never positive {over}: {_numbers(layer.never_positive, layer.noun)}; after a ReLU they would be dead."
        )
    if layer.sparse:
        sentences.append(f"Sparse, 0 at 95 % or more of the positions {over}: {_numbers(layer.sparse, layer.noun)}.")
    return sentences


def write_strides(fields: Fields) -> str:
    """The strides of receptive fields: one number if all axes have the same."""
    strides = [str(each.stride) for each in fields]
    return strides[0] if len(set(strides)) == 1 else " x ".join(strides)


def _numbers(channels: tuple[int, ...], noun: str) -> str:
    listed = ", ".join(str(channel) for channel in channels[:_LISTED])
    more = f" and {len(channels) - _LISTED:,} more" if len(channels) > _LISTED else ""
    return f"{write_number_of(len(channels), noun)} ({listed}{more})"


def _vector(layer: LayerLook) -> str:
    values = layer.maps.reshape(-1)
    shown = values[:MAX_BARS]
    rest = f" Only the first {MAX_BARS} are drawn." if len(values) > MAX_BARS else ""
    label = f"{write_number_of(len(values), 'value')} of {layer.path}, from {float(values.min()):.3g} to {float(values.max()):.3g}"
    caption = (
        f"From {float(values.min()):.3g} to {float(values.max()):.3g}; number {int(values.argmax())} is the maximum.{rest}"
    )
    return figure(caption, bars(label, shown), "vector")


def _maps(facts: LookFacts, layer: LayerLook, chosen: Allowance) -> str:
    """The strongest maps of a layer on one scale; the first open, the others folded."""
    maps, spatial = layer.maps, layer.shape[1:]
    is_signed, top = bool(maps.min() < 0), float(np.abs(maps).max())
    longest = max(spatial[-2:])
    # A small map is enlarged by whole pixels; a larger one keeps its size, up to what the page can hold.
    side = min(max(SHOWN_PX, longest), max(SHOWN_PX, chosen.side_px)) if len(spatial) > 1 else SHOWN_PX
    drawn = []
    for channel in layer.strongest(chosen.num_maps):
        high = float(maps[channel].max())
        label = f"Map {channel} of {layer.path}, {write_shape(spatial)}, maximum {high:.3g}"
        values = maps[channel] if len(spatial) == 1 else _shrunk(maps[channel], chosen.side_px)
        shown = map_image(values, top, is_signed, label, side)
        drawn.append(f"<figure>{shown}<figcaption>{channel}: {high:.3g}</figcaption></figure>")
    open_maps = OPEN_MAPS if len(spatial) == 2 else OPEN_MAPS // 2
    more = ""
    if len(drawn) > open_maps:
        num_more = write_number_of(len(drawn) - open_maps, "more map")
        more = folded(num_more.capitalize(), f'<div class="maps">{"".join(drawn[open_maps:])}</div>')
    words = _maps_words(layer, len(drawn), chosen.side_px, scale_words(top, is_signed, len(spatial)))
    first = "".join(drawn[:open_maps])
    return f'<div class="maps">{first}{_maps_over_sample(facts, layer, chosen)}</div><p class="under">{words}</p>{more}'


def _maps_words(layer: LayerLook, num_drawn: int, side_px: int, scale: str) -> str:
    """The scale of the maps, whether they are reduced, and how many are not drawn."""
    spatial, words = layer.shape[1:], scale
    longest = max(spatial[-2:])
    if len(spatial) > 1 and longest > side_px:
        block = -(-longest // side_px)
        words += f" Each drawn pixel is the mean of {block} x {block} values."
    if left := layer.shape[0] - num_drawn:
        words += f" The other {write_number_of(left, 'map')} are not drawn." if left > 1 else " One more is not drawn."
    return words


def _shrunk(values: Array, side: int) -> Array:
    """A map, (*), its planes no larger than ``side``."""
    small: Array = sample_block_means(values[None], side)[0]
    return small


def scale_words(top: float, is_signed: bool, rank: int) -> str:
    """How to read the colors of the maps of a layer."""
    if rank == 1:
        return (
            f"Every curve goes from {-top:.3g} to {top:.3g}."
            if is_signed
            else f"Every curve goes from 0, at the bottom, to {top:.3g}."
        )
    if is_signed:
        return f"White is 0, full red {top:.3g}, full blue {-top:.3g}."
    return f"Black is 0, the brightest {top:.3g}."


def _maps_over_sample(facts: LookFacts, layer: LayerLook, chosen: Allowance) -> str:
    """The strongest maps over the sample."""
    sample = facts.sample
    if not chosen.num_over or len(layer.fields) != len(layer.shape) - 1:
        return ""
    drawn = []
    for channel in layer.strongest(chosen.num_over):
        heat = place_nearest(layer.maps[channel], layer.fields, sample.spatial)
        if not heat.max() > 0:
            continue
        label = f"Map {channel} of {layer.path} over the {sample.noun}: red where it is positive"
        side = min(max(SHOWN_PX, *sample.spatial), OVER_PX)
        shown = map_over_sample(sample.values, sample.lowest, sample.highest, heat, label, side)
        drawn.append(f'<figure class="over">{shown}<figcaption>{channel} over the {sample.noun}</figcaption></figure>')
    return "".join(drawn)
