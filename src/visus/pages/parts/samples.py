"""Samples and maps as page text, whatever their rank: signals as curves, images as pixels, volumes as slices along the depth.

Shape letters: C channels, * the spatial axes.
"""

from __future__ import annotations

from typing import Final

from visus.data.images.drawing import Pixels, as_image, block_means, depth_slices, png
from visus.examine.layer_calls import Array
from visus.pages.parts.charts import curve
from visus.pages.parts.document import image
from visus.pages.parts.images import enlarge, make_grid, signed_colors, unsigned_colors

MAX_SLICES: Final = 5
MAX_CURVES: Final = 6
CURVE_PX: Final = (300, 84)
_GAP_PX: Final = 3


def sample_image(values: Array, lowest: float, highest: float, label: str, side: int) -> str:
    """A sample, (C, *).

    Args:
        values: the sample.
        lowest, highest: drawn black and white.
        label: the text for screen readers.
        side: length of the longer side on the page, about, in CSS pixels.
    """
    rank = values.ndim - 1
    if rank == 1:
        return curve(label, [("val", line) for line in values[:MAX_CURVES]], size=curve_size(side))
    if rank == 2:
        return pixel_image(as_image(values, lowest, highest), label, side)
    slices = [block_means(as_image(each, lowest, highest), side // 2) for each in depth_slices(values, MAX_SLICES)]
    return slice_row(slices, label, side // 2)


def map_image(values: Array, highest: float, is_signed: bool, label: str, side: int) -> str:
    """One map, (*), in a color scale from 0, or from minus ``highest``, to ``highest``."""
    if values.ndim == 1:
        lowest = -highest if is_signed else 0.0
        return curve(label, [("val", values)], lowest=lowest, highest=highest, size=curve_size(side))
    color = signed_colors if is_signed else unsigned_colors
    if values.ndim == 2:
        return pixel_image(color(map_block_means(values, side), highest), label, side)
    slices = [color(map_block_means(each[0], side), highest) for each in depth_slices(values[None], MAX_SLICES)]
    return slice_row(slices, label, side)


def pixel_image(pixels: Pixels, label: str, side: int) -> str:
    """Pixels on a page, each a whole number of times as large, the longer side near ``side``; a larger image is drawn as block means."""
    small = block_means(pixels, side)
    times = max(1, round(side / max(small.shape[:2])))
    return image(png(small), label, width=small.shape[1] * times, height=small.shape[0] * times, style="pixels")


def slice_row(slices: list[Pixels], label: str, side: int) -> str:
    """Slices of a volume beside each other, as one image."""
    times = max(1, side // max(slices[0].shape[:2]))
    joined = make_grid([enlarge(each, side) for each in slices], len(slices), gap=_GAP_PX)
    style = "pixels" if times > 1 else "pixels slices"
    return image(png(joined), label, width=joined.shape[1], height=joined.shape[0], style=style)


def sample_block_means(values: Array, side: int) -> Array:
    """A sample, (C, ..., height, width), its height and width no larger than ``side``: means of blocks where they are larger."""
    planes = values.reshape(-1, *values.shape[-2:]).transpose(1, 2, 0)
    small: Array = block_means(planes, side).transpose(2, 0, 1)
    return small.reshape(*values.shape[:-2], *small.shape[1:])


def map_block_means(values: Array, side: int) -> Array:
    """A map (height, width) no larger than ``side``: means of blocks where it is larger."""
    small: Array = block_means(values[..., None], side)[..., 0] if max(values.shape) > side else values
    return small


def curve_size(side: int) -> tuple[int, int]:
    """Width and height of a curve that stands where an image of ``side`` would."""
    width = max(120, min(CURVE_PX[0], 2 * side))
    return width, max(48, round(width * CURVE_PX[1] / CURVE_PX[0]))
