"""What a file is by its content, where its ending does not say that it is an image.

This file knows endings, first bytes and how files of one kind are told together.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from visus.data.images import headers as image_headers
from visus.data.images import heif as image_heif
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import group_reasons, listed
from visus.units import write_number_of

_CERTAIN = frozenset(("JPEG", "PNG", "GIF", "TIFF", "WEBP"))  # signatures of at least three bytes that no text begins with
_COPIES = (".bak", ".tmp", ".temp", ".old", ".orig", ".part", ".partial", ".crdownload", ".thm", ".swp", "_original", "~")
"""Ends of names that programs give to what is a copy, a part or a thumbnail of another file."""
_UNREAD_IMAGES = {
    "HEIC image": image_heif.HEIC_HINT,
    "AVIF image": "Install Pillow's own wheel, which reads AVIF, or export them as PNG.",
    "JPEG 2000 image": "Export them as PNG or JPEG.",
    "JPEG XL image": "Export them as PNG or JPEG.",
    "camera raw file": "Export them as JPEG, PNG or 16-bit TIFF.",
    "Photoshop document": "Export them as PNG or TIFF.",
}
"""Kinds that are images although they are not read, with what to do."""


def is_image_file(path: Path) -> bool:
    """Whether a file is an image that can be read: by its ending, else by its content.

    Camera raw files and backups are none, although many are TIFF or JPEG by content.
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
    """What a file is that is left out, in few words and the same for every file of its kind, such as ``HEIC image`` or ``text``."""
    suffix = path.suffix.lower()
    if suffix in image_headers.RAW_SUFFIXES:
        return "camera raw file"
    if path.is_symlink() and not path.exists():
        return "link that leads nowhere"
    head = _head(path)
    if head is None:
        return "not a file that can be read"
    if not head and suffix in image_heif.HEIC_SUFFIXES:
        return "HEIC image"
    kind = image_headers.plain_kind(head)
    return f"copy or part of another file ({kind})" if path.name.lower().endswith(_COPIES) else kind


def told_unread_images(reasons: Mapping[str, str]) -> list[str]:
    """A warning for each kind of image among what was left out.

    Args:
        reasons: file and kind, as ``kind_of_file`` says it; other reasons are passed over.

    >>> told_unread_images({"a.PSD": "Photoshop document", "b.txt": "text"})
    ['1 Photoshop document was left out (a.PSD). Export them as PNG or TIFF.']
    """
    images = {sample: kind for sample, kind in reasons.items() if kind in _UNREAD_IMAGES}
    return [
        f"{write_number_of(len(samples), kind)} {'was' if len(samples) == 1 else 'were'} left out ({listed(samples)}). {_UNREAD_IMAGES[kind]}"
        for kind, samples in group_reasons(images)
    ]


def _reads_heif(head: bytes) -> bool:
    return image_heif.has_avif() if b"avi" in head[8:12] else image_heif.has_heic()


def _head(path: Path) -> bytes | None:
    """The first bytes of a file; None where it is no ordinary file, or may not be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as stream:
            return stream.read(image_headers.HEAD_BYTES)
    except OSError:
        return None
