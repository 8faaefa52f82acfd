"""What a person waits for before the first step of a training, and after the last one, phase by phase.

    python benchmarks/start_up.py [DATA] [--runs 7] [--output FILE]

Each run is a process of its own, from its start as the operating system has it: importing torch, importing visus, opening the data (decoding it
anew in one half of the runs, finding it decoded in the other), making network, recipe and run folder, the first step, the second step; then, after
one epoch, from the last step to the end: answers for the held-out samples, scores, images and report. What visus remembers of this machine
(kernels, choices) is there before. Beside it: a bare ``python -c "import torch"``, and the first step of a network in plain PyTorch on data that lies
in memory. Medians of interleaved runs. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("import torch", "plain PyTorch", "visus, decoded before", "visus, decoded now")


def age() -> float:
    """Seconds since this process was started."""
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def phases_of_visus(data: str | None, cache: str, output: str) -> dict[str, float]:
    """Ages at the ends of the phases of one training of one epoch."""
    ages = {"python": age()}
    import torch  # noqa: F401  # its import is a phase of its own

    ages["torch"] = age()
    from visus.data.opened import open_data
    from visus.networks.machine import keep_freed_memory
    from visus.training.events import Finished, StepDone
    from visus.training.recipe import Recipe
    from visus.workbench.train.events import Prepared
    from visus.workbench.train.training import train

    keep_freed_memory()
    ages["visus"] = age()
    opened = open_data(data, cache_dir=cache)
    ages["data"] = age()

    def follow(event: object) -> None:
        if isinstance(event, Prepared):
            ages["prepared"] = age()
        elif isinstance(event, StepDone) and "second step" not in ages:
            ages["second step" if "first step" in ages else "first step"] = age()
        elif isinstance(event, Finished):
            ages["trained"] = age()

    train(opened, "compact", Recipe(epochs=1), output=output, on_event=follow)
    ages["scored and reported"] = age()
    return ages


def phases_of_plain() -> dict[str, float]:
    """Ages at the ends of the phases of two steps of plain PyTorch."""
    ages = {"python": age()}
    import torch

    from plain_pytorch import Airbench94, trained

    ages["torch"] = age()
    network = Airbench94()
    optimizer = trained(network)
    images, labels = torch.rand(256, 3, 32, 32), torch.arange(256) % 10
    for name in ("first step", "second step"):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        ages[name] = age()
    return ages


def measure(way: str, data: str | None, cache: Path, scratch: Path) -> dict[str, float]:
    """Seconds of each phase of one process, and of the whole process."""
    began = time.perf_counter()
    if way == "import torch":
        command = [sys.executable, "-c", "import torch"]
    else:
        if way == "visus, decoded now":
            shutil.rmtree(cache / "data", ignore_errors=True)
        command = [sys.executable, __file__, *([data] if data else []), "--child", way, "--cache", str(cache / "data")]
    environment = {**os.environ, "VISUS_CACHE": str(cache)}
    answer = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{way}: exit code {answer.returncode}\n{answer.stderr}")
    whole = time.perf_counter() - began
    ages = json.loads(answer.stdout) if answer.stdout else {}
    before = [0.0, *ages.values()]
    return {name: ended - start for (name, ended), start in zip(ages.items(), before, strict=False)} | {
        "whole process": whole
    }


def main() -> None:
    """Measure in turns and print the medians."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "data", nargs="?", help="what visus train takes; the images that come with visus where none is given"
    )
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--output", type=Path)
    options.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--cache", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child == "plain PyTorch":
        print(json.dumps(phases_of_plain()))
        return
    if chosen.child:
        with tempfile.TemporaryDirectory() as output:
            print(json.dumps(phases_of_visus(chosen.data, chosen.cache, output)))
        return
    from measuring import (  # with torch, whose import is a phase of the processes above
        command_line,
        machine_facts,
        write_result,
    )

    data = str(Path(chosen.data).resolve()) if chosen.data else None
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        measure("visus, decoded now", data, scratch / "cache", scratch)  # kernels and choices, not counted
        for _ in range(chosen.runs):
            for way in WAYS:
                found[way].append(measure(way, data, scratch / "cache", scratch))
    result: dict[str, Any] = {"command": command_line(), **machine_facts(os.cpu_count() or 1), "runs": chosen.runs}
    for way, runs in found.items():
        result[way] = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
    write_result(chosen.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
