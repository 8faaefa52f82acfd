"""Well-known families of networks as short functions that return a design.

This file knows published architectures. It must not know weights, data or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from visus.design.arguments import Shape, classes
from visus.design.compact import compact
from visus.design.items import Item, residual, sequence
from visus.design.layers import conv, dropout, flatten, globalpool, linear, maxpool, norm, relu
from visus.design.plan import Design
from visus.errors import DesignError

SMALL_PICTURE: Final = 64  # up to so many pixels on the longest axis, resnet begins without shrinking its map

_VGG: Final = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_RESNET: Final = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def lenet5() -> Design:
    """LeNet-5 (LeCun et al. 1998) in its usual present form: ReLU and max pooling. Made for 32 x 32 pixels in grey.

    >>> sum(node.num_parameters for node in lenet5().place((1, 32, 32), 10))
    61706
    """
    features = [conv(6, 5), relu, maxpool(2), conv(16, 5), relu, maxpool(2)]
    return Design([*features, flatten, linear(120), relu, linear(84), relu, linear(classes)])


def alexnet() -> Design:
    """AlexNet in its one-tower form (Krizhevsky 2014, arXiv:1404.5997). Made for 224 x 224 pixels; 63 x 63 at least."""
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
    """
    stages = [
        sequence(*num_convs * [conv(width, 3, padding=1, bias=True), norm, relu], maxpool(2), name=f"stage{index}")
        for index, (num_convs, width) in enumerate(zip(_depth("vgg", depth, _VGG), (64, 128, 256, 512, 512), strict=True), 1)
    ]
    head = [flatten, linear(4096), relu, dropout(0.5), linear(4096), relu, dropout(0.5), linear(classes)]
    return Design([*stages, *head])


def resnet(depth: int = 18, *, input_shape: Shape | None = None) -> Design:
    """ResNet (He et al. 2016, arXiv:1512.03385); in the deeper ones the stride is on the 3 x 3 layer, as is usual today.

    Args:
        depth: 18, 34, 50, 101 or 152 layers with weights.
        input_shape: ``(channels, *spatial)``. Up to 64 pixels on the longest axis, the network begins with a 3 x 3 convolution
            of stride 1 and no pooling; else, and where no shape is given, with 7 x 7 of stride 2 and a pooling of stride 2.

    Raises:
        DesignError: there is no ResNet of that depth.

    >>> sum(node.num_parameters for node in resnet(18).place((3, 224, 224), 1000))
    11689512
    """
    small = input_shape is not None and len(input_shape) > 1 and max(input_shape[1:]) <= SMALL_PICTURE
    stem = (
        [conv(64, 3, padding=1), norm, relu]
        if small
        else [conv(64, 7, stride=2, padding=3), norm, relu, maxpool(3, stride=2, padding=1)]
    )
    stages = []
    for index, num_blocks in enumerate(_depth("resnet", depth, _RESNET)):
        width = 64 * 2**index
        block = _basic_block if depth < 50 else _bottleneck_block
        first = sequence(block(width, 1 if index == 0 else 2), relu)
        others = [(num_blocks - 1) * sequence(block(width, 1), relu)]
        stages.append(sequence(first, *others, name=f"stage{index + 1}"))
    return Design([*stem, *stages, globalpool, linear(classes)])


def mlp(*widths: int, drop: float = 0.0) -> Design:
    """A plain network of linear layers: the picture flattened, a hidden layer for each width, the classes.

    Args:
        widths: outputs of each hidden layer; none makes a linear classifier.
        drop: probability of dropout after each hidden layer.

    >>> mlp(512).text
    'flatten, linear(512), relu, linear(classes)'
    """
    hidden = [part for width in widths for part in (linear(width), relu, *([dropout(drop)] if drop else []))]
    return Design([flatten, *hidden, linear(classes)])


FAMILIES: Final[dict[str, Callable[..., Design]]] = {
    "alexnet": alexnet,
    "compact": compact,
    "lenet5": lenet5,
    "mlp": mlp,
    "resnet": resnet,
    "vgg": vgg,
}


def _basic_block(width: int, stride: int) -> Item:
    step = conv(width, 3, stride=stride, padding=1)
    return residual(step, norm, relu, conv(width, 3, padding=1), norm)


def _bottleneck_block(width: int, stride: int) -> Item:
    return residual(
        conv(width, 1), norm, relu, conv(width, 3, stride=stride, padding=1), norm, relu, conv(4 * width, 1), norm
    )


def _depth(family: str, depth: int, known: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """The numbers of blocks for a depth."""
    if depth not in known:
        raise DesignError(f"{family} comes in the depths {', '.join(map(str, known))}, not {depth!r}.")
    return known[depth]
