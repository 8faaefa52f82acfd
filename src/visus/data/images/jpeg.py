"""JPEG decoding by simplejpeg, which is faster than Pillow and detects damage that Pillow ignores.

It decodes only if its pixels are bit-identical to Pillow's on this machine; otherwise Pillow decodes.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from visus.data.images import damage as image_damage

MARGIN = 2
"""Factor by which both sides of a JPEG decoded at a reduced size must at least exceed the needed size."""


def reduction(size: tuple[int, int], at_least: tuple[int, int] | None) -> int:
    """The largest divisor, 1, 2, 4 or 8, for decoding at a reduced size of at least ``MARGIN`` times ``at_least`` on both sides.

    >>> reduction((3024, 3024), (100, 100)), reduction((375, 500), (96, 96)), reduction((375, 500), None)
    (8, 1, 1)
    """
    if at_least is None:
        return 1
    max_divisor = min(length // (MARGIN * max(1, needed)) for length, needed in zip(size, at_least, strict=True))
    return next(divisor for divisor in (8, 4, 2, 1) if max_divisor >= divisor or divisor == 1)


def reduce(image: Image.Image, divisor: int) -> None:
    """Make Pillow decode an opened JPEG at a size divided by ``divisor`` (sides rounded up)."""
    if divisor > 1:
        image.draft(image.mode, (image.width // divisor, image.height // divisor))


def decode_checked(
    data: bytes, mode: str, size: tuple[int, int], divisor: int
) -> tuple[npt.NDArray[np.uint8] | None, bytes, tuple[str, ...]]:
    """Check a JPEG for damage, and decode it if simplejpeg's pixels are equal to Pillow's.

    Args:
        data: the whole file.
        mode: Pillow's mode; only L and RGB are decoded here.
        size: (height, width) of the full image.
        divisor: divisor of the size: 1, 2, 4 or 8.

    Returns:
        Array of shape (height, width, channels), both sides divided by ``divisor`` and rounded up, or None if Pillow must decode;
        the bytes for Pillow; and actions for the ledger.

    Raises:
        ImageError: the coding process is not supported.
        ValueError: the file is damaged; the message is libjpeg's.
    """
    facts = image_damage.read_jpeg(data)
    image_damage.refuse_unsupported_jpeg(facts)
    if image_damage.has_zeroed_part(data, facts):
        raise ValueError("a part of the image data is zeros, which no encoder writes")
    strict = strict_decoder()
    if strict is None:
        return None, data, ()
    is_fast = mode in ("L", "RGB") and _is_exact()
    try:
        if is_fast:
            pixels = _decode(data, mode, size, divisor)
            return (pixels if pixels.shape[:2] == _reduced(size, divisor) else None), data, ()
        strict(data)
    except ValueError as error:
        repaired = image_damage.repair_jpeg(data, strict, str(error))
        if repaired is None:
            raise
        return None, *repaired
    return None, data, ()


@functools.cache
def strict_decoder() -> image_damage.Strict | None:
    """A function that decodes a JPEG and raises ValueError with libjpeg's first error or warning; None without simplejpeg."""
    try:
        import simplejpeg
    except ImportError:
        return None

    def strict(data: bytes) -> None:
        try:
            _, _, colors, _ = simplejpeg.decode_jpeg_header(data)
            space = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colors, "RGB")
        except ValueError:
            space = "RGB"
        simplejpeg.decode_jpeg(data, colorspace=space, min_factor=8)

    return strict


def _reduced(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    return -(-size[0] // divisor), -(-size[1] // divisor)


def _decode(data: bytes, mode: str, size: tuple[int, int], divisor: int) -> npt.NDArray[np.uint8]:
    import simplejpeg

    height, width = _reduced(size, divisor)
    smaller: dict[str, Any] = {"min_height": height, "min_width": width} if divisor > 1 else {}
    return np.asarray(simplejpeg.decode_jpeg(data, colorspace="GRAY" if mode == "L" else "RGB", **smaller))


@functools.cache
def _is_exact() -> bool:
    """Whether simplejpeg is installed and its pixels are equal to Pillow's, tested for every chroma layout and divisor."""
    try:
        import simplejpeg  # noqa: F401
    except Exception:  # not installed, or damaged: Pillow decodes the same pixels
        return False
    noise = np.random.default_rng(0).integers(0, 256, (75, 107, 3), dtype=np.uint8)
    color = Image.fromarray(noise)
    for image in (color, color.convert("L"), color.resize((210, 150))):
        for layout in ("4:4:4", "4:2:2", "4:2:0"):
            for progressive in (False, True):
                stream = io.BytesIO()
                options: dict[str, Any] = {} if image.mode == "L" else {"subsampling": layout}
                image.save(stream, "JPEG", quality=85, progressive=progressive, **options)
                if not all(_agree(stream.getvalue(), divisor) for divisor in (1, 2, 4, 8)):
                    return False
    return True


def _agree(data: bytes, divisor: int) -> bool:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data), "")
    try:
        fast = _decode(data, image.mode, (image.height, image.width), divisor)
    except ValueError:
        return False
    reduce(image, divisor)
    expected = np.asarray(image)
    return fast.size == expected.size and np.array_equal(fast.reshape(expected.shape), expected)
