"""Which numbers of a network are moved, by what rule and how fast, and their running average.

This file knows parameters and what they are for. It must not know data, schedules or files.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from visus.networks.own_code import copied
from visus.networks.roles import Role, weight_roles
from visus.networks.whitening import Whitening
from visus.training.muon import Muon
from visus.training.recipe import Recipe

WHITENING_SHARE = (
    3 / 8
)  # of the training in which what whitening adds to its channels is trained; then the backward pass ends above it
LARGEST_FOLLOWING, ITEMS_FOLLOWED = 0.4, 1_250
WITHOUT_NORM = 0.1  # share of muon's rate for filters whose size means something: no norm follows them


def make_optimizer(
    module: nn.Module, recipe: Recipe, *, input_shape: tuple[int, ...] | None = None, precision: str = "float32"
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``module``.

    Weight decay acts on weights of two axes or more; biases and the gains of norms are left alone. With muon, filters that a norm follows
    have a norm of ``sqrt(out_channels)`` instead. Each group has its highest rate in ``peak``, and the share of the training after which it
    stays as it is in ``until``; ``set_rates`` goes by them.

    Args:
        module: the network, where it is trained.
        recipe: a settled recipe.
        input_shape: ``(channels, *spatial)`` of one item, for muon to see which filters a norm follows.
        precision: number format of muon's orthogonalisation, ``float32`` or ``bfloat16``.
    """
    if recipe.optimizer == "muon":
        return _muon(module, recipe, weight_roles(module, input_shape), precision)
    rate = recipe.learning_rate or 0.0
    early = {id(parameter) for parameter in _trained_at_first(module)}
    trainable = [each for each in module.parameters() if each.requires_grad]
    lasting = [each for each in trainable if id(each) not in early]
    groups: list[dict[str, Any]] = [
        {"params": [each for each in lasting if each.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [each for each in lasting if each.ndim <= 1], "weight_decay": 0.0},
        {"params": [each for each in trainable if id(each) in early], "weight_decay": 0.0, "until": WHITENING_SHARE},
    ]
    groups = [{"peak": rate, "until": 1.0} | group for group in groups if group["params"]]
    momentum = 0.9 if recipe.momentum is None else recipe.momentum
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999))


def set_rates(optimizer: torch.optim.Optimizer, factor: float, progress: float = 0.0) -> None:
    """Every group at ``factor`` times its highest rate; one that is trained at first falls to zero by then, and has no gradient after it.

    Args:
        factor: share of the highest rate.
        progress: share of the training that is done, 0 to 1.
    """
    for group in optimizer.param_groups:
        if group["until"] == 1:
            group["lr"] = group["peak"] * factor
            continue
        left = max(0.0, 1 - progress / group["until"])
        group["lr"] = group["peak"] * left
        for parameter in group["params"]:
            parameter.requires_grad_(left > 0)


def quicken_norms(module: nn.Module, batch_size: int) -> None:
    """Let the running statistics of batch norms follow within some 1,250 items, for trainings of few and large steps.

    PyTorch's share of 0.1 in each step lags behind weights that turn by a quarter in one. A norm whose share is not PyTorch's is left alone.

    Args:
        module: the network; its norms are changed in place.
        batch_size: items in one step.

    >>> norm = nn.BatchNorm1d(4)
    >>> quicken_norms(norm, 500)
    >>> norm.momentum
    0.4
    """
    share = min(LARGEST_FOLLOWING, batch_size / ITEMS_FOLLOWED)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and part.momentum == 0.1:
            part.momentum = max(0.1, share)


def _trained_at_first(module: nn.Module) -> list[torch.Tensor]:
    """What whitening layers add to their channels."""
    return [part.bias for part in module.modules() if isinstance(part, Whitening) and part.bias is not None]


def _muon(module: nn.Module, recipe: Recipe, roles: dict[str, Role], precision: str) -> Muon:
    """Filters with equal roles in one group each; the head, gains, biases, and what is trained at first in groups of their own, by Adam."""
    rate = recipe.learning_rate or 0.0
    rates = {"head": recipe.head_rate or 1.0, "gain": recipe.gain_rate or rate, "other": recipe.bias_rate or rate}
    if recipe.gain_rate is None:  # of a run that began before gains had a rate: its checkpoints count them among the rest
        roles = {name: Role("other") if role.kind == "gain" else role for name, role in roles.items()}
    early = {id(parameter) for parameter in _trained_at_first(module)}
    alike: dict[tuple[Role, bool, int], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if name in roles:
            num_inputs = parameter[0].numel() if roles[name].kind == "head" else 1
            alike[roles[name], id(parameter) in early, num_inputs].append(parameter)
    groups: list[dict[str, Any]] = []
    for (role, is_early, num_inputs), parameters in alike.items():
        group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0, "until": WHITENING_SHARE if is_early else 1.0}
        if role.kind == "filter":
            free = role.is_scale_free
            group |= {
                "rule": "orthogonal",
                "num_splits": role.num_groups,
                "unit": free,
                "weight_decay": 0.0 if free else recipe.weight_decay or 0.0,
                "peak": rate if free else rate * WITHOUT_NORM,
            }
        else:
            group |= {"rule": "adam", "peak": rates[role.kind] / num_inputs}
            group["weight_decay"] = recipe.weight_decay or 0.0 if role.kind == "head" else 0.0
        groups.append(group)
    momentum = 0.6 if recipe.momentum is None else recipe.momentum
    return Muon(groups, rate, momentum=momentum, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)


class Average:
    """A running average of a network's weights and statistics, kept as a network of its own.

    Args:
        module: the network that is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copied(module)
        for parameter in self.module.parameters():  # each by itself, since scripted modules have no requires_grad_
            parameter.requires_grad_(False)
        self._weights: tuple[list[torch.Tensor], list[torch.Tensor]] = (
            list(self.module.parameters()),
            list(module.parameters()),
        )
        parts = list(zip(self.module.modules(), module.modules(), strict=True))
        self._parts = [(mean, part) for mean, part in parts if len(part._buffers)]
        self._others = [(mean, part) for mean, part in parts if _has_extra_state(part)]

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """Draw the average towards the network as it is now; ``keep`` is the share of the old average that stays."""
        averaged, current = self._weights
        torch._foreach_lerp_(averaged, [each.detach() for each in current], 1 - keep)
        floats: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        for mean, part in self._parts:  # looked up anew, since a person's module may put another tensor in a buffer's place
            for name, value in part._buffers.items():
                own = getattr(mean, name, None)
                if value is None:
                    continue
                if own is None or own.shape != value.shape:
                    setattr(mean, name, value.detach().clone())
                elif value.is_floating_point():
                    floats[0].append(own)
                    floats[1].append(value.detach())
                else:
                    own.copy_(value)
        if floats[0]:
            torch._foreach_lerp_(*floats, 1 - keep)
        for mean, part in self._others:
            mean.set_extra_state(copy.deepcopy(part.get_extra_state()))


def _has_extra_state(part: nn.Module) -> bool:
    """Whether a module keeps more than its tensors."""
    return type(part).get_extra_state is not nn.Module.get_extra_state
