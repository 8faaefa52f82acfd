"""Optimizers: parameter groups with their update rules, learning rates and weight decay."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn

from visus.networks.roles import Role, weight_roles
from visus.networks.whitening import Whitening
from visus.training.muon import Muon
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.update_rules import UPDATE_RULES

WHITENING_FRACTION = 3 / 8
"""Fraction of the training after which the biases of whitening layers are frozen, so that the backward pass ends before these layers."""
MAX_BN_MOMENTUM, BN_MOMENTUM_SAMPLES = 0.4, 1_250
MATRIX_DECAY = 0.05  # weight decay of matrices without a rule in muon
NUM_LEVELS = 17  # number of learning rates from the first layer to the last
UNNORMED_LR_RATIO = 0.1  # learning rate of filters without a norm after them, as a fraction of muon's; their scale matters


def make_optimizer(
    module: nn.Module, recipe: ResolvedRecipe, *, input_shape: tuple[int, ...] | None = None, precision: str = "float32"
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``module``.

    Weight decay acts on parameters with two or more axes, not on biases and the weights of norms. With muon, filters before a norm keep the norm
    ``sqrt(out_channels)`` instead. Each group holds its highest learning rate as ``peak``, and the fraction of the training after which it is frozen
    as ``until``; ``set_rates`` uses both.

    Args:
        module: the network, on its device.
        recipe: every setting.
        input_shape: ``(channels, *spatial)`` of one sample, from which muon finds the filters before a norm.
        precision: dtype of muon's orthogonalization, ``float32`` or ``bfloat16``.
    """
    if recipe.optimizer == "muon":
        return _muon(module, recipe, weight_roles(module, input_shape), precision)
    early = {id(parameter) for parameter in _whitening_biases(module)}
    factors = layer_factors(module, recipe.layer_decay)
    by_setting: dict[tuple[float, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_early = id(parameter) in early
            decay = recipe.weight_decay if parameter.ndim > 1 and not is_early else 0.0
            by_setting[WHITENING_FRACTION if is_early else 1.0, factors[name], decay].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "peak": recipe.learning_rate * factor, "until": until, "weight_decay": decay}
        for (until, factor, decay), parameters in sorted(by_setting.items(), key=lambda entry: entry[0], reverse=True)
    ]
    return UPDATE_RULES[recipe.optimizer].build(groups, recipe.learning_rate, recipe.momentum)


def layer_factors(module: nn.Module, layer_decay: float) -> dict[str, float]:
    """Learning-rate factor of each parameter: ``layer_decay`` in the first layer, 1 in the last, a geometric progression between.

    Layers count in the order of ``named_parameters``, with at most ``NUM_LEVELS`` different factors.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.Linear(1, 1))
    >>> [round(factor, 3) for factor in layer_factors(network, 0.01).values()]
    [0.01, 0.01, 0.1, 0.1, 1.0, 1.0]
    """
    names = [name for name, _ in module.named_parameters()]
    layers = {name: name.rpartition(".")[0] for name in names}
    places = {layer: place for place, layer in enumerate(dict.fromkeys(layers.values()))}
    last = max(1, len(places) - 1)
    levels = min(last, NUM_LEVELS - 1)
    return {
        name: layer_decay ** (1 - round(places[layers[name]] / last * levels) / levels) if len(places) > 1 else 1.0
        for name in names
    }


def set_rates(optimizer: torch.optim.Optimizer, factor: float, progress: float = 0.0, scale: float = 1.0) -> None:
    """Set the learning rate of every group to ``factor`` times its highest. A group with ``until`` < 1 decays linearly to 0 there and is then frozen.

    Args:
        optimizer: an optimizer of ``make_optimizer``.
        factor: fraction of the highest learning rate, 0 to 1.
        progress: fraction of the training that is done, 0 to 1.
        scale: another factor, of all groups.
    """
    for group in optimizer.param_groups:
        if group["until"] == 1:
            group["lr"] = group["peak"] * factor * scale
            continue
        left = max(0.0, 1 - progress / group["until"])
        group["lr"] = group["peak"] * left * scale
        for parameter in group["params"]:
            parameter.requires_grad_(left > 0)


def raise_bn_momentum(module: nn.Module, batch_size: int) -> None:
    """Set the momentum of batch norms so that their running statistics cover about 1,250 samples, from 0.1 to 0.4.

    Muon takes few, large steps, and PyTorch's momentum of 0.1 would lag behind the weights. Norms with a momentum other than 0.1 do not change.

    Args:
        module: the network; its norms change in place.
        batch_size: number of samples per step.

    >>> norm = nn.BatchNorm1d(4)
    >>> raise_bn_momentum(norm, 500)
    >>> norm.momentum
    0.4
    """
    momentum = min(MAX_BN_MOMENTUM, batch_size / BN_MOMENTUM_SAMPLES)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and part.momentum == 0.1:
            part.momentum = max(0.1, momentum)


def _whitening_biases(module: nn.Module) -> list[torch.Tensor]:
    """The biases of whitening layers."""
    return [part.bias for part in module.modules() if isinstance(part, Whitening) and part.bias is not None]


def _muon(module: nn.Module, recipe: ResolvedRecipe, roles: dict[str, Role], precision: str) -> Muon:
    """Muon with one orthogonal group per role of filters, and Adam groups for head, norm weights, biases and other matrices."""
    rate = recipe.learning_rate
    rates = {"head": recipe.head_lr, "gain": recipe.norm_lr, "matrix": recipe.matrix_lr, "other": recipe.bias_lr}
    early = {id(parameter) for parameter in _whitening_biases(module)}
    by_setting: dict[tuple[Role, bool, int], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if name in roles:
            num_inputs = parameter[0].numel() if roles[name].kind == "head" else 1
            by_setting[roles[name], id(parameter) in early, num_inputs].append(parameter)
    groups: list[dict[str, Any]] = []
    for (role, is_early, num_inputs), parameters in by_setting.items():
        group: dict[str, Any] = {"params": parameters, "weight_decay": 0.0, "until": WHITENING_FRACTION if is_early else 1.0}
        if role.kind == "filter":
            is_scale_invariant = role.is_scale_invariant
            group |= {
                "rule": "orthogonal",
                "num_splits": role.num_groups,
                "unit": is_scale_invariant,
                "weight_decay": 0.0 if is_scale_invariant else recipe.weight_decay,
                "peak": rate if is_scale_invariant else rate * UNNORMED_LR_RATIO,
            }
        else:
            group |= {"rule": "adam", "peak": rates[role.kind] / num_inputs}
            group["weight_decay"] = {"head": recipe.weight_decay, "matrix": MATRIX_DECAY}.get(role.kind, 0.0)
        groups.append(group)
    return Muon(groups, rate, momentum=recipe.momentum, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
