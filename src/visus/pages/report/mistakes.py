"""The parts of a report about mistakes: possible label errors, then the most confident others, with similar training samples."""

from __future__ import annotations

from html import escape
from typing import Final

from visus.examine.mistake_report import MistakeReport, ShownSample, SplitLabels
from visus.pages.parts.document import folded, paragraphs
from visus.pages.report.facts import ReportFacts
from visus.pages.report.missing import missing_part
from visus.pages.report.samples import saliency_map, short_name, shown_sample, similar_samples, training_sample
from visus.units import split_name, write_number_of, write_share

_CARDS: Final = 6
"""Mistakes that are drawn in full."""


def label_errors_part(facts: ReportFacts) -> str:
    """Samples whose label may be wrong, of the evaluated split and of the training set; a sentence where only the split was examined."""
    found = facts.measured.mistakes
    if found is None:
        return ""
    own = _label_errors(facts, found) if found.suspicious else ""
    return own + _training_label_errors(facts, found.training_labels) + paragraphs([found.unexamined])


def _label_errors(facts: ReportFacts, found: MistakeReport) -> str:
    """Samples of the evaluated split whose label may be wrong, with similar training samples."""
    words = (
        f"{write_number_of(found.num_suspicious, 'label')} of the {split_name(found.split)} set may be wrong: another class is more probable "
        f"than the label, and at least as probable as on average for {facts.nouns} of that class (confident learning, Northcutt et al. 2021)."
    )
    cards = "".join(_label_card(facts, each) for each in _shown(found)[0])
    return paragraphs([words, _similar_sentence(facts, found)]) + f'<div class="cards">{cards}</div>'


def confident_mistakes_part(facts: ReportFacts) -> str:
    """The number of mistakes, and the most confident ones that are no possible label errors; empty if there is no mistake."""
    found = facts.measured.mistakes
    if found is None:
        return missing_part(facts, "mistakes")
    if not found.num_wrong:
        return ""
    similar = "" if found.suspicious or not found.confident_wrong else _similar_sentence(facts, found)
    shown = "".join(_card(facts, each) for each in _shown(found)[1])
    cards = f'<div class="cards">{shown}</div>' if shown else ""
    return paragraphs([_summary(facts, found), similar, _map_words(facts) if shown else ""]) + cards


def unsure_part(facts: ReportFacts) -> str:
    """The least confident correct predictions, folded, and the notes on all samples above."""
    found = facts.measured.mistakes
    if found is None:
        return ""
    drawn = ""
    if found.unsure_right:
        title = f"The least confident correct predictions: {write_number_of(len(found.unsure_right), facts.noun)}"
        cards = "".join(_small_card(facts, each) for each in found.unsure_right)
        words = "" if found.confident_wrong else _map_words(facts)
        drawn = folded(title, paragraphs([words]) + f'<div class="strip">{cards}</div>')
    # What is to be done about a weak network ends the section, so its note is not repeated here.
    return drawn + paragraphs([each for each in found.notes if not (found.is_unfinished and "while its accuracy" in each)])


def _summary(facts: ReportFacts, found: MistakeReport) -> str:
    verb = "is" if found.num_wrong == 1 else "are"
    count = f"{found.num_wrong:,} of {write_number_of(found.num_samples, facts.noun)} {verb} misclassified"
    if not found.suspicious:
        return f"{count}."
    if not found.confident_wrong:
        return f"{count}; see the possible label errors above."
    return f"{count}; the most confident of the others:"


def _shown(found: MistakeReport) -> tuple[tuple[ShownSample, ...], tuple[ShownSample, ...]]:
    """The possible label errors and the other mistakes that are drawn: half of the cards each, or more where the other has fewer."""
    labels = found.suspicious[: max(_CARDS // 2, _CARDS - len(found.confident_wrong))]
    return labels, found.confident_wrong[: _CARDS - len(labels)]


def _similar_sentence(facts: ReportFacts, found: MistakeReport) -> str:
    if not found.num_compared:
        why = facts.measured.missing.get("alike")
        return f"Similar training {facts.nouns} could not be found: {why}" if why else ""
    return (
        f"Below each: the most similar of {write_number_of(found.num_compared, f'training {facts.noun}')}, with their "
        "labels."
    )


def _map_words(facts: ReportFacts) -> str:
    """How to read the saliency maps, where some are drawn; the section on the network holds their checks."""
    seen = facts.measured.saliency
    if seen is None or not seen.method or not seen.maps:
        return ""
    color = "A stronger background" if facts.noun == "signal" else "Red"
    return f"{color} marks what mattered most for the prediction ({seen.method})."


def _training_label_errors(facts: ReportFacts, found: SplitLabels | None) -> str:
    """Training samples whose label may be wrong; empty if they were not examined."""
    if found is None:
        return ""
    how = f"Each {facts.noun} was predicted by a head that was fitted without it." if found.suspicious else ""
    sentence = f"{found.sentence()}."
    cards = "".join(
        f'<figure class="small card">{training_sample(facts, each)}<figcaption>{_suggestion(each)}</figcaption></figure>'
        for each in found.suspicious
    )
    shown = f'<div class="strip">{cards}</div>' if cards else ""
    return paragraphs([f"{sentence[0].upper()}{sentence[1:]} {how}", *found.notes]) + shown


def _card(facts: ReportFacts, each: ShownSample) -> str:
    """One sample: itself, its saliency map, its label and prediction, and similar training samples."""
    drawn = shown_sample(facts, each) + saliency_map(facts, each)
    caption = f'{_prediction_words(facts, each)}<br><span class="file">{escape(short_name(each.sample))}</span>'
    similar = similar_samples(facts, each.alike)
    return f'<figure class="card"><div class="strip">{drawn}</div><figcaption>{caption}</figcaption>{similar}</figure>'


def _prediction_words(facts: ReportFacts, each: ShownSample) -> str:
    """Label, prediction and probability; and whether there is no map because it failed its checks."""
    words = f"<b>{escape(short_name(each.label))}</b>"
    if each.answer != each.label:
        words += f" predicted as <b>{escape(short_name(each.answer))}</b>"
    seen = facts.measured.saliency
    is_hidden = seen is not None and bool(seen.method) and each.place in seen.hidden
    return f"{words}, {write_share(each.probability)}" + (". No reliable map" if is_hidden else "")


def _label_card(facts: ReportFacts, each: ShownSample) -> str:
    """One sample with its label, the suggested class, and similar training samples."""
    similar = similar_samples(facts, each.alike)
    drawn = f'<div class="strip">{shown_sample(facts, each)}</div>'
    return f'<figure class="card">{drawn}<figcaption>{_suggestion(each)}</figcaption>{similar}</figure>'


def _suggestion(each: ShownSample) -> str:
    """The label of a sample, the suggested class, and its name."""
    words = f"<b>{escape(short_name(each.label))}</b>, or <b>{escape(short_name(each.answer))}</b>? {write_share(each.probability)}"
    return f'{words}<br><span class="file">{escape(short_name(each.sample))}</span>'


def _small_card(facts: ReportFacts, each: ShownSample) -> str:
    """A correct prediction with its probability and its saliency map."""
    caption = f"{escape(short_name(each.label))} {write_share(each.probability)}"
    drawn = shown_sample(facts, each) + saliency_map(facts, each)
    return f'<figure class="small card">{drawn}<figcaption>{caption}</figcaption></figure>'
