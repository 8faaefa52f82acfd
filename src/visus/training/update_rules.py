"""Elementwise optimizers of PyTorch: one registration holds the constructor and the defaults. Muon is not one of them: it needs roles of weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # torch is loaded when a training begins
    import torch

ADAMW_RATE: Final = 0.002  # for batches of 64


@dataclass(frozen=True)
class UpdateRule:
    """An optimizer that updates each weight by its own gradient.

    Attributes:
        build: ``build(groups, learning_rate, momentum)`` returns the optimizer.
        learning_rate: default learning rate for a batch size.
        momentum: default momentum, the first of Adam's betas.
        weight_decay: default weight decay.
        small_weight_decay: default weight decay for few samples.
    """

    build: Callable[[list[dict[str, Any]], float, float], torch.optim.Optimizer]
    learning_rate: Callable[[int], float]
    momentum: float
    weight_decay: float
    small_weight_decay: float


def _adamw(groups: list[dict[str, Any]], learning_rate: float, momentum: float) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(groups, lr=learning_rate, betas=(momentum, 0.999))


def _sgd(groups: list[dict[str, Any]], learning_rate: float, momentum: float) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)


UPDATE_RULES: Final = {
    "adamw": UpdateRule(
        _adamw, lambda batch_size: round(min(ADAMW_RATE * math.sqrt(batch_size / 64), 0.4), 6), 0.9, 0.2, 0.5
    ),
    "sgd": UpdateRule(_sgd, lambda batch_size: round(min(0.1 * batch_size / 64, 0.4), 6), 0.9, 5e-4, 5e-4),
}
"""Every elementwise optimizer by the name that a recipe uses."""
