"""``visus train`` with its default recipe on a dataset, several seeds: accuracy on the held-out split, and the time of the whole command.

    python benchmarks/main_job.py DATA [DATA ...] [--seeds 0 1 2] [--output FILE.json]

``sample`` stands for the images that come with visus. Each seed is a process of its own, timed from its start to its end with an empty cache
of decoded data, so that decoding counts. Seeds decide the split of a source that names none, so the spread includes that of the split.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from visus.networks.machine import describe


def train_once(data: str, seed: int, folder: Path) -> dict[str, Any]:
    """One training: its scores, wall and processor seconds."""
    words = [] if data == "sample" else [data]
    environment = {**os.environ, "VISUS_CACHE": str(folder / f"cache-{seed}")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "visus", "train", *words, "--seed", str(seed), "--output", str(folder), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{data}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
    scores = json.loads(done.stdout)
    ledger = [line for line in done.stderr.splitlines() if line.startswith(("ledger:", "recipe:", "network:", "trained"))]
    return {
        "seed": seed,
        "accuracy": scores["accuracy"],
        "accuracy_low": scores["accuracy_low"],
        "accuracy_high": scores["accuracy_high"],
        "baseline": scores["baseline"],
        "num_samples": scores["num_samples"],
        "split": scores["split"],
        "wall_s": round(seconds, 1),
        "processor_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "talk": ledger,
    }


def main() -> None:
    """Train on every dataset with every seed and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    machine = describe()
    results = []
    for data in chosen.data:
        with tempfile.TemporaryDirectory() as scratch:
            runs = []
            for seed in chosen.seeds:
                runs.append(train_once(data, seed, Path(scratch)))
                print(
                    f"{Path(data).name} seed {seed}: {runs[-1]['accuracy']:.4f} in {runs[-1]['wall_s']} s",
                    file=sys.stderr,
                    flush=True,
                )
        accuracies = [run["accuracy"] for run in runs]
        results.append(
            {
                "data": Path(data).name,
                "mean_accuracy": round(statistics.mean(accuracies), 5),
                "lowest": min(accuracies),
                "highest": max(accuracies),
                "longest_wall_s": max(run["wall_s"] for run in runs),
                "runs": runs,
            }
        )
        table = {
            "command": "python benchmarks/main_job.py " + " ".join(Path(name).name for name in chosen.data),
            "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
            "processor": machine["processor"],
            "features": machine["features"],
            "cores": machine["cores"],
            "threads": machine["threads"],
            "num_seeds": len(chosen.seeds),
            "results": results,
        }
        if chosen.output:
            chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
