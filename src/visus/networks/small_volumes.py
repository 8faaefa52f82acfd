"""Convolutions of small volumes computed in float32 inside bfloat16, where PyTorch's kernels give wrong gradients on processors.

This file knows one kind of layer and where PyTorch's kernels for it are wrong. It must not know designs, data or training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visus.networks.blocks import PaddedConv3d

_LEAST_SIDE = 2.0
"""Sides of a map, in extents of the kernel, from which bfloat16 was never wrong."""


class _Float32WhereSmall:
    """A convolution that leaves autocast for itself where a side of its map is less than twice the extent of its kernel."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """N C D H W -> N C' D' H' W'."""
        kind, wide = x.device.type, max(self.kernel_size) > 1
        extents = [step * (size - 1) + 1 for size, step in zip(self.kernel_size, self.dilation, strict=True)]
        is_small = wide and any(side < _LEAST_SIDE * extent for side, extent in zip(x.shape[2:], extents, strict=True))
        above: Any = super()
        if kind != "cpu" or not is_small or not torch.is_autocast_enabled(kind):
            return above.forward(x)  # type: ignore[no-any-return]
        with torch.autocast(kind, enabled=False):
            y: Tensor = above.forward(x.float())
        return y.to(torch.get_autocast_dtype(kind))


class Float32SmallConv3d(_Float32WhereSmall, nn.Conv3d):
    """``nn.Conv3d`` in float32 on small maps."""


class Float32SmallPaddedConv3d(_Float32WhereSmall, PaddedConv3d):
    """``PaddedConv3d`` in float32 on small maps."""


def float32_small_volumes(module: nn.Module) -> None:
    """Let 3-D convolutions compute small maps in float32, in place; weights and names stay.

    With torch 2.13 on a processor with AVX-512 BF16, bfloat16 gradients of their weights were left unwritten in part, so that they held whatever the
    memory held (numbers that are none among it), for kernels of 3 on maps of side 2, with a stride of 2 on side 1, and for kernels of 5 on maps of
    sides 1, 3 and 4; kernels of 7 wrote beyond their memory. One and two axes were right.

    >>> network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv2d(4, 4, 3))
    >>> float32_small_volumes(network)
    >>> [type(layer).__name__ for layer in network]
    ['Float32SmallConv3d', 'Conv2d']
    """
    for part in module.modules():
        if type(part) is nn.Conv3d:
            part.__class__ = Float32SmallConv3d
        elif type(part) is PaddedConv3d:
            part.__class__ = Float32SmallPaddedConv3d
