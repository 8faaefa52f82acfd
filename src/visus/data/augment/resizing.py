"""Resizing of whole batches by averaging areas."""

from __future__ import annotations

import functools

import torch


def shrink(batch: torch.Tensor, side: float) -> torch.Tensor:
    """Resize samples (N, C, *) to ``side`` times the length of each axis, rounded, by averaging areas.

    >>> shrink(torch.tensor([[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]]), 2 / 3)
    tensor([[[0.3333, 1.6667, 3.3333, 4.6667]]])
    """
    for axis in range(2, batch.ndim):
        length = batch.shape[axis]
        smaller = max(1, round(side * length))
        if smaller < length:
            means = _means(length, smaller).to(batch.device, batch.dtype)
            batch = (batch.movedim(axis, -1) @ means).movedim(-1, axis)
    return batch


@functools.lru_cache(maxsize=64)
def _means(length: int, smaller: int) -> torch.Tensor:
    """Weights (length, smaller) of each old value in each new value; columns add up to 1."""
    step = length / smaller
    starts = torch.arange(smaller, dtype=torch.float64) * step
    old = torch.arange(length, dtype=torch.float64)[:, None]
    overlap = torch.minimum(old + 1, starts + step) - torch.maximum(old, starts)
    return (overlap.clamp(min=0) / step).float()
