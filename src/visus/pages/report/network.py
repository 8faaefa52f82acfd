"""The section of a report about the network: its design, the growth of the receptive field, its first filters, and advice."""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np

from visus.pages.parts.document import beside, bullets, figure, folded, paragraphs
from visus.pages.parts.field_growth import field_growth_figure
from visus.pages.parts.filters import filter_figures
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import sample_image
from visus.pages.parts.table import facts_table, table, table_row, text_cell
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import FieldGrowth
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import field_sentences, network_sentence
from visus.units import rank_words, with_article, write_count, write_shape

_SIDE: Final = 168
_MAX_LAYERS: Final = 400
_OPEN_LINES: Final = 16
_MAX_TEXT: Final = 20_000


def network_section(facts: ReportFacts) -> str:
    """The network in a sentence, its figures and its design, then what was measured of it."""
    rows = [("Input", write_shape(facts.input_shape)), ("Parameters", f"{facts.num_parameters:,}")]
    if facts.macs is not None:
        rows.append((f"Multiply-adds for one {facts.noun}", write_count(facts.macs)))
    design = f"<pre>{escape(_cut(facts.design_text))}</pre>" if facts.design_text else ""
    if facts.design_text.count("\n") >= _OPEN_LINES:
        design = folded("The design", design)
    measured = _field_growth(facts) + _first_filters(facts) + _advice(facts)
    return f"<p>{escape(network_sentence(facts))}</p>{facts_table(rows)}{design}{measured}"


def _cut(text: str) -> str:
    """A text no longer than a page can hold; the rest is in the run's folder."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}\n\u2026 (the rest is in design.txt)"


def _field_growth(facts: ReportFacts) -> str:
    """How the receptive field grows, and the exact one of the middle of the last map."""
    title = "<h3>Receptive field</h3>"
    growth = facts.measured.field_growth
    if growth is None:
        absent = missing_part(facts, "sight")
        return f"{title}{absent}" if absent else ""
    words = paragraphs(field_sentences(facts))
    if not growth.layers:
        return f"{title}{words}"
    axis = max(range(len(growth.size_px)), key=lambda place: growth.size_px[place])
    layers = [(each.path, each.size_px[axis]) for each in growth.layers]
    drawn = field_growth_figure(layers, facts.noun, rank_words(len(growth.size_px)).unit, growth.size_px[axis])
    example = _exact_field(facts, growth)
    drawn = beside(drawn, example) if example else drawn
    return f"{title}{words}{drawn}{folded('All layers', _layers_table(growth))}"


def _layers_table(growth: FieldGrowth) -> str:
    rows = [
        table_row(each.path, [text_cell(each.layer), "all" if each.is_all else write_shape(each.size_px)])
        for each in growth.layers[:_MAX_LAYERS]
    ]
    caption = f"Layers that change the receptive field, in {rank_words(len(growth.size_px)).unit} of the input"
    if len(growth.layers) > _MAX_LAYERS:
        caption += f"; the first {_MAX_LAYERS} of {len(growth.layers)}"
    return table(caption, ["Layer", "Definition", "Receptive field"], rows, text_columns=(0, 1))


def _exact_field(facts: ReportFacts, growth: FieldGrowth) -> str:
    """The exact receptive field of the middle unit of the last map, outlined on the first sample that is shown."""
    values = next(iter(facts.measured.samples.values()), None)
    if growth.box is None or values is None or values.ndim - 1 != len(growth.box):
        return ""
    where = ", ".join(f"{first} to {last}" for first, last in growth.box) + f" {rank_words(len(growth.box)).unit}"
    label = f"{with_article(facts.noun)} with the exact receptive field of the middle unit of the last feature map: {where}"
    spatial = values.shape[1:]
    if len(spatial) == 3:  # a box has no depth on a page
        drawn = sample_image(values, *facts.measured.value_range, label, _SIDE)
    else:
        drawn = map_over_sample(values, *facts.measured.value_range, np.zeros(spatial), label, _SIDE, growth.box)
    caption = (
        f"Exact receptive field of the middle unit of the last feature map ('{escape(growth.last_path)}'): {escape(where)}"
    )
    return figure(caption, f'<div class="strip">{drawn}</div>')


def _first_filters(facts: ReportFacts) -> str:
    """The filters of the first layer, or its units where it is a linear one."""
    found = facts.measured.first_filters
    if found is None:
        absent = missing_part(facts, "filters")
        return f"<h3>First filters</h3>{absent}" if absent else ""
    drawn = filter_figures(found.values, found.path, found.layer, found.noun, found.num_filters)
    return f"<h3>First {found.noun}s</h3>{drawn}"


def _advice(facts: ReportFacts) -> str:
    """Advice on the design."""
    listed = missing_part(facts, "advice") or bullets(facts.measured.advice)
    return f"<h3>Advice</h3>{listed}" if listed else ""
