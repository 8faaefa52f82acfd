"""The kind of a file by its file extension and its first bytes, and warnings about image formats that visus cannot read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from visus.data.images import headers as image_headers
from visus.data.images import heif as image_heif
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import group_reasons, write_examples
from visus.units import write_number_of

_CERTAIN = frozenset(("JPEG", "PNG", "GIF", "TIFF", "WEBP"))  # signatures of at least three bytes, which no text begins with
_COPIES = (".bak", ".tmp", ".temp", ".old", ".orig", ".part", ".partial", ".crdownload", ".thm", ".swp", "_original", "~")
"""Ends of file names that mark a copy, a part or a thumbnail of another file."""
_UNREAD_IMAGES = {
    "HEIC image": image_heif.HEIC_HINT,
    "AVIF image": "Install Pillow's own wheel, which reads AVIF, or export them as PNG.",
    "JPEG 2000 image": "Export them as PNG or JPEG.",
    "JPEG XL image": "Export them as PNG or JPEG.",
    "camera raw file": "Export them as JPEG, PNG or 16-bit TIFF.",
    "Photoshop document": "Export them as PNG or TIFF.",
}
"""Image formats that visus does not read, with the remedy."""


def is_image_file(path: Path) -> bool:
    """Whether a file is a readable image, by its file extension, else by its content.

    Camera raw files and backups do not count, although many have the content of a TIFF or JPEG.
    """
    name = path.name.lower()
    suffix = os.path.splitext(name)[1]
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in image_headers.RAW_SUFFIXES or name.endswith(_COPIES):
        return False
    head = _head(path)
    if head is None:
        return False
    found = image_headers.format_of(head)
    return found in _CERTAIN or (found is None and image_headers.is_heif(head) and _reads_heif(head))


def kind_of_file(path: Path) -> str:
    """The kind of a file that is not a sample, such as ``HEIC image`` or ``text``."""
    suffix = path.suffix.lower()
    if suffix in image_headers.RAW_SUFFIXES:
        return "camera raw file"
    if path.is_symlink() and not path.exists():
        return "broken link"
    head = _head(path)
    if head is None:
        return "not a file that can be read"
    if not head and suffix in image_heif.HEIC_SUFFIXES:
        return "HEIC image"
    kind = image_headers.plain_kind(head)
    return f"copy or part of another file ({kind})" if path.name.lower().endswith(_COPIES) else kind


def unread_format_warnings(reasons: Mapping[str, str]) -> list[str]:
    """A warning for each image format that was left out because visus cannot read it.

    Args:
        reasons: file -> kind, as ``kind_of_file`` returns it; other reasons are ignored.

    >>> unread_format_warnings({"a.PSD": "Photoshop document", "b.txt": "text"})
    ['1 Photoshop document was left out (a.PSD). Export them as PNG or TIFF.']
    """
    images = {sample: kind for sample, kind in reasons.items() if kind in _UNREAD_IMAGES}
    return [
        f"{write_number_of(len(samples), kind)} {'was' if len(samples) == 1 else 'were'} left out ({write_examples(samples)}). {_UNREAD_IMAGES[kind]}"
        for kind, samples in group_reasons(images)
    ]


def _reads_heif(head: bytes) -> bool:
    return image_heif.has_avif() if b"avi" in head[8:12] else image_heif.has_heic()


def _head(path: Path) -> bytes | None:
    """The first bytes of a file; None if it is not a regular file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as stream:
            return stream.read(image_headers.HEAD_BYTES)
    except OSError:
        return None
