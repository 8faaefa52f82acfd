"""Small networks to look into, of every kind that the laws are held against."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visus.design import compact, parse, resnet
from visus.networks import build

SQUEEZED = (
    "conv(8, 3, padding=1), norm, relu, conv(12, 3, stride=2, padding=1, groups=4), relu, "
    "concat(conv(4, 1), [conv(4, 5, padding=2), relu]), blurpool(3), se(4), conv(6, 3, dilation=2, padding=2), relu, globalpool, linear(3)"
)


class UNet(nn.Module):
    """A map made smaller, made larger again and joined with what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.coarse = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.last = nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        return self.last(torch.cat([fine, self.up(self.coarse(self.pool(fine)))], 1))


class Twice(nn.Module):
    """One layer called twice, written over by a function in between, its output in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.conv(x)
        torch.relu_(y)
        return [self.head(self.conv(y).movedim(1, -1))]


def designed(text: str, shape: tuple[int, ...], num_classes: int = 3) -> nn.Module:
    """The network of a design, its norms and gates in use, in evaluation mode."""
    return settled(build(parse(text), shape, num_classes))


def settled(network: nn.Module) -> nn.Module:
    """The network with norms and gates that are not as they begin, in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
        if hasattr(part, "excite_weight"):
            part.excite_weight.data.normal_(0, 0.5, generator=generator)
    return network.eval()


def small_resnet() -> nn.Module:
    """``resnet(18)`` with the stem for small images."""
    return settled(build(resnet(18, input_shape=(3, 32, 32)), (3, 32, 32), 10))


def small_compact() -> nn.Module:
    """``compact`` for gray images."""
    return settled(build(compact((1, 28, 28), 10, 500), (1, 28, 28), 10))


def u_net() -> nn.Module:
    """A U-Net with random weights."""
    torch.manual_seed(5)
    return settled(UNet())


def twice() -> nn.Module:
    """A layer that is called twice."""
    torch.manual_seed(6)
    return Twice().eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Samples of normal noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
