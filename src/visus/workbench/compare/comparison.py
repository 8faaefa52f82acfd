"""Runs compared on the same samples: the scores of each run, and the differences of two runs sample by sample."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visus.caller import for_caller
from visus.design.mlp_equivalents import KINDS
from visus.evaluation.calibration import UNCALIBRATED
from visus.evaluation.paired import Paired
from visus.evaluation.scores import Scores
from visus.evaluation.shifts import WAYS, ShiftFigures
from visus.evaluation.tasks.all_scores import AnyScores, metric_heading
from visus.evaluation.tasks.evaluations.evaluation import AnyCalibrator
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores
from visus.evaluation.tasks.paired_differences import AnyPaired, PairedNumbers
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.tables import Brief, Described, Table, Text, notes
from visus.units import write_count, write_duration, write_number_of, write_share, write_size, write_split
from visus.workbench.runs.shifts import AnyShiftFigures

MAX_DIFFERING: Final = 20
CURVE_POINTS: Final = 8
SHIFT_COLUMNS: Final = ("two shifts agree", "shift change")
"""The column on shifts, of classes and of numbers."""
SET_COLUMNS: Final = ("exact match",)
"""Further columns of runs that predict sets of classes."""


@dataclass(frozen=True, repr=False)
class Contender(Brief):
    """One of the compared runs.

    Args:
        name: name of its run.
        kind: ``network``; a key of ``design.mlp_equivalents.KINDS`` for a perceptron; or the change to the first design, in
            words.
        is_shuffled: whether it was trained, and is scored, on shuffled positions.
        folder: its run folder.
        num_parameters, macs: its parameters, and its multiply-adds for one sample.
        seconds: duration of its training.
        scores: on the compared samples.
        history: a row for each epoch of its ``results.csv``.
        shifts: how its predictions change under circular shifts; None if not requested.
        calibrator: converts its outputs to probabilities, or to numbers.
        network: its network as it was asked for, if that is short; else its class and the number of its layers.
    """

    name: str
    kind: str
    is_shuffled: bool
    folder: Path
    num_parameters: int
    macs: int
    seconds: float
    scores: AnyScores
    history: tuple[dict[str, float], ...]
    shifts: AnyShiftFigures | None = None
    calibrator: AnyCalibrator = UNCALIBRATED
    network: str = ""

    def _words(self) -> str:
        found = self.scores.headline
        return f"{self.name}: {self.kind_in_words}, {found.metric} {found.write(found.value)}, {write_count(self.num_parameters)} parameters"

    @property
    def kind_in_words(self) -> str:
        """The kind as a column of a table shows it."""
        named = {"network": self.network} | {kind: f"perceptron, {kind}" for kind in KINDS}
        kind = named.get(self.kind, self.kind)
        return f"{kind}, shuffled" if self.is_shuffled else kind

    def to_json(self) -> dict[str, Any]:
        """The contender as plain data."""
        named = ("name", "kind", "network", "is_shuffled", "num_parameters", "macs", "seconds")
        facts = {name: getattr(self, name) for name in named}
        return {
            **facts,
            **dataclasses.asdict(self.calibrator),
            "folder": str(self.folder),
            "scores": self.scores.to_json(),
            "history": [dict(row) for row in self.history],
            "shifts": self.shifts.to_json() if self.shifts else None,
        }


@dataclass(frozen=True, repr=False)
class RunPair(Brief):
    """Two of the contenders, and the differences of their predictions.

    Args:
        left, right: their names.
        answers: the paired comparison: ``Paired`` of single labels, ``PairedSets`` or ``PairedNumbers``.
        holm_p_values: the p-values of ``answers`` after Holm's correction, if the first run is compared with several others; else empty.
        unfinished: those of the two whose training was stopped before its end.
    """

    left: str
    right: str
    answers: AnyPaired
    holm_p_values: tuple[float, ...] = ()
    unfinished: tuple[str, ...] = ()

    def _words(self) -> str:
        return self.sentence()

    def sentence(self, noun: str = "sample") -> str:
        """The difference as one sentence."""
        stopped = f" Stopped before its end: {' and '.join(self.unfinished)}." if self.unfinished else ""
        if isinstance(self.answers, Paired):
            return f"{self.answers.sentence(self.left, self.right, noun, self.holm_p_value)}{stopped}"
        return f"{self.answers.sentence(self.left, self.right, noun, self.holm_p_values)}{stopped}"

    @property
    def holm_p_value(self) -> float | None:
        """The first of the corrected p-values; None if there are none."""
        return self.holm_p_values[0] if self.holm_p_values else None

    def to_json(self) -> dict[str, Any]:
        """The pair as plain data."""
        several = {"holm_p_values": list(self.holm_p_values)} if len(self.holm_p_values) > 1 else {}
        names = {"left": self.left, "right": self.right, "holm_p_value": self.holm_p_value}
        return {**names, **several, **self.answers.to_json()}


@dataclass(frozen=True, repr=False)
class Comparison(Described):
    """Runs on the same samples; the others are compared with the first.

    Args:
        split: split of the samples; ``all`` if all of the data was scored.
        noun: word for one sample.
        contenders: the runs.
        pairs: the first run with each other run; also each perceptron with its copy trained on shuffled positions, if any.
        notes: remarks on the comparison.
        settings: the settings that are not the same in all runs: name, and the value of each run.

    >>> [each.kind for each in comparison.contenders]
    ['network', 'network']
    """

    split: str
    noun: str
    contenders: tuple[Contender, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...] = ()
    settings: tuple[tuple[str, ...], ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = (
            f"Comparison on {write_number_of(self.contenders[0].scores.num_samples, self.noun)} of {write_split(self.split)}"
        )
        facts = [
            (each.name, f"{found.write(found.value)}, {write_count(each.num_parameters)} parameters")
            for each in self.contenders
            for found in [each.scores.headline]
        ]
        facts += [("difference", pair.sentence(self.noun)) for pair in self.pairs[:2]]
        facts += [("more", f"{len(self.pairs) - 2:,} in .pairs")] if len(self.pairs) > 2 else []
        return title, [*facts, ("next", ".contenders, .pairs; .to_json() gives all measures")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("runs", self._run_table()),)

    def text(self) -> Text:
        """The runs, their differences from the first, and the samples with different predictions.

        >>> comparison.text()[0].headings[:3]
        ('run', 'network', 'accuracy')
        """
        first = self.contenders[0]
        learned = ((each.name, each.scores.learned_sentence(self.noun)) for each in self.contenders)
        lines: list[str | Table] = [f"{name}: {sentence}" for name, sentence in learned if sentence]
        lines.append(self._run_table())
        known = first.scores.headline
        words = (
            f"always guessing {first.scores.baseline_class}" if isinstance(first.scores, Scores) else known.baseline_words
        )
        baseline = f"baseline, {words}: {known.write(known.baseline)}"
        lines.append(f"{write_number_of(first.scores.num_samples, self.noun)} ({self.split}); {baseline}")
        if first.shifts is not None:
            lines.append(_shift_line(first.shifts, first.scores))
        lines += [pair.sentence(self.noun) for pair in self.pairs]
        lines += self._settings()
        lines += _learning_curves(self.contenders)
        lines += self._differing() if len(self.contenders) == 2 else []
        return Text((*lines, *notes(self.notes)))

    def _run_table(self) -> Table:
        has_shifts = any(each.shifts for each in self.contenders)
        has_loss = not has_shifts and len(self.contenders) > 2
        first = self.contenders[0].scores
        exact = SET_COLUMNS if isinstance(first, MultiLabelScores) else ()
        loss = ["loss"] if has_loss else []
        headings = (
            "run",
            "network",
            metric_heading(first),
            "95 % interval",
            *exact,
            *loss,
            "parameters",
            "multiply-adds",
            "trained in",
        )
        rows = []
        for each in self.contenders:
            scores, found = each.scores, each.scores.headline
            row = [
                each.name,
                each.kind_in_words,
                found.write(found.value),
                found.range(),
                *([write_share(scores.exact_match)] if isinstance(scores, MultiLabelScores) else []),
                *([f"{scores.loss:.4f}"] if has_loss else []),
                write_count(each.num_parameters),
                write_count(each.macs),
                write_duration(each.seconds) if each.history else "no epoch",
            ]
            row += [_shift_cell(each.shifts)] if has_shifts else []
            rows.append(tuple(row))
        return Table(
            tuple(rows),
            (*headings, *([SHIFT_COLUMNS[isinstance(first, RegressionScores)]] if has_shifts else [])),
            (2, *range(4, len(headings) + has_shifts)),
        )

    def _settings(self) -> list[str | Table]:
        """The settings that are not the same in all runs."""
        if not self.settings:
            return []
        return ["these settings differ:", Table(self.settings, ("setting", *(each.name for each in self.contenders)))]

    def _differing(self) -> list[str | Table]:
        """The samples that two runs answer differently."""
        found = self.pairs[0].answers
        left, right = (each.name for each in self.contenders)
        if isinstance(found, PairedNumbers):
            rows = tuple((each.sample, each.label, each.left, each.right) for each in found.largest)
            table = Table(rows, (self.noun, "label", left, right), (1, 2, 3))
            name = found.targets[0].name
            return [f"the {self.noun}s whose errors of {name} differ most:", table] if rows else []
        differing = found.differing
        if not differing:
            return []
        names = {"left": left, "right": right, "neither": "neither"}
        listed = tuple(
            (each.sample, each.label, each.left, each.right, names[each.right_one]) for each in differing[:MAX_DIFFERING]
        )
        lines: list[str | Table] = [f"they answer differently for {write_number_of(len(differing), self.noun)}:"]
        lines.append(Table(listed, (self.noun, "label", left, right, "right")))
        if len(differing) > MAX_DIFFERING:
            lines.append(f"... and {len(differing) - MAX_DIFFERING:,} more; {for_caller('--json', '.to_json()')} lists all")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data.

        >>> list(comparison.to_json())
        ['split', 'num_samples', 'runs', 'pairs', 'settings', 'notes']
        """
        return {
            "split": self.split,
            "num_samples": self.contenders[0].scores.num_samples,
            "runs": [each.to_json() for each in self.contenders],
            "pairs": [pair.to_json() for pair in self.pairs],
            "settings": [list(row) for row in self.settings],
            "notes": list(self.notes),
        }


def _shift_cell(found: AnyShiftFigures | None) -> str:
    """The cell of the column on shifts."""
    if found is None:
        return ""
    return write_share(found.consistency) if isinstance(found, ShiftFigures) else f"{found.mean_change[0]:.4g}"


def _shift_line(found: AnyShiftFigures, scores: AnyScores) -> str:
    """What the column on shifts is."""
    reach = f"by up to {write_size(found.reach_px)}, {WAYS[found.way]}"
    if isinstance(found, ShiftFigures):
        same = "label" if isinstance(scores, Scores) else "set of classes"
        return f"two shifts agree: the same {same} for two of the shifts {reach}"
    return f"shift change: the mean change of {scores.classes[0]} under shifts {reach}"


def _learning_curves(contenders: Sequence[Contender]) -> list[str | Table]:
    """The accuracy after a few epochs: of the validation set, or of the training set where nothing was validated. Of other tasks, the metric that selects the epoch."""
    longest = max(len(each.history) for each in contenders)
    if longest < 2:
        return []
    epochs = sorted({round(1 + index * (longest - 1) / (CURVE_POINTS - 1)) for index in range(CURVE_POINTS)})
    is_single = isinstance(contenders[0].scores, Scores)
    column = "val_accuracy" if is_single else "val_score"
    if any(math.isnan(row[column]) for row in contenders[0].history):
        column = "train_accuracy" if is_single else "train_loss"
    write = write_share if is_single else "{:.4g}".format
    rows = tuple(
        (
            each.name,
            *(write(each.history[epoch - 1][column]) if epoch <= len(each.history) else "" for epoch in epochs),
        )
        for each in contenders
    )
    return [Table(rows, (f"{column} after epoch", *map(str, epochs)), tuple(range(1, len(epochs) + 1)))]
