"""Convolutions of single channels computed in float32 inside bfloat16, where processors are slow at their gradients.

This file knows one kind of layer and where PyTorch's kernels for it are slow. It must not know designs, data or training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Float32Depthwise(nn.Conv2d):
    """``nn.Conv2d`` that leaves autocast for itself: numbers go in and out in autocast's format, and are float32 in between."""

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C' H' W'."""
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(x)
        with torch.autocast(kind, enabled=False):
            y: Tensor = super().forward(x.float())
        return y.to(torch.get_autocast_dtype(kind))


def float32_depthwise(module: nn.Module) -> None:
    """Let filters of single channels with a stride, or wider than 3, compute in float32, in place; weights and names stay.

    On a processor with AVX-512 BF16 (torch 2.13, one core, 32 maps, channels last) their gradients in bfloat16 took 70 ms instead of 22 (96
    channels, 3 x 3, stride 2, 64 px), 80 instead of 2 (144, 5 x 5, stride 2, 32 px) and 28 instead of 8 (1152, 5 x 5, 4 px); the forward
    passes take as long in both. Where the compiled kernels of ``networks.fast`` are, they compute these layers in bfloat16 and faster still, and this is not
    needed.

    >>> network = nn.Sequential(nn.Conv2d(4, 4, 5, groups=4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 5))
    >>> float32_depthwise(network)
    >>> [type(layer).__name__ for layer in network]
    ['Float32Depthwise', 'Conv2d', 'Conv2d']
    """
    for part in module.modules():
        if (
            type(part) is nn.Conv2d
            and part.groups == part.in_channels > 1
            and (max(part.kernel_size) > 3 or max(part.stride) > 1)
        ):
            part.__class__ = Float32Depthwise
