"""Images with some bytes changed in the middle: how many visus decodes without a word, and how many Pillow does.

    python benchmarks/damaged_images.py FOLDER [--images 40] [--trials 10] [--output FILE.json]

``FOLDER`` holds photos, in it or below. Each is stored anew in every format, at 320 px at most; then a part of the middle third of the file is
changed in each of four ways. An image counts as wrong where more than 2 % of its pixels are off by more than 24 of 255.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measuring import command_line, machine_facts, write_result
from visus.data.images.decode import decode
from visus.errors import ImageError

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"format": "JPEG", "quality": 90},
    "JPEG, progressive": {"format": "JPEG", "quality": 90, "progressive": True},
    "WebP, lossy": {"format": "WEBP", "quality": 80},
    "WebP, lossless": {"format": "WEBP", "lossless": True},
    "PNG": {"format": "PNG"},
    "TIFF, LZW": {"format": "TIFF", "compression": "tiff_lzw"},
    "TIFF, deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "GIF": {"format": "GIF"},
}
Read = tuple[Any, tuple[str, ...]]
"""Pixels, and what is said of them."""
Reader = Callable[[bytes], Read]
MAX_SIDE = 320
FAR, SHARE = 24, 0.02


def main() -> None:
    options = _options()
    files = sorted(file for file in options.folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    rng = np.random.default_rng(0)
    chosen = [files[place] for place in rng.permutation(len(files))[: options.images]]
    rows = []
    for name, settings in FORMATS.items():
        counts = {
            way: {
                "changed": 0,
                "visus: wrong without a word": 0,
                "Pillow: wrong without a word": 0,
                "visus: refused, Pillow right": 0,
            }
            for way in CHANGES
        }
        with _quiet_libraries():
            for file in chosen:
                data = _stored(file, settings)
                sound = {read: read(data) for read in (_by_visus, _by_pillow)}
                for way, change in CHANGES.items():
                    for _ in range(options.trials):
                        _count(counts[way], sound, change(data, int(rng.integers(len(data) // 3, 2 * len(data) // 3)), rng))
        for way, found in counts.items():
            rows.append({"format": name, "change": way, **found})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    write_result(options.output, {"command": command_line(), **machine_facts(), "num_images": len(chosen), "rows": rows})


def _stored(file: Path, settings: dict[str, Any]) -> bytes:
    """A photo in another format."""
    stream = io.BytesIO()
    with Image.open(file) as image:
        small = image.convert("RGB")
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        small.save(stream, **settings)
    return stream.getvalue()


def _replaced(data: bytes, place: int, rng: np.random.Generator, count: int) -> bytes:
    return data[:place] + rng.bytes(count) + data[place + count :]


CHANGES: dict[str, Callable[[bytes, int, np.random.Generator], bytes]] = {
    "one byte is another": lambda data, place, rng: (
        data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]
    ),
    "8 random bytes": lambda data, place, rng: _replaced(data, place, rng, 8),
    "a random sixth": lambda data, place, rng: _replaced(data, place, rng, len(data) // 6),
    "64 bytes are missing": lambda data, place, rng: data[:place] + data[place + 64 :],
}
"""What happens to the bytes at a place in the middle third."""


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """A block in which libraries in C print nothing to the screen."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _count(counts: dict[str, int], sound: dict[Reader, Read], changed: bytes) -> None:
    """Add what became of one changed file."""
    counts["changed"] += 1
    ours, theirs = (_is_wrong(read, *found, changed) for read, found in sound.items())
    counts["visus: wrong without a word"] += ours is True
    counts["Pillow: wrong without a word"] += theirs is True
    counts["visus: refused, Pillow right"] += ours is None and theirs is False


def _is_wrong(read: Reader, true: Any, usual: tuple[str, ...], changed: bytes) -> bool | None:
    """Whether a changed file is decoded to something else; None where it is refused, or something is said that is not said of the sound file."""
    try:
        found, said = read(changed)
    except (ImageError, OSError, ValueError, SyntaxError):
        return None
    if said != usual:
        return None
    return found.shape != true.shape or bool((np.abs(found.astype(int) - true).max(0) > FAR).mean() > SHARE)


def _by_visus(data: bytes) -> tuple[Any, tuple[str, ...]]:
    found = decode(data, name="image")
    return found.pixels, found.actions


def _by_pillow(data: bytes) -> tuple[Any, tuple[str, ...]]:
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
        warnings.simplefilter("ignore")
        return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0), ()


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--images", type=int, default=40)
    options.add_argument("--trials", type=int, default=10)
    options.add_argument("--output", type=Path)
    return options.parse_args()


if __name__ == "__main__":
    main()
