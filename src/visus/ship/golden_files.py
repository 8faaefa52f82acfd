"""The golden files of a bundle: held-out files as people have them, and odd ones made of one of them.

Odd files are those with which other tools go wrong: turned by EXIF, 16 bits, a palette, gray, transparent, CMYK, huge, and noise.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from visus.data.images import decode as images
from visus.data.images.resample import resample
from visus.data.npy import npy_bytes
from visus.data.preprocessing import Pixels

HUGE_PX: Final = 3_000
"""The longer side of the huge image."""
_NOISE_PX: Final = (211, 157)
"""(width, height) of an image of random levels, in which a resizing without antialiasing shows at once."""
_LARGER: Final = 1.1
"""Size of another one relative to the network's, in which resizing with other rounding shows; Pillow's differs in one pixel of 200."""
_MAX_TRIES: Final = 64
_HELD_OUT: Final = "held-out"
_ORIENTATION: Final = 0x0112  # the EXIF tag; 6: turn a quarter to the right
_MAX_BYTES: Final = 8 * 2**20
"""Larger files of the data are no golden files: they would make the bundle too large."""


@dataclass(frozen=True)
class GoldenFile:
    """A golden file that is not yet written.

    Args:
        name: file name in ``golden/``.
        kind: ``held-out``, or what is odd with it.
        content: the bytes.
    """

    name: str
    kind: str
    content: bytes


def golden_images(files: Iterable[tuple[Path, Sequence[str]]], count: int, size: tuple[int, ...]) -> list[GoldenFile]:
    """Golden files of a dataset of image files.

    Args:
        files: held-out files in the order of preference, each with the actions that the ledger lists for it.
        count: how many golden files.
        size: (height, width) of the network's samples.

    Returns:
        Odd files first: held-out ones for each action of the ledger, then made ones, then further held-out files.
    """
    held = [(path, frozenset(actions)) for path, actions in files if path.stat().st_size <= _MAX_BYTES]
    if not held or count < 1:
        return []
    odd: dict[str, Path] = {}
    for path, actions in held:
        for action in sorted(actions):
            odd.setdefault(action, path)
    made = list(_made(images.decode(held[0][0]).pixels, size))
    room = max(1, count - len(made))
    chosen: dict[Path, str] = {}
    for action, path in sorted(odd.items()):
        if len(chosen) < room // 2:
            chosen.setdefault(path, action)
    for path, _ in held:
        if len(chosen) < room:
            chosen.setdefault(path, _HELD_OUT)
    kept = [(kind, path.suffix.lower(), path.read_bytes()) for path, kind in chosen.items()]
    return _named([*kept, *made][:count])


def golden_rows(rows: Sequence[Pixels], count: int, size: tuple[int, ...], *, are_images: bool) -> list[GoldenFile]:
    """Golden files of a dataset of arrays: rows of shape (C, *) as NPY files, and odd images made of the first if an image can be a sample."""
    made = list(_made(rows[0], size)) if are_images and len(rows) and count > 1 else []
    kept = [(_HELD_OUT, ".npy", npy_bytes(row)) for row in rows[: max(1, count - len(made))]]
    return _named([*kept, *made][:count])


def _named(files: Iterable[tuple[str, str, bytes]]) -> list[GoldenFile]:
    return [GoldenFile(f"{number:02}{suffix}", kind, content) for number, (kind, suffix, content) in enumerate(files)]


def _made(pixels: Pixels, size: tuple[int, ...]) -> Iterable[tuple[str, str, bytes]]:
    """Odd files of an image (C, H, W) of 1 or 3 channels for a network of a size: kind, suffix and bytes."""
    color = np.repeat(pixels, 3, axis=0) if pixels.shape[0] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(color.transpose(1, 2, 0)))
    gray = image.convert("L")
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    yield "turned by EXIF", ".jpg", _saved(image, "JPEG", quality=90, exif=exif)
    wide = np.asarray(gray).astype(np.uint16) * 257
    yield "16 bits", ".png", _saved(Image.fromarray(wide), "PNG")
    yield "palette", ".png", _saved(image.quantize(64), "PNG")
    yield "gray", ".png", _saved(gray, "PNG")
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(image.size))
    yield "transparent", ".png", _saved(transparent, "PNG")
    yield "CMYK", ".jpg", _saved(image.convert("CMYK"), "JPEG", quality=90)
    yield "huge", ".jpg", _saved(image.resize((HUGE_PX, HUGE_PX * 2 // 3)), "JPEG", quality=60)
    yield "noise", ".png", _saved(_noise((_NOISE_PX[1], _NOISE_PX[0]), 0), "PNG")
    height, width = (int(length * _LARGER) + 1 for length in size)
    tried = (_noise((height, width), seed) for seed in range(_MAX_TRIES))
    chosen = next((each for each in tried if _pillow_differs(each, size)), _noise((height, width), 0))
    yield "noise, a little larger than a sample", ".png", _saved(chosen, "PNG")


def _noise(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def _pillow_differs(image: Image.Image, size: tuple[int, ...]) -> bool:
    """Whether Pillow resizes an image to (height, width) with at least one other level than visus."""
    ours = resample(np.asarray(image).transpose(2, 0, 1), (size[0], size[1])).transpose(1, 2, 0)
    return not np.array_equal(ours, np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)))


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()
