"""Multiplicative layers: squeeze-and-excitation, channel scale, drop path.

Shape letters: N batch, C channels, * any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FUNCTIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
}


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: each channel times a factor computed from all channel means, (N, C, *) to (N, C, *).

    Hu, Shen and Sun 2018 (arXiv:1709.01507).

    Args:
        num_channels: C.
        squeeze_channels: width between the two linear layers.
        activation: activation between the two: ``"relu"`` or ``"silu"``.
        scale_activation: activation after the second: ``"sigmoid"`` or ``"hardsigmoid"``.
    """

    def __init__(
        self,
        num_channels: int,
        squeeze_channels: int,
        activation: Literal["relu", "silu"] = "relu",
        scale_activation: Literal["sigmoid", "hardsigmoid"] = "sigmoid",
    ) -> None:
        super().__init__()
        self.activation, self.scale_activation = activation, scale_activation
        self.squeeze_weight = nn.Parameter(torch.zeros(squeeze_channels, num_channels))
        self.squeeze_bias = nn.Parameter(torch.zeros(squeeze_channels))
        self.excite_weight = nn.Parameter(torch.zeros(num_channels, squeeze_channels))
        self.excite_bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=tuple(range(2, x.dim())))
        hidden = _FUNCTIONS[self.activation](F.linear(means, self.squeeze_weight, self.squeeze_bias))
        factors = _FUNCTIONS[self.scale_activation](F.linear(hidden, self.excite_weight, self.excite_bias))
        return x * factors.reshape(*factors.shape, *(1,) * (x.dim() - 2))

    def extra_repr(self) -> str:
        return f"{self.excite_weight.shape[0]}, {self.excite_weight.shape[1]}, {self.activation}, {self.scale_activation}"


class Scale(nn.Module):
    """Each channel times a trained factor: (N, C, *) to (N, C, *).

    Args:
        num_channels: C.
        init: initial factor.
    """

    def __init__(self, num_channels: int, init: float = 1e-6) -> None:
        super().__init__()
        self.init = init
        self.weight = nn.Parameter(torch.full((num_channels,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.reshape(-1, *(1,) * (x.dim() - 2))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, init={self.init}"


class DropPath(nn.Module):
    """Stochastic depth: in training, sets samples to 0 with probability ``p`` and divides the others by ``1 - p``.

    Args:
        p: probability, 0 to below 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.dim() - 1), device=x.device) >= self.p
        return x * kept.to(x.dtype).div(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
