"""Which numbers of a network are moved, by what rule and how fast, and their running average.

This file knows parameters and what they are for. It must not know data, schedules or files.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from visus.networks.roles import Role, weight_roles
from visus.training.muon import Muon
from visus.training.recipe import Recipe

WITHOUT_NORM = 0.1  # share of muon's rate for filters whose size means something: no norm follows them


def make_optimizer(
    module: nn.Module, recipe: Recipe, *, input_shape: tuple[int, ...] | None = None, precision: str = "float32"
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``module``.

    Weight decay acts on weights of two axes or more; biases and the gains of norms are left alone. With muon, filters that a norm follows
    have a norm of ``sqrt(out_channels)`` instead. Each group has its highest rate in ``peak``; ``set_rates`` goes by it.

    Args:
        module: the network, where it is trained.
        recipe: a settled recipe.
        input_shape: ``(channels, *spatial)`` of one item, for muon to see which filters a norm follows.
        precision: number format of muon's orthogonalisation, ``float32`` or ``bfloat16``.
    """
    if recipe.optimizer == "muon":
        return _muon(module, recipe, weight_roles(module, input_shape), precision)
    rate = recipe.learning_rate or 0.0
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [each for each in trainable if each.ndim > 1], "weight_decay": recipe.weight_decay, "peak": rate},
        {"params": [each for each in trainable if each.ndim <= 1], "weight_decay": 0.0, "peak": rate},
    ]
    groups = [group for group in groups if group["params"]]
    momentum = 0.9 if recipe.momentum is None else recipe.momentum
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group at ``factor`` times its highest rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _muon(module: nn.Module, recipe: Recipe, roles: dict[str, Role], precision: str) -> Muon:
    """Filters with equal roles in one group each; the head, and the rest with weights apart from biases, by Adam."""
    rate = recipe.learning_rate or 0.0
    head_rate, bias_rate = recipe.head_rate or rate, recipe.bias_rate or rate
    alike: dict[Role, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if name in roles:
            alike[roles[name]].append(parameter)
    groups: list[dict[str, Any]] = []
    for role, parameters in alike.items():
        group: dict[str, Any] = {"params": parameters, "rule": "adam", "weight_decay": 0.0, "peak": bias_rate}
        if role.kind == "head":
            group |= {"peak": head_rate, "weight_decay": recipe.weight_decay or 0.0}
        elif role.kind == "filter":
            free = role.is_scale_free
            group |= {
                "rule": "orthogonal",
                "num_splits": role.num_groups,
                "unit": free,
                "weight_decay": 0.0 if free else recipe.weight_decay or 0.0,
                "peak": rate if free else rate * WITHOUT_NORM,
            }
        groups.append(group)
    momentum = 0.6 if recipe.momentum is None else recipe.momentum
    return Muon(groups, rate, momentum=momentum, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)


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
