"""The first section of a report: the accuracy with its interval and the baseline, the most frequent confusion, and the warnings."""

from __future__ import annotations

from html import escape

from visus.pages.parts.document import label_place, paragraphs
from visus.pages.parts.table import percent
from visus.pages.report.facts import ReportFacts
from visus.pages.report.sentences import answer_sentences
from visus.units import split_name, write_number_of, write_share


def answer_panel(facts: ReportFacts) -> str:
    """The accuracy in large type, on a scale with its interval and the baseline, and in sentences."""
    scores = facts.scores
    split = split_name(scores.split)
    measured = f"accuracy on {write_number_of(scores.num_samples, facts.noun)}{f' of the {split} set' if split else ''}"
    sentences = " ".join(escape(sentence) for sentence in answer_sentences(facts))
    return (
        f'<div class="panel"><div class="result"><strong>{write_share(scores.accuracy)}</strong> '
        f"<span>{escape(measured)}</span></div>{_scale(facts)}<p>{sentences}</p></div>"
    )


def _scale(facts: ReportFacts) -> str:
    """A scale from 0 to 100 % with the accuracy, its interval and the baseline."""
    scores = facts.scores
    low, high = write_share(scores.accuracy_low), write_share(scores.accuracy_high)
    baseline = f"baseline, always \u201c{scores.baseline_class}\u201d: {write_share(scores.baseline)}"
    label = f"On a scale from 0 to 100 %: accuracy {write_share(scores.accuracy)}, interval {low} to {high}; {baseline}."
    return (
        f'<div class="scale" role="img" aria-label="{escape(label)}"><span class="track"></span>'
        f'<span class="interval" style="left:{percent(scores.accuracy_low)};'
        f'width:{percent(scores.accuracy_high - scores.accuracy_low)}"></span>'
        f'<span class="point" style="left:{percent(scores.accuracy)}"></span>'
        f'<span class="guess" style="left:{percent(scores.baseline)}"></span>'
        f'<span class="above" style="{label_place(scores.accuracy)}">{low} to {high}</span> '
        f'<span class="below" style="{label_place(scores.baseline)}">{escape(baseline)}</span></div>'
    )


def warning_panel(facts: ReportFacts) -> str:
    """Warnings about the trustworthiness of the result."""
    warnings = [f"{each[:1].upper()}{each[1:]}" for each in facts.warnings]
    return f'<div class="warning" role="note">{paragraphs(warnings)}</div>' if warnings else ""
