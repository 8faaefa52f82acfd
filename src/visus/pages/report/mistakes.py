"""The section of a report about mistakes: misclassified and uncertain samples with saliency and similar training samples."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from visus.examine.mistake_report import MistakeReport, ShownSample, SimilarSample
from visus.pages.parts.document import figure, folded, paragraphs, shorten
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import sample_image
from visus.pages.parts.table import table, table_row, text_cell
from visus.pages.report.facts import ReportFacts
from visus.pages.report.measurements import ReportMeasurements
from visus.pages.report.missing import missing_part
from visus.units import split_name, write_number_of, write_share

_SIDE, _SMALL, _VOLUME_SIDE = 96, 56, 112
_MAX_NAME: Final = 80
_PAIR_SAMPLES: Final = 3
_ALL_MAPS: Final = "visus look with --saliency all shows every map of a sample with its checks."


def mistakes_section(facts: ReportFacts) -> str:
    """Counts, the most confident mistakes, confusions, uncertain samples and possible label errors."""
    found = facts.measured.mistakes
    if found is None:
        return missing_part(facts, "mistakes")
    parts = [paragraphs([_summary(facts, found), _similar_sentence(facts, found)]), _saliency_words(facts)]
    if found.confident_wrong:
        parts.append("<h3>The most confident mistakes</h3>" + _cards(facts, found.confident_wrong))
    parts.append(_confusions(facts, found))
    if found.unsure_right:
        title = f"The least confident correct predictions: {len(found.unsure_right)} {facts.nouns}"
        parts.append(folded(title, _cards(facts, found.unsure_right)))
    return "".join([*parts, _label_errors(facts, found), paragraphs(found.notes)])


def _summary(facts: ReportFacts, found: MistakeReport) -> str:
    words = f"{found.num_wrong:,} of {write_number_of(found.num_samples, facts.noun)} are misclassified"
    if found.confident_wrong:
        words += f"; the most confident mistake has a probability of {write_share(found.confident_wrong[0].probability)}"
    return f"{words}."


def _similar_sentence(facts: ReportFacts, found: MistakeReport) -> str:
    if not found.num_compared:
        why = facts.measured.missing.get("alike")
        return f"Similar training {facts.nouns} could not be found: {why}" if why else ""
    compared = (
        f"all {found.num_training:,}"
        if found.num_compared == found.num_training
        else f"{found.num_compared:,} of the {found.num_training:,}"
    )
    return (
        f"Below each are the most similar training {facts.nouns}, by the cosine similarity of the inputs to layer '{found.feature_layer}', "
        f"among {compared} training {facts.nouns}."
    )


def _saliency_words(facts: ReportFacts) -> str:
    """The method of the saliency maps, its checks, and how many samples have none."""
    seen = facts.measured.saliency
    if seen is None:
        why = facts.measured.missing.get("saliency")
        return f'<p class="missing">Saliency maps could not be made: {escape(why)}</p>' if why else ""
    if not seen.method:
        return paragraphs([f"{seen.reason} {_ALL_MAPS}"])
    color = "A stronger background" if facts.noun == "signal" else "Red"
    parts = [f"{color} marks what mattered most for the prediction ({seen.method}). {seen.reason}".strip(), seen.check]
    if seen.hidden:
        hidden = write_number_of(len(seen.hidden), facts.noun)
        verb, whose = ("has", "its map does") if len(seen.hidden) == 1 else ("have", "their maps do")
        parts.append(
            f"{hidden} of these {len(seen.hidden) + len(seen.maps)} {verb} no map, because {whose} not pass. {_ALL_MAPS}"
        )
    kind = ' class="doubt"' if seen.is_believable is False else ""
    return f"<p{kind}>{escape(' '.join(part for part in parts if part))}</p>"


def _confusions(facts: ReportFacts, found: MistakeReport) -> str:
    if not found.confusions:
        return ""
    parts = []
    for pair in found.confusions:
        words = f"{_short(pair.label)} predicted as {_short(pair.answer)}: {write_number_of(pair.num_samples, facts.noun)}"
        drawn = "".join(_sample(facts.measured, each, facts.noun) for each in pair.samples[:_PAIR_SAMPLES])
        parts.append(figure(f"<b>{escape(words)}</b>", f'<div class="strip">{drawn}</div>'))
    return f'<h3>The most frequent confusions</h3><div class="pair">{"".join(parts)}</div>'


def _label_errors(facts: ReportFacts, found: MistakeReport) -> str:
    if not found.suspicious:
        return ""
    words = (
        f"{write_number_of(found.num_suspicious, 'label')} of the {split_name(found.split)} set may be wrong: another class is more probable "
        f"than the label, and at least as probable as it is on average for {facts.nouns} with that label (confident learning, Northcutt et al. "
        f"2021). The network was not trained on these {facts.nouns}. Look at them before you trust the label or the network."
    )
    rows = [
        table_row(
            _short(each.sample),
            [
                text_cell(_short(each.label)),
                write_share(each.label_probability),
                text_cell(_short(each.answer)),
                write_share(each.probability),
            ],
        )
        for each in found.suspicious
    ]
    columns = [facts.noun.capitalize(), "Label", "Probability", "Suggested label", "Probability"]
    above = {each.place for each in found.confident_wrong}
    drawn = "".join(_sample(facts.measured, each, facts.noun) for each in found.suspicious if each.place not in above)
    strip = f'<div class="strip">{drawn}</div>' if drawn else ""
    listed = table("Possible label errors, the largest gap first", columns, rows, text_columns=(0, 1, 3))
    return f"<h3>Possible label errors</h3>{paragraphs([words])}{strip}{listed}"


def _cards(facts: ReportFacts, shown: Sequence[ShownSample]) -> str:
    return f'<div class="cards">{"".join(_card(facts, each) for each in shown)}</div>'


def _card(facts: ReportFacts, each: ShownSample) -> str:
    """One sample: itself, its saliency map, its label and prediction, and similar training samples."""
    measured = facts.measured
    drawn = _sample(measured, each, facts.noun)
    heat = measured.saliency.maps.get(each.place) if measured.saliency else None
    values = measured.samples.get(each.place)
    if heat is not None and values is not None:
        label = f"Saliency map of {_short(each.sample)}"
        drawn += map_over_sample(values, *measured.value_range, heat, label, _side(values.ndim))
    similar = "".join(_similar(measured, near) for near in each.alike)
    similar = f'<div class="alike">{similar}</div>' if similar else ""
    caption = f'{_prediction_words(measured, each)}<br><span class="file">{escape(_short(each.sample))}</span>'
    return f'<figure class="card"><div class="strip">{drawn}</div><figcaption>{caption}</figcaption>{similar}</figure>'


def _prediction_words(measured: ReportMeasurements, each: ShownSample) -> str:
    """Label, prediction and probabilities; and whether the map is missing because it failed its checks."""
    words = f"<b>{escape(_short(each.label))}</b>"
    if each.answer != each.label:
        words += f" predicted as <b>{escape(_short(each.answer))}</b>, {write_share(each.probability)}"
        words += f" ({escape(_short(each.label))}: {write_share(each.label_probability)})"
    else:
        words += f", {write_share(each.probability)}"
    seen = measured.saliency
    is_hidden = seen is not None and bool(seen.method) and each.place in seen.hidden
    return words + (". Its map does not pass" if is_hidden else "")


def _sample(measured: ReportMeasurements, each: ShownSample, noun: str) -> str:
    values = measured.samples.get(each.place)
    if values is None:
        return ""
    label = f"{noun} {_short(each.sample)}: {_short(each.label)}"
    label = label if each.answer == each.label else f"{label}, predicted as {_short(each.answer)}"
    return sample_image(values, *measured.value_range, label, _side(values.ndim))


def _similar(measured: ReportMeasurements, near: SimilarSample) -> str:
    values = measured.training_samples.get(near.place)
    label = f"training sample {_short(near.sample)}: {_short(near.label)}"
    drawn = "" if values is None else sample_image(values, *measured.value_range, label, _SMALL)
    return f'<span class="near">{drawn}<span>{escape(_short(near.label))} {near.similarity:.2f}</span></span>'


def _side(num_dims: int) -> int:
    return _VOLUME_SIDE if num_dims == 4 else _SIDE


def _short(name: str) -> str:
    return shorten(name, _MAX_NAME)
