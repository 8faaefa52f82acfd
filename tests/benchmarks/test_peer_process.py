"""One process that trains: its lines, its clock and its end, with small programs in the place of trainings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from peers import process as benchmark_process
from peers.curves import Point
from peers.process import Limits, timed_run

READY = 'print(\'{"event": "ready", "versions": {"torch": "1"}, "device": "cpu"}\', flush=True)\n'
POINT = 'print(\'{"event": "evaluated", "epoch": 1, "seconds": 2.5, "evaluation_s": 0.5, "accuracy": 0.75}\', flush=True)\n'
END = 'print(\'{"event": "ended", "end": "settled"}\', flush=True)\n'


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that is run in the place of ``peers``."""
    monkeypatch.setattr(benchmark_process, "PROGRAM", (sys.executable, str(tmp_path / "program.py")))
    return tmp_path / "program.py"


def run(tmp_path: Path, limit_s: float = 30.0) -> tuple[benchmark_process.Curve, dict[str, str], list[Point]]:
    """The curve of a run with one thread, its versions, and the points that were told."""
    told: list[Point] = []
    curve, versions = timed_run({"seed": 5}, Limits(limit_s, 1, "cpu"), tmp_path, told.append)
    return curve, versions, told


def test_points_versions_and_the_end_come_from_the_lines(program: Path, tmp_path: Path) -> None:
    program.write_text(READY + POINT + END)
    curve, versions, told = run(tmp_path)
    assert (curve.seed, curve.end, curve.points, curve.problem) == (5, "settled", (Point(1, 2.5, 0.5, 0.75),), "")
    assert told == list(curve.points)
    assert versions == {"torch": "1"}
    assert 0 < curve.before_s < curve.process_s


@pytest.mark.long
def test_the_time_before_the_data_is_there_is_distinguished(program: Path, tmp_path: Path) -> None:
    program.write_text("import time\ntime.sleep(0.4)\n" + READY + "time.sleep(0.2)\n" + END)
    curve, _, _ = run(tmp_path)
    assert 0.4 <= curve.before_s <= curve.process_s - 0.1  # the line may be read a moment later


@pytest.mark.long
def test_a_run_is_ended_at_its_time_limit_and_keeps_its_points(program: Path, tmp_path: Path) -> None:
    program.write_text(READY + POINT + "import time\ntime.sleep(60)\n")
    curve, _, _ = run(tmp_path, limit_s=1.0)
    assert (curve.end, len(curve.points), curve.problem) == ("time limit", 1, "")
    assert curve.process_s < 30


@pytest.mark.long
def test_a_run_that_never_gets_ready_is_ended_too(program: Path, tmp_path: Path) -> None:
    program.write_text("import time\ntime.sleep(60)\n")
    assert run(tmp_path, limit_s=0.5)[0].end == "time limit"


def test_a_failed_run_reports_its_last_words(program: Path, tmp_path: Path) -> None:
    program.write_text(READY + "raise SystemExit('no paper\\nno ink')\n")
    curve, _, _ = run(tmp_path)
    assert (curve.end, curve.problem) == ("failed", "no paper no ink")


def test_a_run_that_dies_without_a_word_reports_its_code(program: Path, tmp_path: Path) -> None:
    program.write_text("raise SystemExit(7)\n")
    assert run(tmp_path)[0].problem == "the process ended with code 7"


def test_a_run_sees_its_threads_and_no_gpu(program: Path, tmp_path: Path) -> None:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "CUDA_VISIBLE_DEVICES")
    program.write_text(f"import os\nraise SystemExit(','.join(os.environ[name] for name in {names}) + '.')\n")
    assert run(tmp_path)[0].problem == "1,1,."
