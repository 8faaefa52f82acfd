"""A small data set of real arithmetic, so that a training takes a second: bright and dark squares to tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visus.training.recipe import Recipe


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 grey pictures of 8 x 8 in three classes: how bright the upper left quarter is."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    pictures = rng.integers(0, 90, (120, 1, 8, 8), dtype=np.uint8)
    pictures[:, :, :4, :4] += (labels * 80).astype(np.uint8)[:, None, None, None]
    file = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez(file, x=pictures, y=labels)
    return file


@pytest.fixture
def quick() -> Recipe:
    """Three epochs of small batches in float32."""
    return Recipe(epochs=3, batch_size=16, learning_rate=0.01, precision="float32", device="cpu")
