"""Samples of a run as drawings of the report: a sample, its saliency map, and the training samples that are similar to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final

from visus.examine.mistake_report import ShownSample, SimilarSample
from visus.pages.parts.document import shorten
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import sample_image
from visus.pages.report.facts import ReportFacts

_SIDE, _SMALL, _VOLUME_SIDE = 96, 56, 112
_MAX_NAME: Final = 80


def short_name(name: str) -> str:
    """The name of a sample or a class in one line."""
    return shorten(name, _MAX_NAME)


def shown_sample(facts: ReportFacts, each: ShownSample) -> str:
    """The sample itself; empty if its values are unknown."""
    values = facts.measured.samples.get(each.place)
    if values is None:
        return ""
    label = f"{facts.noun} {short_name(each.sample)}: {short_name(each.label)}"
    label = label if each.answer == each.label else f"{label}, predicted as {short_name(each.answer)}"
    return sample_image(values, *facts.measured.value_range, label, side_of(values.ndim))


def training_sample(facts: ReportFacts, each: ShownSample) -> str:
    """A sample of the training set; empty if its values are unknown."""
    values = facts.measured.training_samples.get(each.place)
    if values is None:
        return ""
    label = f"training {facts.noun} {short_name(each.sample)}: {short_name(each.label)}, or {short_name(each.answer)}?"
    return sample_image(values, *facts.measured.value_range, label, side_of(values.ndim))


def saliency_map(facts: ReportFacts, each: ShownSample) -> str:
    """The saliency map over the sample; empty if there is none."""
    measured = facts.measured
    heat = measured.saliency.maps.get(each.place) if measured.saliency else None
    values = measured.samples.get(each.place)
    if heat is None or values is None:
        return ""
    label = f"Saliency map of {short_name(each.sample)}"
    return map_over_sample(values, *measured.value_range, heat, label, side_of(values.ndim))


def similar_samples(facts: ReportFacts, similar: Sequence[SimilarSample]) -> str:
    """The most similar training samples, with the count of each class; empty if there are none."""
    if not similar:
        return ""
    counts = Counter(short_name(near.label) for near in similar)
    words = ", ".join(f"{count}\u00d7 {label}" for label, count in counts.items())
    drawn = "".join(_similar(facts, near) for near in similar)
    return f'<div class="alike"><div class="strip">{drawn}</div><span>{escape(words)}</span></div>'


def _similar(facts: ReportFacts, near: SimilarSample) -> str:
    values = facts.measured.training_samples.get(near.place)
    label = f"training {facts.noun} {short_name(near.sample)}: {short_name(near.label)}, similarity {near.similarity:.2f}"
    return "" if values is None else sample_image(values, *facts.measured.value_range, label, _SMALL)


def side_of(num_dims: int) -> int:
    """Side of a drawn sample with so many axes, in pixels."""
    return _VOLUME_SIDE if num_dims == 4 else _SIDE
