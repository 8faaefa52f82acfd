"""ConvNeXt: a convolutional network with the proportions of a vision transformer."""

from __future__ import annotations

from typing import Final

from visus.design.arguments import known_choice
from visus.design.items import Item, ItemLike, residual, sequence
from visus.design.layers.registry import classes, conv, depthwise, droppath, gelu, globalpool, layernorm, linear, scale
from visus.design.plan import Design
from visus.errors import DesignError

_CONVNEXT: Final = {
    "tiny": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "small": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "base": ((128, 256, 512, 1024), (3, 3, 27, 3)),
}


def convnext(size: str = "tiny", *, drop_path_rate: float = 0.0) -> Design:
    """ConvNeXt (Liu et al. 2022, arXiv:2201.03545). Made for 224 x 224 pixels; 32 x 32 at least.

    Args:
        size: ``"tiny"``, ``"small"`` or ``"base"``.
        drop_path_rate: probability that the last block is left out in training, growing evenly from 0 at the first. The paper trains 300
            epochs with 0.1 (tiny), 0.4 (small) and 0.5 (base); each block then has a line of its own in the text.

    Raises:
        DesignError: there is no such size, or ``drop_path_rate`` is no probability.

    >>> sum(node.num_parameters for node in convnext("tiny").place((3, 224, 224), 1000))
    28589128
    """
    widths, depths = known_choice("convnext", "sizes", size, _CONVNEXT)
    if not isinstance(drop_path_rate, (int, float)) or not 0 <= drop_path_rate < 1:
        raise DesignError(f"drop_path_rate of convnext must be a probability from 0 to below 1, not {drop_path_rate!r}.")
    parts: list[ItemLike] = [sequence(conv(widths[0], 4, stride=4), layernorm, name="stem")]
    done, last = 0, max(1, sum(depths) - 1)
    for number, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        shrink = [layernorm, conv(width, 2, stride=2)] if number > 1 else []
        chances = [drop_path_rate * index / last for index in range(done, done + depth)]
        blocks = [_block(width, chance) for chance in chances] if drop_path_rate else [depth * _block(width, 0)]
        parts.append(sequence(*shrink, *blocks, name=f"stage{number}"))
        done += depth
    return Design([*parts, globalpool, layernorm, linear(classes)])


def _block(width: int, drop: float) -> Item:
    """A large window over each channel alone, then two layers at each position with four times the channels between."""
    path = [droppath(drop)] if drop else []
    return residual(depthwise(7, padding=3), layernorm, conv(4 * width, 1), gelu, conv(width, 1), scale(1e-6), *path)
