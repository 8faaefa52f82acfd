"""The trials of a search in a SQLite database of optuna, and what to try next.

The database holds finished trials only. What is tried next depends on them, on the seed and on the number of the trial, so a search that was killed goes on
as if it had not been.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from visus.errors import MissingExtraError, RunError
from visus.workbench.tune.space import Choices, Range, Space
from visus.workbench.tune.trial import FAILED, FINISHED, Trial

FILE: Final = "study.db"
_NAME: Final = "visus"
_NUM_RANDOM: Final = 6
"""Number of trials, the default among them, before the search learns from them."""
_NUM_UNPRUNED: Final = 4
"""Number of trials that are not compared with others while they run."""
_MIN_PROGRESS: Final = 20
"""Percentage of a training before which it is not ended."""
_MAX_DRAWS: Final = 20


@dataclass(frozen=True)
class Proposal:
    """The settings of the next trial, and whether it lags behind the others.

    Args:
        number: number of the trial, from 0.
        settings: the searched settings; none for the default recipe.
        asked: the trial of optuna; None for the default recipe, which always ends.
    """

    number: int
    settings: dict[str, Any]
    asked: Any = None

    def is_behind(self, percent: int, score: float) -> bool:
        """Whether the trial is to end, since its metric of the validation set, more is better, is below the median of the others at this percentage of the training."""
        if self.asked is None:
            return False
        self.asked.report(score, percent)
        return bool(self.asked.should_prune())


class Study:
    """The trials of a search on disk.

    Args:
        folder: folder of the search.
        space: the searched settings.
        seed: seed of the search.
        defaults: the settings of the default recipe.

    Raises:
        MissingExtraError: optuna is not installed.
        RunError: the database is damaged.
    """

    def __init__(self, folder: Path, space: Space, seed: int, defaults: dict[str, Any]) -> None:
        self._optuna = load_optuna()
        self._space, self._seed = space, seed
        self._defaults = {name: value for name, value in defaults.items() if value in space.settings[name]}
        self._file = folder / FILE
        self._distributions = {name: self._distribution(values) for name, values in space}
        with self._quiet():
            try:
                storage = self._optuna.storages.RDBStorage(f"sqlite:///{self._file}")
                self._stored = self._optuna.create_study(
                    storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True
                )
                self.trials = [Trial.from_json(each.user_attrs["visus"]) for each in self._stored.trials]
            except Exception as error:  # SQLAlchemy's errors are many
                raise RunError(
                    f"{FILE} cannot be read ({type(error).__name__}). Put it back, or start a new search.", where=str(folder)
                ) from error

    def propose(self) -> Proposal | None:
        """What to try next: first the default recipe; None if every combination of choices was tried."""
        number = len(self.trials)
        if number == 0:
            return Proposal(0, {})
        known = [dict(self._defaults) if not each.number else each.settings for each in self.trials]
        for draw in range(_MAX_DRAWS):
            with self._quiet():
                asked = self._memory(number, draw).ask(self._distributions)
            settings = {name: values.rounded(asked.params[name]) for name, values in self._space}
            if settings not in known:
                return Proposal(number, settings, asked)
        return None

    def add(self, trial: Trial) -> None:
        """Write a trial that has ended."""
        optuna = self._optuna
        states = optuna.trial.TrialState
        reported = dict(trial.course)
        params = trial.settings if trial.number else self._defaults
        is_done = trial.state == FINISHED and math.isfinite(trial.score)
        state = states.COMPLETE if is_done else states.FAIL if trial.state == FAILED and not reported else states.PRUNED
        with self._quiet():
            self._stored.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=trial.score if is_done else None,
                    params=params,
                    distributions={name: self._distributions[name] for name in params},
                    intermediate_values=reported,
                    user_attrs={"visus": trial.to_json()},
                )
            )
        self.trials.append(trial)

    def _memory(self, number: int, draw: int) -> Any:
        """A study in memory with the finished trials, and a sampler that depends on the number of the trial."""
        optuna = self._optuna
        seed = (self._seed * 1_000_003 + number * 101 + draw) % 2**32
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_NUM_RANDOM),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_NUM_UNPRUNED, n_warmup_steps=_MIN_PROGRESS),
        )
        study.add_trials(self._stored.trials)
        return study

    def _distribution(self, values: Range | Choices) -> Any:
        kinds = self._optuna.distributions
        if isinstance(values, Choices):
            return kinds.CategoricalDistribution(values.values)
        if values.is_whole:
            return kinds.IntDistribution(int(values.low), int(values.high), log=values.is_log)
        return kinds.FloatDistribution(values.low, values.high, log=values.is_log)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """A context in which optuna logs warnings only."""
        logging = self._optuna.logging
        before = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)
        try:
            yield
        finally:
            logging.set_verbosity(before)


def load_optuna() -> Any:
    """The package optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna
    except Exception as error:  # a damaged package may raise anything
        raise MissingExtraError.because(error, "optuna", "tune", "searches of settings") from error
    return optuna
