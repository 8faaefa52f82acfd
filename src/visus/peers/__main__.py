"""``python -m visus.peers TASK.json``: one training of one peer.

This file knows which file holds which peer, and keeps standard output for events. It must not know how anything is trained.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path

from visus.peers.task import Course, Task


def main() -> None:
    """Train as the task file says."""
    task = Task(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what a package prints of itself is no event
        course = Course(task, lines)
        importlib.import_module(f"visus.peers.{task.peer}_loop").train(task, course)
        course.ended()


if __name__ == "__main__":
    main()
