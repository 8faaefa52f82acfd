"""One network in several processes: averaged gradients (``DistributedDataParallel``), and random seeds for each process and step."""

from __future__ import annotations

import contextlib
import warnings

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from visus.data.batches import random_stream
from visus.training.distribution import Group, lost_process_errors


def average_gradients(module: nn.Module, group: Group) -> nn.Module:
    """Wrap ``module`` so that after each backward pass its gradients are the means over all processes.

    The first process's parameters and buffers are broadcast now, and its buffers again in each step. Save ``module``, not the wrapper. Parameters
    may become frozen during the training.
    """
    if group.is_alone:
        return module
    # Depthwise weight gradients have a stride order of their own, which DDP copies into buckets with that of the filters. PyTorch warns of that
    # once in each process; users cannot do anything about it.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides", category=UserWarning)
    with lost_process_errors():
        return DistributedDataParallel(
            _WithUnusedParameter(module), find_unused_parameters=True, gradient_as_bucket_view=True
        )


class _WithUnusedParameter(nn.Module):
    """A network with one more parameter, which nothing uses.

    DDP searches for unused parameters in each step, for two reasons: some parameters become frozen; and PyTorch then keeps the order in which it adds
    gradients, so that a resumed training adds in the same order. PyTorch warns if it finds no unused parameter, so there is always one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.unused = nn.Parameter(torch.zeros(1, device=next(module.parameters()).device))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Output of the network."""
        out: torch.Tensor = self.module(batch)
        return out


def gradients_kept_apart(network: nn.Module, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """A block for one of several backward passes of a step; only the last one averages gradients over all processes."""
    if is_last or not isinstance(network, DistributedDataParallel):
        return contextlib.nullcontext()
    return network.no_sync()


def seed_step(group: Group, seed: int, step: int) -> None:
    """Seed each process's generator for one step (of dropout, for example) from seed, step and rank."""
    if not group.is_alone:
        torch.manual_seed(random_stream(seed, "network", step, group.rank).initial_seed())
