"""The parts of a report about single classes: the confusion matrix, and the counts, precision, recall and F1 of each class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from typing import Final

from visus.evaluation.scores import ClassScore
from visus.examine.mistake_report import MistakeReport
from visus.pages.parts.confusion import COUNTED_CLASSES, confused_pairs_table, confusion_map, confusion_table
from visus.pages.parts.document import beside, figure, folded, paragraphs
from visus.pages.parts.table import percent_cell, table, table_row
from visus.pages.report.facts import ReportFacts
from visus.pages.report.samples import short_name, shown_sample
from visus.units import split_name, write_share

MAX_CLASSES: Final = 20
"""Classes of the table; of more, those with the lowest F1."""

_METRICS: Final = (("Precision", "precision"), ("Recall", "recall"), ("F1", "f1"))
_MAPPED_CLASSES: Final = 150
_MAX_MAP: Final = 800_000
_PAIRS: Final = 10
_PAIR_SAMPLES: Final = 3


def confusion_part(facts: ReportFacts) -> str:
    """The confusion matrix as a table, for more classes as a heat map, for many only its largest cells; then samples of those."""
    scores = facts.scores
    pairs = scores.most_confused(_PAIRS)
    listed = confused_pairs_table(pairs, facts.nouns) if pairs else ""
    examples = _examples(facts, facts.measured.mistakes) if facts.measured.mistakes else ""
    if len(scores.classes) <= COUNTED_CLASSES:
        return confusion_table(scores, facts.nouns) + (examples or listed)
    drawn = confusion_map(scores) if len(scores.classes) <= _MAPPED_CLASSES else ""
    if not drawn or len(drawn) > _MAX_MAP:
        return paragraphs(["The whole matrix is in confusion.csv."]) + listed + examples
    words = "Rows are true classes, columns predicted ones; a stronger color is a larger share of the row. Hover over a square for its count."
    return paragraphs([words]) + beside(f'<figure class="heat">{drawn}</figure>', listed) + examples


def _examples(facts: ReportFacts, found: MistakeReport) -> str:
    """Some samples of the most frequent confusions."""
    parts = []
    for pair in found.confusions:
        words = f"{short_name(pair.label)} predicted as {short_name(pair.answer)}: {pair.num_samples:,}"
        drawn = "".join(shown_sample(facts, each) for each in pair.samples[:_PAIR_SAMPLES])
        parts.append(figure(f"<b>{escape(words)}</b>", f'<div class="strip">{drawn}</div>'))
    return f'<div class="pair">{"".join(parts)}</div>' if parts else ""


def classes_part(facts: ReportFacts) -> str:
    """The best and the worst class, and where the confusion matrix does not hold them, the metrics of each; the samples of each class."""
    scores = facts.scores
    ranked = sorted((row for row in scores.per_class if row.f1 is not None), key=lambda row: -(row.f1 or 0))
    best, worst = ranked[0], ranked[-1]
    first = (
        f"The highest F1 is that of \u201c{best.name}\u201d, {write_share(best.f1 or 0.0)}; the lowest "
        f"that of \u201c{worst.name}\u201d, {write_share(worst.f1 or 0.0)}."
    )
    if best.f1 == worst.f1:
        first = f"Every class{'' if len(ranked) == len(scores.per_class) else ' that occurs'} has an F1 of {write_share(best.f1 or 0.0)}."
    equal, uneven = _counts(facts)
    each = f"Every class has {', '.join(equal)} {facts.nouns}." if equal else ""
    rows: Sequence[ClassScore] = scores.per_class
    if len(rows) <= COUNTED_CLASSES:
        drawn = folded(f"{facts.nouns.capitalize()} of each class", _table(facts, rows, uneven, ())) if uneven else ""
        return paragraphs([f"{first} {each}"]) + drawn
    rows = sorted(rows, key=_by_f1)[:MAX_CLASSES]
    title = f"The {len(rows)} of {len(scores.per_class):,} classes with the lowest F1; all are in scores.json"
    return paragraphs([f"{first} {each}", *_spreads(facts, uneven)]) + folded(title, _table(facts, rows, uneven, _METRICS))


def _counts(facts: ReportFacts) -> tuple[list[str], list[str]]:
    """The splits in which all classes have the same number of samples, in words, and the other splits."""
    known = {split: counts for split, counts in facts.class_counts.items() if sum(counts)}
    equal = [f"{counts[0]:,} {split_name(split)}" for split, counts in known.items() if len(set(counts)) == 1]
    return equal, [split for split, counts in known.items() if len(set(counts)) > 1]


def _spreads(facts: ReportFacts, splits: Sequence[str]) -> list[str]:
    """Minimum, maximum and median of the classes of each split."""
    spreads = []
    for split in splits:
        counts = facts.class_counts[split]
        name = split_name(split).capitalize()
        median = statistics.median_low(counts)
        spreads.append(f"{name} {facts.nouns} per class: {min(counts):,} to {max(counts):,}, median {median:,}.")
    return spreads


def _table(facts: ReportFacts, rows: Sequence[ClassScore], splits: Sequence[str], metrics: Sequence[tuple[str, str]]) -> str:
    """The number of samples in each of these splits, and metrics in percent."""
    places = {name: place for place, name in enumerate(facts.classes)}
    body = []
    for row in rows:
        place = places.get(row.name)
        cells = ["" if place is None else f"{facts.class_counts[split][place]:,}" for split in splits]
        body.append(table_row(row.name, cells + [percent_cell(getattr(row, field)) for _, field in metrics]))
    totals = [f"{sum(facts.class_counts[split]):,}" for split in splits]
    means = ["", "", percent_cell(facts.scores.macro_f1)] if metrics else []
    columns = ["Class", *(split_name(split).capitalize() for split in splits), *(f"{name}, %" for name, _ in metrics)]
    what = f"{facts.nouns.capitalize()} of each class" if splits else "Metrics of each class"
    return table(what, columns, body, foot=table_row("All", [*totals, *means]))


def _by_f1(row: ClassScore) -> float:
    """The lowest F1 first; classes without one come last."""
    return 2.0 if row.f1 is None else row.f1
