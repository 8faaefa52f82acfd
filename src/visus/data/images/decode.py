"""Decoding of image files to 8-bit arrays, with a list of the changes made.

All images are decoded here. Pillow's plugins are called directly, not through ``Image.open``. So only the formats listed here are
read, the size is checked before memory is allocated, and no process-wide setting of Pillow is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from visus.data.images import damage as image_damage
from visus.data.images import headers as image_headers
from visus.data.images import heif as image_heif
from visus.data.images import jpeg as image_jpeg
from visus.data.images import modes as image_modes
from visus.data.images import tiff as image_tiff
from visus.data.images.fit import RESIZE_MODES, ResizeMode, fit
from visus.errors import ImageError
from visus.units import write_bytes, write_shape

__all__ = [
    "IMAGE_SUFFIXES",
    "RESIZE_MODES",
    "Decoded",
    "ImageHeader",
    "Limits",
    "ResizeMode",
    "decode",
    "decode_opened",
    "fit",
    "probe_image",
]

IMAGE_SUFFIXES = image_heif.readable_suffixes() | frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
)
"""File extensions of the image formats that can be read here, in lower case. Compare them with ``path.suffix.lower()``."""

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
_FORMAT_NAMES = "JPEG, PNG, GIF, BMP, TIFF, WebP or PPM"
_DISPLAY_NAMES = {"WEBP": "WebP"}


@dataclass(frozen=True)
class Limits:
    """Limits for one image file.

    Args:
        max_bytes: maximum size of the file, in bytes.
        max_pixels: maximum height times width, by the header.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image.

    Args:
        pixels: uint8, shape (channels, height, width), 1 or 3 channels, upright; a view of channels-last memory.
        actions: actions for the ledger, in order.
        original_size: (height, width) of the upright image at full size.
        mode: Pillow's mode of the file, such as ``RGB`` or ``I;16``.
    """

    pixels: npt.NDArray[np.uint8]
    actions: tuple[str, ...]
    original_size: tuple[int, int]
    mode: str


@dataclass(frozen=True)
class ImageHeader:
    """Facts from the header of an image file.

    Args:
        size: (height, width) of the upright image.
        channels: number of channels after ``decode``, 1 or 3.
        mode: Pillow's mode of the file.
        format: JPEG, PNG, GIF, BMP, TIFF, WEBP or PPM, by the content of the file.
    """

    size: tuple[int, int]
    channels: int
    mode: str
    format: str


def decode(
    file: Path | bytes, *, name: str = "", limits: Limits = DEFAULT_LIMITS, at_least: tuple[int, int] | None = None
) -> Decoded:
    """Decode an image file to upright, 8-bit gray or color pixels, with a list of the changes made.

    The content determines the format, not the name. Limits are checked before pixels are decoded. Only the first frame or page is
    used. ``image_modes`` has the rules for values. The EXIF record determines the orientation. A truncated or damaged file is an error.

    Args:
        file: path of the file, or its whole content.
        name: name in messages; default: the path.
        limits: limits of file size and pixels.
        at_least: (height, width) to which the caller will reduce the upright image. A JPEG at least four times as large on both sides is
            decoded at 1/2, 1/4 or 1/8 of its own size, but at least at twice ``at_least``. After antialiased resizing, the pixels differ
            from those of a full decoding by about one level of 255 on average in detailed photos, and by 0.2 in smooth ones.

    Raises:
        ImageError: the file cannot be read as an image; the message names it, and says what was found and what to do.
    """
    with _error_context(file, name), _opened(file, limits) as stream:
        data, done = _bytes_to_decode(stream.read())
        image, head_format = _open_header(io.BytesIO(data), limits)
        stated = image.height, image.width
        try:
            decoded = _decode(image, data, head_format, at_least)
            return dataclasses.replace(decoded, actions=(*done, *decoded.actions)) if done else decoded
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # damaged bytes may raise any exception
            raise _damage_error(error, head_format, stated) from error


def decode_opened(
    image: Image.Image, *, name: str = "", limits: Limits = DEFAULT_LIMITS, at_least: tuple[int, int] | None = None
) -> Decoded:
    """Decode an image that Pillow has opened or made, by the rules of ``decode``.

    The first frame of a file whose pixels Pillow has not loaded yet is decoded from the bytes of the file, with the same result. Otherwise
    Pillow's own pixels are used, with their EXIF orientation.

    Args:
        image: the image; it is left as it is, but its pixels may be loaded.
        name: name in messages.
        limits: limits of file size and pixels.
        at_least: as for ``decode``, for an image that is decoded from its bytes.

    Raises:
        ImageError: the image cannot be loaded, or its mode is not supported.

    >>> decode_opened(Image.new("RGBA", (2, 1))).actions
    ('transparency blended on white',)
    """
    name = name or "an image of Pillow"
    file = _unloaded_file(image)
    if file is not None:
        return decode(file, name=name, limits=limits, at_least=at_least)
    with _error_context(b"", name):
        _check_size((image.height, image.width), limits)
        is_16_bit, info = image_modes.holds_16_bits(image), dict(image.info)
        try:
            with _pillow_quiet():
                image.load()
                values, converted = image_modes.to_values(image, is_16_bit)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # a closed or damaged file may raise any exception
            raise ImageError(
                f"Pillow cannot load the pixels of this image ({type(error).__name__}: {error}). Open its file again, or name the file."
            ) from error
        image.info = info
        is_first = isinstance(image, ImageFile.ImageFile) and image.tell() == 0 and _has_more_frames(image)
        actions = ["first frame of an animation used"] * is_first + converted
        # Pillow turns a TIFF while loading it
        orientation, broken = (1, False) if isinstance(image, TiffImagePlugin.TiffImageFile) else _orientation(image)
        values = _turned(values, orientation)
        actions += ["turned upright by its EXIF orientation"] * (orientation != 1)
        actions += ["broken EXIF orientation ignored"] * broken
        return Decoded(values.transpose(2, 0, 1), tuple(actions), values.shape[:2], image.mode)


def _unloaded_file(image: Image.Image) -> Path | bytes | None:
    """The file of an image that shows its first frame and whose pixels are not loaded, so that nobody has changed them; else None."""
    if not isinstance(image, ImageFile.ImageFile) or getattr(image, "_im", None) is not None or image.tell() != 0:
        return None
    stream = getattr(image, "fp", None)
    if stream is not None and not getattr(stream, "closed", False):
        place = stream.tell()
        stream.seek(0)
        data: bytes = stream.read()
        stream.seek(place)
        return data
    file = Path(os.fsdecode(image.filename)) if getattr(image, "filename", "") else None
    return file if file is not None and file.is_file() else None


def probe_image(file: Path | bytes, *, name: str = "", limits: Limits = DEFAULT_LIMITS) -> ImageHeader:
    """Size, channels and format of an image from its header. Damage after the header is not detected.

    Args:
        file: path of the file, or its content.
        name: name in messages; default: the path.
        limits: limits of file size and pixels.

    Raises:
        ImageError: the file cannot be read as an image, or exceeds the limits.
    """
    with _error_context(file, name), _opened(file, limits) as stream:
        is_png = stream.read(8).startswith(b"\x89PNG")
        stream.seek(0)
        image, head_format = _open_header(io.BytesIO(image_damage.needed_png_head(stream)) if is_png else stream, limits)
        orientation, _ = _orientation(image)
        height, width = image.height, image.width
        size = (width, height) if orientation > 4 and head_format != "TIFF" else (height, width)
        return ImageHeader(size, image_modes.num_channels(image.mode), image.mode, head_format)


@contextlib.contextmanager
def _error_context(file: Path | bytes, name: str) -> Iterator[None]:
    """Add the name of the file to errors raised within."""
    try:
        yield
    except ImageError as error:
        error.within(name or ("an image given as bytes" if isinstance(file, bytes) else str(file)))
        raise


@contextlib.contextmanager
def _opened(file: Path | bytes, limits: Limits) -> Iterator[BinaryIO]:
    """The file as a stream, if its size is within the limit."""
    if isinstance(file, bytes):
        _check_bytes(len(file), limits)
        yield io.BytesIO(file)
        return
    try:
        state = Path(file).stat()
        if stat.S_ISDIR(state.st_mode):
            raise ImageError("this is a folder, not an image. Name the files in it.")
        if not stat.S_ISREG(state.st_mode):
            raise ImageError("this is a device or a pipe, not a file. Save the image as a file first.")
        _check_bytes(state.st_size, limits)
        with Path(file).open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise ImageError("there is no such file. Check its name and folder.") from None
    except PermissionError:
        raise ImageError("the file may not be read. Give yourself the right to read it, or remove it.") from None
    except OSError as error:
        raise ImageError(
            f"the file cannot be read from disk ({error.strerror or error}). Copy it to another place, or remove it."
        ) from error


def _check_bytes(num_bytes: int, limits: Limits) -> None:
    if num_bytes == 0:
        raise ImageError("the file is empty (0 bytes). Copy it again from its source, or remove it.")
    if num_bytes > limits.max_bytes:
        raise ImageError(
            f"the file has {write_bytes(num_bytes)}, and at most {write_bytes(limits.max_bytes)} are read. "
            f"Make it smaller, or remove it."
        )


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise ImageError(f"the image has {write_shape(size)} pixels: it is empty. Export it again, or remove it.")
    if height * width > limits.max_pixels:
        raise ImageError(
            f"the image is too large: it states {height:,} x {width:,} = {height * width:,} pixels (height x width), and at most "
            f"{limits.max_pixels:,} are decoded. Make it smaller, or remove it."
        )


def _open_header(stream: BinaryIO, limits: Limits) -> tuple[ImageFile.ImageFile, str]:
    """Pillow's image with its header read and no pixels decoded, and its format; if it is within the limits."""
    head = stream.read(image_headers.HEAD_BYTES)
    stream.seek(0)
    head_format = image_headers.format_of(head)
    reader = _READERS[head_format] if head_format else None
    if head_format is None and image_headers.is_heif(head):
        head_format = "AVIF" if b"avi" in head[8:12] else "HEIC"
        reader = image_heif.reader(head_format)
    if head_format is None or reader is None:
        content = image_headers.describe_content(head)
        raise ImageError(
            f"the file holds {content}, but {_FORMAT_NAMES} is needed. {image_headers.remedy(content)}, or remove it."
        )
    if head_format == "WEBP" and not WebPImagePlugin.SUPPORTED:
        raise ImageError(
            "the file is a WebP, which this Pillow cannot read. Convert it to PNG, or install Pillow's own wheel."
        )
    stated = image_headers.stated_size(head_format, head)
    if stated is not None:
        _check_size(stated, limits)
    if head_format == "TIFF":
        image_tiff.refuse_unsupported_bands(stream)
    try:
        with _pillow_quiet():
            image = reader(stream, "")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes may raise any exception
        raise _damage_error(error, head_format, None) from error
    _check_size((image.height, image.width), limits)
    return image, head_format


def _bytes_to_decode(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The bytes to decode, for a PNG only those that affect its pixels; and actions for the ledger."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return image_damage.needed_png(data)
    return data, ()


def _decode(image: ImageFile.ImageFile, data: bytes, head_format: str, at_least: tuple[int, int] | None) -> Decoded:
    actions: list[str] = []
    size, mode = (image.height, image.width), image.mode
    values: npt.NDArray[np.uint8] | None = None
    if head_format == "JPEG":
        orientation, _ = _orientation(image)
        needed = (at_least[1], at_least[0]) if at_least and orientation > 4 else at_least
        divisor = image_jpeg.reduction(size, needed)
        actions += ["decoded at a reduced size"] * (divisor > 1)
        values, repaired, done = image_jpeg.decode_checked(data, mode, size, divisor)
        actions += [*done, *["first frame of an animation used"] * ("mp" in image.info)]
        if values is None and repaired is not data:
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(repaired), "")
        image_jpeg.reduce(image, divisor)
    if values is None:
        is_16_bit = image_modes.holds_16_bits(image)
        check = _strip_check(image, data) if head_format == "TIFF" else contextlib.nullcontext()
        with _pillow_quiet() if head_format in ("GIF", "TIFF") else contextlib.nullcontext(), check:
            orientation, broken = _orientation(image)  # for a TIFF, before Pillow turns it while loading
            actions += ["first frame of an animation used"] * _has_more_frames(image)
            values, converted = image_modes.to_values(image, is_16_bit)
        actions += converted
    if head_format == "WEBP":
        image_damage.refuse_damaged_webp(data, _is_webp_decoded)
    elif head_format == "GIF":
        image_damage.refuse_damaged_gif(data)
    if head_format != "TIFF":
        orientation, broken = _orientation(image)  # for a PNG, the record may follow the pixels
        values = _turned(values, orientation)
        size = size[::-1] if orientation > 4 else size
    actions += ["turned upright by its EXIF orientation"] * (orientation != 1)
    actions += ["broken EXIF orientation ignored"] * broken
    return Decoded(values.transpose(2, 0, 1), tuple(actions), size, mode)


def _is_webp_decoded(data: bytes) -> bool:
    try:
        WebPImagePlugin.WebPImageFile(io.BytesIO(data), "").load()
    except Exception:  # damaged bytes may raise any exception
        return False
    return True


@contextlib.contextmanager
def _strip_check(image: ImageFile.ImageFile, data: bytes) -> Iterator[None]:
    """Check the parts of a TIFF around its decoding.

    Deflate parts are checked after decoding, by their checksums, in a fraction of the time. Other parts are checked before, so that the
    decoder prints few messages of its own.

    Raises:
        ImageError: a part is damaged; it replaces the decoder's error.
    """
    tags: Any = getattr(image, "tag_v2", {})
    strict = image_jpeg.strict_decoder()
    if not image_damage.is_deflate(tags):
        image_damage.refuse_damaged_strips(data, tags, strict)
        yield
        return
    is_sound = False
    try:
        yield
        is_sound = image_damage.has_checksums(image, data, tags)
    finally:
        if not is_sound:
            image_damage.refuse_damaged_strips(data, tags, strict)


def _orientation(image: Image.Image) -> tuple[int, bool]:
    """The EXIF orientation, 1 to 8, and whether the record is broken (then the orientation is 1)."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image_headers.valid_orientation(image.tag_v2.get(image_headers.ORIENTATION_TAG, 1))
    else:
        exif = image.info.get("exif")
        found = image_headers.exif_orientation(exif) if isinstance(exif, bytes) else 1
    return 1 if found is None else found, found is None


def _turned(values: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Pixels, shape (height, width, channels), rotated and mirrored to upright."""
    if orientation == 1:
        return values
    if orientation > 4:  # 5 to 8 store columns as rows
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _has_more_frames(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage after the first frame, which is the only one used
        return False


def _damage_error(error: Exception, head_format: str, size: tuple[int, int] | None) -> ImageError:
    format_name = _DISPLAY_NAMES.get(head_format, head_format)
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("the image is larger than Pillow itself allows (Image.MAX_IMAGE_PIXELS). Make it smaller.")
    if size is None:
        return ImageError(
            f"the {format_name} file is truncated or damaged in its header. Copy or export it again, or remove it."
        )
    return ImageError(
        f"the {format_name} file is truncated or damaged: not all of its {write_shape(size)} pixels can be decoded. "
        f"Copy or export it again, or remove it."
    )


_warning_filters_lock = threading.Lock()


@contextlib.contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual headers. Relevant ones become errors or actions here.

    Warning filters are process-wide, so only one thread at a time changes them, and only for Pillow's warnings.
    """
    with _warning_filters_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
