"""The running average of a network's weights over the steps of a training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from visus.networks.own_code import copied

TAIL_HORIZONS = 3  # the average of the last steps begins so many times its horizon before the end


class WeightAverage:
    """A running average of a network's weights and statistics, kept as a network of its own.

    Two kinds: with ``decay``, over the whole training (the decay rises from 0.1, so that the average is of use from the first step on); with ``final_ema``,
    over the end of the training alone, once the learning rate is low.

    Args:
        module: the network that is trained; the average is a copy of it.
        decay: share of the old average that stays in each step; 0 for none.
        tail: horizon of the average at the end, as a share of the training; 0 for none.
        num_steps: steps that are in the average already, of a training that goes on.

    >>> WeightAverage(nn.Linear(1, 1), final_ema=0.1).is_valid, WeightAverage(nn.Linear(1, 1), decay=0.99).is_valid
    (False, True)
    """

    def __init__(self, module: nn.Module, decay: float = 0.0, final_ema: float = 0.0, num_steps: int = 0) -> None:
        self.module = copied(module)
        for parameter in self.module.parameters():  # each by itself, since scripted modules have no requires_grad_
            parameter.requires_grad_(False)
        self.decay, self.final_ema, self.num_steps = decay, final_ema, num_steps
        self._weights: tuple[list[torch.Tensor], list[torch.Tensor]] = (
            list(self.module.parameters()),
            list(module.parameters()),
        )
        parts = list(zip(self.module.modules(), module.modules(), strict=True))
        self._parts = [(mean, part) for mean, part in parts if len(part._buffers)]
        self._others = [(mean, part) for mean, part in parts if _has_extra_state(part)]

    @property
    def is_valid(self) -> bool:
        """Whether the average stands for the network by now. One of the tail does from its first step on."""
        return bool(self.decay) or self.num_steps > 0

    def follow(self, num_steps: int, progress: float) -> bool:
        """Take a step of the training into the average, where it belongs there.

        Args:
            num_steps: steps of the training so far, this one included.
            progress: share of the training that is done after it, 0 to 1.

        Returns:
            Whether the average changed.
        """
        if self.final_ema:
            if progress < 1 - TAIL_HORIZONS * self.final_ema:
                return False
            horizon = max(1.0, self.final_ema * num_steps / progress)
            self.update(1 - 1 / horizon if self.num_steps else 0.0)
        else:
            self.update(min(self.decay, num_steps / (num_steps + 9)))
        self.num_steps += 1
        return True

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """Draw the average toward the network as it is now; ``keep`` is the share of the old average that stays."""
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
