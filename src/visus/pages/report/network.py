"""The parts of a report that say what the network sees: how far each layer sees, its first filters, and what follows from its figures.

This file knows how these facts are laid out on a page. Every text that comes from a user is escaped here or in the piece that
takes it.
"""

from __future__ import annotations

from html import escape

import numpy as np

from visus.examine.layer_calls import Array
from visus.pages.parts.charts import curve, growth_figure
from visus.pages.parts.document import beside, folded, image, table_head, table_row, wide_table
from visus.pages.parts.images import enlarged, kernel_image, png, reduced, sheet
from visus.pages.parts.samples import over, sample
from visus.pages.report.facts import ReportFacts, sight_sentences
from visus.pages.report.measurements import FieldGrowth, Kernels
from visus.pages.report.reliability import missing_part
from visus.units import rank_words, with_article, write_shape

_SIDE = 168
_KERNEL_SIDE, _KERNEL_COLUMNS, _KERNEL_CHANNELS = 36, 16, 4
_MAX_LAYERS = 400


def sight_part(facts: ReportFacts) -> str:
    """How the receptive field grows, and what the middle of the last map reads of an image."""
    sight = facts.inside.sight
    if sight is None:
        absent = missing_part(facts, "sight")
        return f"<h3>How far it sees</h3>{absent}" if absent else ""
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sight_sentences(facts))
    if not sight.layers:
        return f"<h3>How far it sees</h3>{said}"
    axis = max(range(len(sight.size_px)), key=lambda place: sight.size_px[place])
    sizes = [each.size_px[axis] for each in sight.layers]
    unit = rank_words(len(sight.size_px)).unit
    length = sight.size_px[axis]
    told = f"Receptive field in {unit}, from the first layer to the last: {', '.join(map(str, sizes[:60]))}."
    told = f"{told} The {facts.noun} has {length} {unit}."
    figure = growth_figure(f"the {facts.noun}", unit, sizes, length, told, caption="How far each layer sees")
    example = _example(facts, sight)
    drawn = beside(figure, example) if example else figure
    return f"<h3>How far it sees</h3>{said}{drawn}{folded('Every layer', _layers(sight))}"


def kernels_part(facts: ReportFacts) -> str:
    """The filters of the first layer, or its units where it is a linear one."""
    found = facts.inside.kernels
    if found is None:
        absent = missing_part(facts, "filters")
        return f"<h3>Its first filters</h3>{absent}" if absent else ""
    shown = len(found.values)
    some = f"{shown} of the {found.num_filters}" if shown < found.num_filters else f"the {shown}"
    rank = found.values.ndim - 2
    how = {
        1: "each as a curve over its samples",
        2: "in color where they read three channels, gray for 0; else red above 0 and blue below",
    }.get(rank, "their middle slices, red above 0 and blue below")
    more = (
        f" Of {found.values.shape[1]} channels the first {_KERNEL_CHANNELS} are drawn."
        if found.values.shape[1] > _KERNEL_CHANNELS and rank != 1
        else ""
    )
    said = (
        f"<p>These are {some} {found.noun}s of '{escape(found.path)}' ({escape(found.layer)}), {how}; each is scaled by its own largest "
        f"weight.{more}</p>"
    )
    return f"<h3>Its first {found.noun}s</h3>{said}{_drawn_kernels(found)}"


def advice_part(facts: ReportFacts) -> str:
    """What follows from the network's figures."""
    absent = missing_part(facts, "advice")
    if absent:
        return f"<h3>What follows from its figures</h3>{absent}"
    if not facts.inside.advice:
        return ""
    listed = "".join(f"<li>{escape(text)}</li>" for text in facts.inside.advice)
    return f"<h3>What follows from its figures</h3><ul>{listed}</ul>"


def _layers(sight: FieldGrowth) -> str:
    rows = [
        table_row(
            each.path,
            [f'<span class="words">{escape(each.layer)}</span>', "all" if each.is_all else write_shape(each.size_px)],
        )
        for each in sight.layers[:_MAX_LAYERS]
    ]
    caption = f"Receptive field of the layers that change it, in {rank_words(len(sight.size_px)).unit} of the input"
    if len(sight.layers) > _MAX_LAYERS:
        caption += f"; the first {_MAX_LAYERS} of {len(sight.layers)}"
    return wide_table(caption, f"{table_head(['Layer', 'As it is written', 'Sees'])}<tbody>{''.join(rows)}</tbody>")


def _example(facts: ReportFacts, sight: FieldGrowth) -> str:
    """The box that the middle unit of the last map reads, on the first sample that is shown."""
    values = next(iter(facts.inside.samples.values()), None)
    if sight.box is None or values is None or values.ndim - 1 != len(sight.box):
        return ""
    where = ", ".join(f"{first} to {last}" for first, last in sight.box) + f" {rank_words(len(sight.box)).unit}"
    told = f"{with_article(facts.noun)} with the box that the middle of the last map reads: {where}"
    spatial = values.shape[1:]
    if len(spatial) == 3:  # the box has no depth on a page
        drawn = sample(values, *facts.inside.value_range, told, _SIDE)
    else:
        drawn = over(values, *facts.inside.value_range, np.zeros(spatial), told, _SIDE, sight.box)
    caption = f"What the middle unit of the last map ('{escape(sight.last_path)}') really reads: {escape(where)}"
    return f'<figure><figcaption>{caption}</figcaption><div class="strip">{drawn}</div></figure>'


def _drawn_kernels(found: Kernels) -> str:
    if found.values.ndim == 3:
        drawn = "".join(_curve(f"{found.noun} {place}", each) for place, each in enumerate(found.values))
        return f'<div class="strip">{drawn}</div>'
    images = []
    for each in found.values:
        chosen = each if len(each) == 3 and each.ndim == 3 else each[:_KERNEL_CHANNELS]
        images.append(enlarged(reduced(kernel_image(chosen), _KERNEL_SIDE), _KERNEL_SIDE))
    joined = sheet(images, _KERNEL_COLUMNS if images[0].shape[1] <= _KERNEL_SIDE else 6, gap=3)
    told = f"{len(images)} {found.noun}s of {found.path}, in rows"
    return image(png(joined), told, width=joined.shape[1], height=joined.shape[0], style="pixels sheet")


def _curve(title: str, values: Array) -> str:
    return curve(title, [("val", line) for line in values[:_KERNEL_CHANNELS]], size=(90, 44))
