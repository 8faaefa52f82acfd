"""Two processes of one thread beside one process of two threads, on one dataset; and a run of which a process is killed.

    python benchmarks/two_processes.py DATA [--seeds 0 1 2] [--epochs N] [--output FILE.json] [-- OPTIONS OF VISUS TRAIN]

For each seed both train in turn, as commands of their own: ``visus train`` and ``torchrun --nproc-per-node 2 --max-restarts 3 -m visus train``.
Overhead is the ratio of the seconds of training that ``results.csv`` tells, of steps and validation, so neither start nor report count; the time of the
whole command is told too. Then the run of the first seed is made anew, one of its processes is killed with SIGKILL after its first epoch, and its weights
are compared bit for bit with those of the run that was not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import command_line, machine_facts, mean_of, ratio_of, same_weights, write_result

NUM = 2
LAUNCHER = ["-m", "torch.distributed.run", "--nproc-per-node", str(NUM), "--max-restarts", "3"]


def start(words: list[str], *, is_shared: bool) -> subprocess.Popen[str]:
    """A training by one process of two threads, or by two of one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if is_shared else str(NUM)}
    command = [sys.executable, *(LAUNCHER if is_shared else []), "-m", "visus", "train", *words, "--json", "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finished(process: subprocess.Popen[str], began: float) -> dict[str, Any]:
    """Accuracy, seconds of training and of the whole command, epochs and folder of a run; the script ends where it failed."""
    out, said = process.communicate()
    whole_s = time.monotonic() - began
    if process.returncode:
        sys.exit(f"a training failed:\n{said}")
    told = json.loads(out)
    rows = list(csv.DictReader((Path(told["run"]) / "results.csv").open()))
    return {
        "accuracy": told["accuracy"],
        "training_s": float(rows[-1]["elapsed_seconds"]),
        "command_s": whole_s,
        "epochs": len(rows),
        "run": told["run"],
    }


def killed(words: list[str], run: Path) -> dict[str, Any]:
    """The run, of which the last process was killed after the first epoch."""
    began = time.monotonic()
    process = start(words, is_shared=True)
    while not (run / "results.csv").exists():
        if process.poll() is not None:
            return finished(process, began)
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    return finished(process, began)


def main() -> None:
    """Run the experiment; exit code 1 where the killed run ends with other weights."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--epochs", type=int)
    options.add_argument("--output", type=Path)
    words_of_ours, _, rest = "\0".join(sys.argv[1:]).partition("\0--\0")
    chosen = options.parse_args(words_of_ours.split("\0"))
    given = [] if chosen.epochs is None else ["--epochs", str(chosen.epochs)]
    given += rest.split("\0") if rest else []
    runs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as scratch:

        def words(name: str, seed: int) -> list[str]:
            return [str(chosen.data), *given, "--seed", str(seed), "-o", scratch, "--name", name]

        for place, seed in enumerate(chosen.seeds):
            for is_shared in (False, True) if place % 2 == 0 else (True, False):
                began = time.monotonic()
                process = start(words(f"{seed}-{1 + is_shared}", seed), is_shared=is_shared)
                runs[is_shared].append(finished(process, began))
                print(seed, 1 + is_shared, runs[is_shared][-1], flush=True)
        seed = chosen.seeds[0]
        after = killed(words("killed", seed), Path(scratch) / "killed")
        is_same = same_weights(Path(scratch) / f"{seed}-2", Path(after["run"]))
    table = {
        "command": command_line(),
        "data": chosen.data.name,
        "machine": machine_facts(NUM),
        "seeds": chosen.seeds,
        "ratio_of_training": ratio_of(*([run["training_s"] for run in runs[kind]] for kind in (True, False))).to_json(),
        "ratio_of_command": ratio_of(*([run["command_s"] for run in runs[kind]] for kind in (True, False))).to_json(),
    }
    for kind, name in ((False, "one_process"), (True, "two_processes")):
        table[name] = {
            what: mean_of([run[what] for run in runs[kind]]).to_json() for what in ("accuracy", "training_s", "command_s")
        }
    table["killed"] = {
        "accuracy": after["accuracy"],
        "command_s": round(after["command_s"], 2),
        "equal_bit_for_bit": is_same,
    }
    print(json.dumps(table, indent=2))
    write_result(chosen.output, table)
    sys.exit(0 if is_same else 1)


if __name__ == "__main__":
    main()
