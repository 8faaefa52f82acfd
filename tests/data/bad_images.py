"""Image files with one kind of damage, or with unusual pixel formats."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

BOMB_SIDE = 50_000


def photo(height: int = 24, width: int = 40, channels: int = 3, seed: int = 0) -> Image.Image:
    """A smooth image with some noise, so that JPEG keeps it nearly as it is."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [
        rows * 255 // max(1, height - 1),
        columns * 255 // max(1, width - 1),
        (rows + columns) * 255 // (height + width),
    ]
    values = np.stack(planes[:channels], axis=-1) + np.random.default_rng(seed).integers(0, 8, (height, width, channels))
    values = values.clip(0, 255).astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """The file content of ``image``."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png(
    values: np.ndarray[Any, Any], *, bits: int, color_type: int, extra: bytes = b"", size: tuple[int, int] | None = None
) -> bytes:
    """A PNG written byte by byte, for what Pillow cannot write (16-bit color, false sizes).

    Args:
        values: shape (height, width) or (height, width, samples); 16-bit values are stored high byte first.
        bits: bits for each sample, 8 or 16.
        color_type: 0 gray, 2 color, 3 palette, 4 gray with alpha, 6 color with alpha.
        extra: chunks between the header and the pixels.
        size: (height, width) that the header states; by default the true one.
    """
    height, width = size or values.shape[:2]
    stored = values.astype(">u2" if bits == 16 else np.uint8)
    rows = b"".join(b"\x00" + stored[row].tobytes() for row in range(len(stored)))
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bombs(side: int = BOMB_SIDE) -> dict[str, bytes]:
    """Files of a few hundred bytes whose headers state ``side`` x ``side`` pixels, by format (WebP: 16,384 at most)."""
    one = photo(8, 8)
    jpeg = bytearray(encoded(one, "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encoded(one, "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    tiff = bytearray(encoded(one, "TIFF"))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    for entry in range(struct.unpack_from("<H", tiff, directory)[0]):
        place = directory + 2 + 12 * entry
        if struct.unpack_from("<H", tiff, place)[0] in (256, 257, 278):  # width, length, rows for each strip
            struct.pack_into("<HII", tiff, place + 2, 4, 1, side)
    webp_side = min(side, 16_384)
    canvas = b"\x00" * 4 + (webp_side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + encoded(one, "WEBP", lossless=True)[12:]
    return {
        "JPEG": bytes(jpeg),
        "PNG": png(np.zeros((1, 1)), bits=8, color_type=0, size=(side, side)),
        "GIF": b"GIF89a" + struct.pack("<HH", side, side) + encoded(one, "GIF")[10:],
        "BMP": bytes(bmp),
        "TIFF": bytes(tiff),
        "WEBP": b"RIFF" + struct.pack("<I", len(body)) + body,
        "PPM": b"P5 %d %d 255\n" % (side, side) + b"\x00" * 64,
    }


def exif_record(orientation: int, *, kind: int = 3, count: int = 1, order: str = "<") -> bytes:
    """An EXIF record with one entry, the orientation.

    Args:
        orientation: the value.
        kind: EXIF type of the value; 3 is SHORT, as the standard wants it.
        count: stated number of values.
        order: ``<`` for Intel's byte order, ``>`` for Motorola's.
    """
    mark = b"II" if order == "<" else b"MM"
    value = struct.pack(order + {1: "Bxxx", 3: "Hxx", 4: "I"}.get(kind, "I"), orientation)
    entry = struct.pack(order + "HHI", 0x0112, kind, count) + value
    return b"Exif\x00\x00" + mark + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 1) + entry + bytes(4)


BROKEN_EXIF = {
    "no byte order": b"Exif\x00\x00XX*\x00\x08\x00\x00\x00",
    "another magic number": exif_record(6).replace(b"II*\x00", b"II+\x00"),
    "directory beyond the end": b"Exif\x00\x00II*\x00\xff\xff\x00\x00",
    "entries beyond the end": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\x00" + bytes(20),
    "orientation 9": exif_record(9),
    "orientation as text": exif_record(6, kind=2),
    "two orientations": exif_record(6, count=2),
    "nothing": b"Exif\x00\x00",
}


def animation(image_format: str) -> bytes:
    """Two frames, the first of which is ``photo(seed=1)``."""
    first, second = photo(seed=1), Image.new("RGB", (40, 24), (200, 0, 0))
    if image_format == "GIF":
        first, second = first.quantize(32), second.quantize(32)
    lossless = {"lossless": True} if image_format == "WEBP" else {}
    return encoded(first, image_format, save_all=True, append_images=[second], **lossless)
