"""The part of a look page that shows every layer: its figures in words, its strongest maps, the strongest of all laid over the sample.

Shape letters: C channels, * spatial axes. This file knows layers and how many of their maps a page can bear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from visus.design.account import Fields
from visus.examine.layer_calls import Array
from visus.pages.look.facts import LayerLook, LookedSample, LookFacts
from visus.pages.parts import samples as look_drawn
from visus.pages.parts.charts import bars
from visus.pages.parts.document import folded, section, table_head, table_row, wide_table
from visus.units import write_number_of, write_shape, write_share, write_size

OPEN_LAYERS: Final = 32
OPEN_MAPS: Final = 7  # the rest is folded
SHOWN_PX: Final = 84  # the side of a map on the page, about
OVER_PX: Final = 128
MAPS_BYTES: Final = 1_000_000
MAX_BARS: Final = 200
_NAMED: Final = 24
# How many maps of a layer are drawn, the longest side they keep, and how many are laid over the sample: the first that fits is taken.
_CHOICES: Final = (
    (16, 128, 2), (12, 128, 2), (10, 96, 2), (8, 96, 1), (7, 64, 1), (6, 64, 1), (4, 48, 1), (3, 32, 1), (2, 32, 0), (1, 24, 0),
)  # fmt: skip
_TOO_MUCH: Final = 4
_BYTES_PER_PX, _BYTES_BESIDE, _BYTES_PER_COLOR_PX = 0.85, 420, 1.9


@dataclass(frozen=True)
class Allowance:
    """How much of each layer is drawn.

    Args:
        num_maps: of each layer.
        side_px: longest side that a map keeps; larger ones are drawn as means of blocks.
        num_over: maps laid over the sample.
    """

    num_maps: int
    side_px: int
    num_over: int


def _most_that_fits(facts: LookFacts) -> tuple[Allowance, list[str]]:
    """The most maps that keep all layers under ``MAPS_BYTES`` on the page, and the page text of each layer.

    What an estimate, made for maps of noise, takes for many times too much is not drawn to see.
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
    """Values that are drawn of a map or a sample of this size."""
    if len(spatial) == 1:
        return 8 * min(spatial[0], 400)
    plane = spatial[-2:]
    times = -(-max(plane) // side)
    return math.prod(-(-length // times) for length in plane) * (look_drawn.SLICES if len(spatial) == 3 else 1)


def layers_section(facts: LookFacts) -> str:
    """Every layer in the order of computation: a table of all, then one part for each."""
    chosen, parts = _most_that_fits(facts)
    order = escape(_order_sentence(facts))
    has_maps = any(math.prod(layer.shape[1:]) > 1 for layer in facts.layers)
    said = (
        f"<p>A map shows where a filter answered. {order} Of each layer at most {write_number_of(chosen.num_maps, 'map')} are drawn, those "
        f"with the highest value on this {facts.sample.noun} first: below each stands its number and that value. All maps of a layer share "
        "one scale.</p>"
        if has_maps
        else f"<p>{order}</p>"
    )
    if len(parts) > OPEN_LAYERS:
        parts = [
            folded(f"{layer.path}: {write_shape(layer.shape)}", part)
            for layer, part in zip(facts.layers, parts, strict=True)
        ]
    return section("Layer by layer", said + _table(facts) + "".join(parts))


def _order_sentence(facts: LookFacts) -> str:
    """How the maps of this network shrink and how what they read grows."""
    maps = [layer for layer in facts.layers if math.prod(layer.shape[1:]) > 1]
    if not maps:
        return "No layer of this network has maps: each of its numbers reads the whole sample at once."
    first, last = maps[0], maps[-1]
    text = (
        f"Here they go from {write_shape(first.shape[1:])} in {first.path} to {write_shape(last.shape[1:])} in {last.path}"
    )
    if first.fields and last.fields:
        text += f", while what one value reads goes from {field_words(first)} to {field_words(last)}"
    return text + "."


def field_words(layer: LayerLook) -> str:
    """What one value of a layer reads, in words; empty where it is not known.

    In theory: padding is continued, so the size may be larger than the sample.
    """
    if not layer.fields:
        return ""
    if all(each.stride == 0 for each in layer.fields):
        return "everything"
    size = write_size(each.size for each in layer.fields)
    return size + (" and, through a gate or a norm, everything" if any(each.is_whole for each in layer.fields) else "")


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
    head = table_head(["Layer", "Shape", f"Receptive field, {facts.sample.unit} / stride", "Zeros", "Dead", "Sparse"])
    over = f"{facts.num_over:,} samples" if facts.num_over > 1 else f"this {facts.sample.noun} alone"
    told = f"Layers in the order of computation; zeros for this {facts.sample.noun}, dead and sparse {facts.channels} over {over}"
    notes = [note for note in (facts.dash, facts.missing.get("layers", "")) if note]
    return wide_table(told, f"{head}<tbody>{''.join(rows)}</tbody>") + "".join(
        f'<p class="under">{escape(note)}</p>' for note in notes
    )


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
        steps = sorted({each.stride for each in layer.fields})
        step = f", {write_shape_of_steps(layer.fields)} {facts.sample.unit} from one to the next" if steps != [0] else ""
        sentences.append(f"Each value reads {field_words(layer)}{step}.")
    if layer.zero_share > 0:
        sentences.append(f"{write_share(layer.zero_share)} of the values are exactly 0.")
    over = f"over {facts.num_over:,} samples" if facts.num_over > 1 else f"on this {facts.sample.noun}"
    if layer.dead:
        sentences.append(f"Never above 0 {over}: {_named(layer.dead, layer.noun)}.")
    elif layer.never_positive and not layer.is_rectified and math.prod(spatial) > 1:
        sentences.append(
            f"Never above 0 {over}: {_named(layer.never_positive, layer.noun)}; behind a relu they would be dead."
        )
    if layer.sparse:
        sentences.append(f"0 in at least 95 % of the places {over}: {_named(layer.sparse, layer.noun)}.")
    return sentences


def write_shape_of_steps(fields: Fields) -> str:
    """The steps of fields: one number where all axes have the same."""
    steps = [str(each.stride) for each in fields]
    return steps[0] if len(set(steps)) == 1 else " x ".join(steps)


def _named(channels: tuple[int, ...], noun: str) -> str:
    listed = ", ".join(str(channel) for channel in channels[:_NAMED])
    more = f" and {len(channels) - _NAMED:,} more" if len(channels) > _NAMED else ""
    return f"{write_number_of(len(channels), noun)} ({listed}{more})"


def _vector(layer: LayerLook) -> str:
    values = layer.maps.reshape(-1)
    shown = values[:MAX_BARS]
    rest = f" The first {MAX_BARS} are drawn." if len(values) > MAX_BARS else ""
    told = f"{write_number_of(len(values), 'value')} of {layer.path}, from {float(values.min()):.3g} to {float(values.max()):.3g}"
    return (
        f'<figure class="vector"><figcaption>From {float(values.min()):.3g} to {float(values.max()):.3g}; the highest is number '
        f"{int(values.argmax())}.{rest}</figcaption>{bars(told, shown)}</figure>"
    )


def _maps(facts: LookFacts, layer: LayerLook, chosen: Allowance) -> str:
    maps, spatial = layer.maps, layer.shape[1:]
    is_signed = bool(maps.min() < 0)
    top = float(np.abs(maps).max())
    longest = max(spatial[-2:])
    # A small map is enlarged by whole pixels; one that is larger than this is drawn as it is, up to what the page can bear.
    side = min(max(SHOWN_PX, longest), max(SHOWN_PX, chosen.side_px)) if len(spatial) > 1 else SHOWN_PX
    drawn = []
    for channel in layer.strongest(chosen.num_maps):
        high = float(maps[channel].max())
        told = f"Map {channel} of {layer.path}, {write_shape(spatial)}, highest {high:.3g}"
        values = maps[channel] if len(spatial) == 1 else _bearable(maps[channel], chosen.side_px)
        shown = look_drawn.one_map(values, top, is_signed, told, side)
        drawn.append(f"<figure>{shown}<figcaption>{channel}: {high:.3g}</figcaption></figure>")
    words = scale_words(top, is_signed, len(spatial))
    if len(spatial) > 1 and longest > chosen.side_px:
        block = -(-longest // chosen.side_px)
        words += f" Each drawn pixel is the mean of {block} x {block} values."
    if left := layer.shape[0] - len(drawn):
        words += f" The other {write_number_of(left, 'map')} are not drawn." if left > 1 else " One more is not drawn."
    open_maps = OPEN_MAPS if len(spatial) == 2 else OPEN_MAPS // 2
    more = ""
    if len(drawn) > open_maps:
        more = folded(f"The next {len(drawn) - open_maps}", f'<div class="maps">{"".join(drawn[open_maps:])}</div>')
    first = "".join(drawn[:open_maps])
    return f'<div class="maps">{first}{_laid_over(facts, layer, chosen)}</div><p class="under">{words}</p>{more}'


def _bearable(values: Array, side: int) -> Array:
    """A map, (*), its planes no larger than ``side``."""
    small: Array = look_drawn.reduced_sample(values[None], side)[0]
    return small


def scale_words(top: float, is_signed: bool, rank: int) -> str:
    """How the shades of a layer's maps are to be read."""
    if rank == 1:
        return (
            f"Every curve goes from {-top:.3g} to {top:.3g}."
            if is_signed
            else f"Every curve goes from 0, at the bottom, to {top:.3g}."
        )
    if is_signed:
        return f"White is 0, the strongest red {top:.3g}, the strongest blue {-top:.3g}."
    return f"Black is 0, the brightest {top:.3g}."


def _laid_over(facts: LookFacts, layer: LayerLook, chosen: Allowance) -> str:
    """The strongest maps over the sample."""
    sample = facts.sample
    if not chosen.num_over or len(layer.fields) != len(layer.shape) - 1:
        return ""
    drawn = []
    for channel in layer.strongest(chosen.num_over):
        heat = placed(layer.maps[channel], layer.fields, sample.spatial)
        if not heat.max() > 0:
            continue
        told = f"Map {channel} of {layer.path} laid over the {sample.noun}: red where it is above 0"
        shown = look_drawn.over(
            sample.values, sample.lowest, sample.highest, heat, told, min(max(SHOWN_PX, *sample.spatial), OVER_PX)
        )
        drawn.append(f'<figure class="over">{shown}<figcaption>{channel} laid over</figcaption></figure>')
    return "".join(drawn)


def placed(values: Array, fields: Fields, spatial: tuple[int, ...]) -> Array:
    """A map, (*), as large as its sample: each value stands on ``step`` pixels about the middle of what it reads, 0 where none does.

    >>> from visus.geometry import Field
    >>> placed(np.array([5.0, 7.0]), (Field(size=3, stride=2, start=0),), (6,)).tolist()
    [5.0, 5.0, 7.0, 7.0, 0.0, 0.0]
    """
    found = np.asarray(values, dtype=np.float64)
    for axis, (each, length) in enumerate(zip(fields, spatial, strict=True)):
        step = float(each.stride)
        if step == 0:
            places = np.minimum((np.arange(length) * found.shape[axis]) // length, found.shape[axis] - 1)
            known = np.ones(length, dtype=bool)
        else:
            places = np.floor((np.arange(length) - float(each.center)) / step + 0.5).astype(int)
            known = (places >= 0) & (places < found.shape[axis])
        found = np.take(found, np.clip(places, 0, found.shape[axis] - 1), axis=axis)
        found = found * known.reshape([-1 if index == axis else 1 for index in range(found.ndim)])
    return found
