"""Which parameters of a network are moved, by what rule and how fast."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn

from visus.networks.roles import Role, weight_roles
from visus.networks.whitening import Whitening
from visus.training.muon import Muon
from visus.training.resolve import ResolvedRecipe

WHITENING_SHARE = (
    3 / 8
)  # of the training in which what whitening adds to its channels is trained; then the backward pass ends above it
MAX_FOLLOWING, SAMPLES_FOLLOWED = 0.4, 1_250
MATRIX_DECAY = 0.05  # of matrices that muon does not know
NUM_LEVELS = 17  # of learning rates from the first layer to the last
WITHOUT_NORM = 0.1  # share of muon's rate for filters whose size means something: no norm follows them


def make_optimizer(
    module: nn.Module, recipe: ResolvedRecipe, *, input_shape: tuple[int, ...] | None = None, precision: str = "float32"
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters of ``module``.

    Weight decay acts on weights of two axes or more; biases and the gains of norms are left alone. With muon, filters that a norm follows
    have a norm of ``sqrt(out_channels)`` instead. Each group has its highest rate in ``peak``, and the share of the training after which it
    stays as it is in ``until``; ``set_rates`` goes by them.

    Args:
        module: the network, where it is trained.
        recipe: a settled recipe.
        input_shape: ``(channels, *spatial)`` of one sample, for muon to see which filters a norm follows.
        precision: number format of muon's orthogonalization, ``float32`` or ``bfloat16``.
    """
    if recipe.optimizer == "muon":
        return _muon(module, recipe, weight_roles(module, input_shape), precision)
    early = {id(parameter) for parameter in _trained_at_first(module)}
    factors = layer_factors(module, recipe.layer_decay)
    alike: dict[tuple[float, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_early = id(parameter) in early
            decay = recipe.weight_decay if parameter.ndim > 1 and not is_early else 0.0
            alike[WHITENING_SHARE if is_early else 1.0, factors[name], decay].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "peak": recipe.learning_rate * factor, "until": until, "weight_decay": decay}
        for (until, factor, decay), parameters in sorted(alike.items(), key=lambda entry: entry[0], reverse=True)
    ]
    rate, momentum = recipe.learning_rate, recipe.momentum
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999))


def layer_factors(module: nn.Module, layer_decay: float) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by: 1 in the last layer, ``layer_decay`` in the first, a geometric row between.

    Layers count in the order in which the module lists them; they share ``NUM_LEVELS`` rates.

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


def raise_bn_momentum(module: nn.Module, batch_size: int) -> None:
    """Let the running statistics of batch norms follow within some 1,250 samples, for trainings of few and large steps.

    PyTorch's share of 0.1 in each step lags behind weights that turn by a quarter in one. A norm whose share is not PyTorch's is left alone.

    Args:
        module: the network; its norms are changed in place.
        batch_size: samples in one step.

    >>> norm = nn.BatchNorm1d(4)
    >>> raise_bn_momentum(norm, 500)
    >>> norm.momentum
    0.4
    """
    share = min(MAX_FOLLOWING, batch_size / SAMPLES_FOLLOWED)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and part.momentum == 0.1:
            part.momentum = max(0.1, share)


def _trained_at_first(module: nn.Module) -> list[torch.Tensor]:
    """What whitening layers add to their channels."""
    return [part.bias for part in module.modules() if isinstance(part, Whitening) and part.bias is not None]


def _muon(module: nn.Module, recipe: ResolvedRecipe, roles: dict[str, Role], precision: str) -> Muon:
    """Filters with equal roles in one group each; the head, gains, biases, and what is trained at first in groups of their own, by Adam."""
    rate = recipe.learning_rate
    rates = {"head": recipe.head_lr, "gain": recipe.norm_lr, "matrix": recipe.matrix_lr, "other": recipe.bias_lr}
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
            free = role.is_scale_invariant
            group |= {
                "rule": "orthogonal",
                "num_splits": role.num_groups,
                "unit": free,
                "weight_decay": 0.0 if free else recipe.weight_decay,
                "peak": rate if free else rate * WITHOUT_NORM,
            }
        else:
            group |= {"rule": "adam", "peak": rates[role.kind] / num_inputs}
            group["weight_decay"] = {"head": recipe.weight_decay, "matrix": MATRIX_DECAY}.get(role.kind, 0.0)
        groups.append(group)
    return Muon(groups, rate, momentum=recipe.momentum, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
