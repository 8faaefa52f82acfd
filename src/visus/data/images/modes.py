"""Every way in which an image can hold its values, brought to 8-bit gray or color by a stated rule.

This file knows Pillow's modes.

Rules:
- 16 bits: value * 255 / 65,535, rounded; the whole range is kept, nothing is clipped (12 bits in a 16-bit file stay dark).
  Pillow reads 16-bit color as 8-bit itself, by keeping the upper byte, which differs from this rule by at most one level.
- 1 bit: 0 and 255.
- transparency (an alpha channel, a transparent palette entry or color): blended on white.
- palettes become color, even where all their entries are gray.
- CMYK and YCbCr are converted as Pillow does, LAB by its color management; embedded color profiles (ICC) are not applied.
- 32-bit whole numbers and floating point are refused: nothing in the file says which value is black and which is white.
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
    """Channels, 1 or 3, that an image of this mode has after ``to_values``.

    >>> num_channels("LA"), num_channels("I;16B"), num_channels("P"), num_channels("CMYK")
    (1, 1, 3, 3)
    """
    return 1 if mode in _GRAY or mode.startswith("I;16") else 3


def holds_16_bits(image: Image.Image) -> bool:
    """The file holds 16 bits for each value; to be asked before the pixels are decoded."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(argument, str) and ";16" in argument for argument in arguments):
            return True
        if image.format == "PPM" and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def to_values(image: Image.Image, deep: bool) -> tuple[Values, list[str]]:
    """The pixels as 8-bit gray or color, with the ledger's actions.

    Args:
        image: an opened image; decoded here if it was not yet.
        deep: what ``holds_16_bits`` said.

    Returns:
        Array of shape (height, width, channels), writable, with 1 or 3 channels; and the actions.

    Raises:
        ImageError: the mode has no rule.
    """
    mode = image.mode
    actions = ["16-bit values scaled to 8-bit"] if deep or mode.startswith("I;") else []
    if mode.startswith("I;16") or (mode == "I" and image.format in _SIXTEEN_BIT_FORMATS):
        values, blended, is_low = _scaled(image)
        done = ["16-bit values scaled to 8-bit"] + ["transparency blended on white"] * blended
        return values, done + ["16-bit values in the lowest part of their range"] * is_low
    if mode in ("I", "F"):
        kind = "floating point" if mode == "F" else "32-bit or signed whole"
        raise ImageError(
            f"the image holds {kind} numbers, and nothing says which is black and which is white. "
            f"Save it with 8 or 16 bits, or give the numbers as an .npy or .npz array."
        )
    if mode in ("P", "PA"):
        actions.append("palette resolved to color")
    if mode == "1":
        actions.append("1-bit values widened to 8-bit")
    if mode in _ALPHA or "transparency" in image.info:
        values, blended = _blended(image, deep)
        return values, actions + ["transparency blended on white"] * blended
    if mode == "CMYK":
        actions.append("CMYK converted to RGB")
    elif mode in ("YCbCr", "LAB", "HSV"):
        actions.append("color space converted to RGB")
    elif mode not in ("1", "L", "P", "RGB", "RGBX"):
        raise ImageError(f"the image has the mode {mode}, for which visus has no rule. Save it as 8-bit gray or RGB.")
    return _array(_from_lab(image) if mode == "LAB" else _converted(image)), actions


def _converted(image: Image.Image) -> Image.Image:
    wanted = "L" if num_channels(image.mode) == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _array(image: Image.Image) -> Values:
    values = np.array(image, dtype=np.uint8)
    return values[:, :, None] if values.ndim == 2 else values


def _scaled(image: Image.Image) -> tuple[Values, bool, bool]:
    """16-bit gray by the rule, whether anything was transparent, and whether all values lie in the lowest eighth of their range.

    What Pillow leaves undone is done here: the inverted gray of TIFF, the transparent value of PNG.
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
    """What Pillow multiplies the values of a gray PNG of 2 or 4 bits by; 0 for any other image. To be asked before decoding."""
    tiles = getattr(image, "tile", [])
    return {"L;2": 85, "L;4": 17}.get(tiles[0][3], 0) if tiles and isinstance(tiles[0][3], str) else 0


def _blended(image: Image.Image, deep: bool) -> tuple[Values, bool]:
    """The image on white, (color * alpha + 255 * (255 - alpha)) / 255 rounded; and whether anything was transparent."""
    key = image.info.get("transparency")
    if deep and isinstance(key, tuple):  # a transparent color in 16 bits, while Pillow holds the upper bytes
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if isinstance(key, int) and (
        factor := _packed_factor(image)
    ):  # a transparent gray in 2 or 4 bits, while Pillow widens to 8
        image.info["transparency"] = key * factor
    layered = np.array(image.convert("LA" if num_channels(image.mode) == 1 else "RGBA"), dtype=np.uint8)
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
    assert converted is not None, "a new image is asked for"
    return converted
