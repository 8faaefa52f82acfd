"""Arrays as small images: samples as they are, with large ones drawn as block means, and their PNG files.

An image is a ``uint8`` array (height, width, 3) until ``png`` packs it.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Values = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

_NUM_SHADES = 256


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


def depth_slices(volume: Values, count: int) -> list[Values]:
    """At most ``count`` depth_slices of a volume along its depth, evenly spaced: (channels, depth, height, width) to (channels, height, width)."""
    depth = volume.shape[1]
    places = np.unique(np.linspace(0, depth - 1, min(count, depth)).round().astype(int))
    return [volume[:, place] for place in places]
