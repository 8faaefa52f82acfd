"""The trained runs that the figures are drawn from: small, committed, and trained by ``scripts/pictures --train``.

A run here holds only the files that ``visus.load``, ``Run.report`` and ``visus.look`` read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "runs"
DEFAULT: Final = "fashion-sample"
"""The run of ``visus train`` without arguments, on the images that come with visus."""

TRANSCRIPT: Final = FOLDER / "train.ansi"
"""What that command printed in a terminal."""

FILES: Final = (
    "calibration.json",
    "classes.txt",
    "contents.npz",
    "data.json",
    "design.txt",
    "environment.json",
    "ledger.json",
    "mirrors.json",
    "recipe.yaml",
    "results.csv",
    "scores.json",
    "split.csv",
    "weights/best.safetensors",
    "whitening.json",
)


@contextlib.contextmanager
def copied_run(name: str) -> Iterator[Path]:
    """A folder in which ``runs/NAME`` is a copy of a run, as the current folder; returns the path ``runs/NAME``.

    A figure can so write into the run, and paths in its text are those that a user sees.
    """
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER / name, Path(folder) / "runs" / name)
        os.chdir(folder)
        try:
            yield Path("runs") / name
        finally:
            os.chdir(before)


def keep_run(run: Path, name: str, files: tuple[str, ...] = FILES) -> None:
    """Replace a committed run by the files of a new one that figures need; a file that the run does not have is skipped."""
    kept = FOLDER / name
    shutil.rmtree(kept, ignore_errors=True)
    for each in files:
        if (run / each).is_file():
            (kept / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / each, kept / each)
    facts = kept / "data.json"
    if facts.is_file():
        facts.write_text(facts.read_text("utf-8").replace(str(Path.home()), "~"), "utf-8")


def class_names() -> tuple[str, ...]:
    """The names of the classes of the packaged images, which a figure may show in any order."""
    return tuple((FOLDER / DEFAULT / "classes.txt").read_text("utf-8").splitlines())
