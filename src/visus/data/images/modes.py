"""Conversion of every Pillow mode to 8-bit gray or color.

Rules:
- 16 bits: value * 255 / 65,535, rounded. The whole range is kept and nothing is clipped, so 12 bits in a 16-bit file stay dark.
  Pillow itself reads 16-bit color as 8-bit by keeping the upper byte, which differs from this rule by at most one level.
- 1 bit: 0 and 255.
- transparency (an alpha channel, a transparent palette entry or color): blended on white.
- palettes become color, even if all their entries are gray.
- CMYK and YCbCr are converted by Pillow, LAB by its color management. Embedded color profiles (ICC) are not applied.
- 32-bit integers and floating point are errors: the file does not state which values are black and white.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from visus.errors import ImageError

Values = npt.NDArray[np.uint8]

_GRAY = {"1", "L", "LA", "La", "I", "F"}
_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_SIXTEEN_BIT_FORMATS = {"PNG", "PPM"}  # their mode I holds 0 to 65,535
_LOW_RANGE = 2**13 - 1  # 12-bit cameras and scanners, and some with one bit more
WHITE_IS_ZERO = 0  # TIFF tag 262, PhotometricInterpretation


def num_channels(mode: str) -> int:
    """Number of channels, 1 or 3, of an image of this mode after ``to_values``.

    >>> num_channels("LA"), num_channels("I;16B"), num_channels("P"), num_channels("CMYK")
    (1, 1, 3, 3)
    """
    return 1 if mode in _GRAY or mode.startswith("I;16") else 3


def holds_16_bits(image: Image.Image) -> bool:
    """Whether the file has 16 bits per value. Call it before the pixels are decoded."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(argument, str) and ";16" in argument for argument in arguments):
            return True
        if image.format == "PPM" and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def to_values(image: Image.Image, is_16_bit: bool) -> tuple[Values, list[str]]:
    """The pixels as 8-bit gray or color, and the actions for the ledger.

    Args:
        image: an opened image; decoded here if necessary.
        is_16_bit: result of ``holds_16_bits``.

    Returns:
        Writable array of shape (height, width, channels), with 1 or 3 channels; and the actions.

    Raises:
        ImageError: the mode is not supported.
    """
    mode = image.mode
    actions = ["16-bit values scaled to 8-bit"] if is_16_bit or mode.startswith("I;") else []
    if mode.startswith("I;16") or (mode == "I" and image.format in _SIXTEEN_BIT_FORMATS):
        values, blended, is_low = _scaled(image)
        done = ["16-bit values scaled to 8-bit"] + ["transparency blended on white"] * blended
        return values, done + ["16-bit values in the lowest part of their range"] * is_low
    if mode in ("I", "F"):
        kind = "floating-point numbers" if mode == "F" else "32-bit or signed integers"
        raise ImageError(
            f"the image has {kind}, and does not state which values are black and white. "
            f"Save it with 8 or 16 bits, or provide the numbers as an .npy or .npz array."
        )
    if mode in ("P", "PA"):
        actions.append("palette resolved to color")
    if mode == "1":
        actions.append("1-bit values widened to 8-bit")
    if mode in _ALPHA or "transparency" in image.info:
        values, blended = _blended(image, is_16_bit)
        return values, actions + ["transparency blended on white"] * blended
    if mode == "CMYK":
        actions.append("CMYK converted to RGB")
    elif mode in ("YCbCr", "LAB", "HSV"):
        actions.append("color space converted to RGB")
    elif mode not in ("1", "L", "P", "RGB", "RGBX"):
        raise ImageError(f"the image has the mode {mode}, which visus does not support. Save it as 8-bit gray or RGB.")
    return _array(_from_lab(image) if mode == "LAB" else _converted(image)), actions


def _converted(image: Image.Image) -> Image.Image:
    wanted = "L" if num_channels(image.mode) == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _array(image: Image.Image) -> Values:
    values = np.array(image, dtype=np.uint8)
    return values[:, :, None] if values.ndim == 2 else values


def _scaled(image: Image.Image) -> tuple[Values, bool, bool]:
    """16-bit gray as 8-bit, whether any pixel was transparent, and whether all values are in the lowest eighth of their range.

    Unlike Pillow, it handles the inverted gray of TIFF and the transparent value of PNG.
    """
    largest = 4095 if any("I;12" in str(tile[3]) for tile in getattr(image, "tile", [])) else 65535
    levels = ((np.arange(largest + 1, dtype=np.uint32) * 510 + largest) // (2 * largest)).astype(np.uint8)
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(262) == WHITE_IS_ZERO:
        levels = levels[::-1]
    stored = np.asarray(image)
    values = np.asarray(levels[stored])
    transparent = stored == image.info.get("transparency", -1)
    values[transparent] = 255
    is_low = 255 < int(stored.max(initial=0)) <= _LOW_RANGE < largest
    return values[:, :, None], bool(transparent.any()), is_low


def _packed_factor(image: Image.Image) -> int:
    """Factor by which Pillow multiplies the values of a gray PNG of 2 or 4 bits; 0 for any other image. Call it before decoding."""
    tiles = getattr(image, "tile", [])
    return {"L;2": 85, "L;4": 17}.get(tiles[0][3], 0) if tiles and isinstance(tiles[0][3], str) else 0


def _blended(image: Image.Image, is_16_bit: bool) -> tuple[Values, bool]:
    """The image blended on white, (color * alpha + 255 * (255 - alpha)) / 255 rounded; and whether any pixel was transparent."""
    key = image.info.get("transparency")
    if is_16_bit and isinstance(key, tuple):  # the transparent color has 16 bits, but Pillow keeps the upper bytes
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if isinstance(key, int) and (
        factor := _packed_factor(image)
    ):  # the transparent gray has 2 or 4 bits, but Pillow converts to 8
        image.info["transparency"] = key * factor
    return blended_on_white(np.array(image.convert("LA" if num_channels(image.mode) == 1 else "RGBA"), dtype=np.uint8))


def blended_on_white(layered: Values) -> tuple[Values, bool]:
    """Colors with a last channel of opacity, (height, width, channels + 1), blended on white; and whether any pixel was transparent.

    >>> blended_on_white(np.array([[[0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8))[0].tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    colors, alpha = layered[:, :, :-1], layered[:, :, -1:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colors), False
    blend = colors.astype(np.uint16)
    blend *= alpha
    blend += 255 * (255 - alpha.astype(np.uint16)) + 127
    return (blend // 255).astype(np.uint8), True


def _from_lab(image: Image.Image) -> Image.Image:
    try:
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    except ImportError as error:
        raise ImageError("the colors are LAB, which this Pillow cannot convert (no LittleCMS). Save it as RGB.") from error
    assert converted is not None, "profileToProfile returns None only if inPlace is set"
    return converted
