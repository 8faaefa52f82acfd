"""HEIC and AVIF, which are read if a decoder is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util

from PIL import ImageFile, features

from visus.errors import OPTIONAL_PACKAGES, ImageError, install_command

HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
AVIF_SUFFIXES = frozenset((".avif",))
HEIC_HINT = (
    f"Export the photos as JPEG, or install the package that reads HEIC: {install_command(*OPTIONAL_PACKAGES['heic'])}"
)


def has_heic() -> bool:
    """Whether the package that reads HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def has_avif() -> bool:
    """Whether this Pillow reads AVIF."""
    return bool(features.check("avif"))


def readable_suffixes() -> frozenset[str]:
    """File extensions of the HEIF formats that can be read here, in lower case."""
    return (HEIC_SUFFIXES if has_heic() else frozenset()) | (AVIF_SUFFIXES if has_avif() else frozenset())


@functools.cache
def reader(kind: str) -> type[ImageFile.ImageFile]:
    """Pillow's image class for ``HEIC`` or ``AVIF``.

    Raises:
        ImageError: the decoder is not installed; the message says how to install it.
    """
    if kind == "AVIF":
        if not has_avif():
            raise ImageError(
                "the file is an AVIF, which this Pillow cannot read. Install Pillow's own wheel, or export it as PNG."
            )
        avif: type[ImageFile.ImageFile] = importlib.import_module("PIL.AvifImagePlugin").AvifImageFile
        return avif
    if not has_heic():
        raise ImageError(f"the file is an HEIC image. {HEIC_HINT}")
    heic: type[ImageFile.ImageFile] = importlib.import_module("pillow_heif").HeifImageFile
    return heic
