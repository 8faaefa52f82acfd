"""The part of a look page about what units read: one unit's exact, theoretical and effective field, and how fields grow with depth.

This file knows boxes, fields and charts of them.
"""

from __future__ import annotations

import math
from html import escape
from typing import Final

import numpy as np

from visus.examine.effective import EffectiveField
from visus.examine.layer_calls import Box, cut
from visus.pages.look.facts import LayerLook, LookFacts
from visus.pages.look.sums import write_place
from visus.pages.parts import samples as look_drawn
from visus.pages.parts.charts import growth_figure
from visus.pages.parts.document import image, section
from visus.pages.parts.images import as_image, png, reduced
from visus.units import rank_words, write_share, write_size

FIELD_PX: Final = 224
CARRIED: Final = 0.9
_READ, _THEORETICAL = (20, 120, 235), (150, 150, 150)
_PAPER: Final = 224


def fields_section(facts: LookFacts) -> str:
    """The unit first, then growth over depth."""
    title = "What a unit reads"
    if facts.unit is None:
        return section(title, f"<p>{escape(facts.missing.get('fields', ''))}</p>{_growth(facts)}")
    return section(title, _words(facts) + _drawings(facts) + _growth(facts))


def _words(facts: LookFacts) -> str:
    found = facts.unit
    assert found is not None, "asked for where there is one"
    place = f" at {write_place(found.unit.position)}" if found.unit.position else ""
    which = f"Unit {found.unit.channel} of <b>{escape(found.unit.layer or 'the module')}</b>{place}"
    if found.box is None:
        return f"<p>{which} reads padding alone: no {facts.sample.place} can change it.</p>"
    text = f"<p>{which} really reads {_box_words(found.box)}."
    if found.theoretical is not None and found.theoretical != found.box:
        text += f" Its theoretical field, with the padding continued, is {_box_words(found.theoretical)}."
    elif found.theoretical is not None:
        text += " The theoretical field is the same: no padding is in it."
    if found.now is not None:
        text += f"</p><p>{_effective_words(found.now, found.before, found.box)} {escape(found.how)}"
    return f"{text}</p>"


def _box_words(box: Box) -> str:
    size = write_size(last - first + 1 for first, last in box)
    ends = ", ".join(f"{first} to {last}" for first, last in box)
    return f"{size} ({ends})"


def _effective_words(now: EffectiveField, before: EffectiveField | None, box: Box) -> str:
    """How much narrower than the box the values lie that really move the unit."""
    half, unit = write_shape_of_lengths(now.deviation_px), rank_words(len(box)).unit
    text = (
        f"Not all of these {unit} count alike. How strongly each moves the unit is its effective field: about its middle it is spread "
        f"by {half} {unit} (one standard deviation on each axis)"
    )
    num_pixels, in_box = _num_carrying(now), math.prod(last - first + 1 for first, last in box)
    text += f", and {write_share(CARRIED, 0)} of its square comes from {num_pixels:,} of the box's {in_box:,} {unit}"
    if before is not None:
        text += f". Before training it was {write_shape_of_lengths(before.deviation_px)} {unit}"
        grew = float(np.mean(now.deviation_px)) / (float(np.mean(before.deviation_px)) or 1.0)
        change = (
            "training made it wider"
            if grew > 1.05
            else "training made it narrower"
            if grew < 0.95
            else "training left it as wide"
        )
        text += f": {change}"
    return f"{text}."


def _num_carrying(field: EffectiveField) -> int:
    """The fewest pixels that together carry 90 % of the squared strength."""
    energy = np.sort(np.square(field.strength).ravel())[::-1].cumsum()
    return int(np.searchsorted(energy, CARRIED * energy[-1])) + 1 if energy[-1] > 0 else 0


def write_shape_of_lengths(lengths: tuple[float, ...]) -> str:
    """Lengths with a decimal: one number where all are alike.

    >>> write_shape_of_lengths((1.23, 1.19)), write_shape_of_lengths((1.2, 3.0))
    ('1.2', '1.2 x 3.0')
    """
    texts = [f"{length:.1f}" for length in lengths]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


def _drawings(facts: LookFacts) -> str:
    found = facts.unit
    assert found is not None, "asked for where there is one"
    if found.box is None:
        return ""
    sample = facts.sample
    figures = []
    if len(sample.spatial) == 2:
        figures.append(_boxes(facts, found.box, found.theoretical))
    for field, name in ((found.now, "now" if facts.is_trained else "of this network"), (found.before, "before training")):
        if field is None:
            continue
        title = f"Effective field {name}"
        drawn = look_drawn.over(
            sample.values,
            sample.lowest,
            sample.highest,
            field.strength,
            f"{title} over the {sample.noun}",
            FIELD_PX,
            found.box,
        )
        figures.append(f"<figure><figcaption>{title}</figcaption>{drawn}</figure>")
        if len(sample.spatial) == 2 and all(
            2 * (last - first + 1) < n for (first, last), n in zip(found.box, sample.spatial, strict=True)
        ):
            alone = look_drawn.one_map(
                cut(field.strength[None], found.box)[0],
                float(field.strength.max()),
                False,
                f"{title} inside the box",
                FIELD_PX // 2,
            )
            figures.append(f"<figure><figcaption>Inside the box; the brighter, the stronger</figcaption>{alone}</figure>")
    return f'<div class="flow">{"".join(figures)}</div>'


def _boxes(facts: LookFacts, box: Box, theoretical: Box | None) -> str:
    """The two boxes on the image, with as much round it as the theoretical field needs, at most the image's own size."""
    sample = facts.sample
    margins = [(0, 0), (0, 0)]
    if theoretical is not None:
        margins = [
            (min(max(0, -first), length), min(max(0, last + 1 - length), length))
            for (first, last), length in zip(theoretical, sample.spatial, strict=True)
        ]
    drawn = as_image(sample.values, sample.lowest, sample.highest)
    paper = np.pad(drawn, [*margins, (0, 0)], constant_values=_PAPER)
    paper = reduced(paper, FIELD_PX)
    large = paper
    if theoretical is not None:
        shown_box = tuple(
            (max(first, -before), min(last, length - 1 + after))
            for (first, last), (before, after), length in zip(theoretical, margins, sample.spatial, strict=True)
        )
        large = look_drawn.outlined(large, margins, shown_box, sample.spatial, FIELD_PX, _THEORETICAL)
    large = look_drawn.outlined(large, margins, box, sample.spatial, FIELD_PX, _READ)
    told = f"The {sample.noun} with what the unit really reads in blue and its theoretical field in gray"
    shown = image(png(large), told, width=large.shape[1], height=large.shape[0], style="pixels")
    is_cut = theoretical is not None and any(
        -first > length or last + 1 > 2 * length for (first, last), length in zip(theoretical, sample.spatial, strict=True)
    )
    more = "; the theoretical field goes on beyond this drawing" if is_cut else ""
    return f"<figure><figcaption>Blue: the pixels that the unit reads (exact field). Gray: its theoretical field{more}.</figcaption>{shown}</figure>"


def _growth(facts: LookFacts) -> str:
    """The size of the field over the layers in depth order, with the size of the sample and of its objects."""
    layers = [layer for layer in facts.layers if layer.fields and any(each.stride != 0 for each in layer.fields)]
    if len(layers) < 2:
        return ""
    sizes = [_largest(layer) for layer in layers]
    length = max(facts.sample.spatial)
    unit = facts.sample.unit
    told = f"From {sizes[0]} {unit} in {layers[0].path} to {sizes[-1]} {unit} in {layers[-1].path}."
    figure = growth_figure(f"the {facts.sample.noun}", unit, sizes, length, told, object_px=facts.object_px)
    return f"<h3>Growth over depth</h3><p>{escape(_growth_words(facts, layers, sizes, length))}</p>{figure}"


def _largest(layer: LayerLook) -> int:
    return max(each.size for each in layer.fields)


def _growth_words(facts: LookFacts, layers: list[LayerLook], sizes: list[int], length: int) -> str:
    unit = facts.sample.unit
    ends = f"{sizes[0]} {unit} in {layers[0].path}, {sizes[-1]} {unit} in {layers[-1].path}"
    text = f"The deeper a layer, the more of the {facts.sample.noun} its values read: {ends}."
    text += _reached(layers, sizes, length, f"the {facts.sample.noun}'s {length} {unit}")
    if facts.object_px is not None:
        text += _reached(layers, sizes, facts.object_px, f"an object of {facts.object_px} {unit}")
    return text


def _reached(layers: list[LayerLook], sizes: list[int], length: int, what: str) -> str:
    first = next((layer for layer, size in zip(layers, sizes, strict=True) if size >= length), None)
    if first is None:
        return f" None of these layers has a field as large as {what}."
    return f" From {first.path} on a field is as large as {what}."
