"""The faster JPEG decoder, used where it is installed and gives Pillow's pixels bit for bit.

This file knows simplejpeg and how to check it. It must not know files, limits or orientation.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

MARGIN = 2
"""A JPEG is decoded at a reduced size only where both sides stay at least this many times as long as needed."""


def reduction(size: tuple[int, int], at_least: tuple[int, int] | None) -> int:
    """The divisor, 1, 2, 4 or 8, of a reduced decoding that leaves ``MARGIN`` times the size ``at_least`` on both sides.

    >>> reduction((3024, 3024), (100, 100)), reduction((375, 500), (96, 96)), reduction((375, 500), None)
    (8, 1, 1)
    """
    if at_least is None:
        return 1
    room = min(length // (MARGIN * max(1, needed)) for length, needed in zip(size, at_least, strict=True))
    return next(divisor for divisor in (8, 4, 2, 1) if room >= divisor or divisor == 1)


def reduce(picture: Image.Image, divisor: int) -> None:
    """Make Pillow decode ``picture``, an opened JPEG, at a size divided by ``divisor`` (sides rounded up)."""
    if divisor > 1:
        picture.draft(picture.mode, (picture.width // divisor, picture.height // divisor))


def decode_fast(data: bytes, mode: str, size: tuple[int, int], divisor: int) -> npt.NDArray[np.uint8] | None:
    """The pixels that Pillow would give, decoded by simplejpeg; None where it is absent, unequal or finds a fault.

    Args:
        data: the whole file.
        mode: Pillow's mode; only L and RGB are decoded here.
        size: (height, width) of the full picture.
        divisor: of a reduced decoding: 1, 2, 4 or 8.

    Returns:
        Array of shape (height, width, channels), both sides divided by ``divisor`` and rounded up; or None.
    """
    if mode not in ("L", "RGB") or not _is_exact():
        return None
    return _decode(data, mode, size, divisor)


def _decode(data: bytes, mode: str, size: tuple[int, int], divisor: int) -> npt.NDArray[np.uint8] | None:
    import simplejpeg

    height, width = (-(-length // divisor) for length in size)
    smaller: dict[str, Any] = {"min_height": height, "min_width": width} if divisor > 1 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY" if mode == "L" else "RGB", **smaller)
    except ValueError:
        return None  # Pillow decides what is wrong with it
    return np.asarray(pixels) if pixels.shape[:2] == (height, width) else None


@functools.cache
def _is_exact() -> bool:
    """simplejpeg is installed, and decodes samples of every chroma layout and reduction to Pillow's very pixels here."""
    try:
        import simplejpeg  # noqa: F401
    except Exception:  # not installed, or damaged: Pillow gives the very same pixels
        return False
    noise = np.random.default_rng(0).integers(0, 256, (75, 107, 3), dtype=np.uint8)
    colour = Image.fromarray(noise)
    for picture in (colour, colour.convert("L"), colour.resize((210, 150))):
        for layout in ("4:4:4", "4:2:2", "4:2:0"):
            for progressive in (False, True):
                stream = io.BytesIO()
                options: dict[str, Any] = {} if picture.mode == "L" else {"subsampling": layout}
                picture.save(stream, "JPEG", quality=85, progressive=progressive, **options)
                if not all(_agree(stream.getvalue(), divisor) for divisor in (1, 2, 4, 8)):
                    return False
    return True


def _agree(data: bytes, divisor: int) -> bool:
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
    fast = _decode(data, picture.mode, (picture.height, picture.width), divisor)
    reduce(picture, divisor)
    expected = np.asarray(picture)
    return fast is not None and np.array_equal(fast.reshape(expected.shape), expected)
