"""One class for each sample: cross-entropy, softmax, accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.tasks.task import ClassTask

TEMPERATURES = tuple(2.0 ** (step / 4) for step in range(-10, 11))


@dataclass(frozen=True)
class SingleLabel(ClassTask):
    """One class for each sample.

    >>> task = SingleLabel(("cat", "dog"))
    >>> task.is_right(torch.tensor([[2.0, 1.0]]), torch.tensor([0])).tolist()
    [True]
    """

    name: ClassVar[TaskName] = "single-label"

    @property
    def guess_loss(self) -> float:
        """The entropy of equally frequent classes, in nats."""
        return math.log(max(2, len(self.outputs)))

    def losses(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Smoothed cross-entropy (N,)."""
        return F.cross_entropy(outputs, labels, reduction="none", label_smoothing=smoothing)

    def fair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy (N,) after temperature scaling; the temperature (0.18 to 5.7) minimizes the mean.

        >>> outputs, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), torch.tensor([0, 1, 1])
        >>> task = SingleLabel(("cat", "dog"))
        >>> bool(torch.allclose(task.fair_losses(outputs, labels), task.fair_losses(2 * outputs, labels)))
        True
        """
        losses = [F.cross_entropy(outputs / temperature, labels, reduction="none") for temperature in TEMPERATURES]
        return min(losses, key=lambda loss: float(loss.mean()))

    def is_right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether the most probable class is the label."""
        return torch.eq(outputs.argmax(1), labels)

    def class_logits(self, outputs: Tensor) -> Tensor:
        """The logarithms of the softmax, float64."""
        return torch.log_softmax(outputs.double(), 1)

    def predicted_sets(self, outputs: Tensor) -> Tensor:
        """The most probable class alone."""
        return self.true_sets(outputs.argmax(1), outputs.shape[1])

    def true_sets(self, labels: Tensor, num_classes: int) -> Tensor:
        """The label alone."""
        return F.one_hot(labels, num_classes).bool()

    def to_json(self) -> dict[str, Any]:
        """The name alone."""
        return {"task": self.name}
