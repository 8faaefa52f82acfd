"""Images a second in training: the settings that visus chooses on this machine, with and without ``speed_up``, beside plain eager PyTorch.

    python benchmarks/throughput.py [--networks airbench94 resnet18] [--threads 1 2] [--repeats 7] [--steps 3] [--output FILE.json]

One step is forward, loss, backward and SGD on a batch that lies in memory: 256 images of 3 x 32 x 32 for the airbench94 network, 128 for
ResNet-18. The ways take turns within one process, every second round in the other order, after warm-up steps that are not counted (on the first of
which ``speed_up`` measures its algorithms); each repeat is the median of its steps, told is the median of the repeats with the spread.
Each number of threads is a process of its own. The ceiling is measured in the same process, between the repeats: the best of products of 4096 x 4096
matrices in float32 and in bfloat16; a fraction is the step's multiply-adds (counted by PyTorch, as the textbook has them) per second over the ceiling of its format; an
algorithm that needs fewer, such as Winograd's, is counted with the textbook's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from measuring import command_line, machine_facts, mean_of, write_result
from plain_pytorch import NETWORKS, trained
from visus.limits import usable_cores
from visus.networks.machine import Machine, choose, memory_format, suited
from visus.timing import take_turns

BATCHES = {"airbench94": 256, "resnet18": 128}
GOALS = {"airbench94": 6.0, "resnet18": 5.0}
STRETCH = 10.0
SIDE = 4096
WARM_STEPS = 3


@dataclass(frozen=True)
class Way:
    """One way to compute a training step.

    Args:
        name: how it is called in the table.
        precision: ``float32`` or ``bfloat16``.
        step: takes one step.
    """

    name: str
    precision: str
    step: Callable[[], None]


def make_way(name: str, make: Callable[[], nn.Module], batch_size: int, machine: Machine | None, *, is_fast: bool) -> Way:
    """Plain PyTorch where no machine is given, else what visus does, with ``speed_up`` where ``is_fast``."""
    torch.manual_seed(0)
    network = make().train()
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.randint(0, 10, (batch_size,))
    if machine is not None:
        machine = suited(machine, network)
        if machine.channels_last:
            network = network.to(memory_format=memory_format(4))
            images = images.to(memory_format=memory_format(4))
    if is_fast:
        from visus.networks.fast import speed_up

        network = speed_up(network)
    optimizer = trained(network)

    def step() -> None:
        optimizer.zero_grad()
        if machine is None:
            logits = network(images)
        else:
            with machine.autocast():
                logits = network(images).float()
        F.cross_entropy(logits, labels, label_smoothing=0.2).backward()
        optimizer.step()

    return Way(name, machine.precision if machine else "float32", step)


def make_ways(network: str) -> list[Way]:
    """All ways that exist here, plain PyTorch first."""
    make, batch_size, machine = NETWORKS[network], BATCHES[network], choose("cpu")
    ways = [
        make_way("plain eager PyTorch, float32", make, batch_size, None, is_fast=False),
        make_way("visus, settings of this machine", make, batch_size, machine, is_fast=False),
    ]
    try:
        ways.append(make_way("visus, with speed_up", make, batch_size, machine, is_fast=True))
    except ImportError:
        print("speed_up is not there: measured without it", file=sys.stderr)
    return ways


def ceiling(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Multiply-adds per second of the best product of two large matrices within so many seconds."""
    left, right = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - began)
    return SIDE**3 / best


def count_macs(network: str) -> float:
    """Multiply-adds of one training step for one image, as PyTorch counts them: forward and both gradients."""
    module = NETWORKS[network]()
    counter = FlopCounterMode(display=False)
    with counter:
        F.cross_entropy(module(torch.randn(2, 3, 32, 32)), torch.zeros(2, dtype=torch.long)).backward()
    return counter.get_total_flops() / 2 / 2


def why_no_kernels() -> str | None:
    """Why ``speed_up`` has only PyTorch's own kernels to choose from; empty where it has its own too, None where it is not there."""
    try:
        from visus.networks.fast import why_no_kernels as why
    except ImportError:
        return None
    return why()


def measure(network: str, repeats: int, steps: int) -> dict[str, Any]:
    """The table of one network in this process, with its threads."""
    ways = make_ways(network)
    for way in ways:
        for _ in range(WARM_STEPS):
            way.step()
    ceilings: dict[str, list[float]] = {"float32": [], "bfloat16": []}

    def measure_ceilings() -> None:
        for precision, found in ceilings.items():
            found.append(ceiling(getattr(torch, precision)))

    durations = take_turns(
        [way.step for way in ways], rounds=repeats, calls=[steps] * len(ways), after_round=measure_ceilings
    )
    seconds = {way.name: each for way, each in zip(ways, durations, strict=True)}
    return tabulate(network, ways, seconds, {precision: max(found) for precision, found in ceilings.items()})


def tabulate(network: str, ways: list[Way], seconds: dict[str, list[float]], ceilings: dict[str, float]) -> dict[str, Any]:
    """Images a second, ratios to plain PyTorch within each repeat, and fractions of the ceiling."""
    macs, plain = count_macs(network), seconds[ways[0].name]
    rows = []
    for way in ways:
        rate = BATCHES[network] / statistics.median(seconds[way.name])
        ratio = mean_of([before / after for before, after in zip(plain, seconds[way.name], strict=True)])
        rows.append(
            {
                "way": way.name,
                "samples_per_second": round(rate, 1),
                "median_times_plain": round(
                    statistics.median(before / after for before, after in zip(plain, seconds[way.name], strict=True)), 3
                ),
                "times_plain": ratio.to_json(),
                "fraction_of_ceiling": round(rate * macs / ceilings[way.precision], 4),
                "fraction_of_bfloat16_ceiling": round(rate * macs / ceilings["bfloat16"], 4),
                "step_s": [round(value, 5) for value in seconds[way.name]],
            }
        )
    best = max(row["median_times_plain"] for row in rows[1:])
    return {
        "network": network,
        "batch": BATCHES[network],
        "threads": torch.get_num_threads(),
        "macs_per_image": macs,
        "ceiling_macs_per_second": ceilings,
        "goal": GOALS[network],
        "stretch": STRETCH,
        "is_reached": best >= GOALS[network],
        "why_no_kernels": why_no_kernels(),
        "ways": rows,
    }


def main() -> None:
    """One process for each network and number of threads; one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=sorted(NETWORKS))
    options.add_argument("--threads", type=int, nargs="+", default=sorted({1, usable_cores()}))
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--steps", type=int, default=3, help="steps in one repeat, of which the median counts")
    options.add_argument("--output", type=Path)
    options.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.here:
        print(json.dumps(measure(chosen.networks[0], chosen.repeats, chosen.steps)))
        return
    results = []
    for threads in chosen.threads:
        for network in chosen.networks:
            words = ["--here", "--networks", network, "--repeats", str(chosen.repeats), "--steps", str(chosen.steps)]
            answer = subprocess.run(
                [sys.executable, __file__, *words],
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""},
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if answer.returncode:
                sys.exit(f"{network} with {threads} threads: exit code {answer.returncode}")
            results.append(json.loads(answer.stdout))
            for row in results[-1]["ways"]:
                print(
                    f"{network}, {threads} threads: {row['way']}: {row['samples_per_second']} images/s, {row['median_times_plain']} x",
                    file=sys.stderr,
                    flush=True,
                )
            write_result(chosen.output, {"command": command_line(), **machine_facts(), "results": results})
    print(json.dumps({"command": command_line(), **machine_facts(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
