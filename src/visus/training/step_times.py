"""Times two steps at every input size before the first epoch, for a forecast of the training's time."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch
from torch import nn

from visus.data.batches import Batches
from visus.networks.machine import Machine
from visus.progress import Progress
from visus.training.arithmetic import WITHOUT_KERNELS, uses_kernels
from visus.training.forecast import Forecast
from visus.training.frozen import keep_statistics
from visus.training.loss import Loss
from visus.training.resolved_recipe import ResolvedRecipe


def measure_step_times(
    forecast: Forecast,
    module: nn.Module,
    batches: Batches,
    loss: Loss,
    recipe: ResolvedRecipe,
    machine: Machine,
    *,
    num_validation: int,
    num_slices: int,
    can_skip: bool,
) -> Iterator[Progress]:
    """Time two steps at every size on a copy of the network; yields the progress.

    Args:
        forecast: receives the times of a step and of a validation at each size; nothing more where a step fails.
        module: the network; it does not change.
        batches: training set.
        loss: the training loss.
        recipe: every setting.
        machine: device and precision.
        num_validation: number of validation samples.
        num_slices: number of slices in which a step is computed.
        can_skip: whether another setting would spare the timing of kernels; a resumed training keeps its settings.
    """
    sizes = sorted(set(recipe.sides))
    skipped_by = WITHOUT_KERNELS if can_skip and uses_kernels(machine, recipe.kernels) else ()
    for num_done, size in enumerate(sizes):
        yield Progress("timing the kernels and a step", num_done, len(sizes), skipped_by)
        try:
            step_s = time_step(module, batches, loss, recipe, machine, size=size, num_slices=num_slices)
        except Exception:  # a person's own module may raise anything; the first real step will report it
            return
        forecast.add_step(size, step_s)
        forecast.add_validation(size, step_s / 3 * num_validation / recipe.batch_size)


def time_step(
    module: nn.Module,
    batches: Batches,
    loss: Loss,
    recipe: ResolvedRecipe,
    machine: Machine,
    *,
    size: float,
    num_slices: int,
) -> float:
    """Seconds of one step without the optimizer, after one step of warm-up; the arguments are those of ``measure_step_times``.

    Args:
        size: input size, as a fraction of the full side.
    """
    twin = copy.deepcopy(module).train()
    if recipe.norm_statistics == "stored":
        keep_statistics(twin)
    seconds = 0.0
    with torch.random.fork_rng(devices=[]):
        for _ in range(2):
            began = time.perf_counter()
            batch = next(batches.epoch(0, 0, lambda: size))
            for part in batch.slices(num_slices):
                with machine.autocast():
                    logits = twin(part.inputs).float()
                loss.mean(logits, part.labels, part.all_labels).backward()  # type: ignore[no-untyped-call]
            machine.wait()
            seconds = time.perf_counter() - began
    return seconds
