"""Families for small machines: each channel filtered alone, then all channels mixed at each position."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from typing import Final

from visus.design.arguments import known_choice
from visus.design.items import Item, ItemLike, residual, sequence
from visus.design.layers.registry import Layer, classes, conv, depthwise, dropout, globalpool, linear, norm, relu, relu6
from visus.design.plan import Design
from visus.errors import DesignError

_MOBILENET1: Final = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *5 * ((512, 1),), (1024, 2), (1024, 1))
_MOBILENET2: Final = (  # expansion, channels, blocks, stride, kernel
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
    *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
)
_EFFICIENTNET: Final = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)
_LITE: Final = {  # width, depth, dropout; made for 224, 240, 260, 280 and 300 pixels
    0: (1.0, 1.0, 0.2),
    1: (1.0, 1.1, 0.2),
    2: (1.1, 1.2, 0.3),
    3: (1.2, 1.4, 0.3),
    4: (1.4, 1.8, 0.3),
}


def mobilenet(version: int = 2, *, width_mult: float = 1.0) -> Design:
    """MobileNet (Howard et al. 2017, arXiv:1704.04861; version 2: Sandler et al. 2018, arXiv:1801.04381). Made for 224 x 224 pixels.

    Args:
        version: 1 or 2.
        width_mult: factor of the channels of every layer; they are then multiples of 8.

    Raises:
        DesignError: there is no such version, or the factor is no positive number.

    >>> sum(node.num_parameters for node in mobilenet(2).place((3, 224, 224), 1000))
    3504872
    """
    known_choice("mobilenet", "versions", version, {1: None, 2: None})
    if not isinstance(width_mult, (int, float)) or not 0 < width_mult <= 16:
        raise DesignError(f"width_mult of mobilenet must be a factor above 0 and up to 16, not {width_mult!r}.")
    if version == 1:
        stages = [
            sequence(*_window(3, stride, relu), *_mix(_multiple(out * width_mult), relu)) for out, stride in _MOBILENET1
        ]
        return Design([*_stem(_multiple(32 * width_mult), relu), *stages, globalpool, dropout(0.001), linear(classes)])
    first = _multiple(32 * width_mult)
    rows = [(expansion, _multiple(out * width_mult), *rest) for expansion, out, *rest in _MOBILENET2]
    head = _mix(max(1280, _multiple(1280 * width_mult)), relu6)
    return Design([*_stem(first, relu6), *_inverted_stages(first, rows), *head, globalpool, dropout(0.2), linear(classes)])


def efficientnet_lite(size: int = 0) -> Design:
    """EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946, as released in 2020: without gates, relu6, stem and head unscaled;
    norms with an eps of 0.001).

    Args:
        size: 0 to 4; made for 224, 240, 260, 280 and 300 pixels. Padding is the same on both sides, as in PyTorch.

    Raises:
        DesignError: there is no such size.

    >>> sum(node.num_parameters for node in efficientnet_lite(0).place((3, 224, 224), 1000))
    4652008
    """
    width, depth, drop = known_choice("efficientnet_lite", "sizes", size, _LITE)
    rows = []
    for index, (expansion, out, num_blocks, stride, kernel) in enumerate(_EFFICIENTNET):
        at_an_end = index in (0, len(_EFFICIENTNET) - 1)
        deeper = num_blocks if at_an_end else math.ceil(num_blocks * depth)
        rows.append((expansion, _multiple(out * width), deeper, stride, kernel))
    normed = norm(eps=0.001)
    head = [*_mix(1280, relu6, normed), globalpool, dropout(drop), linear(classes)]
    return Design([*_stem(32, relu6, normed), *_inverted_stages(32, rows, normed), *head])


def _stem(width: int, activation: type[Layer], normed: ItemLike = norm) -> tuple[ItemLike, ...]:
    return conv(width, 3, stride=2, padding=1), normed, activation


def _window(kernel: int, stride: int, activation: type[Layer], normed: ItemLike = norm) -> tuple[ItemLike, ...]:
    """A window over each channel alone."""
    return depthwise(kernel, stride=stride, padding=kernel // 2), normed, activation


def _mix(width: int, activation: type[Layer], normed: ItemLike = norm) -> tuple[ItemLike, ...]:
    """All channels mixed at each position."""
    return conv(width, 1), normed, activation


def _inverted_stages(in_channels: int, rows: Many[tuple[int, ...]], normed: ItemLike = norm) -> list[Item]:
    """Stages of inverted residuals: many channels inside, few between. A block that keeps its shape adds its input."""
    stages: list[Item] = []
    for number, (expansion, out, num_blocks, stride, kernel) in enumerate(rows, 1):
        blocks: list[Item] = []
        for index in range(num_blocks):
            inner = in_channels * expansion
            first = stride if index == 0 else 1
            body = [
                *(_mix(inner, relu6, normed) if expansion > 1 else ()),
                *(*_window(kernel, first, relu6, normed), conv(out, 1), normed),
            ]
            keeps = first == 1 and in_channels == out
            blocks.append(sequence(residual(*body)) if keeps else sequence(*body))
            in_channels = out
        repeated = [(len(blocks) - 1) * blocks[1]] if len(blocks) > 2 else blocks[1:]
        stages.append(sequence(blocks[0], *repeated, name=f"stage{number}"))
    return stages


def _multiple(channels: float) -> int:
    """The nearest multiple of 8, at least 8 and not less than nine tenths of what was asked for."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
