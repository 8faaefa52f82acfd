"""Designs whose predictions change less when the image shifts: global pooling replaces flatten, blur pooling replaces
strides."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many

from visus.design.arguments import PerAxis, largest
from visus.design.graph import Route
from visus.design.items import Concat, Item, Residual
from visus.design.layers.convolution import Convolution
from visus.design.layers.features import Flatten
from visus.design.layers.layer import Layer, SameShape
from visus.design.layers.pooling import BLUR_KERNELS, BlurPool, GlobalPool, MaxPool
from visus.design.plan import Design
from visus.design.rewrite import replaced, rewritten, with_arguments


def with_global_pooling(design: Design) -> Design | None:
    """The design with a global pool in place of its first flatten; None if it has none, or flattens the image itself.

    The layers that follow then read one number for each channel instead of one for each position.

    >>> from visus.design import parse
    >>> with_global_pooling(parse("conv(8, 3), relu, flatten, linear(classes)"))
    Design([conv(8, 3), relu, globalpool, linear(classes)])
    """
    found = [index for index, item in enumerate(design.layers) if isinstance(item, Flatten)]
    if not found or not any(isinstance(layer, Convolution) for layer in _layers(design.layers[: found[0]])):
        return None
    items = replaced(design.layers, (found[0],), [GlobalPool()])
    return Design(items) if items else None


def with_blur_pooling(design: Design) -> Design | None:
    """The design with a blur pool for every stride of a convolution or a max pool; None if there is no such stride.

    Zhang 2019 (arXiv:1904.11486), section 3.2: the blur follows the norm and the activation behind a convolution. If the
    body of a residual strides, the blur pool comes before the residual, so that its projection does not skip pixels either.
    The paper places it inside, at a higher cost. Branches of a concat and average pools, which blur already, stay as they
    are.

    >>> from visus.design import parse
    >>> with_blur_pooling(parse("conv(8, 3, stride=2, padding=1), norm, relu, maxpool(2), globalpool, linear(classes)")).layers[:6]
    (conv(8, 3, padding=1), norm, relu, blurpool(3), maxpool(2, stride=1), blurpool(3))
    """
    blurs: list[Item] = []

    def change(item: Item, route: Route) -> Many[Item] | None:
        if isinstance(item, Residual):
            return _blurred_residual(item)
        if isinstance(item, Concat):
            return [item]
        if not isinstance(item, (Convolution, MaxPool)) or _stride(item) == 1:
            return None
        blurs.append(_blur(_stride(item)))
        return [_dense(item), blurs[-1]]

    def behind_norm_and_activation(row: list[Item]) -> list[Item]:
        arranged: list[Item] = []
        waiting: list[Item] = []
        for item in row:
            if not isinstance(item, SameShape):
                arranged += waiting
                waiting = []
            (waiting if any(item is blur for blur in blurs) else arranged).append(item)
        return arranged + waiting

    items = rewritten(design.layers, change, behind_norm_and_activation)
    return Design(items) if items != design.layers else None


def _blurred_residual(item: Residual) -> list[Item]:
    """The residual behind a blur, if its map shrinks by the stride of one convolution alone."""
    strides = [_stride(layer) for layer in item.layers if isinstance(layer, Convolution) and _stride(layer) != 1]
    has_strided_pool = any(isinstance(layer, MaxPool) and _stride(layer) != 1 for layer in _layers([item]))
    if len(strides) != 1 or has_strided_pool:
        return [item]
    return [
        _blur(strides[0]),
        *rewritten(
            [item], lambda part, route: [_dense(part)] if isinstance(part, Convolution) and len(route) == 2 else None
        ),
    ]


def _dense(layer: Layer) -> Layer:
    """The layer at every position: with stride 1."""
    if _stride(layer) == 1:
        return layer
    changes = {"stride": 1, "ceil_mode": False} if isinstance(layer, MaxPool) else {"stride": 1}
    return with_arguments(layer, **changes) or layer


def _blur(stride: PerAxis) -> BlurPool:
    """A blur as wide as the stride needs: 3 pixels for a stride of 2, 5 for 3, 7 beyond."""
    return BlurPool(min(BLUR_KERNELS[-1], max(BLUR_KERNELS[0], 2 * largest(stride) - 1)), stride=stride)


def _stride(layer: Item) -> PerAxis:
    """The stride of a layer, 1 if it has none; that of a pool is its kernel by default."""
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
