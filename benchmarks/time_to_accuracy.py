"""Time to 93 % on Fashion-MNIST and to 90 % on CIFAR-10: visus beside PyTorch, fastai, Keras and torchvision as their documents write them.

    python benchmarks/time_to_accuracy.py [--fashion DATA] [--cifar DATA] [--seeds 0 1 2] [--time-limit 30m] [--with LIST] [--folder FOLDER]
    python benchmarks/time_to_accuracy.py --join RESULT.json RESULT.json ... --output RESULT.json

The same as ``peer_benchmark.py DATA --target ...``, for both sets, with one line at the end for each: the best of the others, and how many
times faster visus is. Where none of them reaches the target within the time limit, the factor is a lower bound, and the line says so.
Results of other seeds that were measured on the same machine in the same way, at other hours, are joined to one.
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
from peers.benchmark import Benchmark, Evaluated, Plan, Raced, RunDone, benchmark
from peers.chart import draw_race
from peers.curves import Curve
from peers.entries import VISUS, Contestant, read_contestants
from visus.training.recipe import Recipe
from visus.units import read_duration

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


def joined(tables: list[dict[str, Any]]) -> Benchmark:
    """One benchmark of several results: the same data, target, machine, versions and contestants, and other seeds."""
    first = tables[0]
    for name in ("data", "target", "time_limit_s", "device", "threads", "network", "recipe", "machine"):
        if any(table[name] != first[name] for table in tables):
            sys.exit(f"these results differ in {name}, and cannot be joined.")
    seeds = tuple(seed for table in tables for seed in table["seeds"])
    raced = []
    for place, row in enumerate(first["contestants"]):
        rows = [table["contestants"][place] for table in tables]
        if any(other["name"] != row["name"] or other["versions"] != row["versions"] for other in rows):
            sys.exit("these results have other contestants or versions, and cannot be joined.")
        curves = tuple(Curve.from_json(run) for other in rows for run in other["runs"])
        raced.append(
            Raced(Contestant(*(row[name] for name in ("peer", "network", "epochs", "is_given"))), curves, row["versions"])
        )
    plan = Plan(first["target"], tuple(one.contestant for one in raced), seeds, first["time_limit_s"])
    own = ("contestants", "left_out", "verdict")
    facts = {name: value for name, value in first.items() if name not in own} | {
        "seeds": list(seeds),
        "command": [table["command"] for table in tables],
    }
    return Benchmark(plan, tuple(raced), (), facts, Path())


def write(result: Benchmark, path: Path) -> None:
    """The result with its verdict as JSON, its image beside it, and the verdict on standard output."""
    write_result(path, {"verdict": verdict(result), **result.to_json()})
    draw_race({one.contestant.title: one.curves for one in result.raced}, result.plan.target, path.with_suffix(".png"))
    print(json.dumps({"data": result.facts["data"]["name"], **verdict(result)}))


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
    options.add_argument("--join", type=Path, nargs="+", metavar="RESULT", help="results of other seeds, to be put together")
    options.add_argument("--output", type=Path, help="with --join: where to")
    chosen = options.parse_args()
    if chosen.join:
        if chosen.output is None:
            options.error("--join needs --output")
        write(joined([json.loads(path.read_text("utf-8")) for path in chosen.join]), chosen.output)
        return
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
        seeds = "".join(str(seed) for seed in chosen.seeds)
        write(result, chosen.folder / f"{datetime.date.today().isoformat()}-time_to_accuracy-{name}-seeds{seeds}.json")
        shutil.rmtree(chosen.folder / "unfinished")


if __name__ == "__main__":
    main()
