"""Small networks of every rank for the tests of shifts: circular, strided, blurred, flattening."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.design import parse
from visus.networks.blocks import GlobalPool
from visus.networks.build import build

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


def eighths(module: nn.Module) -> nn.Module:
    """The module with all weights as multiples of 1/8: with such inputs every sum is exact, in whatever order it is taken."""
    with torch.no_grad():
        for values in module.parameters():
            values.copy_((values * 16).round() / 8)
    return module


def images(num_samples: int, *shape: int, seed: int = 1) -> Tensor:
    """Smooth random samples in eighths, N C *: neighbors are alike, as in images."""
    noise = torch.randn(num_samples, *shape, generator=torch.Generator().manual_seed(seed))
    for axis in range(2, noise.dim()):
        noise = noise + noise.roll(1, axis) + noise.roll(2, axis)
    return (noise * 8).round() / 8


def ring(rank: int, seed: int = 0) -> nn.Module:
    """Circular padding throughout, one pooling and one strided convolution: a step of 4."""
    torch.manual_seed(seed)
    conv, pool = CONVS[rank], POOLS[rank]
    return nn.Sequential(
        conv(2, 4, 3, padding=1, padding_mode="circular"), nn.ReLU(), pool(2),
        conv(4, 6, 3, stride=2, padding=1, padding_mode="circular"), nn.ReLU(), GlobalPool(), nn.Linear(6, 5),
    )  # fmt: skip


class RingBlur(nn.Module):
    """A blur over a map that is a ring, then every second value of it, on two axes."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        kernel = (weights[:, None] * weights).expand(x.shape[1], 1, 5, 5)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="circular"), kernel, stride=2, groups=x.shape[1])


def halving(seed: int, *, is_blurred: bool) -> nn.Module:
    """Rings of 16 x 16, halved twice: by strided convolutions, or by the same convolutions at every pixel, blur and stride.

    Nothing but the stride can break it, since a ring has no border.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, width in ((2, 8), (8, 16)):
        conv = nn.Conv2d(before, width, 3, stride=1 if is_blurred else 2, padding=1, padding_mode="circular")
        layers += [conv, nn.ReLU(), RingBlur()] if is_blurred else [conv, nn.ReLU()]
    return nn.Sequential(*layers, GlobalPool(), nn.Linear(16, 5))


def designed(text: str, *shape: int, seed: int = 0) -> nn.Module:
    """The network of a design for five classes."""
    return build(parse(text), shape, 5, seed=seed)
