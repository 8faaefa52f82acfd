"""A set of classes for each sample: binary cross-entropy for each class, sigmoid, mean average precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.tasks.single_label import TEMPERATURES
from visus.evaluation.tasks.task import ClassTask


@dataclass(frozen=True)
class MultiLabel(ClassTask):
    """A set of classes for each sample.

    >>> task = MultiLabel(("cat", "dog"))
    >>> labels = torch.tensor([[1.0, 0.0]])
    >>> task.is_right(torch.tensor([[2.0, -1.0]]), labels).tolist(), round(float(task.losses(torch.zeros(1, 2), labels)), 4)
    ([True], 0.6931)
    """

    name: ClassVar[TaskName] = "multi-label"

    @property
    def guess_loss(self) -> float:
        """The binary entropy of a fair coin, in nats."""
        return math.log(2)

    def losses(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Binary cross-entropy (N,), the mean over the classes. Smoothing draws each label toward one half."""
        target = labels * (1 - smoothing) + smoothing / 2 if smoothing else labels
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)

    def fair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy (N,) after temperature scaling; one temperature for all classes minimizes the mean."""
        losses = [self.losses(outputs / temperature, labels) for temperature in TEMPERATURES]
        return min(losses, key=lambda loss: float(loss.mean()))

    def is_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether exactly the classes of the label have a probability above one half."""
        return torch.eq(self.predicted_sets(outputs), self.true_sets(labels, outputs.shape[1])).all(1)

    def class_logits(self, outputs: Tensor) -> Tensor:
        """The logits."""
        return outputs

    def predicted_sets(self, outputs: Tensor) -> Tensor:
        """The classes with a probability above one half."""
        return outputs > 0

    def true_sets(self, labels: Tensor, num_classes: int) -> Tensor:
        """The classes of the labels."""
        return labels > 0.5

    def to_json(self) -> dict[str, Any]:
        """The name alone."""
        return {"task": self.name}
