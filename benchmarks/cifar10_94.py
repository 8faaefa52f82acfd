"""94 % on CIFAR-10: the whole time of a training by visus beside one epoch of plain eager float32 PyTorch on the airbench94 network.

    python benchmarks/cifar10_94.py DATA [--seeds 0 1 ... 9] [--config RECIPE.yaml] [--model TEXT] [--held-out train] [--quick 2560]

Each round measures both, each in a process of its own, and every second round in the other order. Nothing else may run on the machine.

- Plain: 50,000 images once, batches of 256, float32, the usual layout, SGD; the images lie scaled in memory, nothing is changed at
  random, and two steps before the clock starts are not counted: whatever is left out favors PyTorch. ``--quick N`` takes N images and
  multiplies, and the result says so.
- visus: the training that ``visus train`` makes, with its own cache of decoded data empty. Told are the time from the start of its
  process (imports, reading and decoding the data, whitening, training, and answers for all 10,000 test images, with test-time
  augmentation where the recipe has it) and, of it, the time since the data was in memory. The ratio that counts is of the whole.

What visus remembers of this machine (compiled kernels, the fastest algorithm for each shape) is there before the clock starts: a training of
``WARM_S`` seconds that is not counted goes through all sizes, as a warm-up does in the records on a GPU. With ``--cold`` it is made anew in each
training, and counts.

Settings are chosen with ``--held-out train``: 5,000 training images are then held out, and the test file is not opened
for scoring. What is reported is one run without it, with settings that were fixed before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from measuring import command_line, machine_facts, mean_of, ratio_of, write_result
from peers.process import Limits, timed_run
from plain_pytorch import Airbench94, trained
from visus.data.opened import Data, open_data
from visus.limits import usable_cores
from visus.training.recipe import Recipe

BATCH, WARM_STEPS, HELD_OUT, WARM_S = 256, 2, 5_000, 20.0
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def plain_epoch(arrays: Path, num_images: int) -> float:
    """Seconds for one pass of plain eager float32 PyTorch over so many images; runs in a process of its own."""
    torch.manual_seed(0)
    images = torch.from_numpy(np.load(arrays / "train_samples.npy", mmap_mode="r")[:num_images].astype(np.float32)) / 255
    images = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)
    labels = torch.from_numpy(np.load(arrays / "train_labels.npy")[:num_images])
    network = Airbench94()
    optimizer = trained(network)

    def step(places: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images[places]), labels[places], label_smoothing=0.2).backward()
        optimizer.step()

    order = torch.randperm(num_images)
    for places in order.split(BATCH)[:WARM_STEPS]:
        step(places)
    began = time.perf_counter()
    for places in order.split(BATCH):
        step(places)
    return time.perf_counter() - began


def measure_plain(arrays: Path, threads: int, num_images: int, num_all: int) -> float:
    """Seconds of one epoch in a new process, extrapolated where only a part was computed."""
    answer = subprocess.run(
        [sys.executable, __file__, str(arrays), "--plain-images", str(num_images)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        sys.exit(f"plain PyTorch: exit code {answer.returncode}\n{answer.stderr}")
    return float(answer.stdout) * num_all / num_images


def measure_visus(data: str, seed: int, chosen: argparse.Namespace, recipe: str, scratch: Path) -> dict[str, Any]:
    """One training by visus: accuracy, and both clocks."""
    task = {
        "peer": "visus",
        "network": "",
        "epochs": None,
        "seed": seed,
        "target": 1.0,
        "arrays": str(scratch),
        "num_classes": 10,
        "design": chosen.model or "compact",  # named, so that a time limit does not choose its width
        "data": data,
        "cache": str(scratch / f"cache-{seed}"),
        "recipe": recipe,
        "device": "cpu",
        "runs": str(scratch / "runs"),
        "is_followed": False,
    }
    curve, _ = timed_run(task, Limits(chosen.time_limit, chosen.threads, "cpu"), scratch)
    if curve.end != "schedule" or not curve.points:
        sys.exit(f"visus, seed {seed}: {curve.end}: {curve.problem}")
    last = curve.points[-1]
    return {
        "seed": seed,
        "accuracy": last.accuracy,
        "epochs": last.epoch,
        "since_data_s": last.seconds,
        "answering_s": last.evaluation_s,
        "whole_s": curve.before_s + last.seconds,
        "process_with_report_s": curve.process_s,
    }


def write_arrays(data: Data, held_out: str, scratch: Path) -> str:
    """The training images for plain PyTorch, and the path of the data for visus."""
    parts = [data.split(name) for name in ("train", "val") if len(data.split(name))]
    samples = np.concatenate([part.pixels[part.indices] for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    np.save(scratch / "train_samples.npy", samples)
    np.save(scratch / "train_labels.npy", labels)
    if held_out == "test":
        return str(data.given)
    last = np.random.default_rng(0).permutation(len(labels))[-HELD_OUT:]
    is_held_out = np.zeros(len(labels), dtype=bool)
    is_held_out[last] = True
    images = samples.transpose(0, 2, 3, 1)
    np.savez(
        scratch / "chosen-on-train.npz",
        train_images=images[~is_held_out],
        train_labels=labels[~is_held_out],
        test_images=images[is_held_out],
        test_labels=labels[is_held_out],
    )
    return str(scratch / "chosen-on-train.npz")


def tabulate(chosen: argparse.Namespace, rounds: list[dict[str, Any]], recipe: str, num_all: int) -> dict[str, Any]:
    """What was found so far."""
    plain = [each["plain_epoch_s"] for each in rounds]
    accuracy = mean_of([each["accuracy"] for each in rounds])
    whole = ratio_of([each["whole_s"] for each in rounds], plain)
    return {
        "command": command_line(),
        **machine_facts(chosen.threads),
        "held_out": "test file"
        if chosen.held_out == "test"
        else f"{HELD_OUT:,} training images: for choosing, not for reporting",
        "is_cold": chosen.cold,
        "plain_images": chosen.quick or num_all,
        "plain_is_extrapolated": bool(chosen.quick),
        "model": chosen.model or "compact",
        "recipe": recipe,
        "accuracy": accuracy.to_json(),
        "plain_epoch_s": mean_of(plain).to_json(),
        "whole_s": mean_of([each["whole_s"] for each in rounds]).to_json(),
        "ratio_whole": whole.to_json(),
        "ratio_since_data": ratio_of([each["since_data_s"] for each in rounds], plain).to_json(),
        "reaches_94": accuracy.mean >= 0.94,
        "within_one_epoch": whole.mean <= 1.0,
        "rounds": rounds,
    }


def main() -> None:
    """Measure in rounds and write the table after each."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", help="folder of CIFAR-10, binary or Python batches")
    options.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    options.add_argument("--config", type=Path, help="recipe.yaml for visus; its default recipe where none is given")
    options.add_argument("--model", help="network for visus; compact where none is given")
    options.add_argument(
        "--held-out", choices=("test", "train"), default="test", help="train: choose settings on a part of train"
    )
    options.add_argument("--quick", type=int, default=0, metavar="N", help="plain PyTorch on N images only, extrapolated")
    options.add_argument("--threads", type=int, default=usable_cores())
    options.add_argument("--time-limit", type=float, default=3600.0, help="seconds that a training of visus may take")
    options.add_argument("--cold", action="store_true", help="count compiling kernels and choosing algorithms too")
    options.add_argument("--output", type=Path)
    options.add_argument("--plain-images", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.plain_images:
        print(plain_epoch(Path(chosen.data), chosen.plain_images))
        return
    settings = Recipe.read(chosen.config) if chosen.config else Recipe()
    recipe = settings.to_yaml()
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        data = write_arrays(opened := open_data(chosen.data), chosen.held_out, scratch)
        num_all = len(opened.split("train")) + len(opened.split("val"))
        if not chosen.cold:
            measure_visus(data, 0, chosen, settings.replace(time_limit_s=WARM_S).to_yaml(), scratch)
            shutil.rmtree(scratch / "cache-0")
        for number, seed in enumerate(chosen.seeds):
            if chosen.cold:
                os.environ["VISUS_CACHE"] = str(scratch / f"memory-{seed}")
            found: dict[str, Any] = {}
            for way in ("plain", "visus") if number % 2 == 0 else ("visus", "plain"):
                if way == "plain":
                    found["plain_epoch_s"] = measure_plain(scratch, chosen.threads, chosen.quick or num_all, num_all)
                else:
                    found |= measure_visus(data, seed, chosen, recipe, scratch)
            rounds.append(found)
            told = {key: round(value, 4) for key, value in found.items()}
            print(json.dumps(told), file=sys.stderr, flush=True)
            write_result(chosen.output, tabulate(chosen, rounds, recipe, num_all))
    print(json.dumps(tabulate(chosen, rounds, recipe, num_all), indent=2))


if __name__ == "__main__":
    main()
