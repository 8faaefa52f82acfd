"""The loss of a head for each task, with its slopes, so that heads of all tasks are fitted alike.

Shape letters: N samples, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import torch.nn.functional as F
from torch import Tensor

from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.task import Task


class HeadLoss(ABC):
    """The loss of outputs, convex in them.

    Attributes:
        decays: weight decays to choose from, the strongest first.
    """

    decays: ClassVar[tuple[float, ...]] = (0.1, 0.03, 0.01, 0.003, 0.001)

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """What the outputs are compared with: class indices (N,), or values (N, K)."""

    @abstractmethod
    def losses_and_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each sample (N,), and its derivative by each output (N, K), a new tensor."""


class CrossEntropy(HeadLoss):
    """Cross-entropy: the head is a multinomial logistic regression.

    >>> import torch
    >>> losses, slopes = CROSS_ENTROPY.losses_and_slopes(torch.zeros(1, 2), torch.tensor([0]))
    >>> round(float(losses[0]), 4), slopes.tolist()
    (0.6931, [[-0.5, 0.5]])
    """

    def targets(self, labels: Tensor) -> Tensor:
        """The class indices."""
        return labels

    def losses_and_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood, and probabilities minus the one-hot label."""
        logs, places = outputs.log_softmax(1), targets[:, None]
        slopes = logs.exp().scatter_add_(1, places, outputs.new_full((len(outputs), 1), -1.0))
        return -logs.gather(1, places).squeeze(1), slopes


class BinaryCrossEntropy(HeadLoss):
    """Binary cross-entropy, the sum over the classes: each class has a logistic regression of its own."""

    def targets(self, labels: Tensor) -> Tensor:
        """0 or 1 for each class, float32."""
        return labels.float()

    def losses_and_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood, and probabilities minus labels."""
        losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1)
        return losses, outputs.sigmoid() - targets


@dataclass(frozen=True)
class Huber(HeadLoss):
    """Huber loss of standardized targets, the sum over them: ridge regression in which a large error counts by its size, not by its square.

    On the frozen features of 257 photos, decays of 1 to 10 had the lowest error, and those for classes overfitted.

    Args:
        task: has the mean and standard deviation of each target.
    """

    task: Regression
    decays: ClassVar[tuple[float, ...]] = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)

    def targets(self, labels: Tensor) -> Tensor:
        """The standardized labels, float32."""
        return self.task.standardized(labels).float()

    def losses_and_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The Huber loss with a threshold of 1, and the errors clipped to it."""
        losses = F.huber_loss(outputs, targets, reduction="none").sum(1)
        return losses, (outputs - targets).clamp_(-1.0, 1.0)


CROSS_ENTROPY: Final = CrossEntropy()


def head_loss_of(task: Task) -> HeadLoss:
    """The loss of a head for a task.

    >>> import torch
    >>> head_loss_of(MultiLabel(("cat", "dog"))).losses_and_slopes(torch.zeros(1, 2), torch.ones(1, 2))[1].tolist()
    [[-0.5, -0.5]]
    """
    if isinstance(task, Regression):
        return Huber(task)
    return BinaryCrossEntropy() if isinstance(task, MultiLabel) else CROSS_ENTROPY
