"""The bands of a TIFF: their number, bits and number formats, from its first directory."""

from __future__ import annotations

import contextlib
from typing import Any, BinaryIO

from PIL import TiffImagePlugin

from visus.errors import ImageError

_NUMBERS = {
    1: "integers",
    2: "signed integers",
    3: "floating-point numbers",
    5: "complex integers",
    6: "complex numbers",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_LEFT_TO_PILLOW = (
    ((32,), (1,)),
    ((32,), (2,)),
    ((32,), (3,)),
    ((16,), (2,)),
)  # Pillow opens them, and ``image_modes`` raises the error
_ALPHA = (1, 2)  # ExtraSamples: associated and unassociated alpha


def refuse_unsupported_bands(stream: BinaryIO) -> None:
    """Raise an error if a valid TIFF cannot become an 8-bit gray or RGB image without losing bands.

    The stream is then at its start. Damaged directories are ignored; the decoder reports them.

    Raises:
        ImageError: more bands than colors and alpha, floating-point or signed numbers, or more than 16 bits.
    """
    tags: Any = {}
    with contextlib.suppress(Exception):  # a damaged directory may raise any exception; the decoder reports it
        tags = _first_directory(stream)
    stream.seek(0)
    if 256 not in tags or 257 not in tags:
        return
    num_bands = int(tags.get(277, 1))
    bits, numbers = _band_values(tags.get(258, (1,))), _band_values(tags.get(339, (1,)))
    photometric = tags.get(262, _BLACK_IS_ZERO)
    extra = _band_values(tags.get(338, ()))
    if photometric not in _COLORS:
        return
    num_colors = _COLORS[photometric]
    has_alpha = num_bands == num_colors + 1 and extra[:1] in [(kind,) for kind in _ALPHA]
    mixed = len(set(bits)) > 1 or len(set(numbers)) > 1
    plain = set(numbers) <= {1, 4} and max(bits, default=1) <= 16
    if (num_bands == num_colors or has_alpha) and plain and not mixed:
        return
    if num_bands == 1 and (bits, numbers) in _LEFT_TO_PILLOW:
        return
    kind = "mixed numbers" if mixed else f"{bits[0]}-bit {_NUMBERS.get(numbers[0], 'numbers') if numbers else 'integers'}"
    bands = "1 band" if num_bands == 1 else f"{num_bands} bands"
    is_lost = plain and not mixed and num_bands == num_colors + 1
    lost = " It does not state that its last band is alpha, so that band would be lost." if is_lost else ""
    raise ImageError(
        f"the TIFF has {bands} of {kind}; supported are 1 band (gray) or 3 bands (RGB) of integers of at most 16 bits, with or without "
        f"alpha.{lost} The file is intact: save the relevant bands as RGB, or provide all bands as an .npy or .npz array."
    )


def _first_directory(stream: BinaryIO) -> Any:
    head = stream.read(8)
    if head[2:4] in (b"\x2b\x00", b"\x00\x2b"):  # BigTIFF
        head += stream.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(directory.next)
    directory.load(stream)
    return directory


def _band_values(value: Any) -> tuple[int, ...]:
    return tuple(int(band) for band in value) if isinstance(value, tuple) else (int(value),)
