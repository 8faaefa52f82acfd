"""Numbers for each sample: Huber loss of standardized targets, mean absolute error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.errors import DataError
from visus.evaluation.tasks.task import Task


@dataclass(frozen=True)
class Regression(Task):
    """Numbers for each sample. The network's outputs are standardized: an output of 1 is one standard deviation above the mean.

    Args:
        outputs: names of the targets.
        mean, std: mean and standard deviation of each target in the training set.

    >>> task = Regression(("age",), mean=(40.0,), std=(10.0,))
    >>> task.values(torch.tensor([[1.5]])).tolist()
    [[55.0]]
    >>> task.losses(torch.tensor([[1.5]]), torch.tensor([[50.0]], dtype=torch.float64)).tolist()
    [0.125]
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    name: ClassVar[TaskName] = "regression"

    @property
    def guess_loss(self) -> float:
        """The Huber loss of always predicting the mean of normally distributed targets, about."""
        return 0.4

    def losses(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Huber loss (N,) with a threshold of one standard deviation, the mean over the targets (Huber 1964)."""
        return F.huber_loss(outputs, self.standardized(labels).to(outputs.dtype), reduction="none").mean(1)

    def fair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss itself: there is no confidence to remove."""
        return self.losses(outputs, labels)

    def is_right(self, outputs: Tensor, labels: Tensor) -> None:
        """None: a number is near or far, not right or wrong."""

    def values(self, outputs: Tensor) -> Tensor:
        """The predicted numbers (N, K) in the units of the labels, float64."""
        return outputs.double() * self._of(self.std, outputs) + self._of(self.mean, outputs)

    def standardized(self, labels: Tensor) -> Tensor:
        """Labels (N, K) minus the mean, divided by the standard deviation, float64."""
        return (labels.double() - self._of(self.mean, labels)) / self._of(self.std, labels)

    def to_json(self) -> dict[str, Any]:
        """The name, the means and the standard deviations."""
        return {"task": self.name, "mean": list(self.mean), "std": list(self.std)}

    def facts_of(self, labels: NDArray[Any]) -> Mapping[str, Any]:
        """Mean and standard deviation of the training labels.

        Raises:
            DataError: a target has a single value.
        """
        mean, std = labels.mean(axis=0), labels.std(axis=0)
        varies = (np.ptp(labels, axis=0) > 0) & (
            std > 0
        )  # the mean of equal numbers may be rounded, and the deviation may underflow
        constant = [name for name, is_varied in zip(self.outputs, varies, strict=True) if not is_varied]
        if constant:
            raise DataError(
                f"the target {constant[0]!r} has the same value, {mean[self.outputs.index(constant[0])]:g}, in all training samples, so there is nothing to learn. Leave it out."
            )
        return {"mean": tuple(np.asarray(mean).tolist()), "std": tuple(np.asarray(std).tolist())}

    @staticmethod
    def _of(numbers: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=like.device)
