"""Consistency of a plain and of a blur-pooled ResNet-18 under circular shifts, on CIFAR-10: how often two shifts get the same label.

    python benchmarks/shift_consistency.py DATA [--epochs 30] [--seeds 0 1 2] [--padding circular] [--output FILE.json]

The network is ResNet-18 (He et al. 2016) with the stem for small images. The blurred one is the same with every strided convolution
at stride 1, its blur (Zhang 2019, arXiv:1904.11486, binomial, 3 px) and its stride behind the activation, and a blur in front of the
projections: inside the blocks, as in the paper. For a trial at small scale: --samples 500 --test-samples 100 --width 8 --epochs 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visus
from visus.data.batches import batches_in_order, random_stream
from visus.data.opened import Data
from visus.evaluation.shifts import measure_shifts
from visus.networks.machine import describe

BATCH = 256


class Blur(nn.Module):
    """The binomial filter 1, 2, 1 on each channel, then every second value; the border is continued by ``mode``."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = "circular" if mode == "circular" else "reflect"
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.filter.to(x.dtype).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=self.mode), kernel, stride=2, groups=x.shape[1])


class Block(nn.Module):
    """Two convolutions and a shortcut; ``stride`` is that of the first one, or of the blur behind it."""

    def __init__(self, before: int, width: int, stride: int, mode: str, is_blurred: bool) -> None:
        super().__init__()
        own = 1 if is_blurred else stride
        self.first = nn.Conv2d(before, width, 3, stride=own, padding=1, padding_mode=mode, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode=mode, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.blur = Blur(mode) if is_blurred and stride > 1 else nn.Identity()
        shortcut: list[nn.Module] = []
        if stride > 1 or before != width:
            shortcut = [Blur(mode)] if is_blurred and stride > 1 else []
            shortcut += [nn.Conv2d(before, width, 1, stride=own, bias=False), nn.BatchNorm2d(width)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blur(F.relu(self.norms[0](self.first(x))))
        return F.relu(self.norms[1](self.second(y)) + self.shortcut(x))


def resnet18(num_classes: int, width: int, mode: str, *, is_blurred: bool, seed: int) -> nn.Module:
    """ResNet-18 for small images; ``mode`` is torch's padding mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, padding_mode=mode, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        before = width
        for index in range(4):
            for stride in (1 if index == 0 else 2, 1):
                layers.append(Block(before, width * 2**index, stride, mode, is_blurred))
                before = width * 2**index
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


def cut(data: Data, num_samples: int | None, num_test: int | None) -> Data:
    """The data with fewer samples, drawn with a fixed seed; the same for every run."""
    kept = []
    for split, limit in (("train", num_samples), ("val", num_samples and max(1, num_samples // 10)), ("test", num_test)):
        places = np.flatnonzero(data.samples.splits == split)
        order = torch.randperm(len(places), generator=random_stream(0, "cut", split)).numpy()
        kept.append(np.sort(places[order[: limit or len(places)]]))
    chosen = np.sort(np.concatenate(kept))
    if len(chosen) == len(data.samples.names):
        return data
    return dataclasses.replace(data, samples=data.samples.select(chosen), rows=data.rows[chosen])


def measure(data: Data, is_blurred: bool, seed: int, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one network and measure it on the test split."""
    network = resnet18(len(data.classes), chosen.width, chosen.padding, is_blurred=is_blurred, seed=seed)
    recipe = visus.Recipe(epochs=chosen.epochs, seed=seed, device=chosen.device)
    began = time.monotonic()
    run = visus.train(data, network, recipe, output=folder, name="blurred" if is_blurred else "plain")
    seconds = time.monotonic() - began
    part = data.split("test")
    batch = torch.cat(list(batches_in_order(part, data.preprocessing, BATCH)))
    reach = tuple(min(chosen.reach, length - 1) for length in data.input_shape[1:])
    found = measure_shifts(run.module, batch, reach, "roll", limit=chosen.shifts, device=run.machine.device)
    return {
        "network": "blurred" if is_blurred else "plain",
        "seed": seed,
        "accuracy": run.scores.accuracy,
        "num_samples": run.scores.num_samples,
        "training_s": round(seconds, 1),
        **found.to_json(),
    }


def main() -> None:
    """Train both networks with every seed and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--width", type=int, default=64, help="channels of the first stage")
    options.add_argument("--padding", default="zeros", choices=("zeros", "circular"))
    options.add_argument("--samples", type=int, help="training images; all by default")
    options.add_argument("--test-samples", type=int, help="test images; all by default")
    options.add_argument("--reach", type=int, default=15, help="largest shift on each axis, in px")
    options.add_argument("--shifts", type=int, default=32, help="shifts of each image, drawn once")
    options.add_argument("--device", default="auto")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    machine = describe()
    results = []
    for seed in chosen.seeds:
        data = cut(visus.open_data(chosen.data), chosen.samples, chosen.test_samples)
        for is_blurred in (False, True):
            with tempfile.TemporaryDirectory() as scratch:
                results.append(measure(data, is_blurred, seed, chosen, Path(scratch)))
            each = results[-1]
            print(
                f"{each['network']} seed {seed}: accuracy {each['accuracy']:.4f}, consistency {each['consistency']:.4f} "
                f"({each['consistency_low']:.4f} to {each['consistency_high']:.4f})",
                file=sys.stderr,
                flush=True,
            )
    names = ("plain", "blurred")
    means = {
        name: round(statistics.mean(each["consistency"] for each in results if each["network"] == name), 5) for name in names
    }
    settings = {name: value for name, value in vars(chosen).items() if name not in ("data", "output")}
    table = {
        "command": "python benchmarks/shift_consistency.py " + Path(chosen.data).name,
        "settings": settings,
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "cores": machine["cores"],
        "threads": machine["threads"],
        "mean_consistency": means,
        "results": results,
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
