"""Which epoch's weights are kept, and when a training stops early.

Two epochs are compared only where they are comparable: validated at the same input size, with the same kind of weights. A training that enlarges its
images, or that begins to average its weights, therefore starts the comparison anew; what counts in the end is the last phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from visus.evaluation.paired import at_most

SIGNIFICANCE = 0.05  # of the one-sided paired tests against the network that the training started from


@dataclass(frozen=True)
class Phase:
    """What makes the validation figures of two epochs comparable.

    Args:
        size: part of the full input size at which samples are validated, 0 to 1.
        is_averaged: the averaged weights are validated, not those of the last step.
    """

    size: float = 1.0
    is_averaged: bool = False


@dataclass(frozen=True)
class Answers:
    """How a network answered the validation samples, one by one, in their order.

    Args:
        is_right: whether the highest logit is that of the label.
        losses: loss of each sample, after one temperature for all (``training.loss.calibrated_losses``).
    """

    is_right: tuple[bool, ...]
    losses: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN without samples."""
        return sum(self.is_right) / len(self.is_right) if self.is_right else math.nan


@dataclass
class Selection:
    """Keeps the latest epoch of the last phase whose accuracy lies within one standard error of that phase's best.

    The latest, not the best (Breiman et al. 1984, section 3.4.3): the learning rate has fallen since, and among a few hundred validation samples the
    best epoch is a lucky one. A network that can answer before its first step is kept until the paired evidence favors an epoch.

    Args:
        patience: epochs without a better accuracy, at the full input size, after which to stop; 0 for never.
        num_samples: number of validation samples; with 0, every epoch replaces the one before.

    Attributes:
        best_epoch: the epoch that is kept, from 0; -1 for none, or for the weights that the training started from.
        best_accuracy: highest accuracy of the phase; -1 before its first epoch.
        improved_epoch: the epoch that last raised ``best_accuracy``; -1 before the first.
        phase: of the epoch that was judged last.
        start: how the network answered before its first step; None where it could not answer yet.

    >>> selection = Selection(num_samples=100)
    >>> [selection.judge(epoch, Phase(), accuracy) for epoch, accuracy in enumerate([0.80, 0.90, 0.89, 0.70])]
    [True, True, True, False]
    >>> selection.judge(4, Phase(is_averaged=True), 0.60)  # other weights: the comparison starts anew
    True
    """

    patience: int = 0
    num_samples: int = 0
    best_epoch: int = -1
    best_accuracy: float = -1.0
    improved_epoch: int = -1
    phase: Phase | None = None
    start: Answers | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Selection:
        """The inverse of ``dataclasses.asdict``, after a round trip through JSON."""
        phase, start = facts["phase"], facts["start"]
        return cls(
            **facts
            | {
                "phase": None if phase is None else Phase(**phase),
                "start": None if start is None else Answers(tuple(start["is_right"]), tuple(start["losses"])),
            }
        )

    def judge(self, epoch: int, phase: Phase, accuracy: float, answers: Answers | None = None) -> bool:
        """Whether to keep the weights of an epoch that was just validated, in place of those that are kept.

        Args:
            epoch: from 0.
            phase: at which size and with which weights it was validated.
            accuracy: validation accuracy, 0 to 1.
            answers: sample by sample; needed only where the network could answer before its first step.
        """
        if not self.num_samples:
            self.best_epoch = self.improved_epoch = epoch
            return True
        if phase != self.phase:
            self.phase, self.best_accuracy = phase, -1.0
            if self.start is not None and phase.size == 1:
                self.best_accuracy = self.start.accuracy
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.improved_epoch = accuracy, epoch
        is_near = accuracy >= self.best_accuracy - standard_error(self.best_accuracy, self.num_samples)
        is_kept = is_near and self._beats_start(phase, answers)
        if is_kept:
            self.best_epoch = epoch
        return is_kept

    def is_over(self, epoch: int) -> bool:
        """Whether patience ran out after ``epoch``. Epochs at a smaller input size do not count."""
        if not (self.patience and self.num_samples and self.phase is not None and self.phase.size == 1):
            return False
        return epoch - self.improved_epoch >= self.patience

    def _beats_start(self, phase: Phase, answers: Answers | None) -> bool:
        """Whether the paired evidence favors an epoch over the network before its first step, which was validated at the full size."""
        if self.start is None:
            return True
        return phase.size == 1 and answers is not None and is_better(self.start, answers)


def is_better(before: Answers, after: Answers) -> bool:
    """Whether ``after`` is better than ``before`` on the same samples, beyond chance.

    It must answer at least as many samples right, and one of two one-sided paired tests must have p of at most 0.05: McNemar's exact test on the samples
    that only one of them answers right, or a z-test on the differences of the losses.

    >>> right, wrong = (True,) * 90 + (False,) * 10, (True,) * 80 + (False,) * 20
    >>> is_better(Answers(wrong, (1.0,) * 100), Answers(right, (1.0,) * 100))
    True
    >>> is_better(Answers(right, (1.0,) * 100), Answers(right, (1.0,) * 100))
    False
    """
    gained, lost = _changed(before, after)
    if gained < lost or not after.is_right:
        return False
    return is_more_often_right(before, after) or paired_z(before.losses, after.losses) <= SIGNIFICANCE


def is_more_often_right(before: Answers, after: Answers) -> bool:
    """Whether ``after`` answers more of the same samples right than ``before``, beyond chance, by McNemar's exact test (McNemar 1947)."""
    gained, lost = _changed(before, after)
    return at_most(lost, gained + lost) <= SIGNIFICANCE


def _changed(before: Answers, after: Answers) -> tuple[int, int]:
    """Samples that only ``after`` answers right, and samples that only ``before`` does."""
    pairs = list(zip(before.is_right, after.is_right, strict=True))
    return sum(new and not old for old, new in pairs), sum(old and not new for old, new in pairs)


def paired_z(before: Sequence[float], after: Sequence[float]) -> float:
    """One-sided p of a z-test that the mean of ``after`` lies below that of ``before``, by the differences of the pairs.

    1 for fewer than 8 pairs, and where no pair differs.
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


def standard_error(share: float, num_samples: int) -> float:
    """Standard error of a share of ``num_samples``, with one success and one failure added so that it is never 0 (Laplace).

    >>> round(standard_error(0.9, 100), 4), round(standard_error(1.0, 100), 4)
    (0.031, 0.0099)
    """
    smoothed = (share * num_samples + 1) / (num_samples + 2)
    return math.sqrt(smoothed * (1 - smoothed) / num_samples)
