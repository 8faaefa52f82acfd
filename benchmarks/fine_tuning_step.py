"""Seconds and memory of one fine-tuning step of EfficientNet-Lite0, as ``visus train`` takes it on a processor, beside another checkout's.

    python benchmarks/fine_tuning_step.py [--before FOLDER] [--sides 160 224] [--threads 1] [--repeats 3] [--output FILE.json]

One step is forward, cross-entropy, backward and SGD on a batch of 32 images that lies in memory, in bfloat16, channels last, norms by their stored
statistics: once with all layers trained, once with the stem and the first stages frozen. ``--before`` is the ``src`` folder of another checkout; both
take turns within one process, every second round in the other order, after a step that is not counted (in which ``speed_up`` measures its
algorithms). With one thread the seconds are those of the processor (``time.process_time``), so that other work on the machine counts little; with
more they are those of the clock. Beside the steps stands the forward pass of the frozen part alone, without gradients.
Memory is ``ru_maxrss`` of a fresh process after two steps, and before the first, when the network and the batch are there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from measuring import command_line, machine_facts, mean_of, ratio_of, write_result

BATCH = 32
HERE = Path(__file__).resolve().parents[1] / "src"
FROZEN = {"all layers trained": (), "stem and 4 stages frozen": ("conv1", "norm1", "stage1", "stage2", "stage3", "stage4")}


def prepared(source: Path, side: int, frozen: tuple[str, ...]) -> nn.Module:
    """The network of a checkout, sped up as its training does it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "visus"]:
        del sys.modules[name]
    sys.path.insert(0, str(source))
    try:
        import visus
        from visus.networks.fast import speed_up

        has_kernels = importlib.util.find_spec("visus.networks.fast.depthwise") is not None
        torch.manual_seed(0)
        network: nn.Module = visus.network("efficientnet_lite(0)", (3, side, side), 10)
        if not has_kernels:
            importlib.import_module("visus.networks.single_channels").float32_depthwise(network)
        for name in frozen:
            network.get_submodule(name).requires_grad_(False)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in network.train().modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return speed_up(network)
    finally:
        sys.path.remove(str(source))


def batch(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(0, 10, (BATCH,), generator=generator)


def step_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Takes one step."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images).float()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()

    return step


def features_of(network: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Computes the maps behind the layers that stay frozen."""
    assert isinstance(network, nn.Sequential)
    names = [name for name, _ in network.named_children()]
    head = network[: names.index("stage5")]

    def forward() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            head(images)

    return forward


def take_turns(ways: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, in turn."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for repeat in range(repeats):
        for name in list(ways) if repeat % 2 == 0 else list(reversed(ways)):
            began = clock()
            ways[name]()
            seconds[name].append(clock() - began)
    return seconds


def measure(sources: dict[str, Path], side: int, frozen: str, repeats: int) -> dict[str, Any]:
    """The row of one size and one choice of frozen layers."""
    images, labels = batch(side)
    networks = {name: prepared(source, side, FROZEN[frozen]) for name, source in sources.items()}
    tables = {"step": {name: step_of(network, images, labels) for name, network in networks.items()}}
    if FROZEN[frozen]:
        tables["frozen part"] = {name: features_of(network, images) for name, network in networks.items()}
    row: dict[str, Any] = {"side_px": side, "layers": frozen, "threads": torch.get_num_threads()}
    for what, ways in tables.items():
        seconds = take_turns(ways, repeats)
        row[what] = {
            name: {**mean_of(found).to_json(), "seconds": [round(s, 3) for s in found]} for name, found in seconds.items()
        }
        if "before" in seconds:
            row[what]["times_before"] = ratio_of(seconds["before"], seconds["now"]).to_json()
    return row


def measure_memory(source: Path, side: int, frozen: str) -> dict[str, float]:
    """Highest resident memory of this process in MiB: with the network and the batch, and after two steps."""
    images, labels = batch(side)
    network = prepared(source, side, FROZEN[frozen])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    step = step_of(network, images, labels)
    for _ in range(2):
        step()
    return {"before_mib": round(before), "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def in_a_process(words: list[str], threads: int) -> Any:
    """What this script prints as JSON in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, __file__, *words], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} with {threads} threads: exit code {done.returncode}")
    return json.loads(done.stdout)


def main() -> None:
    """One process for each size, number of threads and choice of frozen layers; one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--before", type=Path, help="the src folder of another checkout")
    options.add_argument("--sides", type=int, nargs="+", default=[160, 224])
    options.add_argument("--layers", nargs="+", choices=list(FROZEN), default=list(FROZEN))
    options.add_argument("--threads", type=int, nargs="+", default=[1])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--output", type=Path)
    options.add_argument("--here", choices=("seconds", "memory"), help=argparse.SUPPRESS)
    options.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    sources = {**({"before": chosen.before} if chosen.before else {}), "now": HERE}
    side, layers = chosen.sides[0], chosen.layers[0]
    if chosen.here:
        found = (
            measure_memory(chosen.source, side, layers)
            if chosen.here == "memory"
            else measure(sources, side, layers, chosen.repeats)
        )
        print(json.dumps(found))
        return
    rows = []
    for side in chosen.sides:
        for layers in chosen.layers:
            words = ["--sides", str(side), "--layers", layers, "--repeats", str(chosen.repeats)]
            before = ["--before", str(chosen.before)] if chosen.before else []
            for threads in chosen.threads:
                rows.append(in_a_process(["--here", "seconds", *words, *before], threads))
                if threads == chosen.threads[0]:
                    rows[-1]["memory"] = {
                        name: in_a_process(["--here", "memory", "--source", str(source), *words], threads)
                        for name, source in sources.items()
                    }
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                write_result(chosen.output, {"command": command_line(), **machine_facts(), "batch": BATCH, "rows": rows})
    print(json.dumps({"command": command_line(), **machine_facts(), "batch": BATCH, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
