"""The parts of a report on whether its figures can be trusted: how they were measured, samples of no class, calibration, and the changes to the data."""

from __future__ import annotations

from typing import Final

from visus.evaluation.calibration import Reliability
from visus.evaluation.test_time_augmentation import describe_views
from visus.pages.parts.charts import legend
from visus.pages.parts.document import beside, bullets, figure, folded, paragraphs
from visus.pages.parts.reliability_diagram import is_joined, reliability_diagram
from visus.pages.report.facts import ReportFacts
from visus.pages.report.missing import missing_part
from visus.pages.report.sentences import calibration_summary, preprocessing_sentences
from visus.units import with_article, write_number_of, write_share

_REST_CLASSES: Final = frozenset(("background", "negative", "none", "other", "others", "rest", "unknown"))
"""Names of a class for what belongs to no other class."""

_FEW: Final = 5
"""Samples of a bin below which its accuracy is chance."""


def held_out_part(facts: ReportFacts) -> str:
    """The use of each split, and the notes on how the metrics were measured."""
    kind = str(facts.recipe.get("tta") or "none")
    brief = describe_views(kind, facts.noun)
    notes = [describe_views(kind, facts.noun, in_full=True) if note == brief else note for note in facts.result.notes]
    return paragraphs([_splits_sentence(facts), *notes])


def outside_part(facts: ReportFacts) -> str:
    """What happens to a sample of none of the classes, and what to do about it; empty where a class is meant for such samples."""
    if _REST_CLASSES & {name.lower() for name in facts.classes}:
        return ""
    stray = with_article(facts.noun)
    classes = write_number_of(len(facts.classes), "class", "classes")
    return paragraphs(
        [
            f"{stray[0].upper()}{stray[1:]} of none of these {classes} still gets one of them: if yours "
            f"include such {facts.nouns}, train with a class \u201cother\u201d of them."
        ]
    )


def _splits_sentence(facts: ReportFacts) -> str:
    """The use of each split; empty if the training set is not known."""
    totals = facts.split_totals
    if "train" not in totals:
        return ""
    is_regression = facts.task == "regression"
    classes = write_number_of(len(facts.classes), *(("target",) if is_regression else ("class", "classes")))
    words = f"{totals['train']:,} training {facts.nouns} of {classes}"
    selected = " selected the weights" if facts.series("val_accuracy") else ""
    words += f"; {totals['val']:,} validation {facts.nouns}{selected}" if "val" in totals else ""
    words += f"; {totals['test']:,} test {facts.nouns} were held out" if "test" in totals else ""
    return f"{words}."


def calibration_part(facts: ReportFacts) -> str:
    """Confidence against accuracy, before and after calibration: sentences and a reliability diagram."""
    sentences = calibration_summary(facts)
    found = facts.measured.calibration
    if found is None:
        return paragraphs(sentences) + missing_part(facts, "calibration")
    drawn_as = [("train", "uncalibrated", found.before), *([("val", "calibrated", found.after)] if found.after else [])]
    keys = [(style if is_joined(each.bins) else f"dot {style}", name) for style, name, each in drawn_as]
    caption = f"<b>Confidence and accuracy</b>{legend(keys)}"
    drawn = figure(caption, reliability_diagram(found.before, found.after), "square")
    how = "Below the dotted line: overconfident. visus evaluate lists the accuracy above each probability."
    return beside(paragraphs([*sentences, _top_sentence(found.after or found.before, facts), how]), drawn)


def _top_sentence(found: Reliability, facts: ReportFacts) -> str:
    """The accuracy of the most confident predictions: the highest bin with enough samples; empty if there is none."""
    total = sum(bin.num_samples for bin in found.bins)
    top = next((bin for bin in reversed(found.bins) if bin.num_samples >= max(_FEW, total // 100)), None)
    if top is None or top.accuracy is None:
        return ""
    return (
        f"{top.num_samples:,} of {write_number_of(total, facts.noun)} have a confidence of {write_share(top.low, 0)} to "
        f"{write_share(top.high, 0)}; the accuracy on them is {write_share(top.accuracy)}."
    )


def changes_part(facts: ReportFacts) -> str:
    """The dataset, the ledger of all changes to it with the routine ones folded, and the preprocessing."""
    known = "; ".join(f"{key}: {value}" for key, value in facts.data.items())
    routine = facts.routine_sentences
    changes = bullets(facts.ledger_sentences)
    if not changes:
        changes = paragraphs(["Nothing in the data was changed." if not routine else "Only routine changes were made."])
    if routine:
        changes += folded(f"Routine changes, such as of size and format: {len(routine)}", bullets(routine))
    return (
        paragraphs([f"{known}." if known else ""])
        + changes
        + paragraphs([" ".join(preprocessing_sentences(facts, with_storage=False))])
    )
