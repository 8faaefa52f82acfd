"""``visus tune`` within a time limit: the best trial beside the default recipe, on validation samples, and the test accuracy of both.

    python benchmarks/tune.py [DATA] [--time-limit 10m] [--seeds 0 1 2] [--trials N] [--output FILE.json]

DATA is a folder, table or array file; default: the images that come with visus. A seed is that of the search, and the trainings keep their own. Each row tells
how long the whole search took, how many trials it made, and the validation accuracy of the best one and of the default. After each search, the default recipe
is trained too, with as many epochs as the trials had, and both runs are scored on the test set: that of the best one by the search itself, once. No choice
follows from these scores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import visus
from measuring import command_line, machine_facts, write_result


def search(data: str | None, time_limit: str, trials: int | None, seed: int, output: Path) -> dict[str, Any]:
    """One search, and the default run beside its run."""
    began = time.perf_counter()
    found = visus.tune(
        data, time_limit=time_limit, trials=trials, seed=seed, output=output, name=f"seed-{seed}-tune", progress=False
    )
    seconds = time.perf_counter() - began
    best, default = found.best_trial, found.trials[0]
    epochs = found.run.recipe.epochs
    plain = visus.train(data, recipe=visus.Recipe(epochs=epochs), output=output, name=f"seed-{seed}-default", progress=False)
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "trials": len(found.trials),
        "ended_early": sum(trial.state == "ended early" for trial in found.trials),
        "epochs": epochs,
        "validation_samples": best.num_validation,
        "default_val_accuracy": default.accuracy,
        "best_val_accuracy": best.accuracy,
        "best_trial": best.number,
        "best_settings": best.settings,
        "is_no_worse": best.accuracy >= default.accuracy,
        "test_samples": found.run.scores.num_samples,
        "best_test_accuracy": found.run.scores.accuracy,
        "default_test_accuracy": plain.scores.accuracy,
    }


def main() -> None:
    """A search for each seed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="?")
    options.add_argument("--time-limit", default="10m")
    options.add_argument("--trials", type=int)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    table: dict[str, Any] = {"command": command_line(), **machine_facts(), "time_limit": chosen.time_limit, "rows": rows}
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(search(chosen.data, chosen.time_limit, chosen.trials, seed, Path(scratch)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        write_result(chosen.output, table)


if __name__ == "__main__":
    main()
