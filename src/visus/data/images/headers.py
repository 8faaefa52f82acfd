"""Format, size in pixels and EXIF orientation from the first bytes of a file."""

from __future__ import annotations

import struct

HEAD_BYTES = 512
"""Number of bytes from the start of a file that the functions here need."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
_OTHER_CONTENTS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"version http://git-media", "a Git LFS pointer"),
    (b"%!PS", "a PostScript drawing"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an XZ archive"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL", "a JPEG XL image"),
    (b"FUJIFILMCCD-RAW", "a camera raw file"),
    (b"IIRO", "a camera raw file"),
    (b"IIU\x00", "a camera raw file"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "a camera raw file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"ID3", "a sound file"),
    (b"fLaC", "a sound file"),
    (b"OggS", "a sound file"),
    (b"\x1aE\xdf\xa3", "a film"),
    (b"\x00\x00\x01\xba", "a film"),
    (b"FLV\x01", "a film"),
    (b"SQLite format 3", "a database"),
    (b"\xd0\xcf\x11\xe0", "an Office document or a thumbnail database"),
    (b"RIFF", "sound or video"),
)
_BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"crx ": "a camera raw file",
    b"M4A ": "a sound file",
}
_HEIF = (b"hei", b"hev", b"mif1", b"msf1")
_RAW_EXTENSIONS = [
    ".3fr",
    ".ari",
    ".arw",
    ".bay",
    ".cap",
    ".cr2",
    ".cr3",
    ".crw",
    ".dcr",
    ".dng",
    ".erf",
    ".fff",
    ".iiq",
    ".k25",
    ".kdc",
    ".mef",
    ".mos",
    ".mrw",
    ".nef",
    ".nrw",
    ".orf",
    ".pef",
    ".raf",
    ".raw",
    ".rw2",
    ".rwl",
    ".sr2",
    ".srf",
    ".srw",
    ".x3f",
]
RAW_SUFFIXES = frozenset(_RAW_EXTENSIONS)
"""Extensions of camera raw files, in lower case. Many are TIFF by content, with a thumbnail first."""
_INTEGER_SIZES = {1: "B", 3: "H", 4: "I"}  # EXIF types BYTE, SHORT, LONG
ORIENTATION_TAG = 0x0112


def format_of(head: bytes) -> str | None:
    """The image format by its signature: JPEG, PNG, GIF, BMP, TIFF, WEBP or PPM; None for any other content.

    >>> format_of(b"GIF89a..."), format_of(b"P5 2 2 255"), format_of(b"hello, world")
    ('GIF', 'PPM', None)
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\n\r#":
        return "PPM"
    return None


def describe_content(head: bytes) -> str:
    """The content of a file that is not an image of a supported format, as a noun with its article.

    >>> describe_content(b"%PDF-1.7"), describe_content(b"hello, world")
    ('a PDF document', "text ('hello, world')")
    """
    for signature, noun in _OTHER_CONTENTS:
        if head.startswith(signature):
            return noun
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "an HEIC image" if head[8:12].startswith(_HEIF) else "a film")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return "a film"
    if head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"):
        return "a sound file"
    if not head.strip(b"\x00"):
        return "only zeros"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (start.startswith(b"<") and b"<html" in start):
        return "a web page"
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "an SVG drawing or other XML"
    if text := _as_text(head):
        return f"text ({' '.join(text[:24].split())!r})"
    return f"an unknown kind of data (first bytes {head[:8].hex(' ')})"


def is_heif(head: bytes) -> bool:
    """Whether the content is HEIC, HEIF or AVIF."""
    return describe_content(head) in ("an HEIC image", "an AVIF image")


def remedy(content: str) -> str:
    """Advice for a file with ``content`` from ``describe_content``, without a period."""
    if content == "a Git LFS pointer":
        return "Fetch the real file: install git-lfs and run git lfs pull"
    if content == "a web page":
        return "Download the image again"
    if content == "only zeros":
        return "Copy it again from its source"
    if content == "a camera raw file":
        return "Export it as JPEG or PNG"
    return "Convert it to one of these"


def plain_kind(head: bytes) -> str:
    """The kind of content of a file, without details, so that files can be counted by kind.

    >>> plain_kind(b"hello, world"), plain_kind(bytes(9)), plain_kind(b""), plain_kind(b"GIF89a")
    ('text', 'only zeros', 'empty', 'GIF')
    """
    if not head:
        return "empty"
    if (found := format_of(head)) is not None:
        return {"WEBP": "WebP", "PPM": "PPM"}.get(found, found)
    return describe_content(head).split(" (")[0].removeprefix("a ").removeprefix("an ")


def _as_text(head: bytes) -> str:
    """The bytes as stripped text; "" if they are not text."""
    text = head.decode("utf-8", errors="ignore").strip()
    is_text = len(text.encode()) >= len(head.strip()) - 3
    return text if is_text and all(letter.isprintable() or letter in "\r\n\t" for letter in text) else ""


def stated_size(image_format: str, head: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels from the first bytes; None if they do not state it (JPEG, TIFF, PPM, or too few bytes).

    It is checked before Pillow opens the file, because opening a WebP already allocates memory for its pixels.
    """
    try:
        if image_format == "PNG" and head[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", head, 16)
        elif image_format == "GIF":
            width, height = struct.unpack_from("<HH", head, 6)
        elif image_format == "BMP" and struct.unpack_from("<I", head, 14)[0] >= 40:
            width, height = struct.unpack_from("<ii", head, 18)
            height = abs(height)  # negative: rows from the top
        elif image_format == "WEBP":
            return _webp_size(head)
        else:
            return None
    except struct.error:
        return None
    return height, width


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """(height, width) of the canvas, from the first chunk of a WebP (RFC 9649, sections 2.5 to 2.7)."""
    chunk = head[12:16]
    if chunk == b"VP8X":
        return int.from_bytes(head[27:30], "little") + 1, int.from_bytes(head[24:27], "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def exif_orientation(exif: bytes) -> int | None:
    """The orientation, 1 to 8, in an EXIF record; 1 if the record has none, None if it is broken.

    Only the first directory is read, so errors elsewhere in the record do not matter. Zero, which some phones write, counts as 1.

    Args:
        exif: the record, with or without the prefix ``Exif\\0\\0``.

    >>> exif_orientation(b"MM\\x00*" + bytes([0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]))
    6
    """
    record = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(record[:2])
    if order is None:
        return None
    try:
        magic, directory = struct.unpack_from(order + "HI", record, 2)
        (num_entries,) = struct.unpack_from(order + "H", record, directory)
        if magic != 42:
            return None
        for entry in range(num_entries):
            place = directory + 2 + 12 * entry
            tag, kind, count = struct.unpack_from(order + "HHI", record, place)
            if tag != ORIENTATION_TAG:
                continue
            if kind not in _INTEGER_SIZES or count != 1:
                return None
            (value,) = struct.unpack_from(order + _INTEGER_SIZES[kind], record, place + 8)
            return valid_orientation(value)
    except struct.error:
        return None
    return 1


def valid_orientation(value: object) -> int | None:
    """The orientation if it is 1 to 8; 1 for 0, None for any other value."""
    if not isinstance(value, int) or not 0 <= value <= 8:
        return None
    return value or 1
