"""The parts of a report about mistakes: the most confident ones with similar training samples, and possible label errors."""

from __future__ import annotations

from html import escape

from visus.examine.mistake_report import MistakeReport, ShownSample, TrainingLabels
from visus.pages.parts.document import folded, paragraphs
from visus.pages.report.facts import ReportFacts
from visus.pages.report.missing import missing_part
from visus.pages.report.samples import saliency_map, short_name, shown_sample, similar_samples, training_sample
from visus.units import split_name, write_number_of, write_share


def confident_mistakes_part(facts: ReportFacts) -> str:
    """The number of mistakes, the most confident ones, and the least confident correct predictions."""
    found = facts.measured.mistakes
    if found is None:
        return missing_part(facts, "mistakes")
    similar = _similar_sentence(facts, found) if found.confident_wrong else ""
    parts = [paragraphs([_summary(facts, found), similar, _map_words(facts)])]
    if found.confident_wrong:
        parts.append(f'<div class="cards">{"".join(_card(facts, each) for each in found.confident_wrong)}</div>')
    if found.unsure_right:
        title = f"The least confident correct predictions: {len(found.unsure_right)} {facts.nouns}"
        cards = "".join(_small_card(facts, each, is_named=False) for each in found.unsure_right)
        parts.append(folded(title, f'<div class="strip">{cards}</div>'))
    return "".join([*parts, paragraphs(found.notes)])


def _summary(facts: ReportFacts, found: MistakeReport) -> str:
    return f"{found.num_wrong:,} of {write_number_of(found.num_samples, facts.noun)} are misclassified."


def _similar_sentence(facts: ReportFacts, found: MistakeReport) -> str:
    if not found.num_compared:
        why = facts.measured.missing.get("alike")
        return f"Similar training {facts.nouns} could not be found: {why}" if why else ""
    compared = (
        f"all {found.num_training:,}"
        if found.num_compared == found.num_training
        else f"{found.num_compared:,} of {found.num_training:,}"
    )
    return (
        f"Below each: the most similar training {facts.nouns} and their labels, by the cosine similarity of the inputs to '{found.feature_layer}' "
        f"({compared} compared)."
    )


def _map_words(facts: ReportFacts) -> str:
    """How to read the saliency maps, where some are drawn; the section on the network holds their checks."""
    seen = facts.measured.saliency
    if seen is None or not seen.method or not seen.maps:
        return ""
    color = "A stronger background" if facts.noun == "signal" else "Red"
    return f"{color} marks what mattered most for the prediction ({seen.method})."


def label_errors_part(facts: ReportFacts) -> str:
    """Samples whose label may be wrong, of the evaluated split and of the training set; a sentence where only the split was examined."""
    found = facts.measured.mistakes
    if found is None:
        return ""
    own = _label_errors(facts, found) if found.suspicious else ""
    return own + _training_label_errors(facts, found.training_labels) + paragraphs([found.unexamined])


def _label_errors(facts: ReportFacts, found: MistakeReport) -> str:
    """Samples of the evaluated split whose label may be wrong."""
    words = (
        f"{write_number_of(found.num_suspicious, 'label')} of the {split_name(found.split)} set may be wrong: another class is more probable "
        f"than the label, and at least as probable as on average for {facts.nouns} of that class (confident learning, Northcutt et al. 2021)."
    )
    above = {each.place for each in found.confident_wrong}
    drawn = [each for each in found.suspicious if each.place not in above]
    repeated = len(found.suspicious) - len(drawn)
    verb = "is" if repeated == 1 else "are"
    more = f"{repeated} of them {verb} among the most confident mistakes above." if repeated else ""
    cards = "".join(_small_card(facts, each) for each in drawn)
    shown = f'<div class="strip">{cards}</div>' if cards else ""
    return paragraphs([f"{words} {more}"]) + shown


def _training_label_errors(facts: ReportFacts, found: TrainingLabels | None) -> str:
    """Training samples whose label may be wrong; empty if they were not examined."""
    if found is None:
        return ""
    how = f"Each {facts.noun} was predicted by a head that was fitted without it." if found.suspicious else ""
    sentence = f"{found.sentence()}."
    cards = "".join(
        f'<figure class="small card">{training_sample(facts, each)}<figcaption>{_small_caption(each)}</figcaption></figure>'
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
    """Label, prediction and probability; and whether the map is missing because it failed its checks."""
    words = f"<b>{escape(short_name(each.label))}</b>"
    if each.answer != each.label:
        words += f" predicted as <b>{escape(short_name(each.answer))}</b>"
    seen = facts.measured.saliency
    is_hidden = seen is not None and bool(seen.method) and each.place in seen.hidden
    return f"{words}, {write_share(each.probability)}" + (". Its map does not pass" if is_hidden else "")


def _small_card(facts: ReportFacts, each: ShownSample, *, is_named: bool = True) -> str:
    """One sample with its label and, where another class is more probable, that class; with its own name where ``is_named``."""
    drawn = shown_sample(facts, each) + ("" if is_named else saliency_map(facts, each))
    return f'<figure class="small card">{drawn}<figcaption>{_small_caption(each, is_named=is_named)}</figcaption></figure>'


def _small_caption(each: ShownSample, *, is_named: bool = True) -> str:
    words = (
        short_name(each.label) if each.answer == each.label else f"{short_name(each.label)}, or {short_name(each.answer)}?"
    )
    name = f'<br><span class="file">{escape(short_name(each.sample))}</span>' if is_named else ""
    return f"{escape(words)} {write_share(each.probability)}{name}"
