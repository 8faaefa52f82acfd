"""The parts of a model card that depend on the task: what is predicted, the metrics, and a row for each class or target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.pages.card import plain
from visus.ship.manifest import Manifest
from visus.tables import Table
from visus.units import write_number_of, write_share

_LISTED_CLASSES: Final = 100


def use_sentence(manifest: Manifest, noun: str) -> str:
    """What the network predicts."""
    count, whose = len(manifest.classes), f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    what = {
        "single-label": f"one of {count:,} classes for {whose}",
        "multi-label": f"for {whose} each of {count:,} classes that it shows: one, several or none",
        "regression": f"{write_number_of(count, 'number')} for {whose}",
    }[manifest.task.name]
    return f"It predicts {what}: {listed(manifest.classes)}."


def factor_lines(scores: AnyScores, noun: str) -> list[str]:
    """The weakest class or target, and what was not examined."""
    unexamined = "Cameras, sensors, places and groups of people were not examined separately."
    if isinstance(scores, RegressionScores):
        return [unexamined]
    lines = ["Metrics differ between classes: see the table under Quantitative analyses."]
    if isinstance(scores, Scores):
        lines = ["Accuracy differs between classes: see the table under Quantitative analyses."]
    found = [row for row in scores.per_class if row.recall is not None and row.num_samples]
    weakest = min(found, key=lambda row: row.recall or 0.0)
    if weakest.recall is not None and weakest.recall < 1:
        samples = write_number_of(weakest.num_samples, noun)
        lines.append(f"The lowest recall is that of \u201c{weakest.name}\u201d: {write_share(weakest.recall)} of {samples}.")
    absent = [row.name for row in scores.per_class if not row.num_samples]
    if absent:
        lines.append(f"The recall of {listed(absent)} is unknown: there was no such {noun} to evaluate on.")
    return [*lines, unexamined]


def metric_lines(scores: AnyScores, fit_sentence: str) -> list[str]:
    """The main metric with its interval and baseline, further metrics, and how probabilities or intervals were fitted."""
    found = scores.headline
    name, interval = f"{found.metric[0].upper()}{found.metric[1:]}", found.range_words("confidence interval")
    lines = [f"{name}: {found.write(found.value)} ({interval})."]
    if isinstance(scores, Scores):
        return [
            *lines,
            f"Baseline, always predicting \u201c{scores.baseline_class}\u201d: {write_share(scores.baseline)}.",
            f"Macro F1: {scores.macro_f1:.3f}. Loss: {scores.loss:.3f} nats.",
            f"Expected calibration error: {100 * scores.calibration_error:.1f} percentage points. {fit_sentence}",
        ]
    lines.append(f"Baseline, {found.baseline_words}: {found.write(found.baseline)}.")
    if isinstance(scores, MultiLabelScores):
        return [
            *lines,
            f"Exact match: {write_share(scores.exact_match)} of the sets, {write_share(scores.label_accuracy)} of the labels. Loss: {scores.loss:.3f} nats.",
            fit_sentence,
        ]
    return [*lines, fit_sentence]


def metric_table(scores: AnyScores, noun: str) -> str:
    """A row for each class or target, as Markdown."""
    if isinstance(scores, RegressionScores):
        return _markdown(scores.target_table())
    if len(scores.per_class) > _LISTED_CLASSES:
        f1 = f"; their macro F1 is {scores.macro_f1:.3f}" if scores.macro_f1 is not None else ""
        return f"{len(scores.per_class):,} classes{f1}."
    if isinstance(scores, MultiLabelScores):
        return _markdown(scores.class_table())
    lines = [f"| class | {noun}s | precision | recall | F1 |", "|---|---:|---:|---:|---:|"]
    for row in scores.per_class:
        shares = " | ".join(
            "\u2013" if share is None else write_share(share) for share in (row.precision, row.recall, row.f1)
        )
        lines.append(f"| {plain(row.name)} | {row.num_samples:,} | {shares} |")
    return "\n".join(lines)


def caveat(manifest: Manifest, noun: str) -> str:
    """What the network answers for samples of another kind."""
    if manifest.task.name == "single-label":
        return f"The network predicts one of its classes for every {noun}, even for one that belongs to none of them."
    what = "returns numbers" if manifest.task.name == "regression" else "returns a probability of each class"
    return f"The network {what} for every {noun}, even for one unlike all that it was trained on."


def listed(names: Sequence[str]) -> str:
    """Names in quotation marks, ten at most."""
    shown = ", ".join(f"\u201c{name}\u201d" for name in names[:10])
    return shown + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _markdown(table: Table) -> str:
    rule = tuple("---:" if place in table.numbers else "---" for place in range(table.num_columns))
    rows = (table.headings, *table.rows)
    first, *rest = (f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows)
    return "\n".join([first, f"| {' | '.join(rule)} |", *rest])
