"""One network in several processes: gradients averaged, random numbers of each process and step its own.

This file knows PyTorch's ``DistributedDataParallel`` and what it needs.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from visus.data.batches import random_stream
from visus.training.distribution import Group, reaching_others


def averaging_gradients(module: nn.Module, group: Group) -> nn.Module:
    """The network to be called in place of ``module``: after each backward pass the gradients are the means over all processes.

    Parameters and buffers become those of the first process now, and buffers again in each step. The module keeps its names and is the one to be
    saved. Parameters may cease to be trained on the way.
    """
    if group.is_alone:
        return module
    # Gradients that are summed tap by tap are laid out tap by tap, and copied into the buckets, which are laid out like the filters. PyTorch
    # warns of that once in each process; nobody could do anything about it.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides", category=UserWarning)
    with reaching_others():
        return DistributedDataParallel(_Called(module), find_unused_parameters=True, gradient_as_bucket_view=True)


class _Called(nn.Module):
    """A network beside a parameter that nothing uses.

    Unused parameters are looked for in each step for two reasons: some cease to be trained; and PyTorch then keeps the order in which gradients
    are added up, so that a training that goes on later adds as it began. Where it finds none it complains, so there is one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.unused = nn.Parameter(torch.zeros(1, device=next(module.parameters()).device))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """What the network says."""
        out: torch.Tensor = self.module(batch)
        return out


def seed_step(group: Group, seed: int, step: int) -> None:
    """Give each process random numbers of its own for one step (those of dropout, say), which follow from seed, step and rank alone."""
    if not group.is_alone:
        torch.manual_seed(random_stream(seed, "network", step, group.rank).initial_seed())
