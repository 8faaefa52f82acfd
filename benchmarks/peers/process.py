"""One training in a process of its own, timed from outside and followed line by line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from peers.curves import Curve, End, Point

PROGRAM: Final = (sys.executable, str(Path(__file__).with_name("__main__.py")))  # takes the file of a task
_LAST_WORDS: Final = 3  # lines of a failed process that are told


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Args:
        time_limit_s: seconds since its data was in memory after which it is ended; it may take as many to get that far.
        threads: of its arithmetic.
        device: ``cpu`` hides CUDA devices from it.
    """

    time_limit_s: float
    threads: int
    device: str


def timed_run(
    task: dict[str, Any], limits: Limits, scratch: Path, tell: Callable[[Point], None] = lambda point: None
) -> tuple[Curve, dict[str, str]]:
    """Carry out a task of ``peers`` in a process of its own.

    Args:
        task: the fields of ``peers.task.Task``.
        limits: what the process may use.
        scratch: folder for the task's file and for what the process says.
        tell: called at each evaluation.

    Returns:
        Its curve, which tells too why it failed where it did, and the versions of its packages.
    """
    written = scratch / "task.json"
    written.write_text(json.dumps(task), "utf-8")
    points: list[Point] = []
    versions: dict[str, str] = {}
    end: End = "failed"
    before_s = 0.0
    began = time.perf_counter()
    with (scratch / "said.txt").open("w+", encoding="utf-8") as said, _process(written, limits, said) as (process, lines):
        while (line := lines.next(began + before_s + limits.time_limit_s - time.perf_counter())) is not None:
            event = json.loads(line)
            if event["event"] == "ready":
                before_s, versions = time.perf_counter() - began, event["versions"]
            elif event["event"] == "evaluated":
                points.append(Point(**{field.name: event[field.name] for field in dataclasses.fields(Point)}))
                tell(points[-1])
            else:
                end = event["end"]
        if lines.is_late and end == "failed":
            end = "time limit"
        if lines.is_late:
            process.kill()
        code = process.wait()
        said.seek(0)
        problem = "" if end != "failed" else " ".join(said.read().strip().split("\n")[-_LAST_WORDS:]).strip()
    if end == "failed" and not problem:
        problem = f"the process ended with code {code}"
    return Curve(task["seed"], before_s, time.perf_counter() - began, end, tuple(points), problem), versions


class _Lines:
    """Lines of a stream, each waited for no longer than is said."""

    def __init__(self, stream: IO[str]) -> None:
        self.is_late = False
        self._waiting: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self, seconds: float) -> str | None:
        """The next line; None at the end of the stream, or where it is late."""
        try:
            return self._waiting.get(timeout=max(0.0, seconds))
        except queue.Empty:
            self.is_late = True
            return None

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._waiting.put(line)
        self._waiting.put(None)


@contextlib.contextmanager
def _process(task: Path, limits: Limits, said: IO[str]) -> Iterator[tuple[subprocess.Popen[str], _Lines]]:
    """A process that trains, with its lines; it is ended with the context, whatever happens."""
    with subprocess.Popen(
        [*PROGRAM, str(task)], stdout=subprocess.PIPE, stderr=said, text=True, env=_environment(limits)
    ) as process:
        assert process.stdout is not None, "its standard output is a pipe"
        try:
            yield process, _Lines(process.stdout)
        finally:
            process.kill()


def _environment(limits: Limits) -> dict[str, str]:
    """The environment of a training: its threads, its device, and what keeps packages from talking."""
    found = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    found |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(limits.threads))
    if limits.device == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
    found.setdefault("KERAS_BACKEND", "tensorflow" if find_spec("tensorflow") else "torch")
    return found
