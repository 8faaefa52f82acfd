"""The model card: a README.md in the run's folder on the network, its accuracy and its limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from visus.evaluation.scores import Scores
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.files import write_file
from visus.pages.report.cost import without_figures
from visus.pages.report.facts import ReportFacts
from visus.pages.report.other_tasks import is_other_task, task_result_sentences
from visus.pages.report.sentences import (
    calibration_sentences,
    cost_rows,
    network_sentence,
    not_the_same_sentence,
    preprocessing_sentences,
    result_sentences,
    version_rows,
)
from visus.units import split_name, write_number_of, write_share

_LISTED_CLASSES = 30


def write_card(path: Path, facts: ReportFacts) -> None:
    """Write the model card of a run to ``path``, which is ``README.md`` in the run's folder.

    Raises:
        StorageError: the file cannot be written.
    """
    write_file(path, card_text(facts))


def card_text(facts: ReportFacts) -> str:
    """The model card as Markdown text; the output is deterministic."""
    parts = [
        f"# {plain(facts.name)}",
        f"{plain(network_sentence(facts))} {' '.join(plain(without_figures(each)) for each in facts.computed)}".strip()
        + f" Trained on {plain(facts.data_name)}, {plain(facts.created)}.",
        *_section("Result", [" ".join(plain(sentence) for sentence in _result(facts))]),
        *([bullets(facts.result.notes)] if facts.result.notes else []),
        plain(facts.fit_sentence) if is_other_task(facts) else " ".join(map(plain, calibration_sentences(facts))),
        *_section("Targets" if facts.task == "regression" else "Classes", [_classes(facts)]),
        *_section("Data", [bullets(_data_lines(facts))]),
        *_section("Limitations", [bullets(_limitations(facts))]),
    ]
    prepared = preprocessing_sentences(facts)
    if prepared:
        stored = "The preprocessing is stored with the weights; `visus predict` applies it."
        parts += _section("Preprocessing", [stored, bullets(prepared)])
    parts += _section("Usage", ["```\nvisus predict RUN FILES\nvisus evaluate RUN\n```", "`RUN` is this folder."])
    parts += _section("Reproducing this run", _reproduce(facts))
    return "\n\n".join(parts) + "\n"


def _result(facts: ReportFacts) -> list[str]:
    return task_result_sentences(facts) if is_other_task(facts) else result_sentences(facts)


def _classes(facts: ReportFacts) -> str:
    if not isinstance(facts.result, Scores):
        found = facts.result.target_table() if isinstance(facts.result, RegressionScores) else facts.result.class_table()
        cells = [found.headings, tuple("---:" if place in found.numbers else "---" for place in range(found.num_columns))]
        return "\n".join(f"| {' | '.join(plain(cell) for cell in row)} |" for row in (*cells, *found.rows))
    rows = facts.scores.per_class
    if len(rows) > _LISTED_CLASSES:
        classes = write_number_of(len(rows), "class", "classes")
        return f"{classes}, listed in `classes.txt`; their metrics are in `scores.json`."
    lines = [f"| class | {facts.nouns} | precision | recall | F1 |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        shares = " | ".join(
            "\u2013" if share is None else write_share(share) for share in (row.precision, row.recall, row.f1)
        )
        lines.append(f"| {plain(row.name)} | {row.num_samples:,} | {shares} |")
    return "\n".join(lines)


def _data_lines(facts: ReportFacts) -> list[str]:
    lines = [f"{key}: {value}" for key, value in facts.data.items()]
    for split, count in facts.split_totals.items():
        lines.append(f"{split_name(split)}: {write_number_of(count, facts.noun)}")
    changes = [*facts.ledger_sentences, *facts.routine_sentences]
    return [*lines, *(changes or ["Nothing in the data was changed."])]


def _limitations(facts: ReportFacts) -> list[str]:
    holds = f"The metrics hold for {facts.nouns} like those of this evaluation. They can differ for {facts.nouns} from another source."
    if is_other_task(facts):
        return [holds, *facts.warnings]
    scores = facts.scores
    known = write_number_of(len(facts.classes), "class", "classes")
    lines = [
        f"The network predicts one of these {known} for every {facts.noun}, even for one that belongs to none of them.",
        holds,
    ]
    found = [row for row in scores.per_class if row.recall is not None]
    weakest = min(found, key=lambda row: row.recall or 0.0)
    if weakest.recall is not None and weakest.recall < 1:
        share, samples = write_share(weakest.recall), write_number_of(weakest.num_samples, facts.noun)
        lines.append(f"The lowest recall is that of \u201c{weakest.name}\u201d: {share} of {samples}.")
    absent = [row.name for row in scores.per_class if not row.num_samples]
    if absent:
        listed = ", ".join(f"\u201c{name}\u201d" for name in absent[:10]) + (" and others" if len(absent) > 10 else "")
        lines.append(f"The recall of {listed} is unknown: there was no such {facts.noun} to evaluate on.")
    return [*lines, *facts.warnings]


def _reproduce(facts: ReportFacts) -> list[str]:
    command = facts.exact_command or facts.command
    parts = [_fenced(command), *([sentence] if (sentence := not_the_same_sentence(facts)) else [])] if command else []
    lines = [facts.interruptions] if facts.interruptions else []
    lines += [f"{label}: {value}" for label, value in cost_rows(facts)]
    if facts.recipe.get("seed") is not None:
        lines.append(f"Seed: {facts.recipe['seed']}")
    versions = ", ".join(f"{name} {version}" for name, version in version_rows(facts))
    if versions:
        lines.append(f"Versions: {versions}")
    return [*parts, bullets(lines), "`report.html` shows all of this and more, `recipe.yaml` holds every setting."]


def _section(title: str, paragraphs: Sequence[str]) -> list[str]:
    return [f"## {title}", *paragraphs]


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def _fenced(text: str) -> str:
    """Text as a block of code, in a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def plain(text: str) -> str:
    r"""Text in one line, every character of Markdown and HTML escaped.

    >>> print(plain("a_b *c* <d>"))
    a\_b \*c\* \<d\>
    """
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", " ".join(text.split()))
