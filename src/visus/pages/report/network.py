"""The parts of a report about the network: its design, the growth of the receptive field, its first filters, and saliency."""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np

from visus.examine.saliency_choice import CENTER
from visus.pages.parts.document import beside, figure, folded, paragraphs
from visus.pages.parts.field_growth import field_growth_figure
from visus.pages.parts.filters import filter_figures
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import sample_image
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import FieldGrowth, SaliencyMaps
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import field_sentences, network_sentence
from visus.units import rank_words, with_article, write_number_of

_SIDE: Final = 168
_MAX_DESIGN_WORDS: Final = 120


def network_part(facts: ReportFacts) -> str:
    """The network in sentences, and its design if it is not a family's and short enough to read."""
    words = network_sentence(facts)
    if not facts.design_text:
        return paragraphs([words])
    num_words = len(facts.design_text.split())
    is_named = len(facts.network.split()) * 2 < num_words
    if is_named or num_words > _MAX_DESIGN_WORDS:
        return paragraphs([f"{words} design.txt has the design."])
    return paragraphs([words]) + folded("The design", f"<pre>{escape(facts.design_text)}</pre>")


def receptive_field_part(facts: ReportFacts) -> str:
    """How the receptive field grows, and the exact one of the middle of the last map."""
    growth = facts.measured.field_growth
    if growth is None:
        return missing_part(facts, "sight")
    words = paragraphs(field_sentences(facts))
    if not growth.layers:
        return words
    axis = max(range(len(growth.size_px)), key=lambda place: growth.size_px[place])
    drawn = field_growth_figure(
        _growing(growth, axis), facts.noun, rank_words(len(growth.size_px)).unit, growth.size_px[axis]
    )
    example = _exact_field(facts, growth)
    return words + (beside(drawn, example) if example else drawn)


def _growing(growth: FieldGrowth, axis: int) -> list[tuple[str, int]]:
    """Path and receptive field of each layer on an axis.

    A layer that reads the whole sample has the length of the sample, not a theoretical receptive field. It is dropped where that
    is less than the theoretical one before it, which may reach beyond the sample: the line would fall.
    """
    drawn: list[tuple[str, int]] = []
    for each in growth.layers:
        if not each.is_all or each.size_px[axis] >= max((size for _, size in drawn), default=0):
            drawn.append((each.path, each.size_px[axis]))
    return drawn


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
    return figure(f"<b>That unit\u2019s exact field</b>{escape(where)}", f'<div class="strip">{drawn}</div>')


def first_layer_part(facts: ReportFacts) -> str:
    """The filters of the first layer, or its units where it is a linear one."""
    found = facts.measured.first_filters
    if found is None:
        return missing_part(facts, "filters")
    return filter_figures(found.values, found.path, found.layer, found.noun, found.num_filters)


def saliency_part(facts: ReportFacts) -> str:
    """The method of the saliency maps, its checks, and how many samples have none."""
    seen = facts.measured.saliency
    if seen is None:
        return missing_part(facts, "saliency", "Saliency maps")
    if not seen.method:
        return paragraphs([_no_map_sentence(facts, seen)])
    parts = [f"{seen.reason[:1].upper()}{seen.reason[1:]}", seen.check]
    if seen.hidden:
        verb, whose = ("has", "its map does") if len(seen.hidden) == 1 else ("have", "their maps do")
        hidden = f"{write_number_of(len(seen.hidden), facts.noun)} of {len(seen.hidden) + len(seen.maps)}"
        parts.append(f"{hidden} {verb} no map, because {whose} not pass.")
    kind = ' class="doubt"' if seen.is_believable is False else ""
    return f"<p{kind}>{escape(' '.join(part for part in parts if part))}</p>"


def _no_map_sentence(facts: ReportFacts, seen: SaliencyMaps) -> str:
    """Why no map is drawn: the methods that were tested; the stated reason where none was."""
    methods = list(dict.fromkeys(str(each["method"]) for each in seen.tested if each.get("method") != CENTER))
    if not methods:
        return seen.reason
    count = next((f"{each['num_samples']} " for each in seen.tested if "num_samples" in each), "")
    return f"No map is shown: averaged over {count}held-out {facts.nouns}, no method ({', '.join(methods)}) passes deletion and insertion."
