"""Detection of damage in image files that decoders ignore: JPEG scans, PNG chunks, WebP frames, GIF blocks, TIFF strips.

The detection rate depends on the format (``benchmarks/damaged_images.py``):

- PNG and Deflate-compressed TIFF have checksums, so every change is detected.
- GIF and LZW-compressed TIFF have none, but the string lengths of their codes must add up to the number of pixels. Few changes keep that sum.
- JPEG and WebP: a change is detected if the compressed data then ends too early or too late, or has an invalid code. Their decoders
  may resynchronize after a change: seldom for lossy WebP (arithmetic codes), once in four for JPEG, nearly always for lossless WebP.
- BMP, PPM and uncompressed TIFF: only the file size is checked against the header.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from visus.data.images import lzw as image_lzw
from visus.errors import ImageError

EOI = b"\xff\xd9"
MAX_STRAY_BYTES = 16
"""Maximum number of stray bytes that some cameras write between the compressed data and the end of a JPEG. More are damage."""
_ZERO_RUN = bytes(32)
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length: TEM, RST0-7, SOI
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DAMAGE = ("Corrupt JPEG data", "Bogus ", "Huffman table", "Unsupported marker", "Premature end", "Quantization table")
_PROCESSES = {3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "hierarchical", 11: "lossless arithmetic"}

Strict = Callable[[bytes], None]
"""A function that decodes a JPEG and raises ValueError with libjpeg's first error or warning."""


@dataclass(frozen=True)
class Jpeg:
    """Facts from the segments before a JPEG's first scan.

    Args:
        process: number of the coding process (0 baseline, 1 extended, 2 progressive, 9 and 10 arithmetic, ...); None if there is no
            frame header before the scan.
        precision: bits per value.
        scan: byte position of the first scan; None if there is none.
        has_flat_zeros: whether zero bits encode flat blocks in every AC table, so that long runs of zero bytes are valid.
    """

    process: int | None
    precision: int
    scan: int | None
    has_flat_zeros: bool


def read_jpeg(data: bytes) -> Jpeg:
    """Read the segments before the first scan, without decoding.

    >>> read_jpeg(bytes.fromhex("ffd8 ffc0 000b 0c 0010 0010 01 01 11 00 ffda 0002"))
    Jpeg(process=0, precision=12, scan=15, has_flat_zeros=True)
    """
    process, precision, flat = None, 8, True
    for marker, start, end in _segments(data, 2):
        if marker in _FRAMES and end - start >= 1:
            process, precision = marker - 0xC0, data[start]
        elif marker == 0xC4:
            flat = flat and _zeros_are_flat(data[start:end])
        elif marker == 0xDA:
            return Jpeg(process, precision, start - 4, flat)
    return Jpeg(process, precision, None, flat)


def refuse_unsupported_jpeg(facts: Jpeg) -> None:
    """Raise an error for a valid JPEG whose coding process is not supported.

    Raises:
        ImageError: the JPEG has more than 8 bits per value, or a coding process that libjpeg does not support.
    """
    if facts.precision > 8 and facts.process != 3:
        raise ImageError(
            f"the JPEG has {facts.precision} bits per value, but only JPEGs of 8 bits can be read. The file is intact: save it as a "
            "16-bit PNG or TIFF, or provide the numbers as an .npy or .npz array."
        )
    if facts.process in _PROCESSES:
        raise ImageError(
            f"the JPEG uses the {_PROCESSES[facts.process]} coding process, which is not supported. The file is intact: "
            "save it as a standard JPEG or as PNG."
        )


def repair_jpeg(data: bytes, strict: Strict, fault: str) -> tuple[bytes, tuple[str, ...]] | None:
    """The bytes of a JPEG to decode, and actions for the ledger, after libjpeg reported ``fault``; None if the file is damaged.

    A missing end marker, or padding before it, is not damage if the image data is complete.
    """
    if not fault.startswith(_DAMAGE):
        return data, ()  # a warning that does not concern the image data
    stray = _STRAY.match(fault)
    if not stray and not fault.startswith("Premature end of JPEG"):
        return None
    end = _end_of_scans(data)
    body = data[:end] if end is not None else data
    if stray is None:
        return (body + EOI, ()) if _passes(strict, body + EOI) else _without_padding(body, strict)
    if repaired := _without_padding(body, strict):
        return repaired
    return (data, ("stray bytes in a JPEG",)) if int(stray[1]) <= MAX_STRAY_BYTES else None


def has_zeroed_part(data: bytes, facts: Jpeg) -> bool:
    """Whether a sequential JPEG has a long run of zero bytes that no encoder writes, as after a disk error or an incomplete download."""
    if facts.scan is None or facts.process not in (0, 1) or facts.has_flat_zeros:
        return False
    place = data.find(_ZERO_RUN, facts.scan)
    if place < 0:
        return False
    end = _end_of_scans(data)
    body = data[: len(data) if end is None else end].rstrip(b"\x00")
    return place < len(body) and body.find(_ZERO_RUN, facts.scan) >= 0


def _without_padding(body: bytes, strict: Strict) -> tuple[bytes, tuple[str, ...]] | None:
    """``body`` without zero or FF padding at its end; None if the image is incomplete without it."""
    for padding in (b"\x00", b"\xff"):
        core = body.rstrip(padding)
        if len(core) == len(body):
            continue
        for candidate in (core, core + padding):  # the last byte of the image data may look like padding
            if _passes(strict, candidate + EOI):
                return candidate + EOI, ()
    return None


def _passes(strict: Strict, data: bytes) -> bool:
    try:
        strict(data)
    except ValueError:
        return False
    return True


def _zeros_are_flat(tables: bytes) -> bool:
    """Whether the all-zero code ends the block in every AC table of a DHT segment."""
    place = 0
    while place + 17 <= len(tables):
        kind, count = tables[place] >> 4, sum(tables[place + 1 : place + 17])
        first = tables[place + 17 : place + 18]
        if kind == 1 and first not in (b"\x00", b"\xf0", b""):
            return False
        place += 17 + count
    return True


def _segments(data: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment's content from ``place`` on, up to the first byte that starts no segment."""
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, place + 4, place + 2 + length
        place += 2 + length


def _end_of_scans(data: bytes) -> int | None:
    """Position of the end marker after the last scan; None if there is none."""
    place = read_jpeg(data).scan
    while place is not None and place + 4 <= len(data):
        place += 2 + struct.unpack_from(">H", data, place + 2)[0]
        found = _MARKER.search(data, place)
        if found is None:
            return None
        place, marker = found.start(1) - 1, found[1][0]
        if marker == 0xD9:
            return place
    return None


# ---- PNG ----

_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"IDAT", b"tRNS"))
_MAX_HEAD_BYTES = 1 << 20
_KEPT_CHUNKS = _PIXEL_CHUNKS | {b"eXIf", b"acTL", b"fcTL", b"IEND"}


def needed_png(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A PNG with only the chunks that affect its pixels, with correct checksums; and actions for the ledger.

    Texts, profiles and trailing data are dropped, so that their size and checksums do not matter. Pixels with a wrong chunk checksum are
    kept if the zlib checksum of the decompressed rows is correct.

    Raises:
        ImageError: checksums show that pixels, palette or transparency are damaged.
    """
    parts, packed, is_doubtful = [_PNG_HEAD], list[bytes](), False
    actions: list[str] = []
    for kind, content, is_valid in _chunks(data):
        if kind not in _KEPT_CHUNKS:
            continue
        if is_valid is None:  # truncated: the decoder reports it
            return b"".join((*parts, content)), tuple(actions)
        if kind == b"IDAT":
            packed.append(content)
            is_doubtful = is_doubtful or not is_valid
        elif kind in _PIXEL_CHUNKS and not is_valid:
            raise _checksum_error(kind)
        elif not is_valid and kind == b"eXIf":
            actions.append("broken EXIF orientation ignored")
            continue
        parts.append(_chunk(kind, content))
        if kind == b"IEND":
            break
    if is_doubtful and not _unpacks(packed):
        raise _checksum_error(b"IDAT")
    if parts[-1][4:8] != b"IEND":
        parts.append(_chunk(b"IEND", b""))
    return b"".join(parts), tuple(actions)


def needed_png_head(stream: BinaryIO) -> bytes:
    """The chunks that ``needed_png`` keeps, without pixels and without checksum tests, in a few small reads.

    They suffice for size, mode, transparency, orientation and number of frames.
    """
    parts, place = [stream.read(8)], 8
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _KEPT_CHUNKS - {b"IDAT"} and length <= _MAX_HEAD_BYTES:
            parts.append(head + stream.read(length + 4))
        elif kind == b"IDAT" and parts[-1][4:8] != b"IDAT":
            parts.append(_chunk(b"IDAT", b""))
        place += 12 + length
        stream.seek(place)
    return b"".join(parts)


def _checksum_error(kind: bytes) -> ImageError:
    return ImageError(
        f"the PNG file is damaged: the checksum of its chunk {kind.decode('latin-1')} is wrong. Copy or export it again, or remove it."
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool | None]]:
    """Name, content, and whether the checksum is correct, of every chunk; for a truncated chunk, its raw bytes and None."""
    place = len(_PNG_HEAD)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind not in _KEPT_CHUNKS:
            yield kind, b"", True
        elif end > len(data):
            yield kind, data[place:], None
        else:
            content = data[place + 8 : end - 4]
            stated = data[end - 4 : end]
            yield kind, content, kind == b"IEND" or stated == struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        place = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _unpacks(packed: list[bytes]) -> bool:
    """Whether a zlib stream is complete and its checksum is correct."""
    stream = zlib.decompressobj()
    try:
        for part in packed:
            while part:
                stream.decompress(part, 1 << 20)
                part = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


# ---- WebP ----

WEBP_SPARE_BYTES = {b"VP8 ": 16, b"VP8L": 9}
"""Number of bytes at the end of a frame without which decoding must fail. Lossy: libwebp needs all but the last 4 bytes of a valid frame.
Lossless: the last pixel takes at most 60 bits, and the last byte may be padded."""


def refuse_damaged_webp(data: bytes, is_decoded: Callable[[bytes], bool]) -> None:
    """Raise an error if a WebP also decodes without its last bytes, since damaged codes end at another position.

    Animations, very small frames, and frames that end in zeros are not checked.

    Args:
        data: a file that decodes.
        is_decoded: whether a file decodes.

    Raises:
        ImageError: the image data is damaged.
    """
    kind, frame = _webp_frame(data)
    spare = WEBP_SPARE_BYTES.get(kind, 0)
    if len(frame) < 4 * spare or not any(frame[-spare:]):
        return
    short = frame[:-spare]
    body = b"WEBP" + kind + struct.pack("<I", len(short)) + short + b"\0" * (len(short) % 2)
    if is_decoded(b"RIFF" + struct.pack("<I", len(body)) + body):
        raise ImageError(
            "the WebP file is damaged: its image data does not end with the image. Copy or export it again, or remove it."
        )


def _webp_frame(data: bytes) -> tuple[bytes, bytes]:
    """Name and content of the frame of a WebP; both empty if there is none, or for an animation."""
    place, kinds = 12, dict[bytes, bytes]()
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        kinds.setdefault(kind, data[place + 8 : place + 8 + length])
        place += 8 + length + length % 2
    found = [] if b"ANMF" in kinds else [kind for kind in WEBP_SPARE_BYTES if kind in kinds]
    return (found[0], kinds[found[0]]) if found else (b"", b"")


# ---- GIF ----

_EXTENSION, _FRAME = 0x21, 0x2C
_MAX_LITERAL_BITS = 8


def refuse_damaged_gif(data: bytes) -> None:
    """Raise an error if the codes of a GIF's first frame do not decode to its number of pixels.

    Args:
        data: a file that decodes.

    Raises:
        ImageError: the image data is damaged.
    """
    frame = _gif_frame(data)
    if frame is None:
        return
    num_pixels, literal_bits, packed = frame
    if image_lzw.has_num_values(packed, image_lzw.Dialect(literal_bits), num_pixels) is False:
        raise ImageError(
            f"the GIF file is damaged: its image data does not have the {num_pixels:,} pixels of its first frame. "
            "Copy or export it again, or remove it."
        )


def _gif_frame(data: bytes) -> tuple[int, int, bytes] | None:
    """Number of pixels, bits per value and compressed data of a GIF's first frame; None if it does not follow the standard."""
    place = 13 + _color_bytes(data[10])
    while place + 11 < len(data) and data[place] in (_EXTENSION, _FRAME):
        if data[place] == _EXTENSION:
            place = _blocks(data, place + 2)[1]
            continue
        width, height, flags = struct.unpack_from("<HHB", data, place + 5)
        place += 10 + _color_bytes(flags)
        literal_bits = data[place]
        return (height * width, literal_bits, _blocks(data, place + 1)[0]) if 1 < literal_bits <= _MAX_LITERAL_BITS else None
    return None


def _color_bytes(flags: int) -> int:
    """Number of bytes of a GIF's color table."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _blocks(data: bytes, place: int) -> tuple[bytes, int]:
    """Content of a chain of GIF blocks, and the position after it."""
    parts = []
    while place < len(data) and (length := data[place]):
        parts.append(data[place + 1 : place + 1 + length])
        place += 1 + length
    return b"".join(parts), place + 1


# ---- TIFF ----

_DEFLATE = (8, 32946)
_PACKBITS = 32773
_JPEG = 7
_LZW = 5
_YCBCR = 6


def refuse_damaged_strips(data: bytes, tags: Any, strict: Strict | None) -> None:
    """Raise an error if a strip or tile of a TIFF does not decompress completely.

    Args:
        data: the file.
        tags: its first directory, from Pillow.
        strict: strict JPEG decoder; None if there is none.

    Raises:
        ImageError: a strip or tile is damaged or truncated.
    """
    compression = tags.get(259, 1)
    if compression not in (*_DEFLATE, _PACKBITS, _JPEG, _LZW):
        return
    starts, counts = (tags.get(324), tags.get(325)) if 324 in tags else (tags.get(273), tags.get(279))
    if not starts or not counts or len(starts) != len(counts):
        return
    lengths = _strip_lengths(tags, len(starts))
    tables = tags.get(347, b"")
    for number, (start, count) in enumerate(zip(starts, counts, strict=True)):
        part = data[start : start + count]
        if compression in _DEFLATE:
            sound = _unpacks([part])
        elif compression == _PACKBITS:
            sound = _packbits_length(part) in lengths[number]
        elif compression == _LZW:
            sound = not _is_usual_lzw(part, tags) or any(
                image_lzw.has_num_values(part, image_lzw.TIFF, length) is not False for length in lengths[number]
            )
        else:
            jpeg = tables[:-2] + part[2:] if tables else part
            sound = strict is None or part[:2] != b"\xff\xd8" or _passes(strict, jpeg)
        if not sound:
            raise ImageError(
                f"the TIFF file is truncated or damaged: part {number + 1} of {len(starts)} does not decompress completely. "
                "Copy or export it again, or remove it."
            )


def has_checksums(image: Image.Image, data: bytes, tags: Any) -> bool:
    """Whether the decoded pixels of a Deflate-compressed TIFF match the checksums of its strips, which proves that none is damaged.

    This is many times faster than decompressing again. It returns False if it cannot check: for other compressions, tiles, rotated
    images, and formats other than 8-bit gray, RGB and RGBA.

    Args:
        image: the image, loaded.
        data: the file.
        tags: its first directory, from Pillow.
    """
    bands = {"L": 1, "RGB": 3, "RGBA": 4}.get(image.mode, 0)
    bits, starts, counts = tags.get(258, (1,)), tags.get(273), tags.get(279)
    usual = (
        is_deflate(tags)
        and tags.get(274, 1) == 1
        and tags.get(284, 1) == 1
        and tags.get(262) == (1 if bands == 1 else 2)
        and tags.get(277, 1) == bands
        and set(bits if isinstance(bits, tuple) else (bits,)) == {8}
        and tags.get(317, 1) in (1, 2)
    )
    if not usual or 324 in tags or not starts or not counts or len(starts) != len(counts):
        return False
    values = np.asarray(image)
    if tags.get(317, 1) == 2:  # horizontal differencing: each value is stored as its difference from the left neighbor
        values = np.concatenate((values[:, :1], values[:, 1:] - values[:, :-1]), axis=1)
    unpacked, full = memoryview(values.tobytes()), _strip_bytes(tags)[0]
    return all(
        data[start : start + count][-4:] == struct.pack(">I", zlib.adler32(unpacked[number * full : (number + 1) * full]))
        for number, (start, count) in enumerate(zip(starts, counts, strict=True))
    )


def is_deflate(tags: Any) -> bool:
    """Whether the parts of a TIFF are compressed by Deflate, which adds a checksum to each."""
    return tags.get(259, 1) in _DEFLATE


def _is_usual_lzw(part: bytes, tags: Any) -> bool:
    """Whether a part uses standard LZW and its decompressed length follows from the tags.

    False for the LZW of before 1988 (reversed bit order), and for subsampled colors (YCbCr).
    """
    return part[:1] == b"\x80" and tags.get(266, 1) == 1 and tags.get(262) != _YCBCR


def _strip_lengths(tags: Any, num_parts: int) -> list[set[int]]:
    """Possible decompressed sizes of each strip or tile, in bytes. The last strip of each plane may be padded to full size."""
    full, last = _strip_bytes(tags)
    num_planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    of_plane = max(num_parts // num_planes, 1)
    return [{full, last} if number % of_plane == of_plane - 1 else {full} for number in range(num_parts)]


def _strip_bytes(tags: Any) -> tuple[int, int]:
    """Decompressed bytes of a full strip or tile, and of the last one."""
    bits = tags.get(258, (1,))
    num_samples = 1 if tags.get(284, 1) == 2 else tags.get(277, 1)
    bits_of_pixel = num_samples * (bits[0] if isinstance(bits, tuple) else bits)
    if 324 in tags:
        size = -(-tags[322] * bits_of_pixel // 8) * tags[323]
        return size, size
    height = tags[257]
    rows = tags.get(278) or height  # may exceed the height
    row_bytes = -(-tags[256] * bits_of_pixel // 8)
    return rows * row_bytes, (height - (-(-height // rows) - 1) * rows) * row_bytes


def _packbits_length(part: bytes) -> int:
    """Decompressed length of a PackBits strip in bytes; -1 if it ends within a run."""
    place = length = 0
    while place < len(part):
        head = part[place]
        if head < 128:
            place, length = place + 2 + head, length + 1 + head
        elif head > 128:
            place, length = place + 2, length + 257 - head
        else:
            place += 1
    return length if place == len(part) else -1
