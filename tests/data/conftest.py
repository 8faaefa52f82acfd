"""Small folders of images for the tests of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.caller import called_by_command

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def typed() -> Iterator[None]:
    """The messages of the tests of a module are those for a command."""
    with called_by_command():
        yield


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes a folder for each class, with images that all differ and are lossless.

    ``make_folder({"cat": 3, "dog": 2}, size=(8, 8), channels=3, suffix=".png", below="train", seed=0)`` returns the folder
    of the classes. Images are called ``000.png``, ``001.png``, ...; each class has a brightness of its own, so that a
    network can learn it.
    """

    def make(
        classes: Mapping[str, int],
        *,
        size: tuple[int, int] = (8, 8),
        channels: int = 3,
        suffix: str = ".png",
        below: str = "",
        seed: int = 0,
    ) -> Path:
        root = tmp_path / "images"
        random = np.random.default_rng(seed)
        for place, (name, number) in enumerate(classes.items()):
            folder = root / below / name
            folder.mkdir(parents=True, exist_ok=True)
            middle = 255 * (place + 1) // (len(classes) + 1)
            for index in range(number):
                values = np.clip(random.normal(middle, 25, (*size, channels)), 0, 255).astype(np.uint8)
                Image.fromarray(values[:, :, 0] if channels == 1 else values).save(folder / f"{index:03d}{suffix}")
        return root

    return make
