"""A map laid over its sample, and boxes outlined on it: the one place where either is drawn.

The map has the size of the sample; ``visus.examine.map_placement`` says where the cells of a smaller map belong. Shape letters:
C channels, * the spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from visus.data.images.drawing import Pixels, Values, as_image, block_means
from visus.examine.layer_calls import Array, Box
from visus.pages.parts.charts import curve
from visus.pages.parts.images import enlarge, outline
from visus.pages.parts.samples import MAX_CURVES, MAX_SLICES, curve_size, pixel_image, slice_row

BLUE: Final = (20, 120, 235)
GRAY: Final = (150, 150, 150)
_RED: Final = (235.0, 64.0, 20.0)


def map_over_sample(
    values: Array, lowest: float, highest: float, heat: Array, label: str, side: int, box: Box | None = None
) -> str:
    """A sample in gray with a map over it: red, or for a signal a darker ground, where the map is high. Values below 0 count as 0.

    Args:
        values: the sample, (C, *).
        lowest, highest: values of the sample drawn as black and white.
        heat: the map, (*).
        label: the text for screen readers.
        side: approximate length of the longer side on the page, in CSS pixels.
        box: first and last position on each axis to outline; not drawn on volumes.
    """
    if heat.ndim == 1:
        lines = [("val", line) for line in values[:MAX_CURVES]]
        return curve(label, lines, heat=np.clip(heat, 0, None), box=box[0] if box else None, size=curve_size(side))
    top = float(heat.max())
    if heat.ndim == 2:
        blended = block_means(blend_map(as_image(values, lowest, highest), heat, top), side)
        if box is not None:
            blended = outline_box(blended, [(0, 0)] * 2, box, heat.shape, side)
        return pixel_image(blended, label, max(side, *blended.shape[:2]))
    depths = np.unique(np.linspace(0, heat.shape[0] - 1, min(MAX_SLICES, heat.shape[0])).round().astype(int))
    slices = [blend_map(as_image(values[:, depth], lowest, highest), heat[depth], top) for depth in depths]
    return slice_row([block_means(each, side // 2) for each in slices], label, side // 2)


def blend_map(image: Pixels, values: Values, highest: float | None = None) -> Pixels:
    """A map blended into an image of the same height and width: gray where the map is 0 or below, red where it is ``highest``."""
    high = float(values.max()) if highest is None else highest
    strength = np.clip(values / (high or 1.0), 0.0, 1.0)[..., None] if high > 0 else np.zeros((*values.shape, 1))
    gray = image.mean(axis=2, keepdims=True) * 0.75 + 40
    mixed = gray * (1 - 0.75 * strength) + np.array(_RED) * 0.75 * strength
    blended: Pixels = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return blended


def outline_box(
    image: Pixels,
    margins: Sequence[tuple[int, int]],
    box: Box,
    spatial: tuple[int, ...],
    side: int,
    color: tuple[int, int, int] = BLUE,
) -> Pixels:
    """An image enlarged to about ``side`` with the outline of a box, given in pixels of the sample, two drawn pixels wide.

    Args:
        image: the sample with margins, in its own size or smaller.
        margins: pixels of the sample before and after it on each axis.
        box: first and last pixel of the sample on both axes; it may lie in the margins.
        spatial: lengths of the sample's axes, without margins.
        side: approximate length of the longer side of the result.
        color: color of the outline.
    """
    large = enlarge(image, side)
    ends = []
    for axis in range(2):
        before, after = margins[axis]
        per_px = large.shape[axis] / (spatial[axis] + before + after)
        first, last = box[axis]
        ends.append((round((first + before) * per_px), round((last + 1 + before) * per_px) - 1))
    inner = [(first + 1, last - 1) for first, last in ends]
    return outline(outline(large, ends, color), inner, color)
