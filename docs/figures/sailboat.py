"""A drawn image of a sailing boat, 224 x 224: the image that the figure of receptive fields is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

SIDE: Final = 224
_FINE: Final = 4  # it is drawn larger and reduced, so that edges are smooth
_HORIZON: Final = 150

Points = Sequence[tuple[float, float]]


def sailboat() -> npt.NDArray[np.uint8]:
    """The image, (224, 224, 3)."""
    image = _sky_and_sea()
    draw = ImageDraw.Draw(image)
    _hills(draw)
    _waves(draw)
    _boat(draw)
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _sky_and_sea() -> Image.Image:
    """Two gradients, a low sun and clouds."""
    size = SIDE * _FINE
    rows = np.linspace(0, SIDE, size)[:, None]
    sky = _gradient(rows / _HORIZON, (86, 142, 202), (244, 226, 196))
    sea = _gradient((rows - _HORIZON) / (SIDE - _HORIZON), (104, 156, 176), (20, 62, 98))
    pixels = np.where((rows < _HORIZON)[..., None], sky, sea).repeat(size, axis=1)
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    light = Image.new("L", image.size, 0)
    marks = ImageDraw.Draw(light)
    marks.ellipse(_scaled([(24, 92), (52, 120)]), fill=230)
    for left, top, width in ((14, 34, 62), (34, 26, 40), (150, 52, 58), (168, 44, 34)):
        marks.rounded_rectangle(_scaled([(left, top), (left + width, top + 11)]), radius=6 * _FINE, fill=150)
    light = light.filter(ImageFilter.GaussianBlur(2 * _FINE))
    image.paste((255, 246, 226), mask=light)
    return image


def _gradient(
    share: npt.NDArray[np.float64], first: tuple[int, int, int], last: tuple[int, int, int]
) -> npt.NDArray[np.float64]:
    along = np.clip(share, 0, 1)[..., None]
    return np.array(first) * (1 - along) + np.array(last) * along


def _hills(draw: ImageDraw.ImageDraw) -> None:
    far = [(0, 150), (0, 138), (26, 128), (52, 137), (80, 126), (112, 140), (140, 150)]
    near = [(128, 150), (150, 139), (178, 124), (204, 133), (224, 120), (224, 150)]
    draw.polygon(_scaled(far), fill=(134, 158, 178))
    draw.polygon(_scaled(near), fill=(92, 122, 138))


def _waves(draw: ImageDraw.ImageDraw) -> None:
    generator = np.random.default_rng(4)
    for _ in range(95):
        depth = float(generator.uniform(0.04, 1))
        left, top = float(generator.uniform(-10, SIDE)), _HORIZON + depth * (SIDE - _HORIZON)
        width, height = 5 + 20 * depth, 0.5 + 1.3 * depth
        shade = (178, 208, 216) if generator.random() < 0.5 else (30, 82, 118)
        draw.ellipse(_scaled([(left, top), (left + width, top + height)]), fill=shade)


def _boat(draw: ImageDraw.ImageDraw) -> None:
    """A hull with a stripe, a mast, and two sails with seams."""
    draw.polygon(_scaled([(70, 186), (166, 186), (150, 198), (88, 198)]), fill=(16, 50, 80))
    draw.line(_scaled([(122, 26), (122, 172)]), fill=(88, 62, 44), width=2 * _FINE + 2)
    main: Points = [(125, 30), (125, 158), (182, 158), (160, 110)]
    front: Points = [(118, 38), (118, 160), (62, 160), (92, 104)]
    draw.polygon(_scaled(main), fill=(250, 247, 240))
    draw.polygon(_scaled(front), fill=(206, 62, 48))
    for height in (66, 98, 130):
        right = 125 + (height - 30) * 0.43
        draw.line(_scaled([(125, height), (right, height + 3)]), fill=(206, 202, 192), width=_FINE)
    draw.polygon(_scaled([(122, 26), (122, 18), (138, 22)]), fill=(206, 62, 48))
    draw.polygon(_scaled([(58, 168), (186, 166), (166, 188), (76, 188)]), fill=(70, 44, 30))
    draw.polygon(_scaled([(58, 168), (186, 166), (182, 171), (62, 173)]), fill=(236, 226, 206))


def _scaled(points: Points) -> list[tuple[float, float]]:
    return [(across * _FINE, down * _FINE) for across, down in points]
