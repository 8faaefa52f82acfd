"""Trains the runs that the figures are drawn from, and keeps the files that they need: ``scripts/pictures --train``.

It takes minutes. A transcript with usual durations needs a machine that does nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

import visus
from figures import runs, shifts, train
from visus.design import Design
from visus.errors import VisusError
from visus.training.recipe import Recipe
from visus.workbench.runs.run import Run
from visus.workbench.runs.shift_remedies import antialiased_design

FLATTENED: Final = (
    "conv(8, 3, padding=1), norm, relu, maxpool(2), conv(16, 3, padding=1), norm, relu, maxpool(2), "
    "conv(32, 3, padding=1), norm, relu, maxpool(2), flatten, linear(classes)"
)
NUM_EPOCHS: Final = 10
QUOTING: Final = ("README.md", "docs/start.md")
"""Documents that quote what the training prints."""
_NEEDED: Final = ("design.txt", "weights/best.safetensors")


def train_runs(names: Collection[str]) -> None:
    """Train the runs that the named figures show, in a temporary folder, and replace the committed ones."""
    with tempfile.TemporaryDirectory() as folder:
        if {"report", "look", "train"} & set(names):
            _train_default(Path(folder))
        if "shifts" in names:
            _train_for_shifts(Path(folder))


def _train_default(folder: Path) -> None:
    """``visus train`` without arguments, in a terminal."""
    written = train.transcript(folder)
    runs.keep_run(folder / "runs" / runs.DEFAULT, runs.DEFAULT)
    runs.TRANSCRIPT.write_text(written, "utf-8")
    for name in QUOTING:
        path = runs.FOLDER.parents[2] / name
        path.write_text(train.quoted(path.read_text("utf-8")), "utf-8")


def _train_for_shifts(folder: Path) -> None:
    """A network with a flatten on objects in the middle of a canvas, and the design that ``visus experiment antialias`` makes of it."""
    packaged, images, labels = visus.open_data(), {}, {}
    for split in ("train", "val", "test"):
        part = packaged.split(split)
        images[f"{split}_images"] = shifts.on_canvas(part.rows(np.arange(len(part))))[:, 0].numpy()
        labels[f"{split}_labels"] = part.labels
    np.savez(folder / "centered.npz", allow_pickle=False, **images, **labels)
    flattened = _train_centered(folder, FLATTENED, "flatten")
    changed = antialiased_design(flattened)
    if changed is None:
        raise VisusError("the design of the figure of shifts has nothing to antialias.")
    _train_centered(folder, changed[0], "antialiased")


def _train_centered(folder: Path, design: str | Design, name: str) -> Run:
    run = visus.train(folder / "centered.npz", design, Recipe(epochs=NUM_EPOCHS), name=name, output=folder / "runs")
    runs.keep_run(run.folder, name, _NEEDED)
    return run
