"""The small convolutional networks that PyTorch's documentation trains, for any size of image and number of classes."""

from __future__ import annotations

from torch import nn


def example_network(input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network of PyTorch's MNIST example (github.com/pytorch/examples, mnist): two convolutions, dropout, two linear layers."""
    channels, height, width = input_shape
    flat = 64 * ((height - 4) // 2) * ((width - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, num_classes),
    )


def classifier_network(input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network of PyTorch's tutorial "Training a classifier": two convolutions of 5 x 5 with pooling, three linear layers."""
    channels, height, width = input_shape
    flat = 16 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
