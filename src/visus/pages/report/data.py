"""The section of a report about the data: its splits and classes, the changes to it, the preprocessing."""

from __future__ import annotations

import statistics
from html import escape

from visus.pages.parts.document import beside, bullets, folded, paragraphs
from visus.pages.parts.table import facts_table, table, table_row
from visus.pages.report.classes import MAX_ROWS, OPEN_CLASSES
from visus.pages.report.facts import ReportFacts
from visus.pages.report.sentences import preprocessing_sentences
from visus.units import split_name, write_number_of


def data_section(facts: ReportFacts) -> str:
    """The dataset, beside the changes to it and the preprocessing."""
    rows = [("Name", facts.data_name), *((str(key), str(value)) for key, value in facts.data.items())]
    changes = bullets(facts.ledger_sentences) or "<p>Nothing in the data was changed.</p>"
    prepared = bullets(preprocessing_sentences(facts))
    right = f"<h3>Changes to the data</h3>{changes}" + (f"<h3>Preprocessing</h3>{prepared}" if prepared else "")
    return paragraphs([_splits_sentence(facts)]) + beside(facts_table(rows) + _class_counts(facts), right)


def _splits_sentence(facts: ReportFacts) -> str:
    """The use of each split; empty if the training set is not known."""
    totals = {split: sum(counts) for split, counts in facts.class_counts.items() if sum(counts)}
    if "train" not in totals:
        return ""
    classes = write_number_of(len(facts.classes), "class", "classes")
    words = f"The training set has {write_number_of(totals['train'], facts.noun)} of {classes}"
    words += f"; {totals['val']:,} validation {facts.nouns} selected the weights" if "val" in totals else ""
    words += f"; {totals['test']:,} test {facts.nouns} were held out for the evaluation" if "test" in totals else ""
    return f"{words}."


def _class_counts(facts: ReportFacts) -> str:
    """A row for each class, a column for each split; folded where there are many classes."""
    splits = list(facts.class_counts)
    if not splits:
        return ""
    rows = [
        table_row(name, (f"{facts.class_counts[split][place]:,}" for split in splits))
        for place, name in enumerate(facts.classes[:MAX_ROWS])
    ]
    drawn = table(
        f"{facts.nouns.capitalize()} by class and split",
        ["Class", *(split_name(split).capitalize() for split in splits)],
        rows,
        foot=table_row("All", (f"{sum(facts.class_counts[split]):,}" for split in splits)),
    )
    if len(facts.classes) <= OPEN_CLASSES:
        return drawn
    classes = write_number_of(len(facts.classes), "class", "classes")
    title = f"All {classes}"
    if len(facts.classes) > MAX_ROWS:
        title = f"The first {MAX_ROWS:,} of {classes}; split.csv lists the class of each {facts.noun}"
    return f"<p>{escape(classes)}:</p>{bullets(_spread(facts, split) for split in splits)}{folded(title, drawn)}"


def _spread(facts: ReportFacts, split: str) -> str:
    """Total, minimum, maximum and median of the classes of a split."""
    counts = facts.class_counts[split]
    low, high = min(counts), max(counts)
    spread = (
        f"{low:,} to {high:,} per class, median {statistics.median_low(counts):,}" if low < high else f"{low:,} per class"
    )
    return f"{split_name(split).capitalize()}: {write_number_of(sum(counts), facts.noun)}; {spread}"
