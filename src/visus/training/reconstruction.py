"""Training without labels: a network that gives its input back, with the recipe's optimizer, schedule, order and changes.

This file knows one loss, the mean squared error.
"""

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
from visus.training.loop import EVALUATION_BATCH
from visus.training.optimizers import make_optimizer, set_rates
from visus.training.resolve import ResolvedRecipe
from visus.training.schedules import rate_factor


@dataclass(frozen=True)
class ReconstructionEpoch:
    """One epoch.

    Args:
        epoch: from 1.
        loss: mean squared error over the training samples, in squared deviations of the scaled values.
        explained: share of the validation samples' variance that the drawn samples have, at most 1; None without a validation split.
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
    """Train ``module`` in place to give its input back.

    Args:
        module: takes (N, C, *) and gives the same shape; on the machine's device.
        batches: the training split; its labels are not looked at.
        validation: samples to measure on.
        recipe: epochs, optimizer, learning rate and schedule are used.
        machine: device and precision.
        should_stop: asked after each step; True raises ``CanceledError``.

    Raises:
        TrainingError: the loss became infinite or not a number.
    """
    shape = batches.preprocessing.input_shape
    optimizer = make_optimizer(module, recipe, input_shape=shape, precision=machine.precision)
    num_steps = recipe.epochs * batches.num_steps
    step, monitor = 0, Monitor(should_stop=should_stop)
    with float32_where_needed(module, machine.precision):
        for epoch in range(recipe.epochs):
            module.train()
            losses, seen = 0.0, 0
            for batch in batches.epoch(epoch):
                share = (step + 0.5) / num_steps
                set_rates(
                    optimizer,
                    rate_factor(share, schedule=recipe.schedule, warmup=recipe.warmup, min_lr_ratio=recipe.min_lr_ratio),
                    share,
                )
                optimizer.zero_grad(set_to_none=True)
                with machine.autocast():
                    drawn = module(batch.inputs).float()
                loss = F.mse_loss(drawn, batch.inputs.float())
                value = float(loss.detach())
                if value != value or value == float("inf"):
                    raise TrainingError(
                        f"the loss became {value} in epoch {epoch + 1} of the training that gives the samples back. "
                        "Train the run with a lower rate, and compare again."
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
                monitor.check("training", step, num_steps)
                losses, seen = losses + value * len(batch.labels), seen + len(batch.labels)
            yield ReconstructionEpoch(
                epoch + 1, losses / max(1, seen), explained_share(module, validation, batches, machine)
            )


@torch.inference_mode()
def explained_share(module: nn.Module, part: Part, batches: Batches, machine: Machine) -> float | None:
    """1 less the mean squared error over the mean squared distance from the mean sample; None where the split is empty or does not vary."""
    if len(part) < 2:
        return None
    mean = sum(batch.double().sum(0) for batch in batches_in_order(part, batches.preprocessing, EVALUATION_BATCH)) / len(
        part
    )
    missed, varied = 0.0, 0.0
    with evaluation_mode(module):
        for batch in batches_in_order(part, batches.preprocessing, EVALUATION_BATCH):
            with machine.autocast():
                drawn = module(batch.to(machine.device)).float().cpu()
            missed += float((drawn - batch).double().square().sum())
            varied += float((batch.double() - mean).square().sum())
    return 1 - missed / varied if varied else None
