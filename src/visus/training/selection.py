"""Selection of the epoch whose weights are kept, and early stopping.

Epochs are comparable only if they are validated at the same input size and with the same kind of weights (a phase). A new input size, or the start of
weight averaging, therefore restarts the comparison, and the last phase decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from visus.evaluation.paired import at_most

SIGNIFICANCE = 0.05  # level of the one-sided paired tests against the pretrained network


@dataclass(frozen=True)
class Phase:
    """Conditions of a validation; two epochs are comparable if these are equal.

    Args:
        size: input size of the validation as a fraction of the full size, 0 to 1.
        is_averaged: whether the averaged weights are validated, not those of the last step.
    """

    size: float = 1.0
    is_averaged: bool = False


@dataclass(frozen=True)
class SampleResults:
    """Results of a network for each validation sample, in order.

    Args:
        is_right: whether the prediction is correct, for each sample; empty where the task has no right predictions.
        losses: loss of each sample after calibration (``Task.fair_losses``); empty if an own loss returns one number for all samples.
        score: the metric that selects the epoch; for an error its negative, so that more is better. None for the accuracy.
        error: standard error of ``score``; None for that of a proportion.
    """

    is_right: tuple[bool, ...]
    losses: tuple[float, ...]
    score: float | None = None
    error: float | None = None

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions; NaN without samples."""
        return sum(self.is_right) / len(self.is_right) if self.is_right else math.nan

    @property
    def fair_loss(self) -> float:
        """Mean of ``losses``; NaN without samples.

        >>> SampleResults((True, True), (0.1, 0.3)).fair_loss
        0.2
        """
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def selected(self) -> float:
        """What selects the epoch: ``score``, else the accuracy."""
        return self.accuracy if self.score is None else self.score


@dataclass
class Selection:
    """Keeps the latest epoch of the last phase whose score is within one standard error of that phase's best.

    It is the latest, not the best (Breiman et al. 1984, section 3.4.3): the learning rate has decayed since, and with a few hundred validation samples
    the best epoch is best by chance. A pretrained network is kept until a paired test favors an epoch.

    Args:
        patience: number of epochs at full input size without a better score after which to stop; 0 for never.
        num_samples: number of validation samples; with 0, every epoch replaces the previous one.

    Attributes:
        best_epoch: epoch whose weights are kept, from 0; -1 for none, or for the starting weights.
        best_score: highest score of the phase, such as the accuracy; minus infinity before its first epoch.
        best_error: standard error of ``best_score``; None for that of a proportion.
        improved_epoch: epoch that last raised ``best_score``; -1 before the first.
        phase: phase of the last epoch.
        start: results of the pretrained network before its first step; None for a new network.
        is_chosen: whether a person chose ``best_epoch``, so that no later epoch replaces it.

    >>> selection = Selection(num_samples=100)
    >>> [selection.judge(epoch, Phase(), accuracy) for epoch, accuracy in enumerate([0.80, 0.90, 0.89, 0.70])]
    [True, True, True, False]
    >>> selection.judge(4, Phase(is_averaged=True), 0.60)  # other weights restart the comparison
    True
    """

    patience: int = 0
    num_samples: int = 0
    best_epoch: int = -1
    best_score: float = -math.inf
    best_error: float | None = None
    improved_epoch: int = -1
    phase: Phase | None = None
    start: SampleResults | None = field(default=None, repr=False)
    is_chosen: bool = False

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Selection:
        """The inverse of ``dataclasses.asdict``, after a round trip through JSON."""
        facts = dict(facts)
        if "best_accuracy" in facts:  # of a checkpoint before there were other metrics
            facts["best_score"] = facts.pop("best_accuracy")
        phase, start = facts["phase"], facts["start"]
        return cls(
            **facts
            | {
                "phase": None if phase is None else Phase(**phase),
                "start": None
                if start is None
                else SampleResults(**{**start, "is_right": tuple(start["is_right"]), "losses": tuple(start["losses"])}),
            }
        )

    def judge(
        self, epoch: int, phase: Phase, score: float, results: SampleResults | None = None, error: float | None = None
    ) -> bool:
        """Whether the weights of an epoch replace those that are kept.

        Args:
            epoch: number of the epoch that was just validated, from 0.
            phase: input size and kind of weights of its validation.
            score: validation accuracy, 0 to 1, or another metric of which more is better; NaN, an undefined metric, is never near the best, and is kept only
                where nothing else is.
            results: results of each sample; needed only if ``start`` is set.
            error: standard error of the score; None for that of a proportion.
        """
        if not self.num_samples:
            self.improved_epoch = epoch
            self.best_epoch = self.best_epoch if self.is_chosen else epoch
            return not self.is_chosen
        if phase != self.phase:
            self.phase, self.best_score, self.best_error = phase, -math.inf, None
            if self.start is not None and phase.size == 1:
                self.best_score, self.best_error = self.start.selected, self.start.error
        if score > self.best_score:
            self.best_score, self.best_error, self.improved_epoch = score, error, epoch
        is_near = score >= self.best_score - self._best_error()
        is_only = math.isnan(score) and self.best_epoch < 0 and self.start is None  # until a score is defined
        is_kept = (is_near or is_only) and not self.is_chosen and self._beats_start(phase, results)
        if is_kept:
            self.best_epoch = epoch
        return is_kept

    def choose(self, epoch: int) -> None:
        """Keep the weights of ``epoch``, whatever later epochs reach.

        >>> selection = Selection(num_samples=100)
        >>> selection.choose(0)
        >>> selection.judge(1, Phase(), 1.0), selection.best_epoch
        (False, 0)
        """
        self.best_epoch, self.is_chosen = epoch, True

    def _best_error(self) -> float:
        """The standard error of the best score; 0 where it is unknown."""
        if self.best_error is None:
            return standard_error(self.best_score, self.num_samples) if self.best_score >= 0 else 0.0
        return 0.0 if math.isnan(self.best_error) else self.best_error

    def is_over(self, epoch: int) -> bool:
        """Whether early stopping ends the training after ``epoch``. Epochs at a smaller input size do not count."""
        if not (self.patience and self.num_samples and self.phase is not None and self.phase.size == 1):
            return False
        return epoch - self.improved_epoch >= self.patience

    def _beats_start(self, phase: Phase, results: SampleResults | None) -> bool:
        """Whether an epoch at full size is significantly better than the pretrained network."""
        if self.start is None:
            return True
        return phase.size == 1 and results is not None and is_better(self.start, results)


def is_better(before: SampleResults, after: SampleResults) -> bool:
    """Whether ``after`` is significantly better than ``before`` on the same samples.

    ``after`` needs at least as many correct predictions, or without right predictions a score as high, and p <= 0.05 in one of two one-sided paired tests: McNemar's exact test on the samples that
    only one of them predicts correctly, or a z-test on the differences of the losses. Without losses, McNemar's test alone decides.

    >>> right, wrong = (True,) * 90 + (False,) * 10, (True,) * 80 + (False,) * 20
    >>> is_better(SampleResults(wrong, (1.0,) * 100), SampleResults(right, (1.0,) * 100))
    True
    >>> is_better(SampleResults(right, (1.0,) * 100), SampleResults(right, (1.0,) * 100))
    False
    """
    gained, lost = _count_changes(before, after)
    has_losses = bool(before.losses and after.losses)
    if gained < lost or (not after.is_right and not (has_losses and after.selected >= before.selected)):
        return False
    return is_more_often_right(before, after) or (has_losses and paired_z(before.losses, after.losses) <= SIGNIFICANCE)


def is_more_often_right(before: SampleResults, after: SampleResults) -> bool:
    """Whether ``after`` has significantly more correct predictions than ``before`` on the same samples, by McNemar's exact test (McNemar 1947)."""
    gained, lost = _count_changes(before, after)
    return at_most(lost, gained + lost) <= SIGNIFICANCE


def _count_changes(before: SampleResults, after: SampleResults) -> tuple[int, int]:
    """Number of samples that only ``after`` predicts correctly, and of those that only ``before`` does."""
    pairs = list(zip(before.is_right, after.is_right, strict=True))
    return sum(new and not old for old, new in pairs), sum(old and not new for old, new in pairs)


def paired_z(before: Sequence[float], after: Sequence[float]) -> float:
    """One-sided p-value of a paired z-test that the mean of ``after`` is below that of ``before``.

    It is 1 for fewer than 8 pairs, and if no pair differs.
    """
    differences = [old - new for old, new in zip(before, after, strict=True)]
    count = len(differences)
    if count < 8:
        return 1.0
    mean = math.fsum(differences) / count
    variance = math.fsum((each - mean) ** 2 for each in differences) / (count - 1)
    if variance == 0:
        return 0.0 if mean > 0 else 1.0
    return 0.5 * math.erfc(mean / math.sqrt(variance / count) / math.sqrt(2))


def standard_error(proportion: float, num_samples: int) -> float:
    """Standard error of a proportion of ``num_samples``, with one success and one failure added so that it is never 0 (Laplace).

    >>> round(standard_error(0.9, 100), 4), round(standard_error(1.0, 100), 4)
    (0.031, 0.0099)
    """
    smoothed = (proportion * num_samples + 1) / (num_samples + 2)
    return math.sqrt(smoothed * (1 - smoothed) / num_samples)
