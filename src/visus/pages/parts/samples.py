"""Samples, maps and maps over samples as page text, whatever their rank: signals as curves, images as pixels, volumes as slices.

Shape letters: C channels, * the spatial axes. This file knows how an array of a rank is shown on a page.
"""

from __future__ import annotations

import numpy as np

from visus.examine.layer_calls import Array, Box
from visus.pages.parts.charts import curve
from visus.pages.parts.document import image as element
from visus.pages.parts.images import (
    Drawn,
    as_image,
    enlarged,
    framed,
    in_shades,
    in_signed_shades,
    laid_over,
    png,
    reduced,
    sheet,
    slices,
)

SLICES = 5
CURVE_PX = (300, 84)
_GAP_PX = 3


def image(drawn: Drawn, told: str, side: int) -> str:
    """Drawn pixels on a page: every one a whole number of times as large, the longer side near ``side``; larger ones are block means."""
    small = reduced(drawn, side)
    times = max(1, round(side / max(small.shape[:2])))
    return element(png(small), told, width=small.shape[1] * times, height=small.shape[0] * times, style="pixels")


def sample(values: Array, lowest: float, highest: float, told: str, side: int) -> str:
    """A sample, (C, *)."""
    rank = values.ndim - 1
    if rank == 1:
        return curve(told, [("val", line) for line in values[:_CURVES]], size=_curve_size(side))
    if rank == 2:
        return image(as_image(values, lowest, highest), told, side)
    pages = [reduced(as_image(each, lowest, highest), side // 2) for each in slices(values, SLICES)]
    return _row(pages, told, side // 2)


_CURVES = 6


def one_map(values: Array, highest: float, is_signed: bool, told: str, side: int) -> str:
    """One map, (*), in the shades of a scale from 0, or from minus ``highest``, to ``highest``."""
    if values.ndim == 1:
        return curve(told, [("val", values)], lowest=-highest if is_signed else 0.0, highest=highest, size=_curve_size(side))
    draw = in_signed_shades if is_signed else in_shades
    if values.ndim == 2:
        return image(draw(reduced_values(values, side), highest), told, side)
    pages = [draw(reduced_values(each[0], side), highest) for each in slices(values[None], SLICES)]
    return _row(pages, told, side)


def over(values: Array, lowest: float, highest: float, heat: Array, told: str, side: int, box: Box | None = None) -> str:
    """A map as large as its sample laid over it; its values below 0 count as 0. A box is outlined."""
    if heat.ndim == 1:
        lines = [("val", line) for line in values[:_CURVES]]
        return curve(told, lines, heat=np.clip(heat, 0, None), box=box[0] if box else None, size=_curve_size(side))
    top = float(heat.max())
    if heat.ndim == 2:
        drawn = reduced(laid_over(as_image(values, lowest, highest), heat, top), side)
        if box is not None:
            drawn = outlined(drawn, [(0, 0)] * 2, box, heat.shape, side)
        return image(drawn, told, max(side, *drawn.shape[:2]))
    depths = np.unique(np.linspace(0, heat.shape[0] - 1, min(SLICES, heat.shape[0])).round().astype(int))
    pages = [
        reduced(laid_over(as_image(values[:, depth], lowest, highest), heat[depth], top), side // 2) for depth in depths
    ]
    return _row(pages, told, side // 2)


def outlined(
    drawn: Drawn,
    margins: list[tuple[int, int]],
    box: Box,
    spatial: tuple[int, ...],
    side: int,
    color: tuple[int, int, int] = (20, 120, 235),
) -> Drawn:
    """An image enlarged to about ``side`` with the outline of a box, given in pixels of the sample, two drawn pixels wide.

    Args:
        drawn: the sample with margins, as it is or reduced.
        margins: pixels of the sample before and after it on each axis.
        box: first and last pixel of the sample on both axes; it may lie in the margins.
        spatial: lengths of the sample's axes, without margins.
        side: longer side of what comes back, about.
        color: of the outline.
    """
    large = enlarged(drawn, side)
    ends = []
    for axis in range(2):
        before, after = margins[axis]
        per_px = large.shape[axis] / (spatial[axis] + before + after)
        first, last = box[axis]
        ends.append((round((first + before) * per_px), round((last + 1 + before) * per_px) - 1))
    inner = [(first + 1, last - 1) for first, last in ends]
    return framed(framed(large, ends, color), inner, color)


def reduced_sample(values: Array, side: int) -> Array:
    """A sample, (C, ..., height, width), its height and width no larger than ``side``: means of blocks where they are larger."""
    planes = values.reshape(-1, *values.shape[-2:]).transpose(1, 2, 0)
    small: Array = reduced(planes, side).transpose(2, 0, 1)
    return small.reshape(*values.shape[:-2], *small.shape[1:])


def reduced_values(values: Array, side: int) -> Array:
    """A map (height, width) no larger than ``side``: means of blocks where it is larger."""
    small: Array = reduced(values[..., None], side)[..., 0] if max(values.shape) > side else values
    return small


def _row(pages: list[Drawn], told: str, side: int) -> str:
    """Slices beside each other, as one image."""
    times = max(1, side // max(pages[0].shape[:2]))
    joined = sheet([enlarged(each, side) for each in pages], len(pages), gap=_GAP_PX)
    return element(
        png(joined),
        told,
        width=joined.shape[1],
        height=joined.shape[0],
        style="pixels" if times > 1 else "pixels slices",
    )


def _curve_size(side: int) -> tuple[int, int]:
    width = max(120, min(CURVE_PX[0], 2 * side))
    return width, max(48, round(width * CURVE_PX[1] / CURVE_PX[0]))
