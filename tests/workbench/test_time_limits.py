"""A time limit is that of the whole command, and the time that is said to be left is about the time that it takes; also where a run goes on."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visus.units import read_duration

pytestmark = pytest.mark.slow
LEFT = re.compile(r"  (\d\S*(?: \S+)*?)(?: \*)?$")


def command(*words: object) -> tuple[float, list[tuple[float, str]], str]:
    """Seconds of a command, its lines with the second in which each came, and what it printed."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "visus", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        lines = [(time.monotonic() - began, line.strip()) for line in process.stderr]
        printed = process.stdout.read().strip()
    assert process.returncode == 0, "\n".join(line for _, line in lines)
    return time.monotonic() - began, lines, printed


def check_forecasts(lines: list[tuple[float, str]], share: float = 0.2, seconds: float = 2.0) -> int:
    """Compare each epoch's time left with the time until the training ended; how many there were."""
    (ended,) = [at for at, line in lines if line.startswith("trained ")]
    told = [
        (at, read_duration(found[1].strip()))
        for at, line in lines
        if re.match(r"\d+/\d+ ", line) and (found := LEFT.search(line))
    ]
    for at, left in told:
        assert left == pytest.approx(ended - at, rel=share, abs=seconds), (at, left, ended)
    return len(told)


@pytest.mark.parametrize("limit_s", [45])
def test_a_command_takes_the_time_that_it_was_given(limit_s: int, tmp_path: Path) -> None:
    took, lines, _ = command("train", "--time-limit", f"{limit_s}s", "--epochs", "400", "-o", tmp_path)
    assert 0.75 * limit_s <= took <= 1.2 * limit_s, lines
    assert check_forecasts(lines) >= 2


def test_a_run_that_goes_on_with_a_limit_has_that_much_more_time(tmp_path: Path) -> None:
    _, _, run = command("train", "--time-limit", "20s", "--epochs", "400", "-o", tmp_path)
    took, lines, _ = command("train", "--resume", run, "--time-limit", "20s")
    assert 0.7 * 20 <= took <= 1.25 * 20, lines
    assert any("time limit" in line for _, line in lines)
