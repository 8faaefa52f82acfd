"""``compact``: the network that visus trains where none is named.

This file knows one rule: from the size of the input and the number of items to a plain stack of stages. It must not know recipes or torch.
"""

from __future__ import annotations

from visus.design.items import Item, sequence
from visus.design.layers import Layer, Shape, classes, conv, globalpool, linear, maxpool, norm, relu
from visus.design.plan import Design
from visus.errors import DesignError

FINAL_MAP = 4
WIDEST = 256
FEW_ITEMS, MANY_ITEMS = 2_000, 100_000
SMALL_SIDE = 40
LARGE_SIDE = 160


def compact(input_shape: Shape, num_classes: int | None = None, num_items: int | None = None) -> Design:
    """Stages of two convolutions that halve the map and double the channels until the map is about 4 x 4, then global pooling.

    - Pictures: 3 x 3 windows, each stage halves the map. Recordings: windows of 9, each stage divides the length by four.
      Volumes: 3 x 3 x 3; above 32 voxels a first convolution with stride 2, since volumes are large.
    - The first stage has 48 channels for small pictures (up to 40 px), 32 where there are fewer than 2,000 of them and 64 from 100,000
      on; 32 for larger pictures, 16 for large ones (from 160 px) and recordings, and 8 for volumes; a stage has twice the channels of
      the one before, 256 at most.
    - Global pooling takes the mean, so every place of the picture has its say.

    Args:
        input_shape: ``(channels, *spatial)``.
        num_classes: plays no part yet; a family may look at it.
        num_items: number of items to train on; None where that is unknown.

    Raises:
        DesignError: the input is no map.

    >>> compact((1, 28, 28), 10, 60_000).output_shape((1, 28, 28), 10)
    (10,)
    """
    if len(input_shape) < 2:
        raise DesignError(f"compact is made for maps, and the input has {input_shape[0]} features alone. Use mlp(256, 256).")
    side, rank = min(input_shape[1:]), len(input_shape) - 1
    width = _first_width(side, rank, num_items)
    stem: list[Item] = []
    if rank == 3 and side > 32:
        stem = [sequence(*_convolution(width, rank, stride=2), name="stem")]
        side //= 2
    shrink, final = (4, 2 * FINAL_MAP) if rank == 1 else (2, FINAL_MAP)
    stages: list[Item] = []
    while not stages or side > final:
        pool = [maxpool(shrink)] if side >= shrink else []
        side = side // shrink if pool else side
        window, *after = _convolution(width, rank)
        stages.append(sequence(window, *pool, *after, *_convolution(width, rank), name=f"stage{len(stages) + 1}"))
        width = min(2 * width, WIDEST)
    return Design([*stem, *stages, globalpool, linear(classes)])


def _convolution(width: int, rank: int, stride: int = 1) -> tuple[Item | type[Layer], ...]:
    """A convolution that keeps the size of the map (or halves it), normalised and rectified."""
    kernel_size = 9 if rank == 1 else 3
    return conv(width, kernel_size, stride=stride, padding=kernel_size // 2, bias=False), norm, relu


def _first_width(side: int, rank: int, num_items: int | None) -> int:
    """Channels of the first stage: fewer where its map is large, since its cost goes with both."""
    if rank == 3:
        return 8
    if rank == 1 or side >= LARGE_SIDE:
        return 16
    if side > SMALL_SIDE or (num_items is not None and num_items < FEW_ITEMS):
        return 32
    return 64 if num_items is not None and num_items >= MANY_ITEMS else 48
