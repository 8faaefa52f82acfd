"""Conversion of an image to a given number of channels and a given size.

Shape letters: C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from visus.data.images.resample import Image, resample
from visus.errors import UsageError, unknown_name

ResizeMode = Literal["squash", "crop", "pad"]
RESIZE_MODES: tuple[ResizeMode, ...] = ("squash", "crop", "pad")


def fit(pixels: npt.NDArray[Any], channels: int, size: tuple[int, ...], resize_mode: str) -> tuple[Image, tuple[str, ...]]:
    """Convert an image to the given channels and size. The result also has the actions for the ledger.

    If the aspect ratio differs, ``squash`` resizes each axis separately. ``crop`` keeps the largest centered part with the wanted
    aspect ratio. ``pad`` fits the whole image into the frame and repeats its edge pixels, which adds no contour that a network could
    mistake for an object. Resizing is bilinear with antialiasing in integer arithmetic (``resample``). Its pixels are within two levels of Pillow's.

    Args:
        pixels: uint8, shape (C, H, W) with C 1 or 3.
        channels: 1 or 3. Color becomes gray by the luma of ITU-R 601; gray becomes color as three equal channels.
        size: wanted (height, width).
        resize_mode: ``squash``, ``crop`` or ``pad``.

    Returns:
        Contiguous uint8 array of shape (channels, height, width), and the actions.

    Raises:
        UsageError: there is no such resize mode, or the channels or the size make no image.

    >>> image, actions = fit(np.zeros((3, 40, 60), np.uint8), 1, (20, 20), "crop")
    >>> image.shape, actions
    ((1, 20, 20), ('cropped', 'resized', 'color made gray'))
    """
    if resize_mode not in RESIZE_MODES:
        raise UsageError(unknown_name("resize mode", resize_mode, RESIZE_MODES))
    if channels not in (1, 3) or len(size) != 2 or min(size) < 1:
        shape = " x ".join(map(str, (channels, *size)))
        raise UsageError(
            f"an image cannot be converted to {shape}: 1 or 3 channels, a height and a width of at least 1 are needed."
        )
    assert pixels.dtype == np.uint8, "decode returns uint8"
    assert pixels.ndim == 3, "decode returns (channels, height, width)"
    height, width = size
    actions: list[str] = []
    inner = (height, width)
    if resize_mode == "crop":
        pixels = _middle(pixels, height, width, actions)
    elif resize_mode == "pad":
        inner = _inner_size(pixels.shape[1], pixels.shape[2], height, width)
    if pixels.shape[1:] != inner:
        pixels = resample(pixels, inner)
        actions.append("resized")
    if inner != (height, width):
        pixels = _padded(pixels, height, width)
        actions.append("padded")
    if channels != pixels.shape[0]:
        actions.append("gray made color" if channels == 3 else "color made gray")
        pixels = np.repeat(pixels, 3, axis=0) if channels == 3 else _luma(pixels)
    return np.ascontiguousarray(pixels), tuple(actions)


def _middle(pixels: Image, height: int, width: int, actions: list[str]) -> Image:
    """The largest centered part with the aspect ratio height : width, in whole pixels."""
    _, found_height, found_width = pixels.shape
    kept_height = min(found_height, max(1, round(found_width * height / width)))
    kept_width = min(found_width, max(1, round(found_height * width / height)))
    if (kept_height, kept_width) == (found_height, found_width):
        return pixels
    actions.append("cropped")
    top, left = (found_height - kept_height) // 2, (found_width - kept_width) // 2
    return pixels[:, top : top + kept_height, left : left + kept_width]


def _inner_size(found_height: int, found_width: int, height: int, width: int) -> tuple[int, int]:
    """Size of the whole image inside the frame, with its aspect ratio."""
    scale = min(height / found_height, width / found_width)
    return min(height, max(1, round(found_height * scale))), min(width, max(1, round(found_width * scale)))


def _padded(pixels: Image, height: int, width: int) -> Image:
    missing = height - pixels.shape[1], width - pixels.shape[2]
    edges = [(length // 2, length - length // 2) for length in missing]
    return np.pad(pixels, [(0, 0), *edges], mode="edge")


def _luma(pixels: Image) -> Image:
    """Luma of a color image (ITU-R BT.601): 0.299 red + 0.587 green + 0.114 blue, in Pillow's 16-bit fixed point."""
    red, green, blue = pixels.astype(np.uint32)
    gray = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return np.asarray(gray, dtype=np.uint8)[None]
