"""What ``visus train`` prints in a terminal, from its first line to its last."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

import visus
from figures.figure import Figure
from figures.runs import TRANSCRIPT
from figures.terminal import run_in_terminal, screen_lines, terminal

COMMAND: Final = "visus train"
FIRST, LAST = 4, 3
"""Lines that are shown at both ends of a long series of alike ones, such as epochs."""

_COLOR: Final = re.compile(r"\x1b\[[\d;]*m")


def draw() -> Figure:
    """The transcript of the training of the committed run."""
    return Figure(terminal(COMMAND, shortened(TRANSCRIPT.read_text("utf-8").splitlines())), width=1000)


def draft() -> Figure:
    """The same, with what a much smaller training prints now: it changes where the messages of ``visus train`` change."""
    return replace(draw(), messages="\n".join(_small_training()))


def shortened(lines: Sequence[str]) -> list[str]:
    """Lines in which a long series of alike ones, which begin with the same word or with a number, has lost its middle.

    >>> shortened(["data", *(f"epoch {number}" for number in range(1, 21)), "done"])[3:7]
    ['epoch 3', 'epoch 4', '\\x1b[90m... 13 more lines like these\\x1b[0m', 'epoch 18']
    """
    found: list[str] = []
    start = 0
    while start < len(lines):
        word = _first_word(lines[start])
        end = start
        while end < len(lines) and _first_word(lines[end]) == word:
            end += 1
        series = list(lines[start:end])
        if len(series) > FIRST + LAST + 1:
            left = len(series) - FIRST - LAST
            series[FIRST:-LAST] = [f"\x1b[90m... {left} more lines like these\x1b[0m"]
        found += series
        start = end
    return found


def plain_transcript() -> str:
    """The transcript without colors and with two of its epochs, as README.md and ``docs/start.md`` quote it."""
    lines = [_COLOR.sub("", line).rstrip() for line in TRANSCRIPT.read_text("utf-8").splitlines()]
    epochs = [place for place, line in enumerate(lines) if re.match(r"\d+/\d+ |-- ", line)]
    lines[epochs[0] + 1 : epochs[-1]] = ["..."]
    return "\n".join(lines) + "\n"


def quoted(document: str) -> str:
    """A document whose block of text that begins with the line ``data`` is the transcript."""
    return re.sub(r"(?<=^```text\n)data .*?(?=^```$)", lambda _: plain_transcript(), document, flags=re.M | re.S)


def _first_word(line: str) -> str:
    return re.sub(r"\d+", "#", (_COLOR.sub("", line).split() or [""])[0])


def transcript(folder: Path) -> str:
    """Run the command in a folder, and return what is left on the screen; the user's folder is written as ``~``."""
    written = run_in_terminal([sys.executable, "-m", "visus", "train"], folder=folder)
    return "\n".join(screen_lines(written)).replace(str(Path.home()), "~") + "\n"


def _small_training() -> list[str]:
    """The lines of a training of two epochs on 300 of the packaged images, in float32, which every processor has."""
    data = visus.open_data().split("train")
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "images.npz", x=data.rows(np.arange(300)).numpy(), y=data.labels[:300])
        options = ["images.npz", "-m", "conv(4, 3, stride=2), relu, globalpool, linear(classes)", "--epochs", "2"]
        options += ["--precision", "float32", "--device", "cpu", "--cache-dir", "cache"]
        written = run_in_terminal([sys.executable, "-m", "visus", "train", *options], folder=Path(folder))
        return list(_steady(screen_lines(written.replace(folder, "FOLDER"))))


def _steady(lines: list[str]) -> Iterator[str]:
    """The lines in whole sentences, without what depends on the processor and its load: times, rows of epochs, and what is found in the predictions."""
    joined = re.sub(r"\n {10}", " ", "\n".join(_COLOR.sub("", line) for line in lines))
    for line in joined.splitlines():
        if re.match(r"\d+/|.*: [\d.]+ m?s$", line):
            continue
        if match := re.match(r"(time|labels) ", line):
            yield match[1]
        else:
            yield re.sub(r"; [\d.]+ % without test-time augmentation", "", re.sub(r"\bcores\b", "core", line))
