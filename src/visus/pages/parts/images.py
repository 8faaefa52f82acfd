"""Arrays as small images: samples as they are, maps in color scales, grids of many images.

An image is a ``uint8`` array (height, width, 3) until ``png`` packs it. One pixel stays one value until ``enlarge`` repeats it, so
nothing is smoothed.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Values = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

_NUM_SHADES = 256
_PAPER = 255


def png(drawn: Pixels) -> bytes:
    """The image as the bytes of a PNG file."""
    content = io.BytesIO()
    _with_palette(drawn).save(content, format="PNG", optimize=True)
    return content.getvalue()


def _with_palette(drawn: Pixels) -> Image.Image:
    """The same pixels, as a palette where they have at most 256 colors, which takes a third of the bytes."""
    codes = drawn.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
    colors, places = np.unique(codes, return_inverse=True)
    if len(colors) > _NUM_SHADES:
        return Image.fromarray(drawn)
    image = Image.fromarray(places.reshape(codes.shape).astype(np.uint8))
    image.putpalette(np.stack([colors >> 16, colors >> 8 & 255, colors & 255], 1).astype(np.uint8).tobytes())
    return image


def as_image(values: Values, lowest: float | None = None, highest: float | None = None) -> Pixels:
    """A sample as an image: three channels are drawn as RGB, any other number of channels as their mean in gray.

    Args:
        values: (channels, height, width), in any unit.
        lowest, highest: drawn black and white; default: those of the values.

    >>> as_image(np.array([[[0.0, 1.0]]]))[0, :, 0].tolist()
    [0, 255]
    """
    channels = values if len(values) == 3 else values.mean(axis=0, keepdims=True)
    low = float(channels.min()) if lowest is None else lowest
    high = float(channels.max()) if highest is None else highest
    levels = np.clip((channels - low) / (high - low or 1.0), 0.0, 1.0)
    drawn = np.rint(levels * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(drawn, (*drawn.shape[:2], 3)))


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


def block_means(drawn: npt.NDArray[Any], side: int) -> Any:
    """Means of blocks of whole pixels, so that no side is longer than ``side``; an image that is small enough comes back as it is.

    Args:
        drawn: (height, width, anything), pixels or values of a map.
        side: the largest length of a side.

    >>> block_means(np.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [0.5, 2.5]
    """
    times = -(-max(drawn.shape[:2]) // side)
    if times <= 1:
        return drawn
    found = drawn.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, found.shape[axis], times)
        lengths = np.diff([*starts, found.shape[axis]]).reshape([-1 if each == axis else 1 for each in range(found.ndim)])
        found = np.add.reduceat(found, starts, axis=axis) / lengths
    return np.rint(found).astype(drawn.dtype) if np.issubdtype(drawn.dtype, np.integer) else found


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


def depth_slices(volume: Values, count: int) -> list[Values]:
    """At most ``count`` depth_slices of a volume along its depth, evenly spaced: (channels, depth, height, width) to (channels, height, width)."""
    depth = volume.shape[1]
    places = np.unique(np.linspace(0, depth - 1, min(count, depth)).round().astype(int))
    return [volume[:, place] for place in places]


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
