"""Which numbers of a network are moved, by what rule, and their running average.

This file knows parameters. It must not know data, schedules or files.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from visus.training.recipe import Recipe


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``module``.

    Weight decay acts on weights of two axes or more; biases and the gains of norms are left alone.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [each for each in trainable if each.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [each for each in trainable if each.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = recipe.learning_rate or 0.0
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


class Average:
    """A running average of a network's weights and statistics, kept as a network of its own.

    Args:
        module: the network that is trained.
        decay: share of the old average that a step keeps; early steps keep less, so that the start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, num_steps: int) -> None:
        """Draw the average towards ``module`` after ``num_steps`` steps in all."""
        keep = min(self.decay, num_steps / (num_steps + 9))
        averaged, current = self.module.state_dict(), module.state_dict()
        floats = [name for name, value in averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in floats], [current[name] for name in floats], 1 - keep)
        for name in averaged.keys() - floats:
            averaged[name].copy_(current[name])
