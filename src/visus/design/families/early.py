"""The early families: a sequence of layers that ends with two or three large linear layers. Also the plain network of linear
layers."""

from __future__ import annotations

from typing import Final

from visus.design.arguments import known_choice
from visus.design.items import sequence
from visus.design.layers.registry import Dropout, classes, conv, dropout, flatten, linear, maxpool, norm, relu
from visus.design.plan import Design

_VGG: Final = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def lenet5() -> Design:
    """LeNet-5 (LeCun et al. 1998) in its usual present form: ReLU and max pooling. Made for 32 x 32 pixels in gray.

    >>> sum(node.num_parameters for node in lenet5().place((1, 32, 32), 10))
    61706
    """
    features = [conv(6, 5), relu, maxpool(2), conv(16, 5), relu, maxpool(2)]
    return Design([*features, flatten, linear(120), relu, linear(84), relu, linear(classes)])


def alexnet() -> Design:
    """AlexNet in its one-tower form (Krizhevsky 2014, arXiv:1404.5997). Made for 224 x 224 pixels; 63 x 63 at least.

    >>> alexnet().output_shape((3, 224, 224), 1000)
    (1000,)
    """
    features = [
        conv(64, 11, stride=4, padding=2),
        relu,
        maxpool(3, stride=2),
        conv(192, 5, padding=2),
        relu,
        maxpool(3, stride=2),
    ]
    features += [
        conv(384, 3, padding=1),
        relu,
        conv(256, 3, padding=1),
        relu,
        conv(256, 3, padding=1),
        relu,
        maxpool(3, stride=2),
    ]
    return Design([*features, flatten, dropout(0.5), linear(4096), relu, dropout(0.5), linear(4096), relu, linear(classes)])


def vgg(depth: int = 16) -> Design:
    """VGG with batch norm (Simonyan and Zisserman 2015, arXiv:1409.1556, configurations A, B, D and E); biases as published.

    Args:
        depth: 11, 13, 16 or 19 layers with weights.

    Raises:
        DesignError: there is no VGG of that depth.

    >>> vgg(16).output_shape((3, 224, 224), 1000)
    (1000,)
    """
    stages = [
        sequence(*num_convs * [conv(width, 3, padding=1, bias=True), norm, relu], maxpool(2), name=f"stage{index}")
        for index, (num_convs, width) in enumerate(
            zip(known_choice("vgg", "depths", depth, _VGG), (64, 128, 256, 512, 512), strict=True), 1
        )
    ]
    head = [flatten, linear(4096), relu, dropout(0.5), linear(4096), relu, dropout(0.5), linear(classes)]
    return Design([*stages, *head])


def mlp(*widths: int, dropout: float = 0.0) -> Design:
    """A plain network of linear layers: flatten, one hidden layer for each width, and the output layer.

    Args:
        widths: outputs of each hidden layer; without widths, a linear classifier.
        dropout: probability of dropout after each hidden layer.

    >>> mlp(512).text
    'flatten, linear(512), relu, linear(classes)'
    """
    hidden = [part for width in widths for part in (linear(width), relu, *([Dropout(dropout)] if dropout else []))]
    return Design([flatten, *hidden, linear(classes)])
