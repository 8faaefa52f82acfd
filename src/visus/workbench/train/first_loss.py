"""The loss of a new network on its first batch: the first number of a training, before kernels are compiled and timed."""

from __future__ import annotations

import copy
import math

import torch

from visus.data.opened import Data
from visus.evaluation.tasks.registry import task_of
from visus.networks.machine import Machine
from visus.training.loss import Loss
from visus.training.resolved_recipe import ResolvedRecipe
from visus.workbench.modules import BuiltNetwork
from visus.workbench.train.events import FirstLoss
from visus.workbench.train.own_functions import own_loss
from visus.workbench.train.preparing import class_weights, prepare


def first_loss(made: BuiltNetwork, data: Data, recipe: ResolvedRecipe, machine: Machine) -> FirstLoss | None:
    """The training loss on the first batch, by PyTorch's own kernels on a copy of the network; None if a person's module fails.

    It changes no random state, so a training is the same with it and without it.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            module, batches = prepare(copy.deepcopy(made.module), data, recipe, machine)
            batch = next(batches.epoch(0, 0, lambda: recipe.sides[0]))
            with machine.autocast():
                logits = module.train()(batch.inputs).float()
            weights = class_weights(data).to(machine.device) if recipe.class_weights == "balanced" else None
            task = task_of(data)
            criterion = Loss(recipe.label_smoothing, weights, task, own_loss(recipe))
            loss = batch.mean_loss(lambda labels, share: criterion.mean(logits, labels, batch.all_labels, share))
            is_right = task.is_right(logits, batch.main_labels)
            accuracy = math.nan if is_right is None else float(is_right.float().mean())
            return FirstLoss(float(loss), accuracy, batch.num_samples)
    except Exception:  # whatever a person's own module raises; its first step reports it
        return None
