"""The sections of a report about single classes: the confusion matrix, and precision, recall and F1."""

from __future__ import annotations

from html import escape
from typing import Final

from visus.evaluation.scores import ClassScore
from visus.pages.parts.confusion import COUNTED_CLASSES, confused_pairs_table, confusion_map, confusion_table
from visus.pages.parts.document import beside, folded, paragraphs
from visus.pages.parts.table import share_bar, share_cell, table, table_row
from visus.pages.report.facts import ReportFacts
from visus.units import write_number_of

OPEN_CLASSES: Final = 30
MAX_ROWS: Final = 1000
_MAPPED_CLASSES: Final = 150
_MAX_MAP: Final = 800_000
_PAIRS: Final = 10
_DEFINITIONS: Final = (
    "Precision: of the {nouns} predicted as this class, the share that really are. Recall: of the {nouns} of this class, the share that is "
    "predicted as it. F1 is the harmonic mean of the two. A dash means undefined: there was nothing to divide by."
)


def confusion_section(facts: ReportFacts) -> str:
    """The confusion matrix as a table, for more classes as a heat map, for many only its largest cells."""
    scores = facts.scores
    pairs = scores.most_confused(_PAIRS)
    words = "Rows are true classes and columns are predicted classes; a stronger color is a larger share of the row."
    if pairs:
        true, predicted, count = pairs[0]
        words = f"The most frequent confusion is {true} predicted as {predicted}: {count:,} times. {words}"
    listed = confused_pairs_table(pairs, facts.nouns) if pairs else f"<p>None of these {facts.nouns} is misclassified.</p>"
    if len(scores.classes) <= COUNTED_CLASSES:
        return paragraphs([words]) + beside(confusion_table(scores, facts.nouns), listed, "flow")
    if len(scores.classes) > _MAPPED_CLASSES:
        return listed
    drawn = confusion_map(scores)
    if len(drawn) > _MAX_MAP:
        return paragraphs([words, "The whole matrix is in confusion.csv."]) + listed
    words += " Hover over a square for its classes and its count."
    return paragraphs([words]) + beside(f'<figure class="heat">{drawn}</figure>', listed)


def per_class_section(facts: ReportFacts) -> str:
    """Precision, recall and F1 of each class; the table is folded where there are many."""
    scores = facts.scores
    rows = sorted(scores.per_class, key=_by_f1)[:MAX_ROWS] if len(scores.per_class) > MAX_ROWS else scores.per_class
    drawn = _table(facts, rows)
    ranked = sorted((row for row in scores.per_class if row.f1 is not None), key=lambda row: -(row.f1 or 0))
    best, worst = ranked[0], ranked[-1]
    first = (
        f"The highest F1 is that of \u201c{best.name}\u201d ({share_cell(best.f1)}), the lowest that of \u201c{worst.name}\u201d "
        f"({share_cell(worst.f1)})."
    )
    if len(scores.classes) > OPEN_CLASSES:
        title = f"All {write_number_of(len(scores.classes), 'class', 'classes')}"
        if len(rows) < len(scores.classes):
            title = f"The {len(rows):,} classes with the lowest F1; all {len(scores.classes):,} are in scores.json"
        drawn = f"<p>The mean F1 of the classes is {share_cell(scores.macro_f1)}.</p>{folded(title, drawn)}"
    return f"<p>{escape(first)}</p><p>{_DEFINITIONS.format(nouns=facts.nouns)}</p>{drawn}"


def _table(facts: ReportFacts, rows: list[ClassScore] | tuple[ClassScore, ...]) -> str:
    body = [
        table_row(
            row.name,
            [
                f"{row.num_samples:,}",
                share_cell(row.precision),
                share_cell(row.recall),
                share_cell(row.f1),
                share_bar(row.f1 or 0),
            ],
        )
        for row in rows
    ]
    columns = ["Class", facts.nouns.capitalize(), "Precision", "Recall", "F1", ""]
    foot = table_row("Mean", ["", "", "", share_cell(facts.scores.macro_f1), ""])
    return table("Precision, recall and F1 of each class", columns, body, foot=foot)


def _by_f1(row: ClassScore) -> float:
    """The lowest F1 first; classes without one come last."""
    return 2.0 if row.f1 is None else row.f1
