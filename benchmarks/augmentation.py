"""What augmentation costs, what it gains, and what it costs where color is the class.

    python benchmarks/augmentation.py cost [--sides 64 128] [--batch 64] [--rounds 15] [--output FILE.json]
    python benchmarks/augmentation.py gain FOLDER [--seeds 0 1 2] [--starts scratch backbone] [--policies NAME ...] [--output FILE.json]
    python benchmarks/augmentation.py hue [--classes 6 12 18 24] [--output FILE.json]

``cost`` times whole training steps (batch, forward pass, backward pass, update) of ``compact`` on random images, without and with each augmentation in
turn, and reports the ratio to the step without it within the same round, and what making its batch takes more, as a share of that step.

``gain`` trains on a folder of photos with each policy. The folder's test set is left out before anything is read from it: 30 % of the training samples,
drawn by the seed within each class, are held out in its place, and the figures are of them. Policies are compared on the same held-out samples. A second
call with the same FILE.json measures what is not in it yet.

``hue`` trains on made photos whose classes differ in nothing but their hue, evenly spaced, with the default and without color jitter.
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
from PIL import Image

import visus
from measuring import command_line, machine_facts, mean_of, ratio_of, write_result
from visus.data.augment import SETTINGS, Augmentation, SampleFacts
from visus.data.augment.crop import stored_size_for
from visus.data.batches import Batch, Batches, Part
from visus.data.preprocessing import Preprocessing
from visus.networks.fast import speed_up
from visus.networks.fast.autotuner import Autotuner
from visus.networks.machine import choose, memory_format
from visus.training.facts import DataFacts, NetworkFacts
from visus.training.loss import Loss
from visus.training.optimizers import make_optimizer
from visus.training.resolve import resolve

HELD_OUT = 0.3
OFF = {"flip": "none", "translate": 0.0, "zoom": 0.0, "cutout": 0.0, "color": 0.0}
COSTS: dict[str, dict[str, Any]] = {
    "today": {"flip": "random", "translate": 0.1},
    "mixup": {"flip": "random", "translate": 0.1, "mixup": 0.2},
    "cutmix": {"flip": "random", "translate": 0.1, "cutmix": 1.0},
    "zoom": {"flip": "random", "translate": 0.1, "zoom": 0.4},
    "crop": {"flip": "random", "crop": 0.35},
    "rotate": {"flip": "random", "translate": 0.1, "rotate": 15.0},
    "rotate90": {"flip": "random", "translate": 0.1, "rotate90": "random"},
    "color": {"flip": "random", "translate": 0.1, "color": 0.3},
    "policy": {"flip": "random", "translate": 0.1, "policy": "2x9"},
}
POLICIES: dict[str, dict[str, Any]] = {
    "default": {},
    "none": {**OFF, "tta": "none"},
    "crop": {"crop": 0.35},
    "color": {"color": 0.3},
    "no color": {"color": 0.0},
    "rotate": {"rotate": 15.0},
    "vertical_flip": {"vertical_flip": "random"},
    "rotate90": {"rotate90": "random"},
    "policy": {"policy": "2x9"},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "mixup and cutmix": {"mixup": 0.2, "cutmix": 1.0},
    "crop and color": {"crop": 0.35, "color": 0.3},
    "crop, color and mixup": {"crop": 0.35, "color": 0.3, "mixup": 0.2},
}


def batches_of(side: int, batch_size: int, settings: dict[str, Any], device: torch.device) -> Batches:
    """Batches of random color images with an augmentation, stored as a training would store them."""
    stored = stored_size_for((side, side), settings.get("crop", 0.0))
    pixels = np.random.default_rng(0).integers(0, 255, (4 * batch_size, 3, *stored), dtype=np.uint8)
    plan = Preprocessing("images", 3, (side, side), "squash", "uint8", "mean-deviation", (127.0,) * 3, (64.0,) * 3)
    names = tuple(map(str, range(len(pixels))))
    part = Part("train", pixels, np.arange(len(pixels)), np.arange(len(pixels)) % 10, names)
    augmentation = Augmentation.of(settings, SampleFacts((side, side), stored_size=stored))
    return Batches(part, plan, batch_size, 0, augmentation, device, device.type == "cpu")


class Step:
    """Whole training steps of ``compact``, as the training loop takes them."""

    def __init__(self, side: int, batch_size: int) -> None:
        self.machine = choose("auto", "auto")
        self.network = visus.network("compact", (3, side, side), 10).to(self.machine.device).train()
        if self.machine.channels_last:
            self.network.to(memory_format=memory_format(4))  # type: ignore[call-overload]
        recipe = resolve(visus.Recipe(batch_size=batch_size), DataFacts(5000, (3, side, side)), NetworkFacts())
        self.optimizer = make_optimizer(self.network, recipe, input_shape=(3, side, side), precision=self.machine.precision)
        self.loss = Loss(0.2)
        speed_up(self.network, Autotuner())

    def take(self, batches: Batches, number: int) -> tuple[float, float]:
        """Seconds of a whole step, and of making its batch: processor seconds on a CPU, so that other work on the machine does not count."""
        clock = time.process_time if self.machine.device.type == "cpu" else time.perf_counter
        self.machine.wait()
        began = clock()
        batch = next(batches.epoch(number, number % batches.num_steps))
        self.machine.wait()
        made = clock()
        self._update(batch)
        self.machine.wait()
        return clock() - began, made - began

    def _update(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.machine.autocast():
            logits = self.network(batch.inputs).float()
        batch.mean_loss(lambda labels, share: self.loss.mean(logits, labels, batch.all_labels, share)).backward()
        self.optimizer.step()


def cost(sides: list[int], batch_size: int, rounds: int) -> list[dict[str, Any]]:
    """For each side and augmentation: the ratio of a step to that without it, in rounds in which all take turns."""
    rows = []
    for side in sides:
        step = Step(side, batch_size)
        made = {name: batches_of(side, batch_size, settings, step.machine.device) for name, settings in COSTS.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
        for number in range(rounds + 2):
            names = [*made] if number % 2 else [*reversed(made)]
            for name in names:
                found = step.take(made[name], number)
                if number >= 2:  # kernels are chosen in the first ones
                    times[name].append(found)
        whole = {name: [each[0] for each in found] for name, found in times.items()}
        for name, found in times.items():
            ratio = ratio_of(whole[name], whole["today"])
            ratios = [one / other for one, other in zip(whole[name], whole["today"], strict=True)]
            more = statistics.median(each[1] for each in found) - statistics.median(each[1] for each in times["today"])
            row = {
                "side": side,
                "batch_size": batch_size,
                "augmentation": name,
                "ratio_to_today": ratio.to_json(),
                "median_ratio": round(statistics.median(ratios), 4),
                "batch_more_of_step": round(more / statistics.median(whole["today"]), 4),
                "step_ms": round(1000 * statistics.median(whole[name]), 2),
                "batch_ms": round(1000 * statistics.median(each[1] for each in found), 2),
                "settings": COSTS[name],
            }
            rows.append(row)
            print(
                f"{side} px, {name}: step {row['step_ms']} ms, of which batch {row['batch_ms']} ms; {row['median_ratio']:.3f} of today's; batch {row['batch_more_of_step']:+.1%} of a step",
                file=sys.stderr,
            )
    return rows


def held_out(data: visus.Data, seed: int) -> visus.Data:
    """The data without its test set, whose place a part of the training samples takes."""
    splits = np.array(data.samples.splits).copy()
    for label in np.unique(data.samples.labels):
        places = np.flatnonzero((splits == "train") & (data.samples.labels == label))
        drawn = np.random.default_rng([seed, int(label)]).permutation(places)[: round(HELD_OUT * len(places))]
        splits[drawn] = "held"
    keep = np.flatnonzero(splits != "test")
    splits[splits == "held"] = "test"
    samples = dataclasses.replace(data.samples, splits=splits).select(keep)
    return dataclasses.replace(data, samples=samples, rows=data.rows[keep])


def gain(given: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of each policy on the held-out samples, and its difference to the default over the seeds."""
    data_facts = {"folder": given.folder.name, "img_size": given.img_size}
    earlier = json.loads(given.output.read_text()) if given.output is not None and given.output.is_file() else {}
    if earlier and earlier.get("data") != data_facts:
        raise SystemExit(
            f"{given.output}: this file is of {earlier.get('data')}, and not of {data_facts}. Name another --output."
        )
    runs: list[dict[str, Any]] = earlier.get("runs", [])
    for start in given.starts:
        is_pretrained = start == "backbone"
        data = visus.open_data(given.folder, img_size=given.img_size, pretrained=is_pretrained, progress=False)
        for seed in given.seeds:
            own = held_out(data, seed)
            for name in given.policies:
                settings = {**POLICIES[name], **({"epochs": given.epochs} if given.epochs is not None else {})}
                wanted = {"start": start, "seed": seed, "policy": name, "settings": settings}
                if any(wanted.items() <= row.items() for row in runs):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    recipe = visus.Recipe(seed=seed, **settings)
                    began = time.monotonic()
                    run = visus.train(own, None, recipe, pretrained=is_pretrained, output=folder, progress=False)
                    scores = run.scores
                    row = {"start": start, "seed": seed, "policy": name, "seconds": round(time.monotonic() - began, 1)}
                    row |= {"accuracy": scores.accuracy, "num_held_out": scores.num_samples, "settings": settings}
                runs.append(row)
                print(f"{start}, seed {seed}, {name}: {100 * row['accuracy']:.1f} % in {row['seconds']} s", file=sys.stderr)
                if given.output is not None:  # what was measured so far, if this is stopped
                    write_result(
                        given.output, {"command": command_line(), **machine_facts(), "data": data_facts, "runs": runs}
                    )
    gains: dict[str, Any] = {}
    for start in given.starts:
        by_policy = {name: [accuracy_of(runs, start, seed, name) for seed in given.seeds] for name in given.policies}
        gains[start] = {name: {"accuracy": mean_of(found).to_json()} for name, found in by_policy.items()}
        for name, found in by_policy.items() if "default" in by_policy else ():
            differences = [one - other for one, other in zip(found, by_policy["default"], strict=True)]
            gains[start][name]["gain"] = mean_of(differences).to_json()
    return {"data": data_facts, "gains": gains, "runs": runs}


def accuracy_of(runs: list[dict[str, Any]], start: str, seed: int, policy: str) -> float:
    """The accuracy of one training."""
    return next(
        float(row["accuracy"]) for row in runs if (row["start"], row["seed"], row["policy"]) == (start, seed, policy)
    )


def hue(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Test accuracy for each number of classes, with the default and without color jitter."""
    rows = []
    for num_classes in given.classes:
        with tempfile.TemporaryDirectory() as folder:
            photos = make_hues(Path(folder) / "photos", num_classes)
            for name in ("default", "no color"):
                run = visus.train(
                    photos,
                    None,
                    visus.Recipe(seed=0, **POLICIES[name]),
                    pretrained=False,
                    output=folder,
                    name=name,
                    progress=False,
                )
                row = {"num_classes": num_classes, "degrees_apart": round(360 / num_classes, 1), "policy": name}
                rows.append(
                    {**row, "color": run.recipe.color, "accuracy": run.scores.accuracy, "num_test": run.scores.num_samples}
                )
                print(f"{num_classes} hues, {name}: {run.scores.accuracy:.1%}", file=sys.stderr)
    return rows


def make_hues(folder: Path, num_classes: int, num_each: int = 60) -> Path:
    """Class folders of photos of several sizes: smooth noise in one hue, with random brightness, saturation and texture."""
    random = np.random.default_rng(0)
    for label in range(num_classes):
        (folder / f"hue{label:02}").mkdir(parents=True)
        for number in range(num_each):
            size = random.integers(40, 64, 2)
            values = np.asarray(Image.fromarray(random.random((5, 5)).astype(np.float32)).resize(tuple(size.tolist())))
            saturation, brightness = random.uniform(0.4, 0.9), random.uniform(0.5, 1.0)
            pixels = np.stack(
                [
                    np.full_like(values, label / num_classes),
                    np.full_like(values, saturation),
                    brightness * (0.4 + 0.6 * values),
                ],
                -1,
            )
            image = Image.fromarray((255 * pixels).astype(np.uint8), mode="HSV").convert("RGB")
            image.save(folder / f"hue{label:02}" / f"{number}.png")
    return folder


def main() -> None:
    """Measure what was asked, and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = options.add_subparsers(dest="part", required=True)
    costs, gains, hues = (parts.add_parser(name) for name in ("cost", "gain", "hue"))
    hues.add_argument("--classes", type=int, nargs="+", default=[6, 12, 18, 24])
    costs.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    costs.add_argument("--batch", type=int, default=64)
    costs.add_argument("--rounds", type=int, default=15)
    gains.add_argument("folder", type=Path)
    gains.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    gains.add_argument("--starts", nargs="+", choices=("scratch", "backbone"), default=["scratch", "backbone"])
    gains.add_argument("--policies", nargs="+", choices=[*POLICIES], default=[*POLICIES])
    gains.add_argument("--img-size", type=int)
    gains.add_argument("--epochs", type=int)
    for part in (costs, gains, hues):
        part.add_argument("--output", type=Path)
    given = options.parse_args()
    assert {name for settings in POLICIES.values() for name in settings} <= {*SETTINGS, "tta"}
    if given.part == "cost":
        table: dict[str, Any] = {"steps": cost(given.sides, given.batch, given.rounds)}
    else:
        table = gain(given) if given.part == "gain" else {"trainings": hue(given)}
    write_result(given.output, {"command": command_line(), **machine_facts(), **table})


if __name__ == "__main__":
    main()
