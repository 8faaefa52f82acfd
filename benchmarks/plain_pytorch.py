"""Plain eager PyTorch on the networks that training speed is compared on: no channels-last layout, no autocast, no compilation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (64, 256, 256)
WHITENED = 24  # 12 eigenvectors of 2 x 2 x 3 patches and their negatives


class Airbench94(nn.Module):
    """The network of airbench94 (arXiv 2404.00498) for images of 3 x 32 x 32.

    A frozen 2 x 2 convolution with a trained bias, three blocks conv-pool-norm-act-conv-norm-act, max pooling of 3, a linear layer. Its
    filters keep PyTorch's random values here: only the time of a step is of interest.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        stem = nn.Conv2d(3, WHITENED, 2)
        stem.weight.requires_grad_(False)
        layers: list[nn.Module] = [stem, nn.GELU()]
        channels = WHITENED
        for width in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2), *_norm(width)]
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), *_norm(width)]
            channels = width
        self.features = nn.Sequential(*layers, nn.MaxPool2d(3))
        self.head = nn.Linear(channels, num_classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, classes)."""
        maps = self.features(images).flatten(1)
        logits: Tensor = self.head(maps) / maps.shape[1]
        return logits


def _norm(width: int) -> list[nn.Module]:
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return [norm, nn.GELU()]


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2015)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        changes = stride > 1 or channels != width
        self.shortcut = (
            nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if changes
            else nn.Identity()
        )

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.body(maps) + self.shortcut(maps))


def resnet18_small(num_classes: int = 10) -> nn.Module:
    """ResNet-18 with the stem for small images: a first convolution of 3 x 3 with stride 1, and no first pooling."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_Block(channels, width, stride), _Block(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


NETWORKS = {"airbench94": Airbench94, "resnet18": resnet18_small}


def trained(network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that both sides take their timed steps with: SGD with Nesterov momentum."""
    values = [value for value in network.parameters() if value.requires_grad]
    return torch.optim.SGD(values, lr=0.01, momentum=0.9, nesterov=True)
