"""A module whose training diverges."""

from __future__ import annotations

import math

import torch
from torch import nn


class Broken(nn.Module):
    """Gives what is not a number from the given call in training mode on."""

    def __init__(self, from_call: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)
        self.calls, self.from_call = 0, from_call

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        out: torch.Tensor = self.layer(batch.flatten(1))
        return out * math.nan if self.training and self.calls >= self.from_call else out
