"""The parts of a report about mistakes: the most confident ones with similar training samples, and possible label errors."""

from __future__ import annotations

import shlex
from html import escape

from visus.examine.mistake_report import MistakeReport, ShownSample
from visus.pages.parts.document import command_block, folded, paragraphs
from visus.pages.report.facts import ReportFacts
from visus.pages.report.missing import missing_part
from visus.pages.report.samples import saliency_map, short_name, shown_sample, similar_samples
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
    """Samples whose label may be wrong; empty if there are none."""
    found = facts.measured.mistakes
    if found is None or not found.suspicious:
        return ""
    words = (
        f"{write_number_of(found.num_suspicious, 'label')} of the {split_name(found.split)} set may be wrong: another class is more probable "
        f"than the label, and at least as probable as on average for {facts.nouns} of that class (confident learning, Northcutt et al. 2021)."
    )
    unexamined, command = _unexamined(facts, found)
    above = {each.place for each in found.confident_wrong}
    drawn = [each for each in found.suspicious if each.place not in above]
    repeated = len(found.suspicious) - len(drawn)
    verb = "is" if repeated == 1 else "are"
    more = f"{repeated} of them {verb} among the most confident mistakes above." if repeated else ""
    cards = "".join(_small_card(facts, each) for each in drawn)
    shown = f'<div class="strip">{cards}</div>' if cards else ""
    return paragraphs([f"{words} {more}", unexamined]) + command_block(command) + shown


def _unexamined(facts: ReportFacts, found: MistakeReport) -> tuple[str, str]:
    """A sentence that the training samples were not examined, and the command that examines them; empty where they were."""
    num_training = sum(facts.class_counts.get("train", ()))
    if found.split == "train" or not num_training:
        return "", ""
    examined = f"Only the {found.num_samples:,} {split_name(found.split)} {facts.nouns} were examined"
    command = f"visus evaluate {shlex.quote(facts.folder)} --mistakes --split train" if facts.folder else ""
    return f"{examined}. The {num_training:,} training {facts.nouns} were not{':' if command else '.'}", command


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
    words = (
        short_name(each.label) if each.answer == each.label else f"{short_name(each.label)}, or {short_name(each.answer)}?"
    )
    name = f'<br><span class="file">{escape(short_name(each.sample))}</span>' if is_named else ""
    caption = f"{escape(words)} {write_share(each.probability)}{name}"
    drawn = shown_sample(facts, each) + ("" if is_named else saliency_map(facts, each))
    return f'<figure class="small card">{drawn}<figcaption>{caption}</figcaption></figure>'
