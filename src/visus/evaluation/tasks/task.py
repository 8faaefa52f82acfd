"""``Task``: the loss, the meaning of the outputs and the metrics for one kind of label. ``registry`` has one for each kind.

Shape letters: N samples, K outputs of the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.cluster_bootstrap import write_interval


@dataclass(frozen=True)
class Headline:
    """The main metric of a task, with its 95 % interval and the value of a baseline.

    Args:
        metric: its name, such as ``accuracy``.
        value: its value.
        low, high: its interval; None for an error on samples of one group, since nothing bounds it.
        baseline: the value of a predictor that knows only the labels.
        baseline_words: that predictor, such as ``always 'dog'``.
        is_error: whether smaller is better.
        num_groups: number of groups that the interval is over; None where each sample is independent.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    baseline: float
    baseline_words: str
    is_error: bool = False
    num_groups: int | None = None

    def write(self, value: float) -> str:
        """A value of this metric: a share in percent, an error with four digits."""
        return f"{value:.4g}" if self.is_error else f"{100 * value:.1f} %"

    @property
    def is_no_better(self) -> bool:
        """Whether the interval reaches the baseline; also where there is none."""
        if self.low is None or self.high is None:
            return True
        return self.high >= self.baseline if self.is_error else self.low <= self.baseline

    def range(self) -> str:
        """The two ends of the interval, and the groups that it is over.

        >>> Headline("accuracy", 0.9, 0.85, 0.94, 0.1, "always 'dog'", num_groups=12).range()
        '85.0 % to 94.0 % over 12 groups'
        >>> Headline("mean absolute error", 1.5, None, None, 4.0, "always the mean", is_error=True, num_groups=1).range()
        'no interval: all samples are of one group'
        """
        return write_interval(self.low, self.high, self.write, self.num_groups)

    def range_words(self, noun: str = "interval") -> str:
        """The interval as a phrase, such as the one in the brackets of ``phrase``."""
        return self.range() if self.low is None else f"95 % {noun} {self.range()}"

    def phrase(self) -> str:
        """The value with its interval.

        >>> Headline("accuracy", 0.9, 0.85, 0.94, 0.1, "always 'dog'").phrase()
        '90.0 % (95 % interval 85.0 % to 94.0 %)'
        """
        return f"{self.write(self.value)} ({self.range_words()})"

    def sentence(self, samples: str) -> str:
        """The value, the interval and the baseline.

        Args:
            samples: the samples, such as ``200 images``.

        >>> Headline("mean absolute error", 1.5, 1.25, 1.75, 4.0, "always the mean", is_error=True).sentence("20 images")
        'mean absolute error 1.5 (95 % interval 1.25 to 1.75) on 20 images; always the mean has 4'
        """
        return f"{self.metric} {self.phrase()} on {samples}; {self.baseline_words} has {self.write(self.baseline)}"


@dataclass(frozen=True)
class Task(ABC):
    """What a network predicts for a sample.

    Args:
        outputs: name of each output of the network: the classes, or the targets of regression.
    """

    outputs: tuple[str, ...]

    name: ClassVar[TaskName]

    @property
    @abstractmethod
    def guess_loss(self) -> float:
        """The loss of predicting without looking at the sample, about; training far above it has diverged."""

    @abstractmethod
    def losses(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss (N,) of each sample.

        Args:
            outputs: (N, K).
            labels: the labels, as in ``visus.data.tasks``.
            smoothing: label smoothing, 0 to 1; of regression it has no effect.
        """

    @abstractmethod
    def fair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss (N,) of each sample after calibration, which compares two networks independently of their confidence."""

    @abstractmethod
    def is_right(self, outputs: Tensor, labels: Tensor) -> Tensor | None:
        """Whether the prediction of each sample is correct (N,); None where a prediction is never simply right."""

    def values(self, outputs: Tensor) -> Tensor:
        """The outputs (N, K) on the scale of the labels; of classes the logits as they are."""
        return outputs

    def standardized(self, labels: Tensor) -> Tensor:
        """The labels on the scale of the outputs; of classes as they are."""
        return labels

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data from which ``registry.task_from_json`` makes an equal value, without the names of the outputs."""

    def facts_of(self, labels: NDArray[Any]) -> Mapping[str, Any]:
        """What the task learns from the training labels; nothing by default."""
        return {}


class ClassTask(Task):
    """A task whose outputs are classes: a sample has one of them, or any number."""

    @abstractmethod
    def class_logits(self, outputs: Tensor) -> Tensor:
        """For each class, values (N, K) in the order of its probabilities."""

    @abstractmethod
    def predicted_sets(self, outputs: Tensor) -> Tensor:
        """Whether each class is predicted (N, K), without calibration."""

    @abstractmethod
    def true_sets(self, labels: Tensor, num_classes: int) -> Tensor:
        """Whether each sample has each class (N, K)."""


def as_float64(values: Tensor) -> NDArray[np.float64]:
    """The values on the CPU, in float64."""
    found: NDArray[np.float64] = values.detach().cpu().double().numpy()
    return found
