"""``compact``: the default network of visus."""

from __future__ import annotations

from typing import Final

from visus.design.arguments import known_choice
from visus.design.families.reference import Paper, Size, documented
from visus.design.items import Item, sequence
from visus.design.layers.registry import Shape, classes, conv, gelu, globalpool, linear, maxpool, norm, whiten
from visus.design.plan import Design
from visus.errors import DesignError

TRADE_OFFS: Final = ("pool", "border", "channels", "unproductive")
"""Kinds of advice on what ``compact`` does on purpose, each for the cost of a step: pools drop what is left over at the border, the first stage has few
channels on the largest map, the last stage keeps its second convolution, and the global pool also takes other sizes. ``benchmarks/default_network.py`` measures the alternatives."""

MAX_WHOLE_PX = 40  # images and volumes up to here are whitened at every place, larger ones patch beside patch
MAX_STEM_PX = 80  # largest side after the stem
COARSEST_STEM = 4
MANY_ITEMS = 20_000
WIDER = 4  # how many times the channels of the first stage those of the others have
SCALES: Final = {0.25: 1, 0.5: 2, 1: 2, 1.5: 2, 2: 3}
"""The scales, from narrow to wide, each with its number of convolutions in a stage."""
_MIN_CHANNELS = 8  # and what all numbers of channels are multiples of: a processor computes so many side by side


@documented(
    Paper("K. Jordan", 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", "arXiv:2404.00498"),
    sizes=(
        Size("compact", (3, 32, 32), 10),
        Size("compact(scale=0.25)", (3, 32, 32), 10),
        Size("compact(scale=0.5)", (3, 32, 32), 10),
        Size("compact(scale=1.5)", (3, 32, 32), 10),
        Size("compact(scale=2)", (3, 32, 32), 10),
        Size("compact", (3, 32, 32), 10, num_samples=50_000),
        Size("compact", (1, 28, 28), 10),
        Size("compact", (3, 128, 128), 10),
        Size("compact", (1, 8000), 10),
        Size("compact", (1, 28, 28, 28), 10),
    ),
)
def compact(
    input_shape: Shape, num_classes: int | None = None, num_samples: int | None = None, *, scale: float = 1
) -> Design:
    """A whitening stem, then stages of two convolutions around a pool until the receptive field covers the sample, then a
    global pool.

    - The stem whitens patches of 2 along each axis (its filters are computed from the data): at every place of images up to 40 px, patch
      beside patch of larger ones and of volumes, and of 4 where the side would still be longer than 80. Whitening keeps all
      the information of a patch, with fewer positions and more channels. Signals: patches of 8, at every fourth place.
    - A stage is a convolution, a max pool, norm, gelu, a convolution, norm, gelu. Windows are of 3 along each axis and pools of 2; for
      signals 9 and 4.
    - Stages are added until the field of one place of the last map reaches the whole shorter side, while there is something left to pool.
    - The first stage has 32 channels, from 20,000 small images on 64 (48 where they are gray), 16 for signals and 8 for volumes; the others
      have four times as many.
    - A scale multiplies the channels of every stage, rounded to a multiple of 8. At the smallest scale a stage has only its
      first convolution, so a long side may need one more stage. At the largest it has a third convolution, with the same
      number of stages.

    After Jordan 2024 (arXiv:2404.00498), section 3.1.

    Args:
        input_shape: ``(channels, *spatial)``.
        num_classes: unused here; other families may depend on it.
        num_samples: number of samples to train on; None if unknown.
        scale: 0.25, 0.5, 1, 1.5 or 2.

    Raises:
        DesignError: the input is not a map, or the scale is unknown.

    >>> print(compact((3, 32, 32), 10, 50_000).layers[0].text)
    sequence(whiten(2), gelu, name="stem")
    >>> [len(compact((3, side, side)).layers) - 3 for side in (8, 28, 32, 64, 128)]
    [1, 3, 3, 3, 4]
    >>> print(compact((1, 28, 28), scale=0.25).layers[1].text)
    sequence(conv(8, 3, padding=1, bias=False), maxpool(2), norm, gelu, name="stage1")
    """
    num_convs = known_choice("compact", "scales", scale, SCALES)
    if len(input_shape) < 2:
        raise DesignError(f"compact is made for maps, and the input has {input_shape[0]} features alone. Use mlp(256, 256).")
    side, rank = min(input_shape[1:]), len(input_shape) - 1
    kernel_size, stride = _patch(side, rank)
    window, pool = (9, 4) if rank == 1 else (3, 2)
    width = _first_width(input_shape, num_samples)
    stages: list[Item] = []
    length = (side - kernel_size) // stride + 1
    field, step = kernel_size, stride
    while not stages or (field < side and length >= pool):
        layers = [conv(_scaled(width, scale), window, padding=window // 2, bias=False), norm, gelu]
        shrink = [maxpool(pool)] if length >= pool else []
        more = (num_convs - 1) * layers
        stages.append(sequence(layers[0], *shrink, *layers[1:], *more, name=f"stage{len(stages) + 1}"))
        field += step * (window - 1)
        if shrink:
            field, step, length = field + step * (pool - 1), step * pool, length // pool
        field += step * (window - 1) * min(1, num_convs - 1)  # a third convolution does not count: the pools stay
        width = width * WIDER if len(stages) == 1 else width
    stem = sequence(whiten(kernel_size, stride=stride), gelu, name="stem")
    return Design([stem, *stages, globalpool("max"), linear(classes)])


def is_compact(design: Design, input_shape: Shape) -> bool:
    """Whether a design is ``compact`` for this input, at any scale and for any number of samples.

    >>> is_compact(compact((1, 28, 28), scale=2), (1, 28, 28)), is_compact(compact((1, 28, 28)), (3, 96, 96))
    (True, False)
    """
    if len(input_shape) < 2:
        return False
    counts = (None, MANY_ITEMS)
    return any(design == compact(input_shape, None, count, scale=scale) for scale in SCALES for count in counts)


def _patch(side: int, rank: int) -> tuple[int, int]:
    """Side of the patches that the stem whitens, and the step from one to the next."""
    if side < 2:
        return 1, 1
    if rank == 1:
        return (8, 4) if side >= 8 else (2, 1)
    if side <= MAX_WHOLE_PX and rank == 2:
        return 2, 1
    patch = 2
    while side // patch > MAX_STEM_PX and patch < COARSEST_STEM and rank == 2:
        patch *= 2
    return patch, patch


def _first_width(input_shape: Shape, num_samples: int | None) -> int:
    """Channels of the first stage: fewer where its map is large, since its cost goes with both, and where the stem has fewer to give."""
    channels, *spatial = input_shape
    if len(spatial) == 3:
        return 8
    if len(spatial) == 1:
        return 16
    if min(spatial) > MAX_WHOLE_PX or num_samples is None or num_samples < MANY_ITEMS:
        return 32
    return 48 if channels == 1 else 64


def _scaled(width: int, scale: float) -> int:
    """The multiple of 8 channels that is nearest to ``scale`` times ``width``, never none."""
    return max(_MIN_CHANNELS, _MIN_CHANNELS * round(width * scale / _MIN_CHANNELS))
