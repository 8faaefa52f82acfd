"""What a step does when it does not fit into memory: it is taken again in slices, from the state before it."""

from __future__ import annotations

import torch
from torch import nn

MIN_SLICE = 2
"""Samples of a slice, at least: a batch norm has no variance of one."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, on any device.

    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory")), is_out_of_memory(ValueError("shape"))
    (True, False)
    """
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def has_batch_norms(module: nn.Module) -> bool:
    """Whether a network in training mode has norms that use the statistics of the batch.

    >>> has_batch_norms(nn.Sequential(nn.BatchNorm2d(3))), has_batch_norms(nn.Sequential(nn.BatchNorm2d(3)).eval())
    (True, False)
    """
    return any(isinstance(layer, _NORMS) and layer.training for layer in module.modules())


class StateBefore:
    """Buffers of a network, and random numbers, before a step that may fail halfway.

    >>> norm = nn.BatchNorm1d(2)
    >>> before = StateBefore(norm)
    >>> _ = norm(torch.ones(4, 2))
    >>> before.restore()
    >>> norm.running_mean, int(norm.num_batches_tracked)
    (tensor([0., 0.]), 0)
    """

    def __init__(self, module: nn.Module) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        self._random = torch.get_rng_state()

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, and free what the failed step left on a CUDA device."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
        torch.set_rng_state(self._random)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
