"""Time to 93 % on Fashion-MNIST and to 90 % on CIFAR-10: visus beside PyTorch, fastai, Keras and torchvision as their documents write them.

    python benchmarks/time_to_accuracy.py [--fashion DATA] [--cifar DATA] [--seeds 0 1 2] [--time-limit 30m] [--with LIST] [--folder FOLDER]

The same as ``visus benchmark DATA --target ...``, for both sets, with one line at the end for each: the best of the others, and how many
times faster visus is. Where none of them reaches the target within the time limit, the factor is a lower bound, and the line says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from measuring import command_line, write_result

from visus.training.recipe import Recipe
from visus.units import read_duration
from visus.workbench.benchmarking import Benchmark, Evaluated, Plan, RunDone, benchmark
from visus.workbench.contestants import VISUS, read_contestants

TARGETS = {"fashion": 0.93, "cifar": 0.90}
WITH = "pytorch,pytorch/same,fastai,fastai/small,keras,torchvision:10"
GOAL = 10.0  # times faster than the best of the others


def verdict(result: Benchmark) -> dict[str, Any]:
    """The best of the others beside visus."""
    target, limit_s = result.plan.target, result.plan.time_limit_s
    own = next(one for one in result.raced if one.contestant.peer == VISUS).reached(target)
    others = {one.contestant.title: one.reached(target) for one in result.raced if one.contestant.peer != VISUS}
    times = {name: reached.seconds for name, reached in others.items() if reached}
    best = min(times, key=lambda name: times[name], default=None)
    factor = None if own is None else (times[best] if best else limit_s) / own.seconds
    return {
        "visus_s": own.seconds if own else None,
        "best_of_the_others": best,
        "its_s": times[best] if best else None,
        "times_faster": factor,
        "is_lower_bound": best is None and own is not None,
        "goal": GOAL,
        "is_reached": factor is not None and factor >= GOAL,
    }


def tell(event: Evaluated | RunDone) -> None:
    """A line for each evaluation and each training."""
    if isinstance(event, Evaluated):
        point = event.point
        print(
            f"{event.contestant.title} seed {event.seed}: {point.accuracy:.4f} at {point.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    else:
        curve = event.curve
        print(
            f"[{event.number}/{event.num_runs}] {event.contestant.title}: {curve.end} {curve.problem}",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Run both sets, or the one that is given."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST")
    options.add_argument("--cifar", type=Path, help="folder of CIFAR-10")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--time-limit", default="30m", help="of each training")
    options.add_argument("--with", dest="peers", default=WITH)
    options.add_argument("--config", type=Path, help="recipe.yaml for visus")
    options.add_argument("--model", help="network for visus")
    options.add_argument("--threads", type=int)
    options.add_argument("--folder", type=Path, default=Path(__file__).parent / "results")
    chosen = options.parse_args()
    given = {name: getattr(chosen, name) for name in TARGETS if getattr(chosen, name)}
    if not given:
        options.error("give --fashion DATA, --cifar DATA or both")
    for name, data in given.items():
        plan = Plan(
            target=TARGETS[name],
            contestants=read_contestants(chosen.peers),
            seeds=tuple(chosen.seeds),
            time_limit_s=read_duration(chosen.time_limit),
            threads=chosen.threads,
            device="cpu",
            network=chosen.model,
            recipe=Recipe.read(chosen.config) if chosen.config else Recipe(),
        )
        result = benchmark(data, plan, output=chosen.folder / "unfinished", tell=tell, command=command_line())
        stem = f"{datetime.date.today().isoformat()}-time_to_accuracy-{name}"
        write_result(chosen.folder / f"{stem}.json", {"verdict": verdict(result), **result.to_json()})
        shutil.copyfile(result.folder / "accuracy.png", chosen.folder / f"{stem}.png")
        shutil.rmtree(result.folder)
        print(json.dumps({"data": name, **verdict(result)}))


if __name__ == "__main__":
    main()
