"""The command line, called in this process, and one small trained run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command


class Answer(NamedTuple):
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]

SMALL = ["-m", "conv(4, 3), norm, relu, globalpool, linear(classes)", "--epochs", "4", "-b", "8", "--precision", "float32"]


class StopAfter:
    """Asks a training to stop after so many steps; ``follow`` is its ``on_event``."""

    def __init__(self, steps: int) -> None:
        self.left, self.is_training = steps, False

    def follow(self, event: object) -> None:
        self.is_training = self.is_training or type(event).__name__ == "Started"

    def __call__(self) -> bool:
        self.left -= self.is_training
        return self.left < 0


@functools.cache
def _built(app: Any) -> Any:
    """The commands of an application, built once for all tests of a process and not for each call."""
    return get_command(app)


@pytest.fixture
def visus_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``visus_command("train", folder, ...)`` -> exit code, stdout, stderr."""
    from visus.cli import main

    monkeypatch.setattr("typer.main.get_command", _built)

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["visus", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Answer(int(end.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, dark and light."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, middle in (("dark", 70), ("light", 180)):
        (root / label).mkdir()
        for number in range(30):
            values = np.clip(rng.normal(middle, 30, (10, 10, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / label / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on these images."""
    import visus

    recipe = visus.Recipe(epochs=12, batch_size=8, precision="float32", learning_rate=0.02)
    return visus.train(photos, SMALL[1], recipe, output=tmp_path_factory.mktemp("runs")).folder


@pytest.fixture(scope="session")
def other_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty other images of the same classes."""
    root = tmp_path_factory.mktemp("others")
    for file in photos.rglob("*.png"):
        (root / file.parent.name).mkdir(exist_ok=True)
        with Image.open(file) as image:
            image.rotate(90).save(root / file.parent.name / file.name)
    return root
