"""The result of a search: the best settings, all trials, and how far chance may explain the best one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visus.caller import for_caller
from visus.data.tasks import num_targets
from visus.errors import TrainingError
from visus.evaluation.metric_names import METRIC_NAMES, metric_words
from visus.evaluation.scores import Scores
from visus.tables import Described, Table, Text
from visus.training.recipe import Recipe
from visus.training.selection import standard_error
from visus.units import write_duration, write_number_of, write_share
from visus.workbench.runs.run import Run
from visus.workbench.tune.space import written
from visus.workbench.tune.trial import ACCURACY, FINISHED, PRUNED, Trial

MAX_SHOWN: Final = 10
"""Number of trials in the printed table; the file ``trials.csv`` has all."""


@dataclass(frozen=True, repr=False)
class Tuned(Described):
    """The result of ``visus.tune``.

    Args:
        folder: folder of the search: ``space.yaml``, ``trials.csv``, ``best.yaml``, ``search.json``, and ``study.db`` of optuna.
        trials: all trials, in their order; the first one is the default recipe.
        best: the recipe of the best trial, as a person would give it: what the search and the recipe set, and nothing else.
        run: the run that was trained with it.
        note: a sentence if the search took longer than its time limit; else empty.

    >>> tuned.best_trial.accuracy >= tuned.trials[0].accuracy
    True
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Recipe
    run: Run
    note: str = ""

    @property
    def best_trial(self) -> Trial:
        """The finished trial with the best metric of the validation set, of equal accuracies with the lowest loss, of equal ones the first.

        >>> tuned.best_trial.state
        'finished'
        """
        return best_of(self.trials)

    @property
    def _num_targets(self) -> int:
        return num_targets(self.run.task.name, self.run.classes)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        best, default = self.best_trial, self.trials[0]
        rows = [
            ("trials", _counts(self.trials)),
            (
                "best",
                f"{_measured(best, self._num_targets)}; default: {default.write()}",
            ),
            ("recipe", repr(self.best)),
            ("run", str(self.run.folder)),
            ("folder", str(self.folder)),
        ]
        return f"Search {self.folder.name}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("the best trials", self.table()),)

    def table(self) -> Table:
        """The best trials, at most ten, with their settings.

        >>> tuned.table().headings
        ('trial', 'validation accuracy', 'validation loss', 'epochs', 'time', 'outcome', 'learning_rate')
        """
        ranked = sorted(self.trials, key=lambda trial: (trial.state != FINISHED, -_finite(trial.score), trial.number))
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.settings))
        rows = tuple(
            (
                str(trial.number),
                trial.write(),
                "-" if math.isnan(trial.loss) else f"{trial.loss:.3f}",
                f"{trial.epochs:,}",
                write_duration(trial.seconds),
                trial.state,
                *(written(trial.settings[name]) if name in trial.settings else "default" for name in names),
            )
            for trial in ranked[:MAX_SHOWN]
        )
        measured = f"validation {metric_words(self.trials[0].metric)}"
        headings = ("trial", measured, "validation loss", "epochs", "time", "outcome", *names)
        return Table(rows, headings, numbers=(0, 1, 2, 3, 4))

    def text(self) -> Text:
        """The best trials, what the search found, how far chance may explain it, and what to do next.

        >>> tuned.text()[1].startswith("3 trials")
        True
        """
        scores, noun = self.run.scores, self.run.preprocessing.noun
        split = {"test": f"test {noun}s, read once, by this run", "val": f"validation {noun}s: there is no test set"}[
            scores.split
        ]
        found = scores.headline
        value = (
            f"{write_share(scores.accuracy)} of"
            if isinstance(scores, Scores)
            else f"{found.metric} {found.write(found.value)} on"
        )
        result = (
            f"the run {self.run.name}, trained with the best settings: {value} {scores.num_samples:,} {split} "
            f"({found.range_words()})"
        )
        best = str(self.folder / "best.yaml")
        again = for_caller(f"visus train DATA --recipe {shlex.quote(best)}", f"recipe=visus.Recipe.read({best!r})")
        following = for_caller(f"visus predict {shlex.quote(str(self.run.folder))} FILES...", "tuned.run.predict(files)")
        return Text(
            (
                self.table(),
                *self.sentences(),
                result,
                *((self.note,) if self.note else ()),
                f"the settings for other trainings: {again}",
                f"next: {following}",
            )
        )

    def sentences(self) -> tuple[str, ...]:
        """What the search found, and how far chance may explain it.

        >>> len(tuned.sentences()) in (1, 2)
        True
        """
        best, default = self.best_trial, self.trials[0]
        number = best.num_validation
        found = f"{_counts(self.trials)}; best: trial {best.number} with {_measured(best, self._num_targets)}"
        if not best.number:
            return (f"{found}, the default recipe: no other settings were better.",)
        finished = sum(trial.state == FINISHED for trial in self.trials)
        if best.metric != ACCURACY:
            return (
                f"{found}; the default recipe has {default.write()}.",
                f"The best of {finished:,} validation scores is too good by chance, and the more trials, the more so. Only the run's own score is an "
                "estimate.",
            )
        gain = 100 * (best.accuracy - default.accuracy)
        error = 100 * math.hypot(standard_error(best.accuracy, number), standard_error(default.accuracy, number))
        judged = "more than twice" if gain > 2 * error else "less than twice"
        return (
            f"{found}, {gain:.1f} points above the default recipe ({write_share(default.accuracy)}). That is {judged} the standard error of such a "
            f"difference ({error:.1f} points).",
            f"The best of {finished:,} validation accuracies is too high by chance, and the more trials, the more so. Only the run's own "
            "accuracy is an estimate.",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON.

        >>> sorted(tuned.to_json())
        ['best', 'folder', 'run', 'scores', 'trials']
        """
        return {
            "folder": str(self.folder),
            "best": self.best_trial.to_json(),
            "trials": [trial.to_json() for trial in self.trials],
            "run": str(self.run.folder),
            "scores": self.run.scores.to_json(),
        }


def best_of(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the highest score; of equal ones the first.

    Raises:
        TrainingError: no trial has finished.
    """
    finished = [trial for trial in trials if trial.state == FINISHED and math.isfinite(trial.score)]
    if not finished and (undefined := next((trial for trial in trials if trial.is_undefined), None)):
        remedy = for_caller("--set select=NAME", "Recipe(select=...)")
        raise TrainingError(
            f"no trial has a score: the {metric_words(undefined.metric)} is undefined (NaN) after every epoch. Choose another with {remedy}."
        )
    if not finished:
        reason = next((trial.reason for trial in trials if trial.reason), "no trial was made")
        raise TrainingError(f"no trial has finished: {reason.rstrip('.')}. Give a longer time limit, or another recipe.")
    return max(finished, key=lambda trial: (trial.score, -trial.number))


def trials_rows(trials: Sequence[Trial], names: Sequence[str]) -> list[list[object]]:
    """The rows of ``trials.csv``, with the headings first."""
    metric = trials[0].metric if trials else ACCURACY
    headings = [
        "trial",
        "state",
        f"val_{metric}" if metric in METRIC_NAMES else "val_score",
        "val_loss",
        "epochs",
        "seconds",
        *names,
        "reason",
    ]
    rows: list[list[object]] = [list(headings)]
    for each in trials:
        values = [each.settings.get(name, "") for name in names]
        rows.append(
            [
                each.number,
                each.state,
                f"{each.value:.6g}",
                f"{each.loss:.6g}",
                each.epochs,
                f"{each.seconds:.2f}",
                *values,
                each.reason,
            ]
        )
    return rows


def _measured(trial: Trial, num_targets: int) -> str:
    """The metric of a trial, and on what it was measured."""
    samples = f"{trial.num_validation:,} validation samples"
    if trial.metric == ACCURACY:
        return f"{trial.write()} of {samples}"
    return f"{metric_words(trial.metric, num_targets)} {trial.write()} on {samples}"


def _counts(trials: Sequence[Trial]) -> str:
    early, failed = (sum(trial.state == state for trial in trials) for state in (PRUNED, "failed"))
    parts = [f"{early:,} ended early" if early else "", f"{failed:,} failed" if failed else ""]
    details = ", ".join(part for part in parts if part)
    return f"{write_number_of(len(trials), 'trial')}{f' ({details})' if details else ''}"


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
