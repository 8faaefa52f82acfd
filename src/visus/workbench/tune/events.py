"""The events of a search: what is searched, and each trial that has ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from visus.evaluation.metric_names import metric_words
from visus.units import write_duration, write_number_of
from visus.workbench.tune.space import written
from visus.workbench.tune.trial import ACCURACY, FINISHED, Trial


@dataclass(frozen=True)
class SearchStarted:
    """A search starts, or goes on after ``num_trials`` trials.

    ``space`` has name, values, scale and default of each searched setting; ``notes`` are for the person who searches.
    """

    folder: Path
    space: tuple[tuple[str, str, str, str], ...]
    num_trials: int = 0
    notes: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """What is printed, each with its label."""
        spaces = [("space", f"{name} {values}, {scale} (default: {default})") for name, values, scale, default in self.space]
        more = f", after {write_number_of(self.num_trials, 'trial')}" if self.num_trials else ""
        return [*spaces, *(("note", note) for note in self.notes), ("search", f"{self.folder}{more}")]


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended; ``is_best``: whether it is the best so far; ``num_targets``: of regression, the number of targets."""

    trial: Trial
    is_best: bool
    num_targets: int = 1

    def facts(self) -> list[tuple[str, str]]:
        """What is printed, with its label."""
        trial = self.trial
        words = "validation" if trial.metric == ACCURACY else f"validation {metric_words(trial.metric, self.num_targets)}"
        measured = "undefined (NaN)" if math.isnan(trial.value) else trial.write()
        found = f"{words} {measured}" if trial.epochs or not math.isnan(trial.value) else "no epoch"
        state = "" if trial.state == FINISHED else f" ({trial.state}: {trial.reason.rstrip('.')})"
        best = ", the best so far" if self.is_best and trial.number else ""
        named = settings_sentence(trial)
        sentence = f"{trial.number}: {found}{best}{state} in {write_duration(trial.seconds)}; {named}"
        return [("trial", sentence)]


def settings_sentence(trial: Trial) -> str:
    """The settings of a trial, as text."""
    if not trial.number:
        return "the default recipe"
    return ", ".join(f"{name} {written(value)}" for name, value in trial.settings.items())


Event = SearchStarted | TrialDone
