"""Folds of the sign digits: the out-of-fold accuracy with its interval, the time beside one run, and a kill in the third fold.

    python benchmarks/folds.py DATA [--folds 5] [--output FILE.json] [OPTIONS OF VISUS TRAIN]

DATA is the folder of sign digits (or another one); further options, such as --epochs 4 --img-size 32, go to ``visus train``. Each training is ``visus train`` in a process of its own. First an empty cache: one run, and then
the folds, also with an empty cache, so both decode. Then the folds again, killed with SIGKILL in the third fold and resumed: weights, predictions and
figures must be the same, bit for bit. Exit code 1 if they are not, or if the folds take longer than that many runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

import visus
from measuring import same_weights
from visus.networks.machine import describe


def train(folder: Path, cache: Path, words: list[str], *, kill_at: Path | None = None) -> float:
    """Train in a process; the seconds that it took.

    Args:
        folder: parent folder of the runs.
        cache: folder for decoded data.
        words: the words behind ``visus train``.
        kill_at: kill the process two epochs after this run has begun; None lets it end.
    """
    began = time.monotonic()
    environment = {**os.environ, "VISUS_CACHE": str(cache)}
    place = [] if "--resume" in words else ["-o", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "visus", "train", *words, *place, "-q"], env=environment)
    if kill_at is not None:
        results = kill_at / "results.csv"
        while process.poll() is None and not (results.is_file() and len(results.read_text().splitlines()) > 2):
            time.sleep(0.05)
        if process.poll() is not None:
            sys.exit("the training ended before it was killed")
        os.kill(process.pid, signal.SIGKILL)
    if process.wait() and kill_at is None:
        sys.exit("a training failed")
    return time.monotonic() - began


def is_same(one: Path, other: Path, num_folds: int) -> bool:
    """Whether two cross-validations have the same weights, predictions and figures."""
    weights = all(same_weights(one / f"fold{number}", other / f"fold{number}") for number in range(1, num_folds + 1))
    return weights and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("out_of_fold.csv", "summary.json")
    )


def main() -> None:
    """Run the experiment."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--output", type=Path)
    chosen, further = options.parse_known_args()
    words = [str(chosen.data), *further]
    crossed = [*words, "--folds", str(chosen.folds)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run_s = train(folder, folder / "cache of the run", [*words, "--name", "run"])
        folds_s = train(folder, folder / "cache", [*crossed, "--name", "whole"])
        train(folder, folder / "cache", [*crossed, "--name", "killed"], kill_at=folder / "killed" / "fold3")
        train(folder, folder / "cache", ["--resume", str(folder / "killed")])
        equal = is_same(folder / "whole", folder / "killed", chosen.folds)
        summary: dict[str, Any] = json.loads((folder / "whole" / "summary.json").read_text())
        one = visus.load(folder / "run").scores
    scores = summary["out_of_fold"]
    result = {
        "command": " ".join(sys.argv),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": describe(),
        "visus": visus.__version__,
        "torch": torch.__version__,
        "device": "cpu" if not torch.cuda.is_available() else "cuda",
        "threads": torch.get_num_threads(),
        "data": chosen.data.name,
        "options": further,
        "out_of_fold": {name: scores[name] for name in ("num_samples", "accuracy", "accuracy_low", "accuracy_high", "loss")},
        "mean": summary["mean"],
        "spread": summary["spread"],
        "accuracies": [each["accuracy"] for each in summary["folds"]],
        "one_run": {
            "num_samples": one.num_samples,
            "accuracy": one.accuracy,
            "low": one.accuracy_low,
            "high": one.accuracy_high,
        },
        "seconds_of_one_run": round(run_s, 2),
        "seconds_of_the_folds": round(folds_s, 2),
        "folds_by_runs": round(folds_s / run_s, 3),
        "num_folds": chosen.folds,
        "killed_in_fold": 3,
        "equal_bit_for_bit": equal,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.output:
        chosen.output.write_text(text + "\n")
    sys.exit(0 if equal and folds_s <= chosen.folds * run_s else 1)


if __name__ == "__main__":
    main()
