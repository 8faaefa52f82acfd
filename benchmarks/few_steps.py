"""Fine-tuning with few steps: the validation accuracy by learning rate and warm-up, beside that of the head on frozen features.

    python benchmarks/few_steps.py FOLDER [--side 96] [--steps 5 10 20 40 80] [--rates 1e-3 3e-4 1e-4 0] [--warmups 0.1] [--seeds 0 1] [--output FILE.json]

FOLDER has a folder of photos for each class. Each seed draws ``--training`` photos to train on; the others validate, and nothing else is scored. The
head is fitted once for a seed, as ``visus train`` does it; every fine-tuning starts from it, with the recipe of ``visus train`` but for what is
varied; the learning rate 0 stands for that of visus. An epoch has ``--training`` / 32 steps, so that numbers of steps are multiples of it.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import visus
from measuring import command_line, machine_facts, write_result
from visus.data.opened import Data
from visus.networks.machine import choose, suited
from visus.networks.pretrained import DEFAULT
from visus.progress import SILENT
from visus.training.distribution import ALONE
from visus.training.events import EpochDone, StartScored
from visus.training.facts import StartFacts
from visus.training.fine_tuning import num_steps, rate_for
from visus.training.loop import TrainingLoop
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.workbench.modules import make_network
from visus.workbench.train.head_probe import probe
from visus.workbench.train.mirroring import ask_mirroring
from visus.workbench.train.preparing import prepare, resolved
from visus.workbench.train.starts import begin, suited_data

LAYER_DECAY = 0.1


def split_folder(source: Path, num_training: int, seed: int, target: Path) -> Path:
    """A folder with ``train`` and ``val`` that links to the photos: as many of each class to train on, and all others to validate."""
    classes = sorted(each for each in source.iterdir() if each.is_dir())
    for folder in classes:
        files = sorted(each for each in folder.iterdir() if each.is_file())
        random.Random(seed).shuffle(files)
        share = num_training // len(classes)
        for split, chosen in (("train", files[:share]), ("val", files[share:])):
            (target / split / folder.name).mkdir(parents=True)
            for file in chosen:
                (target / split / folder.name / file.name).symlink_to(file.resolve())
    return target


class FittedStart:
    """The pretrained network with its fitted head, and the data, of one seed."""

    def __init__(self, folder: Path, side: int, seed: int, scratch: Path) -> None:
        self.seed, self.scratch = seed, scratch
        self.given = Recipe(seed=seed)
        self.data: Data = suited_data(visus.open_data(folder, img_size=side, cache_dir=scratch / "cache", progress=False))
        self.made = make_network(DEFAULT.design, self.data.input_shape, len(self.data.classes), seed=seed)
        start = begin(self.made.module, DEFAULT.initial_weights(self.made.module))
        self.machine = suited(choose("cpu", "auto"), self.made.module)
        self.mirrors = ask_mirroring(self.given, self.data, ALONE)
        recipe = resolved(self.given, self.data, self.made.module, self.mirrors, StartFacts())
        is_mirrored = recipe.flip != "none"
        found = probe(self.made.module, start, self.data, self.given, self.machine, SILENT, is_mirrored=is_mirrored)
        self.cross_validated = None if found.start.head is None else found.start.head.value

    def fine_tune(self, num_epochs: int, learning_rate: float, warmup: float) -> dict[str, Any]:
        """Validation accuracies before the first step and after each epoch, with the losses; a learning rate of 0 stands for that of visus."""
        learning_rate = learning_rate or rate_for(num_steps(Recipe(epochs=num_epochs), len(self.data.split("train"))))
        facts = StartFacts(layer_decay=LAYER_DECAY, learning_rate=learning_rate)
        asked = self.given.replace(epochs=num_epochs, warmup=warmup)
        recipe = resolved(asked, self.data, self.made.module, self.mirrors, facts)
        torch.manual_seed(self.seed)
        module, batches = prepare(copy.deepcopy(self.made.module), self.data, recipe, self.machine)
        folder = RunFolder.create(self.scratch, "run", {})
        training = TrainingLoop(
            module, batches, self.data.split("val"), recipe, self.machine, folder, {}, has_trained_head=True
        )
        row: dict[str, Any] = {"accuracy": [], "loss": []}
        for event in training.events():
            if isinstance(event, StartScored):
                row |= {"head_accuracy": event.val_score, "head_loss": event.val_loss}
            if isinstance(event, EpochDone):
                row["accuracy"].append(event.row["val_accuracy"])
                row["loss"].append(event.row["val_loss"])
        is_kept = training.position.best_epoch >= 0
        return row | {
            "learning_rate": learning_rate,
            "steps": num_epochs * batches.num_steps,
            "epochs": num_epochs,
            "is_kept": is_kept,
        }


def main() -> None:
    """Every number of steps with every learning rate and warm-up, for each seed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--side", type=int, default=96)
    options.add_argument("--training", type=int, default=160)
    options.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 40, 80])
    options.add_argument(
        "--rates", type=float, nargs="+", default=[1e-3, 3e-4, 1e-4, 0], help="0: the learning rate of visus"
    )
    options.add_argument("--warmups", type=float, nargs="+", default=[0.1])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    table: dict[str, Any] = {"command": command_line(), **machine_facts(), "rows": rows}
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = split_folder(chosen.folder, chosen.training, seed, Path(scratch) / "photos")
            start = FittedStart(folder, chosen.side, seed, Path(scratch))
            for steps in chosen.steps:
                for warmup in chosen.warmups:
                    for rate in chosen.rates:
                        began = time.process_time()
                        row = start.fine_tune(steps * 32 // chosen.training, rate, warmup)
                        facts = {
                            "seed": seed,
                            "is_default": not rate,
                            "warmup": warmup,
                            "cross_validated": start.cross_validated,
                        }
                        rows.append(facts | row | {"processor_s": round(time.process_time() - began, 1)})
                        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                        write_result(chosen.output, table)


if __name__ == "__main__":
    main()
