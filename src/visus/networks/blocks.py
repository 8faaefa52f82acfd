"""Layers that PyTorch lacks: residuals, concatenation, channel-wise layer norm, global and blur pooling, uneven padding.

Shape letters: N batch, C channels, * any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Layers in sequence, plus their input (through ``projection`` if there is one): (N, C, *) to (N, C', *).

    Args:
        layers: layers by name, in order.
        projection: maps the input to the shape of the layers' output; None if the shapes agree.
    """

    def __init__(self, layers: dict[str, nn.Module], projection: nn.Module | None = None) -> None:
        super().__init__()
        self.names = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        if projection is not None:
            self.add_module("projection", projection)
        self.has_projection = projection is not None

    @property
    def body(self) -> tuple[nn.Module, ...]:
        """The layers in order, without the shortcut."""
        return tuple(self.get_submodule(name) for name in self.names)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self.names:
            y = self._modules[name](y)  # type: ignore[misc]
        shortcut = self._modules["projection"](x) if self.has_projection else x  # type: ignore[misc]
        return y + shortcut


class Concat(nn.Module):
    """Branches with the same input, and their outputs concatenated along the channels: (N, C, *) to (N, C1 + C2 + ..., *)."""

    def __init__(self, branches: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


class LayerNorm(nn.Module):
    """Layer norm over the channels at each position: (N, C, *) to (N, C, *)."""

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_channels, self.eps = num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.movedim(1, -1), (self.num_channels,), self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}"


class GlobalPool(nn.Module):
    """Mean or maximum over all positions of each channel: (N, C, *) to (N, C)."""

    def __init__(self, kind: Literal["avg", "max"] = "avg") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        return x.mean(dim=axes) if self.kind == "avg" else x.amax(dim=axes)

    def extra_repr(self) -> str:
        return self.kind


class BlurPool(nn.Module):
    """Fixed blur of each channel with reflection padding, then subsampling: (N, C, *) to (N, C, *).

    Zhang 2019 (arXiv:1904.11486). The filter is a non-persistent buffer, since it follows from the design.

    Args:
        weights: filter on one axis; the whole filter is the outer product over all axes.
        stride: stride on each axis.
    """

    filter: Tensor

    def __init__(self, weights: Sequence[float], stride: Sequence[int]) -> None:
        super().__init__()
        self.weights, self.stride = tuple(weights), tuple(stride)
        self.pads = pad_order([((len(weights) - 1) // 2, len(weights) // 2)] * len(stride))
        self.register_buffer("filter", torch.empty(1, 1, *(len(weights),) * len(stride)), persistent=False)
        self.reset_filter()

    def reset_filter(self) -> None:
        """Compute the filter's values; needed after a move from the meta device."""
        values = torch.tensor(self.weights, dtype=self.filter.dtype, device=self.filter.device)
        product = torch.ones((), dtype=self.filter.dtype, device=self.filter.device)
        for _ in self.stride:
            product = product[..., None] * values
        self.filter.copy_(product)

    def forward(self, x: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        kernel = self.filter.to(x.dtype).expand(x.shape[1], 1, *self.filter.shape[2:])
        y: Tensor = convolve(F.pad(x, self.pads, mode="reflect"), kernel, stride=self.stride, groups=x.shape[1])
        return y

    def extra_repr(self) -> str:
        return f"{len(self.weights)}, stride={self.stride}"


class _PadFirst(nn.Module):
    """Zero padding before a convolution, with different sizes on both sides. Abstract."""

    pads: tuple[int, ...] = ()  # in the order of torch.nn.functional.pad: last axis first

    def forward(self, x: Tensor) -> Tensor:
        padded: Tensor = super().forward(F.pad(x, self.pads))
        return padded

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pads={self.pads}"


class PaddedConv1d(_PadFirst, nn.Conv1d):
    """``nn.Conv1d`` of a signal padded by ``pads``."""


class PaddedConv2d(_PadFirst, nn.Conv2d):
    """``nn.Conv2d`` of an image padded by ``pads``."""


class PaddedConv3d(_PadFirst, nn.Conv3d):
    """``nn.Conv3d`` of a volume padded by ``pads``."""


PADDED_CONVS = {1: PaddedConv1d, 2: PaddedConv2d, 3: PaddedConv3d}


def pad_order(pads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Padding before and after each axis in the order of ``torch.nn.functional.pad``: last axis first.

    >>> pad_order([(1, 2), (0, 3)])
    (0, 3, 1, 2)
    """
    return tuple(pad for axis in reversed(pads) for pad in axis)
