"""Convolutions computed in float32 inside bfloat16, where PyTorch's kernels on processors are slow or wrong at their gradients.

This file knows kinds of layers and where PyTorch's kernels for them fall short. It must not know designs, data or training.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from visus.networks.blocks import PaddedConv3d

LEAST_SIDE = 2.0
"""Sides of a volume's map, in extents of the kernel, from which bfloat16 was right in all that was tried."""


class _Float32:
    """A layer that leaves autocast for itself: numbers go in and out in autocast's format, and are float32 in between. Abstract."""

    def needs_float32(self, x: Tensor) -> bool:
        """Whether this map is to be computed in float32."""
        return True

    def forward(self, x: Tensor) -> Tensor:
        """N C * -> N C' *."""
        kind, above = x.device.type, cast("Any", super())
        if not torch.is_autocast_enabled(kind) or not self.needs_float32(x):
            return above.forward(x)  # type: ignore[no-any-return]
        with torch.autocast(kind, enabled=False):
            y: Tensor = above.forward(x.float())
        return y.to(torch.get_autocast_dtype(kind))


class Float32Depthwise(_Float32, nn.Conv2d):
    """``nn.Conv2d`` in float32."""


class _Float32WhereSmall(_Float32):
    """A 3-D convolution in float32 where a side of its map is less than twice the extent of its kernel. Abstract."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]

    def needs_float32(self, x: Tensor) -> bool:
        extents = [step * (size - 1) + 1 for size, step in zip(self.kernel_size, self.dilation, strict=True)]
        is_small = any(side < LEAST_SIDE * extent for side, extent in zip(x.shape[2:], extents, strict=True))
        return x.device.type == "cpu" and is_small and max(self.kernel_size) > 1


class Float32SmallConv3d(_Float32WhereSmall, nn.Conv3d):
    """``nn.Conv3d`` in float32 on small maps."""


class Float32SmallPaddedConv3d(_Float32WhereSmall, PaddedConv3d):
    """``PaddedConv3d`` in float32 on small maps."""


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


def float32_small_volumes(module: nn.Module) -> None:
    """Let 3-D convolutions compute small maps in float32, in place; weights and names stay.

    With torch 2.13 on a processor with AVX-512 BF16, bfloat16 gradients of their weights were left unwritten in part, so that they held whatever the
    memory held (numbers that are none among it), for kernels of 3 on maps of side 2, with a stride of 2 on side 1, and for kernels of 5 on maps of
    sides 1, 3 and 4; kernels of 7 wrote beyond their memory. With one and two axes that was so on maps of one pixel with a stride of 2 alone,
    which are left as they are.

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
