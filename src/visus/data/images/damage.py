"""Damage within an image file that decoders pass over in silence.

This file knows what the bytes of a sound file must look like: JPEG scans, PNG chunks, WebP frames, GIF blocks, TIFF strips.

What can be known differs by format. PNG and Deflate-compressed TIFF carry checksums, so every change is found. GIF and LZW-compressed
TIFF carry none, but their codes stand for strings whose lengths must add up, which few changes leave as it was. In the others a change
is found where the compressed data ends too early or too late, or holds a code that does not exist; a change that leaves a valid stream
of the same length cannot be told from another image. Arithmetic codes (lossy WebP) seldom find their way back, those of a JPEG after one change in four, and those
of lossless WebP nearly always. Uncompressed formats (BMP, PPM, plain TIFF) hold only their size against their header
(``benchmarks/damaged_images.py``).
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
"""Bytes that some cameras leave between the compressed data and the end of a JPEG; more than these are damage."""
_ZERO_RUN = bytes(32)
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length: TEM, RST0-7, SOI
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_DAMAGE = ("Corrupt JPEG data", "Bogus ", "Huffman table", "Unsupported marker", "Premature end", "Quantization table")
_PROCESSES = {3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "hierarchical", 11: "lossless arithmetic"}

Strict = Callable[[bytes], None]
"""Decodes a JPEG and raises ValueError with libjpeg's first error or warning."""


@dataclass(frozen=True)
class Jpeg:
    """What the segments in front of a JPEG's first scan say.

    Args:
        process: number of the coding process (0 baseline, 1 extended, 2 progressive, 9 and 10 arithmetic, ...); None where no frame
            header stands before the scan.
        precision: bits of one value.
        scan: where the first scan begins; None where there is none.
        has_flat_zeros: in every AC table a run of zero bits means blocks without detail, so that long runs of zero bytes are sound.
    """

    process: int | None
    precision: int
    scan: int | None
    has_flat_zeros: bool


def read_jpeg(data: bytes) -> Jpeg:
    """The facts in front of the first scan, without decoding.

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


def refuse_unread_jpeg(facts: Jpeg) -> None:
    """Raise where a sound JPEG is coded in a way that this decoder does not read.

    Raises:
        ImageError: more than 8 bits for each value, or a coding process that libjpeg does not know.
    """
    if facts.precision > 8 and facts.process != 3:
        raise ImageError(
            f"the JPEG holds {facts.precision} bits for each value, and JPEGs of 8 bits are read. The file is sound: save it as a 16-bit PNG "
            "or TIFF, or give the numbers as an .npy or .npz array."
        )
    if facts.process in _PROCESSES:
        raise ImageError(
            f"the JPEG is coded by the {_PROCESSES[facts.process]} process, which is not read. The file is sound: "
            "save it as an ordinary JPEG or as PNG."
        )


def mend_jpeg(data: bytes, strict: Strict, fault: str) -> tuple[bytes, tuple[str, ...]] | None:
    """The bytes of a JPEG that are to be decoded, and actions for the ledger, after libjpeg found ``fault``; None where it is damaged.

    A missing end marker and filler in front of it are no damage where the image data itself is complete.
    """
    if not fault.startswith(_DAMAGE):
        return data, ()  # a word about something other than the image data
    stray = _STRAY.match(fault)
    if not stray and not fault.startswith("Premature end of JPEG"):
        return None
    end = _end_of_scans(data)
    body = data[:end] if end is not None else data
    if stray is None:
        return (body + EOI, ()) if _passes(strict, body + EOI) else _without_filler(body, strict)
    if found := _without_filler(body, strict):
        return found
    return (data, ("stray bytes in a JPEG",)) if int(stray[1]) <= MAX_STRAY_BYTES else None


def has_zeroed_part(data: bytes, facts: Jpeg) -> bool:
    """Whether a sequential JPEG holds a long run of zero bytes that no encoder writes, as a disk or a download leaves it."""
    if facts.scan is None or facts.process not in (0, 1) or facts.has_flat_zeros:
        return False
    place = data.find(_ZERO_RUN, facts.scan)
    if place < 0:
        return False
    end = _end_of_scans(data)
    body = data[: len(data) if end is None else end].rstrip(b"\x00")
    return place < len(body) and body.find(_ZERO_RUN, facts.scan) >= 0


def _without_filler(body: bytes, strict: Strict) -> tuple[bytes, tuple[str, ...]] | None:
    """``body`` without the run of zero or FF bytes at its end, where the image is complete without it."""
    for filler in (b"\x00", b"\xff"):
        core = body.rstrip(filler)
        if len(core) == len(body):
            continue
        for candidate in (core, core + filler):  # the last byte of the image data may look like filler
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
    """Whether the code that begins with zeros ends the block in every AC table of a DHT segment."""
    place = 0
    while place + 17 <= len(tables):
        kind, count = tables[place] >> 4, sum(tables[place + 1 : place + 17])
        first = tables[place + 17 : place + 18]
        if kind == 1 and first not in (b"\x00", b"\xf0", b""):
            return False
        place += 17 + count
    return True


def _segments(data: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment from ``place`` on, up to the end of the bytes or what is no segment."""
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, place + 4, place + 2 + length
        place += 2 + length


def _end_of_scans(data: bytes) -> int | None:
    """Where the end marker stands that follows the last scan; None where there is none."""
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
    """A PNG with the chunks that say something about its pixels, each with the right checksum; and actions for the ledger.

    Texts, profiles and what follows the image are left out, so that their size and their checksums do not matter. Pixels whose
    checksum is wrong are kept where the second one, over the unpacked rows, holds.

    Raises:
        ImageError: a checksum shows that pixels, palette or transparency are damaged.
    """
    parts, packed, is_doubtful = [_PNG_HEAD], list[bytes](), False
    actions: list[str] = []
    for kind, content, holds in _chunks(data):
        if kind not in _KEPT_CHUNKS:
            continue
        if holds is None:  # cut short: the decoder says how much is missing
            return b"".join((*parts, content)), tuple(actions)
        if kind == b"IDAT":
            packed.append(content)
            is_doubtful = is_doubtful or not holds
        elif kind in _PIXEL_CHUNKS and not holds:
            raise _checksum_is_wrong(kind)
        elif not holds and kind == b"eXIf":
            actions.append("broken EXIF orientation ignored")
            continue
        parts.append(_chunk(kind, content))
        if kind == b"IEND":
            break
    if is_doubtful and not _unpacks(packed):
        raise _checksum_is_wrong(b"IDAT")
    if parts[-1][4:8] != b"IEND":
        parts.append(_chunk(b"IEND", b""))
    return b"".join(parts), tuple(actions)


def needed_png_head(stream: BinaryIO) -> bytes:
    """What ``needed_png`` keeps, but for the pixels and without looking at checksums; a few small reads.

    It is enough for the header of the image: size, mode, transparency, orientation and number of frames.
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


def _checksum_is_wrong(kind: bytes) -> ImageError:
    return ImageError(
        f"the PNG file is damaged: the checksum of its chunk {kind.decode('latin-1')} is wrong. Copy or export it again, or remove it."
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool | None]]:
    """Name, content and whether the checksum holds, of every chunk; of one that is cut short all that is left, and None."""
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
    """Whether a zlib stream is whole, by its own checksum."""
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
"""Bytes at the end of a frame that its decoder must need. Lossy: a sound one of libwebp needs all but 4. Lossless: the last pixel takes at
most 60 bits, and the last byte may be filled up."""


def refuse_damaged_webp(data: bytes, is_decoded: Callable[[bytes], bool]) -> None:
    """Raise where a WebP decodes as well without its last bytes: codes that were changed lose their way, and end elsewhere.

    Frames of a few bytes, and those that end in zeros, are passed over.

    Args:
        data: a file that decodes; animations are passed over.
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
            "the WebP file is damaged: its image data does not end where the image does. Copy or export it again, or remove it."
        )


def _webp_frame(data: bytes) -> tuple[bytes, bytes]:
    """Name and content of the one frame of a WebP; both empty where there is none, or an animation of several."""
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
    """Raise where the codes of a GIF's first frame do not stand for as many pixels as the frame has.

    Args:
        data: a file that decodes.

    Raises:
        ImageError: the image data is damaged.
    """
    frame = _gif_frame(data)
    if frame is None:
        return
    num_pixels, literal_bits, packed = frame
    if image_lzw.adds_up(packed, image_lzw.Dialect(literal_bits), num_pixels) is False:
        raise ImageError(
            f"the GIF file is damaged: its image data is not that of the {num_pixels:,} pixels of its first frame. "
            "Copy or export it again, or remove it."
        )


def _gif_frame(data: bytes) -> tuple[int, int, bytes] | None:
    """Pixels, bits of a value and compressed data of a GIF's first frame; None where it is not written as the standard says."""
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
    """Bytes of a GIF's color table."""
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _blocks(data: bytes, place: int) -> tuple[bytes, int]:
    """Content of a chain of GIF blocks, and where the next part begins."""
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
    """Raise where a strip or tile of a TIFF does not unpack as a whole.

    Args:
        data: the file.
        tags: its first directory, as Pillow reads it.
        strict: decodes a JPEG strictly; None where there is no such decoder.

    Raises:
        ImageError: the strip is damaged or cut short.
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
                image_lzw.adds_up(part, image_lzw.TIFF, length) is not False for length in lengths[number]
            )
        else:
            whole = tables[:-2] + part[2:] if tables else part
            sound = strict is None or part[:2] != b"\xff\xd8" or _passes(strict, whole)
        if not sound:
            raise ImageError(
                f"the TIFF file is cut short or damaged: part {number + 1} of {len(starts)} does not unpack as a whole. "
                "Copy or export it again, or remove it."
            )


def has_checksums(image: Image.Image, data: bytes, tags: Any) -> bool:
    """Whether what was decoded of a Deflate-compressed TIFF has the checksums that stand at the end of its strips, so that none is damaged.

    Adding up is many times faster than unpacking again. False where it cannot be told: other compressions, tiles, images that were turned,
    and all but gray, RGB and RGBA of 8 bits.

    Args:
        image: after it was loaded.
        data: the file.
        tags: its first directory, as Pillow reads it.
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
    if tags.get(317, 1) == 2:  # each value was stored as its difference from the one to its left
        values = np.concatenate((values[:, :1], values[:, 1:] - values[:, :-1]), axis=1)
    unpacked, full = memoryview(values.tobytes()), _strip_bytes(tags)[0]
    return all(
        data[start : start + count][-4:] == struct.pack(">I", zlib.adler32(unpacked[number * full : (number + 1) * full]))
        for number, (start, count) in enumerate(zip(starts, counts, strict=True))
    )


def is_deflate(tags: Any) -> bool:
    """Whether the parts of a TIFF are compressed by Deflate, which gives each a checksum."""
    return tags.get(259, 1) in _DEFLATE


def _is_usual_lzw(part: bytes, tags: Any) -> bool:
    """Whether a part begins with the code that empties the table, and its length follows from the tags: not the LZW of before 1988, whose
    bits run the other way, and no colors of fewer samples than pixels."""
    return part[:1] == b"\x80" and tags.get(266, 1) == 1 and tags.get(262) != _YCBCR


def _strip_lengths(tags: Any, num_parts: int) -> list[set[int]]:
    """Unpacked bytes that each strip or tile may have: the last strip of an image, or of each of its planes, may be filled up."""
    full, last = _strip_bytes(tags)
    num_planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    of_plane = max(num_parts // num_planes, 1)
    return [{full, last} if number % of_plane == of_plane - 1 else {full} for number in range(num_parts)]


def _strip_bytes(tags: Any) -> tuple[int, int]:
    """Unpacked bytes of every strip (or tile) but the last, and of the last."""
    bits = tags.get(258, (1,))
    num_samples = 1 if tags.get(284, 1) == 2 else tags.get(277, 1)
    bits_of_pixel = num_samples * (bits[0] if isinstance(bits, tuple) else bits)
    if 324 in tags:
        size = -(-tags[322] * bits_of_pixel // 8) * tags[323]
        return size, size
    height = tags[257]
    rows = tags.get(278) or height  # may be more than there are, also for a strip that is filled up
    row_bytes = -(-tags[256] * bits_of_pixel // 8)
    return rows * row_bytes, (height - (-(-height // rows) - 1) * rows) * row_bytes


def _packbits_length(part: bytes) -> int:
    """Unpacked length of a strip in PackBits; -1 where it ends within a run."""
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
