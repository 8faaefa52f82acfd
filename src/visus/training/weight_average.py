"""Exponential moving average (EMA) of a network's weights and buffers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from visus.networks.own_code import copied

NUM_FINAL_HORIZONS = 3  # the final average starts this many horizons before the end of the training


class WeightAverage:
    """A moving average of a network's parameters and buffers, held in a copy of the network.

    With ``decay``, it averages over the whole training; the decay rises from 0.1, so that the average is useful from the first step on. With
    ``final_ema``, it averages only the end of the training, at a low learning rate.

    Args:
        module: the trained network.
        decay: fraction of the old average that remains after each step; 0 for none.
        final_ema: horizon of the average at the end, as a fraction of the training; 0 for none.
        num_steps: number of steps in the average so far, of a resumed training.

    >>> WeightAverage(nn.Linear(1, 1), final_ema=0.1).is_valid, WeightAverage(nn.Linear(1, 1), decay=0.99).is_valid
    (False, True)
    """

    def __init__(self, module: nn.Module, decay: float = 0.0, final_ema: float = 0.0, num_steps: int = 0) -> None:
        self.module = copied(module)
        for parameter in self.module.parameters():  # one by one, since scripted modules have no requires_grad_
            parameter.requires_grad_(False)
        self.decay, self.final_ema, self.num_steps = decay, final_ema, num_steps
        self._weights: tuple[list[torch.Tensor], list[torch.Tensor]] = (
            list(self.module.parameters()),
            list(module.parameters()),
        )
        parts = list(zip(self.module.modules(), module.modules(), strict=True))
        self._parts = [(mean, part) for mean, part in parts if len(part._buffers)]
        self._with_extra_state = [(mean, part) for mean, part in parts if _has_extra_state(part)]

    @property
    def is_valid(self) -> bool:
        """Whether the average can replace the network by now; a final average can from its first step on."""
        return bool(self.decay) or self.num_steps > 0

    def add_step(self, num_steps: int, progress: float) -> bool:
        """Add the weights after a training step to the average, unless a final average has not started yet.

        Args:
            num_steps: number of training steps so far, including this one.
            progress: fraction of the training that is done after this step, 0 to 1.

        Returns:
            Whether the average changed.
        """
        if self.final_ema:
            if progress < 1 - NUM_FINAL_HORIZONS * self.final_ema:
                return False
            horizon = max(1.0, self.final_ema * num_steps / progress)
            self.update(1 - 1 / horizon if self.num_steps else 0.0)
        else:
            self.update(min(self.decay, num_steps / (num_steps + 9)))
        self.num_steps += 1
        return True

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """Set the average to ``keep`` times the old average plus ``1 - keep`` times the network's current values."""
        averaged, current = self._weights
        torch._foreach_lerp_(averaged, [each.detach() for each in current], 1 - keep)
        floats: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        for mean, part in self._parts:  # looked up each time, since a person's module may replace a buffer's tensor
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
        for mean, part in self._with_extra_state:
            mean.set_extra_state(copy.deepcopy(part.get_extra_state()))


def _has_extra_state(part: nn.Module) -> bool:
    """Whether a module has state other than tensors."""
    return type(part).get_extra_state is not nn.Module.get_extra_state
