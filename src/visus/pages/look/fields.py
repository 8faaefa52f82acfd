"""The part of a look page about receptive fields: the exact, theoretical and effective field of one unit, and growth over depth."""

from __future__ import annotations

import math
from html import escape
from typing import Final

import numpy as np

from visus.data.images.drawing import as_image, block_means, png
from visus.examine.effective_fields import EffectiveField
from visus.examine.layer_calls import Box, crop_to_box
from visus.pages.look.facts import LayerLook, LookFacts, UnitFields
from visus.pages.look.output_terms import write_place
from visus.pages.parts.document import Section, figure, image
from visus.pages.parts.field_growth import field_growth_figure
from visus.pages.parts.overlay import BLUE, GRAY, map_over_sample, outline_box
from visus.pages.parts.samples import map_image
from visus.units import rank_words, write_share, write_size

FIELD_PX: Final = 224
CARRIED: Final = 0.9
_MARGIN: Final = 224  # the gray of what lies outside the sample


def fields_section(facts: LookFacts) -> Section:
    """One unit first, then growth over depth."""
    title = "Receptive field of a unit"
    if facts.unit is None:
        return Section(title, f"<p>{escape(facts.missing.get('fields', ''))}</p>{_growth(facts)}")
    return Section(title, _words(facts, facts.unit) + _drawings(facts, facts.unit) + _growth(facts))


def _words(facts: LookFacts, found: UnitFields) -> str:
    """Exact, theoretical and effective field in sentences."""
    place = f" at {write_place(found.unit.position)}" if found.unit.position else ""
    unit = f"{found.unit.channel} of <b>{escape(found.unit.layer or 'the module')}</b>{place}"
    if found.box is None:
        return f"<p>Unit {unit} reads only padding: no {facts.sample.place} can change it.</p>"
    words = f"<p>The exact receptive field of unit {unit} is {_box_words(found.box)}."
    if found.theoretical is not None and found.theoretical != found.box:
        words += f" Its theoretical receptive field, with the padding continued, is {_box_words(found.theoretical)}."
    elif found.theoretical is not None:
        words += " Its theoretical receptive field is the same: there is no padding in it."
    if found.now is not None:
        words += f"</p><p>{_effective_words(found.now, found.before, found.box)} {escape(found.how)}"
    return f"{words}</p>"


def _box_words(box: Box) -> str:
    size = write_size(last - first + 1 for first, last in box)
    ends = ", ".join(f"{first} to {last}" for first, last in box)
    return f"{size} ({ends})"


def _effective_words(now: EffectiveField, before: EffectiveField | None, box: Box) -> str:
    """The spread of the effective field, and how few pixels carry most of it."""
    words = rank_words(len(box))
    num_carrying, in_box = _num_carrying(now), math.prod(last - first + 1 for first, last in box)
    text = (
        f"The effective receptive field says how strongly each {words.place} in it moves the unit. Its standard deviation on each axis is "
        f"{write_lengths(now.deviation_px)} {words.unit}, and {num_carrying:,} of the {in_box:,} {words.place}s carry {write_share(CARRIED, 0)} "
        "of its squared strength"
    )
    if before is None:
        return f"{text}."
    growth = float(np.mean(now.deviation_px)) / (float(np.mean(before.deviation_px)) or 1.0)
    change = "training widened it" if growth > 1.05 else "training narrowed it" if growth < 0.95 else "training kept it"
    return (
        f"{text}. Before training, its standard deviation was {write_lengths(before.deviation_px)} {words.unit}: {change}."
    )


def _num_carrying(field: EffectiveField) -> int:
    """The smallest number of pixels that together carry 90 % of the squared strength."""
    energy = np.sort(np.square(field.strength).ravel())[::-1].cumsum()
    return int(np.searchsorted(energy, CARRIED * energy[-1])) + 1 if energy[-1] > 0 else 0


def write_lengths(lengths: tuple[float, ...]) -> str:
    """Lengths with a decimal: one number where all are equal.

    >>> write_lengths((1.23, 1.19)), write_lengths((1.2, 3.0))
    ('1.2', '1.2 x 3.0')
    """
    texts = [f"{length:.1f}" for length in lengths]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


# ---- drawings ----


def _drawings(facts: LookFacts, found: UnitFields) -> str:
    """The boxes on the sample, and the effective field over it, after and before training."""
    if found.box is None:
        return ""
    figures = [_boxes(facts, found.box, found.theoretical)] if len(facts.sample.spatial) == 2 else []
    if found.now is not None:
        figures += _effective_figures(facts, found.now, found.box, " after training" if facts.is_trained else "")
    if found.before is not None:
        figures += _effective_figures(facts, found.before, found.box, " before training")
    return f'<div class="flow">{"".join(figures)}</div>'


def _effective_figures(facts: LookFacts, field: EffectiveField, box: Box, when: str) -> list[str]:
    """An effective field over the sample; and alone, where its box is small on an image."""
    sample = facts.sample
    title = f"Effective receptive field{when}"
    label = f"{title} over the {sample.noun}"
    drawn = map_over_sample(sample.values, sample.lowest, sample.highest, field.strength, label, FIELD_PX, box)
    figures = [figure(title, drawn)]
    is_small = all(2 * (last - first + 1) < length for (first, last), length in zip(box, sample.spatial, strict=True))
    if len(sample.spatial) == 2 and is_small:
        values = crop_to_box(field.strength[None], box)[0]
        alone = map_image(values, float(field.strength.max()), False, f"{title} inside the box", FIELD_PX // 2)
        figures.append(figure("Inside the box; brighter is stronger", alone))
    return figures


def _boxes(facts: LookFacts, box: Box, theoretical: Box | None) -> str:
    """Both boxes on the image, with the margins that the theoretical field needs, each at most as long as the image."""
    sample = facts.sample
    margins, shown = _margins(theoretical, sample.spatial)
    pixels = np.pad(as_image(sample.values, sample.lowest, sample.highest), [*margins, (0, 0)], constant_values=_MARGIN)
    large = block_means(pixels, FIELD_PX)
    if shown is not None:
        large = outline_box(large, margins, shown, sample.spatial, FIELD_PX, GRAY)
    large = outline_box(large, margins, box, sample.spatial, FIELD_PX, BLUE)
    label = f"The {sample.noun} with the exact receptive field in blue and the theoretical one in gray"
    drawn = image(png(large), label, width=large.shape[1], height=large.shape[0], style="pixels")
    more = "; it continues beyond this drawing" if shown != theoretical else ""
    return figure(f"Blue: exact receptive field. Gray: theoretical receptive field{more}.", drawn)


def _margins(theoretical: Box | None, spatial: tuple[int, ...]) -> tuple[list[tuple[int, int]], Box | None]:
    """Margins around the image on each axis, and as much of the theoretical box as they hold."""
    if theoretical is None:
        return [(0, 0)] * len(spatial), None
    margins, shown = [], []
    for (first, last), length in zip(theoretical, spatial, strict=True):
        before, after = min(max(0, -first), length), min(max(0, last + 1 - length), length)
        margins.append((before, after))
        shown.append((max(first, -before), min(last, length - 1 + after)))
    return margins, tuple(shown)


# ---- growth ----


def _growth(facts: LookFacts) -> str:
    """The receptive field of the layers in the order of computation, with the size of the sample and of its objects."""
    layers = [layer for layer in facts.layers if layer.fields and any(each.stride != 0 for each in layer.fields)]
    if len(layers) < 2:
        return ""
    sizes = [(layer.path, _largest(layer)) for layer in layers]
    length, unit = max(facts.sample.spatial), facts.sample.unit
    drawn = field_growth_figure(sizes, facts.sample.noun, unit, length, object_px=facts.object_px)
    return f"<h3>Growth over depth</h3><p>{escape(_growth_words(facts, sizes, length))}</p>{drawn}"


def _largest(layer: LayerLook) -> int:
    return max(each.size for each in layer.fields)


def _growth_words(facts: LookFacts, layers: list[tuple[str, int]], length: int) -> str:
    unit = facts.sample.unit
    first, smallest = layers[0]
    widest, largest = max(reversed(layers), key=lambda each: each[1])  # the last layer may be a shortcut
    text = f"The receptive field grows with depth: {smallest} {unit} in {first}, {largest} {unit} in {widest}."
    text += _reached(layers, length, f"the {facts.sample.noun} ({length} {unit})")
    if facts.object_px is not None:
        text += _reached(layers, facts.object_px, f"an object ({facts.object_px} {unit})")
    return text


def _reached(layers: list[tuple[str, int]], length: int, what: str) -> str:
    first = next((path for path, size in layers if size >= length), None)
    if first is None:
        return f" No convolution or pooling has a receptive field as large as {what}."
    return f" From {first} on it is as large as {what}."
