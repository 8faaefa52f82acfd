"""``python benchmarks/peers TASK.json``: one training of one peer."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    """Train as the task file says."""
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the folder of the package, not the package
    from peers.task import Course, Task

    task = Task(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what a package prints of itself is no event
        course = Course(task, lines)
        importlib.import_module(f"peers.{task.peer}_loop").train(task, course)
        course.ended()


if __name__ == "__main__":
    main()
