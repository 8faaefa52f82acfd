"""Training of an autoencoder: mean squared error between output and input, with the recipe's optimizer, schedule and augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from visus.data.batches import Batches, Part, batches_in_order
from visus.errors import TrainingError
from visus.evaluation.predictions import evaluation_mode
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine
from visus.progress import Monitor, ShouldStop
from visus.training.optimizers import make_optimizer, set_rates
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.schedules import rate_factor
from visus.training.validation import EVALUATION_BATCH


@dataclass(frozen=True)
class ReconstructionEpoch:
    """Results of one epoch.

    Args:
        epoch: number of the epoch, from 1.
        loss: mean squared error over the training samples, of normalized values.
        explained: explained variance on the validation set, at most 1; None without a validation set.
    """

    epoch: int
    loss: float
    explained: float | None


def reconstruct(
    module: nn.Module,
    batches: Batches,
    validation: Part,
    recipe: ResolvedRecipe,
    machine: Machine,
    *,
    should_stop: ShouldStop | None = None,
) -> Iterator[ReconstructionEpoch]:
    """Train ``module`` in place to reproduce its input.

    Args:
        module: maps (N, C, *) to the same shape; on the machine's device.
        batches: training set; its labels are ignored.
        validation: validation set, for the explained variance.
        recipe: only epochs, optimizer settings, learning rates and schedule are used.
        machine: device and precision.
        should_stop: called after each step; True raises ``CanceledError``.

    Raises:
        TrainingError: the loss became infinite or NaN.
    """
    shape = batches.preprocessing.input_shape
    optimizer = make_optimizer(module, recipe, input_shape=shape, precision=machine.precision)
    num_steps = recipe.epochs * batches.num_steps
    step, monitor = 0, Monitor(should_stop=should_stop)
    with float32_where_needed(module, machine.precision):
        for epoch in range(recipe.epochs):
            module.train()
            loss_sum, num_seen = 0.0, 0
            for batch in batches.epoch(epoch):
                progress = (step + 0.5) / num_steps
                set_rates(
                    optimizer,
                    rate_factor(progress, schedule=recipe.schedule, warmup=recipe.warmup, min_lr_ratio=recipe.min_lr_ratio),
                    progress,
                )
                optimizer.zero_grad(set_to_none=True)
                with machine.autocast():
                    output = module(batch.inputs).float()
                loss = F.mse_loss(output, batch.inputs.float())
                value = float(loss.detach())
                if value != value or value == float("inf"):
                    raise TrainingError(
                        f"the loss became {value} in epoch {epoch + 1} of the autoencoder's training. "
                        "Train the run with a lower learning rate, and compare again."
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
                monitor.check("training", step, num_steps)
                loss_sum, num_seen = loss_sum + value * len(batch.labels), num_seen + len(batch.labels)
            yield ReconstructionEpoch(
                epoch + 1, loss_sum / max(1, num_seen), explained_variance(module, validation, batches, machine)
            )


@torch.inference_mode()
def explained_variance(module: nn.Module, part: Part, batches: Batches, machine: Machine) -> float | None:
    """1 - mean squared error / mean squared distance from the mean sample; None for fewer than two samples or zero variance."""
    if len(part) < 2:
        return None
    mean = sum(batch.double().sum(0) for batch in batches_in_order(part, batches.preprocessing, EVALUATION_BATCH)) / len(
        part
    )
    error_sum, variance_sum = 0.0, 0.0
    with evaluation_mode(module):
        for batch in batches_in_order(part, batches.preprocessing, EVALUATION_BATCH):
            with machine.autocast():
                output = module(batch.to(machine.device)).float().cpu()
            error_sum += float((output - batch).double().square().sum())
            variance_sum += float((batch.double() - mean).square().sum())
    return 1 - error_sum / variance_sum if variance_sum else None
