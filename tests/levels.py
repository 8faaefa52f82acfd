"""Small images of three classes that differ in their brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def images(num: int = 60, channels: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 images (num, channels, 8, 8) of three brightnesses, and their labels."""
    labels = np.arange(num) % 3
    levels = (labels * 80).astype(np.uint8)[:, None, None, None]
    return np.random.default_rng(0).integers(0, 90, (num, channels, 8, 8), dtype=np.uint8) + levels, labels


def write_levels(folder: Path) -> Path:
    """60 of these images in ``levels.npz``."""
    found = folder / "levels.npz"
    x, y = images()
    np.savez(found, x=x, y=y)
    return found
