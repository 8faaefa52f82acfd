"""How long a person waits for the first number of a training: the command in a terminal, with an empty cache folder.

    python benchmarks/first_number.py [DATA] [--runs 5] [--until loss|row] [--output FILE]

Each run starts ``python -m visus train`` in a pseudo-terminal of 80 columns, with an empty cache folder (``VISUS_CACHE``): nothing is decoded,
compiled or timed before. The clock starts before the process and notes when each of these appears on the screen: the data, the first loss (of
the first batch, before any step), the loss after the first step, and the first row of the table of epochs. The process is killed at the last of
them that is wanted. Beside it, in turns, ``python -c "import torch"``: the ratio to it, and the seconds of CPU time of the process (without
the compiler's), say more than seconds where other programs run. Unix only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any, Final

MARKS: Final = {
    "data": re.compile(rb"data      \S"),
    "loss": re.compile(rb"loss \d"),
    "step": re.compile(rb"epoch 1/\d+  \d+ %"),
    "row": re.compile(rb"\n1/\d+ +\d"),
}
COLUMNS: Final = 80


def seen(text: bytes) -> set[str]:
    """The names of what is on the screen.

    >>> sorted(seen(b"data      photos: 2 classes  loss 2.31 before"))
    ['data', 'loss']
    """
    return {name for name, mark in MARKS.items() if mark.search(text)}


def wait_for(command: list[str], environment: dict[str, str], folder: Path, until: str) -> tuple[dict[str, float], float]:
    """Seconds until each mark was on the screen, and the CPU seconds of the process; it is killed at ``until``.

    Raises:
        RuntimeError: the process ended before.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    began, text, found = time.perf_counter(), b"", dict[str, float]()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    try:
        while until not in found:
            if not select.select([leader], [], [], 600)[0]:
                raise RuntimeError(f"nothing was printed for 600 s; so far: {text.decode(errors='replace')}")
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other side is closed
                part = b""
            if not part:
                raise RuntimeError(f"the command ended before {until!r}: {text.decode(errors='replace')}")
            text += part
            for name in seen(text) - found.keys():
                found[name] = time.perf_counter() - began
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        os.close(leader)
    return found, usage.ru_utime + usage.ru_stime


def import_torch() -> float:
    """Seconds of a process that imports torch and nothing else."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure in turns and print the medians."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "data", nargs="?", help="what visus train takes; the images that come with visus where none is given"
    )
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--until", choices=tuple(MARKS), default="loss")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    from measuring import command_line, machine_facts, mean_of, ratio_of, write_result

    data = [str(Path(chosen.data).resolve())] if chosen.data else []
    rows: list[dict[str, float]] = []
    for number in range(chosen.runs):
        torch_s = import_torch()
        with tempfile.TemporaryDirectory() as made:
            scratch = Path(made)
            environment = {**os.environ, "VISUS_CACHE": str(scratch / "cache"), "TERM": "xterm-256color"}
            command = [sys.executable, "-m", "visus", "train", *data]
            found, cpu_s = wait_for(command, environment, scratch, chosen.until)
            shutil.rmtree(scratch / "cache", ignore_errors=True)
        rows.append({**found, "cpu": cpu_s, "import torch": torch_s})
        print(f"{number + 1}: {' '.join(f'{name} {value:.2f} s' for name, value in rows[-1].items())}", file=sys.stderr)
    names = [name for name in rows[0] if all(name in row for row in rows)]
    result: dict[str, Any] = {
        "command": command_line(),
        **machine_facts(),
        "load": os.getloadavg()[0],
        "runs": [{name: round(row[name], 3) for name in row} for row in rows],
        "medians": {name: round(statistics.median(row[name] for row in rows), 3) for name in names},
        "means": {name: mean_of([row[name] for row in rows]).to_json() for name in names},
        "first loss / import torch": ratio_of(
            [row["loss"] for row in rows], [row["import torch"] for row in rows]
        ).to_json(),
    }
    write_result(chosen.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
