"""The image of accuracy over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from peers.chart import draw_race
from peers.curves import Curve, Point

FAST = (Curve(0, 1.0, 9.0, "settled", (Point(1, 2.0, 0.2, 0.8), Point(2, 4.0, 0.4, 0.93))),)
SLOW = (Curve(0, 1.0, 99.0, "time limit", (Point(1, 40.0, 2.0, 0.5),)),)


def colors(path: Path) -> set[tuple[int, ...]]:
    """The colors of an image."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {tuple(int(value) for value in row) for row in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("curves", [{"visus": FAST, "slow": SLOW}, {"visus": FAST}, {"nobody": ()}, {}])
def test_a_race_is_drawn_wherever_it_ended(curves: dict[str, tuple[Curve, ...]], tmp_path: Path) -> None:
    draw_race(curves, 0.9, tmp_path / "race.png")
    with Image.open(tmp_path / "race.png") as image:
        assert min(image.size) > 400


@pytest.mark.slow
def test_each_way_has_a_color_of_its_own(tmp_path: Path) -> None:
    draw_race({"visus": FAST, "slow": SLOW}, 0.9, tmp_path / "both.png")
    draw_race({"visus": FAST}, 0.9, tmp_path / "one.png")
    first, second = (0xAB, 0x4F, 0x17), (0x1F, 0x5F, 0xA8)
    assert {first, second} <= colors(tmp_path / "both.png")
    assert second not in colors(tmp_path / "one.png")
