"""Loss and number of correct predictions of each step. On an asynchronous device they stay there until several are read together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from visus.training.checkpoints import Position
from visus.training.distribution import Group
from visus.training.step_errors import StepErrors

MAX_PENDING_STEPS = 32  # number of losses that stay on an asynchronous device before one transfer reads them


@dataclass(frozen=True)
class StepMetrics:
    """Mean loss and number of correct predictions of one step, still on the device.

    Args:
        step: number of the step in its epoch, from 0.
        num_samples: number of samples of the batch, in all processes.
        loss: mean loss of this process's samples, as their part of the mean of the whole batch; a scalar.
        num_right: number of this process's correct predictions; a scalar.
    """

    step: int
    num_samples: int
    loss: torch.Tensor
    num_right: torch.Tensor


@dataclass
class PendingMetrics:
    """The metrics of the steps that were not read yet.

    Args:
        group: the processes of the training, over which losses and correct predictions are summed.
        errors: refuses a loss that shows divergence.
    """

    group: Group
    errors: StepErrors
    _steps: list[StepMetrics] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether so many steps are pending that they should be read now."""
        return len(self._steps) >= MAX_PENDING_STEPS

    def add(self, metrics: StepMetrics) -> None:
        """Keep the metrics of a step until ``read``."""
        self._steps.append(metrics)

    def read(self, at: Position) -> None:
        """Add the pending losses and correct predictions to the epoch's sums in ``at``; raise if a loss shows divergence.

        Raises:
            TrainingError: a loss is infinite or NaN, or the loss diverged.
        """
        pending, self._steps = self._steps, []
        if not pending:
            return
        own = torch.stack([torch.stack([step.loss for step in pending]), torch.stack([step.num_right for step in pending])])
        losses, rights = self.group.all_reduce(own).tolist()
        for step, loss, num_right in zip(pending, losses, rights, strict=True):
            self.errors.check_loss(loss, step.step, at)
            at.loss_sum += loss * step.num_samples
            at.num_right += int(num_right)
            at.num_seen += step.num_samples
