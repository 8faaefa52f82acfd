"""The seconds that a search reserves for the run at its end, from the measured seconds of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from visus.units import write_duration
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.tune.trial import FINISHED, Trial

RESERVE: Final = 1.25
"""The reserved seconds as a multiple of the expected ones: the run at the end is never cut short."""


@dataclass(frozen=True)
class FinalRun:
    """The run at the end of a search.

    Args:
        preparation_s: seconds of the preparation after the data was opened, as the search measured them.
        ending_s: seconds of scores and report, measured by an earlier run of the same network, or estimated.

    >>> FinalRun(2.0, 10.0).around_s
    15.0
    """

    preparation_s: float
    ending_s: float

    @property
    def around_s(self) -> float:
        """Seconds that are reserved for everything except the training."""
        return RESERVE * (self.preparation_s + self.ending_s)

    def reserved_s(self, epochs: int, trials: Sequence[Trial]) -> float:
        """Seconds that are reserved for the whole run.

        Args:
            epochs: number of its epochs.
            trials: the trials so far; the slowest epoch of the finished ones counts, not the mean.

        >>> trial = Trial(0, {}, "finished", 0.9, 0.3, 3, 6.0, 50)
        >>> FinalRun(2.0, 10.0).reserved_s(3, [trial])
        22.5
        """
        slowest = max((each.seconds / max(1, each.epochs) for each in trials if each.state == FINISHED), default=0.0)
        return RESERVE * slowest * epochs + self.around_s


def over_limit_sentence(limit_s: float | None, took_s: float) -> str:
    """What is printed where a search took longer than its time limit; empty where it did not.

    >>> over_limit_sentence(90, 115)
    'the search took 1 min 55 s, longer than its time limit of 1 min 30 s: trial 0 and the run at the end are never cut short.'
    """
    if limit_s is None or took_s <= limit_s:
        return ""
    return (
        f"the search took {write_duration(took_s)}, longer than its time limit of {write_duration(limit_s)}: "
        "trial 0 and the run at the end are never cut short."
    )


def too_short(limit: TimeLimit, passed_s: float, around_s: float, num_needed: int, training: str, training_s: float) -> str:
    """The message for a time limit that has no room for a search.

    Args:
        limit: the time limit.
        passed_s: seconds since its start.
        around_s: seconds that are reserved for the run at the end, without its training.
        num_needed: number of trainings that a search needs.
        training: the length of a training, in words.
        training_s: expected seconds of one training.
    """
    left_s = max(0.0, limit.seconds - passed_s - around_s)
    needed_s = passed_s + around_s + num_needed * training_s
    return (
        f"the time limit of {write_duration(limit.seconds)} is too short: start and preparation took {write_duration(passed_s)}, and "
        f"{write_duration(around_s)} are reserved for preparation, scores and report of the run at the end. That leaves "
        f"{write_duration(left_s)} for trainings. A training of {training} takes about {write_duration(training_s)} here, and a search needs "
        f"{num_needed} of them at least. Give at least {write_duration(_rounded_up(needed_s))}."
    )


def _rounded_up(seconds: float) -> float:
    """Seconds rounded up to 10 s, so that the next try has room for a slower preparation.

    >>> _rounded_up(101.2)
    110.0
    """
    return 10.0 * -(-seconds // 10.0)
