"""In a terminal no line is longer than it, and every number that a training prints is that of its files."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from tests.commands import SMALL

from visus.cli import main
from visus.units import write_duration, write_share

pytestmark = [
    pytest.mark.usefixtures("light_pages"),
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix"),
]

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
Typed = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Path, photos: Path) -> Typed:
    """``terminal(80, "train", ...)`` -> exit code, and every line that a terminal of 80 columns showed for a moment or for good.

    The working folder has a run ``r`` and a folder ``photos``, so that paths are short.
    """
    shutil.copytree(run, tmp_path / "r")
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)

    def typed(width: int, *words: object) -> tuple[int, list[str]]:
        leader, follower = pty.openpty()
        parts: list[bytes] = []

        def read() -> None:
            while True:
                try:
                    part = os.read(leader, 65536)
                except OSError:
                    return
                if not part:
                    return
                parts.append(part)

        reader = threading.Thread(target=read)
        reader.start()
        with open(follower, "w", encoding="utf-8") as screen, monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm")
            for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
                patch.delenv(name, raising=False)
            patch.setattr(sys, "stdout", screen)
            patch.setattr(sys, "stderr", screen)
            patch.setattr(sys, "argv", ["visus", *map(str, words)])
            with pytest.raises(SystemExit) as end:
                main()
        reader.join(10)
        os.close(leader)
        text = ESCAPES.sub("", b"".join(parts).decode())
        return int(end.value.code or 0), [line for line in re.split(r"[\r\n]+", text) if line.strip()]

    return typed


TRAIN = ("train", "photos", *SMALL, "-o", "runs", "--name", "new", "--progressive-resize", "0.8,1")
COMMANDS = {
    "train": TRAIN,
    "train -v": (*TRAIN, "-v"),
    "resume": ("train", "--resume", "r"),
    "evaluate": ("evaluate", "r", "--mistakes", "--shifts"),
    "evaluate other data": ("evaluate", "r", "photos"),
    "predict": ("predict", "r", "photos/dark/00.png"),
    "check": ("check", "photos"),
    "look": ("look", "r", "photos/dark/00.png"),
    "look -v": ("look", "r", "photos/dark/00.png", "-v", "--no-templates"),
    "summary": ("summary", "compact", "--input", "1,28,28", "--classes", "10"),
    "compare": ("compare", "r", "r"),
    "experiment": ("experiment", "shuffle", "r", "-o", "runs"),
    "benchmark": ("benchmark", "r", "--rounds", "1", "--batch-size", "4"),
    "doctor": ("doctor",),
}


@pytest.mark.parametrize("width", [60, *(pytest.param(each, marks=pytest.mark.slow) for each in (80, 100))])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.long
def test_no_line_is_longer_than_the_terminal(terminal: Typed, words: tuple[str, ...], width: int) -> None:
    code, lines = terminal(width, *words)
    assert code == 0, lines
    assert len(lines) > 2 or words[0] == "predict"
    # a path that is longer than the terminal stays whole, in a line of its own
    too_long = [line for line in lines if cell_len(line) > width and len(line.removesuffix(" \\").split()) > 1]
    assert too_long == []


@pytest.mark.parametrize("words", [(), *[(name,) for name in ("train", "evaluate", "check", "look", "summary", "predict")]])
def test_help_fits_into_80_columns_and_is_never_cut(terminal: Typed, words: tuple[str, ...]) -> None:
    code, lines = terminal(80, *words, "--help")
    assert code == 0
    assert [line for line in lines if cell_len(line) > 80] == []
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage: ")] == []


def test_every_number_of_a_training_is_that_of_its_files(terminal: Typed, tmp_path: Path) -> None:
    _, lines = terminal(100, *TRAIN)
    folder = tmp_path / "runs" / "new"
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    printed = [line.split() for line in lines if re.match(r"\d+/4 ", line)]
    assert len(printed) == len(rows) == 4
    for words, row in zip(printed, rows, strict=True):
        assert words[0] == f"{row['epoch']}/4"
        assert " ".join(words[1:3]) == write_share(float(row["val_accuracy"]))
        assert words[3] == f"{float(row['val_loss']):.4f}"
        assert " ".join(words[4:6]) == write_share(float(row["train_accuracy"]))
        assert words[6] == f"{float(row['train_loss']):.4f}"
        assert words[7] == f"{float(row['samples_per_second']):,.0f}"
    scores = json.loads((folder / "scores.json").read_text())
    text = " ".join(" ".join(lines).split())
    assert (
        f"result {write_share(scores['accuracy'])} of {scores['num_samples']} test images are correct (95 % interval "
        f"{write_share(scores['accuracy_low'])} to {write_share(scores['accuracy_high'])}); always guessing "
        f"{scores['baseline_class']}: {write_share(scores['baseline'])} trust "
    ) in text
    assert f"trained 4 epochs in {write_duration(float(rows[-1]['elapsed_seconds']))}; kept: the weights of epoch " in text
    assert "-- from here at 10 px: compare only rows below --" in lines
    heading = next(line for line in lines if line.startswith("epoch   "))
    assert heading.split() == ["epoch", "validation", "loss", "training", "loss", "images/s", "left"]


def test_a_live_line_shows_the_first_loss_and_each_step(terminal: Typed) -> None:
    _, lines = terminal(80, *TRAIN)
    assert any(re.search(r"\bloss \d\.\d{3} before the first step", line) for line in lines)


@pytest.mark.slow
def test_a_benchmark_shows_its_work_as_the_other_commands_do(terminal: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.workbench.live_line.APPEARS_S", 0.0)
    monkeypatch.setattr("visus.workbench.live_line.REDRAWN_S", 0.0)
    _, lines = terminal(80, *COMMANDS["benchmark"])
    assert any(re.match(r"measuring  \d of \d", line) for line in lines)
    assert not any(line.startswith("measuring: ") for line in lines)


@pytest.mark.long
def test_the_details_are_printed_with_verbose_only(terminal: Typed) -> None:
    labels = ("input ", "machine ", "recipe ", "mirroring ", "start ")
    _, short = terminal(100, *TRAIN, "--flip", "none")
    assert [line for line in short if line.startswith(labels)] == []
    _, full = terminal(100, *TRAIN, "-v")
    assert {line.split()[0] for line in full if line.startswith(labels)} == {
        "input",
        "machine",
        "recipe",
        "mirroring",
        "start",
    }


def test_quiet_and_verbose_contradict_each_other(terminal: Typed) -> None:
    code, lines = terminal(100, "train", "photos", "-q", "-v")
    assert (code, lines) == (2, ["error: --quiet and --verbose contradict each other. Leave one of them out."])
