"""Renders a figure as a PNG file, with Chromium and without a network."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from figures.figure import Figure

Pixels = npt.NDArray[np.uint8]

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SCALE: Final = 2
"""Pixels of the file for each CSS pixel, so that text is sharp on a screen of high resolution."""

MAX_BYTES: Final = 300_000
_EXACT_COLORS: Final = 128
_TALLEST_PX: Final = 3000
_TIMEOUT_S: Final = 120
_BEYOND: Final = (255, 0, 255)  # of `html` in figure.css
_EDGE: Final = (214, 210, 202)  # a thin frame, which separates the figure from a page of the same color


class BrowserError(Exception):
    """There is no browser, or it did not render."""


def render(figure: Figure) -> bytes:
    """The PNG file of a figure: cut where its content ends, framed, with a palette of at most 256 colors.

    Raises:
        BrowserError: there is no Chromium, it failed, or the file would be too large.
    """
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "figure.html", Path(folder) / "figure.png"
        page.write_text(figure.page(), "utf-8")
        _photograph(page, shot, figure.width, figure.max_height or _TALLEST_PX)
        with Image.open(shot) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    height = SCALE * (figure.max_height or _TALLEST_PX)
    return _packed(_framed(_trimmed(pixels[:height])))


def _photograph(page: Path, shot: Path, width: int, height: int) -> None:
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise BrowserError(f"no browser was found. Install Chromium; these names are tried: {', '.join(NAMES)}.")
    # A window has a bar on top in some versions, so it is taller than what is needed.
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--force-device-scale-factor={SCALE}",
        f"--window-size={width},{height + 200}",
        f"--screenshot={shot}",
        page.as_uri(),
    ]
    ended = subprocess.run([browser, *options], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if ended.returncode or not shot.is_file():
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise BrowserError(f"{browser} did not render {page.name}: {last}")


def _trimmed(pixels: Pixels) -> Pixels:
    """Without the rows below the page, which have the color of ``html``."""
    is_page = (pixels != _BEYOND).any(axis=(1, 2))
    return pixels[: int(np.flatnonzero(is_page)[-1]) + 1]


def _framed(pixels: Pixels) -> Pixels:
    framed = pixels.copy()
    for side in (framed[:SCALE], framed[-SCALE:], framed[:, :SCALE], framed[:, -SCALE:]):
        side[...] = _EDGE
    return framed


def _packed(pixels: Pixels) -> bytes:
    """The bytes of a PNG file with a palette.

    Raises:
        BrowserError: the file would be larger than ``MAX_BYTES``.
    """
    image = _with_palette(pixels)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    if content.tell() > MAX_BYTES:
        raise BrowserError(
            f"the figure takes {content.tell():,} bytes, and at most {MAX_BYTES:,} are allowed: show less of it."
        )
    return content.getvalue()


def _with_palette(pixels: Pixels) -> Image.Image:
    """The image with 256 colors: the 128 most frequent ones as they are, and 128 for all others, which are dithered."""
    codes = pixels.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    colors, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    places = places.reshape(codes.shape)
    frequent = np.argsort(-counts, kind="stable")[:_EXACT_COLORS]
    index_of = np.full(len(colors), -1)
    index_of[frequent] = np.arange(len(frequent))
    exact = index_of[places]
    shades = np.stack([colors[frequent] >> 16, colors[frequent] >> 8 & 255, colors[frequent] & 255], axis=1).astype(np.uint8)
    if len(frequent) < len(colors):
        others = Image.fromarray(pixels[exact < 0][None]).quantize(
            256 - _EXACT_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=2
        )
        shades = np.concatenate([shades, np.array(others.getpalette(), np.uint8).reshape(-1, 3)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(shades.tobytes())
    dithered = np.asarray(Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    image = Image.fromarray(np.where(exact >= 0, exact, dithered).astype(np.uint8))
    image.putpalette(shades.tobytes())
    return image
