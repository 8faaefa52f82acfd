"""Arrays as small images: samples as they are, maps in color scales, grids of many images.

An image is a ``uint8`` array (height, width, 3) until ``png`` packs it. One pixel stays one value until ``enlarge`` repeats it, so
nothing is smoothed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from visus.data.images.drawing import Pixels, Values

_NUM_SHADES = 256
_PAPER = 255


def unsigned_colors(values: Values, highest: float | None = None, lowest: float = 0.0) -> Pixels:
    """A map (height, width) of values from 0 on: dark at ``lowest``, bright at ``highest`` (default: its largest value)."""
    high = float(values.max()) if highest is None else highest
    levels = np.clip((values - lowest) / (high - lowest or 1.0), 0.0, 1.0)
    return _colored(levels, "magma")


def signed_colors(values: Values, highest: float | None = None) -> Pixels:
    """A map (height, width) of positive and negative values: white is 0, red positive, blue negative, both full at ``highest``."""
    high = float(np.abs(values).max()) if highest is None else highest
    levels = np.clip(values / (high or 1.0), -1.0, 1.0) / 2 + 0.5
    return _colored(levels, "RdBu_r")


def enlarge(drawn: Pixels, side: int) -> Pixels:
    """Every pixel repeated a whole number of times, as often as the longer side stays within ``side``.

    A larger image comes back as it is.

    >>> enlarge(np.zeros((2, 3, 3), np.uint8), 10).shape
    (6, 9, 3)
    """
    times = max(1, side // max(drawn.shape[:2]))
    repeated: Pixels = drawn.repeat(times, axis=0).repeat(times, axis=1)
    return repeated


def make_grid(images: Sequence[Pixels], columns: int, gap: int = 2) -> Pixels:
    """Images in rows of ``columns``, each in a cell of the size of the largest, ``gap`` white pixels between them.

    >>> make_grid([np.zeros((4, 4, 3), np.uint8)] * 5, columns=3, gap=1).shape
    (9, 14, 3)
    """
    columns = min(columns, len(images))
    height = max(each.shape[0] for each in images)
    width = max(each.shape[1] for each in images)
    rows = -(-len(images) // columns)
    paper = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _PAPER, dtype=np.uint8)
    for index, each in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        paper[top : top + each.shape[0], left : left + each.shape[1]] = each
    return paper


def outline(drawn: Pixels, box: Sequence[tuple[int, int]], color: tuple[int, int, int] = (235, 64, 20)) -> Pixels:
    """The outline of a box, first and last pixel on both axes, drawn on a copy; what lies outside the image is not drawn.

    >>> outline(np.zeros((4, 4, 3), np.uint8), [(1, 2), (1, 2)])[:, :, 0].any(axis=1).tolist()
    [False, True, True, False]
    """
    (top, bottom), (left, right) = box
    height, width = drawn.shape[:2]
    marked = drawn.copy()
    rows, columns = slice(max(0, top), min(height, bottom + 1)), slice(max(0, left), min(width, right + 1))
    for place in (top, bottom):
        if 0 <= place < height:
            marked[place, columns] = color
    for place in (left, right):
        if 0 <= place < width:
            marked[rows, place] = color
    return marked


def _colored(levels: Values, scale: str) -> Pixels:
    shades = _shades(scale)
    chosen: Pixels = shades[np.rint(np.nan_to_num(levels) * (_NUM_SHADES - 1)).astype(np.intp)]
    return chosen


@functools.cache
def _shades(scale: str) -> Pixels:
    import matplotlib

    table = matplotlib.colormaps[scale](np.linspace(0, 1, _NUM_SHADES))[:, :3]
    shades: Pixels = np.rint(table * 255).astype(np.uint8)
    return shades
