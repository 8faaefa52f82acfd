"""Designs changed so that their answers move less with the image: global pooling for flatten, blurred pooling for strides.

This file knows which items of a design depend on where things stand, and what takes their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from visus.design.arguments import PerAxis, largest
from visus.design.items import Item, Repeat, Residual, Sequence
from visus.design.layers.convolution import Conv, Depthwise
from visus.design.layers.features import Flatten
from visus.design.layers.layer import Layer, SameShape
from visus.design.layers.pooling import BLUR_KERNELS, BlurPool, GlobalPool, MaxPool
from visus.design.plan import Design

_BY_PLACE: Final = (Conv, Depthwise)


def with_global_pooling(design: Design) -> Design | None:
    """The design with a global pool where it flattens its last map; None where it flattens none, or nothing but the image.

    The layers that follow then read one number for each channel, and not one for each place.

    >>> from visus.design import parse
    >>> with_global_pooling(parse("conv(8, 3), relu, flatten, linear(classes)"))
    Design([conv(8, 3), relu, globalpool, linear(classes)])
    """
    found = [index for index, item in enumerate(design.layers) if isinstance(item, Flatten)]
    if not found or not any(isinstance(layer, _BY_PLACE) for layer in _layers(design.layers[: found[0]])):
        return None
    return Design([*design.layers[: found[0]], GlobalPool(), *design.layers[found[0] + 1 :]])


def with_blur_pooling(design: Design) -> Design | None:
    """The design with every strided convolution and max pool taken at every pixel, then blurred, then strided; None where there is none.

    Zhang 2019 (arXiv:1904.11486), section 3.2: the blur follows the norm and the activation behind a convolution. In front of a
    residual whose items stride, the blur and the stride come first, so that its projection does not drop pixels either; the paper
    has them inside, at more cost. Branches of a concat and average pools, which blur already, stay as they are.

    >>> from visus.design import parse
    >>> with_blur_pooling(parse("conv(8, 3, stride=2, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)")).layers[:6]
    (conv(8, 3, padding=1), norm, relu, blurpool(3), maxpool(2, stride=1), blurpool(3))
    """
    items = _blurred(design.layers)
    return Design(items) if tuple(items) != design.layers else None


def _blurred(items: Iterable[Item]) -> list[Item]:
    """The items with blurs; one that waits behind a convolution comes after what leaves the map's size alone."""
    out: list[Item] = []
    waiting: list[Item] = []
    for item in items:
        if not isinstance(item, SameShape):
            out += waiting
            waiting = []
        if isinstance(item, (*_BY_PLACE, MaxPool)) and _stride(item) != 1:
            dense = dataclasses.replace(item, stride=1)
            out.append(dataclasses.replace(dense, ceil_mode=False) if isinstance(dense, MaxPool) else dense)
            waiting = [_blur(_stride(item))]
        elif isinstance(item, Residual):
            out += _blurred_residual(item)
        elif isinstance(item, Sequence):
            out.append(Sequence(tuple(_blurred(item.layers)), name=item.name))
        elif isinstance(item, Repeat):
            body = _blurred([item.body])
            out.append(Repeat(item.times, body[0] if len(body) == 1 else Sequence(tuple(body))))
        else:
            out.append(item)
    return out + waiting


def _blurred_residual(item: Residual) -> list[Item]:
    """The residual with a blur in front of it, where strides of its convolutions alone make its map smaller."""
    strides = [_stride(layer) for layer in item.layers if isinstance(layer, _BY_PLACE) and _stride(layer) != 1]
    inner = [layer for layer in _layers([item]) if isinstance(layer, MaxPool) and _stride(layer) != 1]
    if len(strides) != 1 or inner:
        return [item]
    layers = [
        dataclasses.replace(layer, stride=1) if isinstance(layer, _BY_PLACE) and _stride(layer) != 1 else layer
        for layer in item.layers
    ]
    return [_blur(strides[0]), Residual(tuple(layers), name=item.name)]


def _blur(stride: PerAxis) -> BlurPool:
    """A blur as wide as the stride needs: 3 pixels for 2, 5 for 3, 7 beyond."""
    return BlurPool(min(BLUR_KERNELS[-1], max(BLUR_KERNELS[0], 2 * largest(stride) - 1)), stride=stride)


def _stride(layer: Item) -> PerAxis:
    """The stride of a layer, 1 where it has none; a pool without one strides by its kernel."""
    stride: PerAxis | None = getattr(layer, "stride", 1)
    if stride is None:
        stride = getattr(layer, "kernel_size", 1)
    return 1 if largest(stride) == 1 else stride


def _layers(items: Iterable[Item]) -> list[Layer]:
    """All layers among the items and inside them."""
    found: list[Layer] = []
    for item in items:
        found += [item] if isinstance(item, Layer) else _layers(item.children)
    return found
