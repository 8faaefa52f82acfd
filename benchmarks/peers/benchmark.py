"""Time to accuracy: visus beside what a person could take instead, on the same data and machine, each training in a process of its own.

The trainings are interleaved: the first seed of each, then the second seed of each. Two clocks are told for each: one from the moment at which
the training data is in memory, one from the start of the process, which counts imports and opening the data too. Decoding of
image files counts for nobody: visus decodes once, before, and gives the others the decoded samples. Evaluating on the held-out samples after each epoch counts for everybody, and is
told apart. Everybody begins with new weights and has the same samples of one size, visus too: where ``visus train`` would begin with pretrained
weights, which the peers do not have, the result says so.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from peers.chart import draw_race
from peers.curves import Curve, Point, Reached, first_reached
from peers.entries import PEERS, VISUS, Contestant
from peers.process import Limits, timed_run
from visus.data.opened import Data, open_data
from visus.data.splits import write_split_csv
from visus.data.survey import InputChooser, InputSpec, Survey
from visus.errors import DataError, StorageError, UsageError, join_messages
from visus.files import write_json
from visus.limits import usable_cores
from visus.networks.machine import describe
from visus.networks.pretrained import DEFAULT
from visus.training.recipe import Recipe
from visus.units import write_shape
from visus.workbench.train.starts import choice_of, read_for

SAMPLE_TARGET: Final = 0.88
DEFAULT_TIME_LIMIT_S: Final = 600.0
DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        target: accuracy on the held-out samples that the mean over the seeds has to reach, 0 to 1.
        contestants: who takes part.
        seeds: one training of each contestant for each.
        time_limit_s: seconds since its data was in memory after which a training is ended.
        threads: of each process; None for all usable cores.
        device: ``cpu``, ``cuda``, or ``auto`` for a CUDA device where there is one.
        network: text of the network that visus trains, and the peers whose network is ``same``; None for ``compact``.
        recipe: of visus; its seed and its device are those of the benchmark.
        is_followed: evaluate visus after each epoch; else only at its end.

    Raises:
        UsageError: all values that cannot be used, together.
    """

    target: float
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    threads: int | None = None
    device: str = "auto"
    network: str | None = None
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    is_followed: bool = True

    def __post_init__(self) -> None:
        mistakes = []
        if not 0 < self.target <= 1:
            mistakes.append(
                f"the target is a share of the held-out samples above 0 and up to 1, such as 0.93, not {self.target:g}."
            )
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            mistakes.append("seeds are different whole numbers from 0 on, such as 0,1,2.")
        if self.device not in DEVICES:
            mistakes.append(f"a benchmark runs on auto, cpu or cuda, not on {self.device!r}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            mistakes.append("there is no CUDA device here. Use --device cpu, or leave it out.")
        if mistakes:
            raise UsageError(join_messages(mistakes))

    @property
    def place(self) -> str:
        """The device that ``auto`` stands for: ``cpu`` or ``cuda``."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    @property
    def limits(self) -> Limits:
        """What each process may use."""
        return Limits(self.time_limit_s, self.threads or usable_cores(), self.place)


@dataclass(frozen=True)
class Raced:
    """A contestant with all its trainings so far.

    Args:
        contestant: who.
        curves: one for each seed that was run.
        versions: of its packages.
    """

    contestant: Contestant
    curves: tuple[Curve, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def reached(self, target: float) -> Reached | None:
        """When the mean over the seeds reached the target; None where it did not, or where a training failed."""
        if any(curve.end == "failed" for curve in self.curves):
            return None
        return first_reached(self.curves, target)

    @property
    def best_accuracy(self) -> float | None:
        """The highest accuracy that any evaluation of any seed gave; None where there was none."""
        return max((point.accuracy for curve in self.curves for point in curve.points), default=None)


@dataclass(frozen=True)
class Evaluated:
    """A training was evaluated."""

    contestant: Contestant
    seed: int
    point: Point


@dataclass(frozen=True)
class RunDone:
    """A training is over; ``number`` of ``num_runs``."""

    contestant: Contestant
    curve: Curve
    number: int
    num_runs: int


Tell = Callable[[Evaluated | RunDone], None]


@dataclass(frozen=True)
class Benchmark:
    """What was found, and where it was written.

    Args:
        plan: what was compared.
        raced: the contestants that were run, visus first.
        left_out: those that are not installed.
        facts: data, machine and command.
        folder: holds ``benchmark.json`` and ``accuracy.png``.
    """

    plan: Plan
    raced: tuple[Raced, ...]
    left_out: tuple[Contestant, ...]
    facts: dict[str, Any]
    folder: Path

    def joined_by(self, place: int, curve: Curve, versions: dict[str, str]) -> Benchmark:
        """The same with one training more of the contestant at ``place``."""
        before = self.raced[place]
        now = Raced(before.contestant, (*before.curves, curve), versions or before.versions)
        return dataclasses.replace(self, raced=(*self.raced[:place], now, *self.raced[place + 1 :]))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; ratios are to the first contestant that is visus."""
        own = self.raced[0].reached(self.plan.target)
        rows = []
        for one in self.raced:
            reached = one.reached(self.plan.target)
            rows.append(
                {
                    "name": one.contestant.title,
                    **dataclasses.asdict(one.contestant),
                    "source": PEERS[one.contestant.peer].source if one.contestant.peer != VISUS else "visus train",
                    "versions": one.versions,
                    "reached": reached.to_json() if reached else None,
                    "times_visus": reached.seconds / own.seconds if reached and own else None,
                    "best_accuracy": one.best_accuracy,
                    "runs": [dataclasses.asdict(curve) for curve in one.curves],
                }
            )
        left_out = [{"name": one.title, "install": PEERS[one.peer].install} for one in self.left_out]
        return {**self.facts, "contestants": rows, "left_out": left_out}


def benchmark(
    data: Data | str | Path | None,
    plan: Plan,
    *,
    output: str | Path = "runs",
    cache_dir: Path | None = None,
    tell: Tell | None = None,
    command: str = "",
) -> Benchmark:
    """Train every contestant that is installed with every seed, and write what was found after each training.

    Args:
        data: opened data of images, which is trained on as it was opened (size, split, labels), or its path; None for the images that come
            with visus.
        plan: what is compared.
        output: a folder ``benchmark-NAME`` is made in it; never one that is there.
        cache_dir: another folder for the decoded samples.
        tell: called for each evaluation and each training.
        command: what was typed, for the result.

    Raises:
        DataError: the data holds no images of 8 bits, or was opened to be scored whole.
        StorageError: the result cannot be written.
    """
    seen = _Seen(choice_of(None, network=plan.network))
    opened = data if isinstance(data, Data) else open_data(data, cache_dir=cache_dir, choose_input=seen)
    _refuse_unusable(opened)
    present = tuple(one for one in plan.contestants if not one.lacking)
    absent = tuple(one for one in plan.contestants if one.lacking)
    folder = _new_folder(Path(output), f"benchmark-{opened.short_name}")
    result = Benchmark(plan, tuple(Raced(one) for one in present), absent, _facts(opened, plan, command, seen), folder)
    say = tell or (lambda event: None)
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        _write_arrays(opened, scratch)
        write_split_csv(opened.table, scratch / "split.csv")
        runs = [(seed, place) for seed in plan.seeds for place in range(len(present))]
        for number, (seed, place) in enumerate(runs, 1):
            one = present[place]
            point_of = functools.partial(Evaluated, one, seed)
            task = _task(one, seed, opened, plan, scratch)
            curve, versions = timed_run(task, plan.limits, scratch, lambda point, of=point_of: say(of(point)))  # type: ignore[misc]
            result = result.joined_by(place, curve, versions)
            write_json(folder / "benchmark.json", result.to_json())
            say(RunDone(one, curve, number, len(runs)))
    draw_race({one.contestant.title: one.curves for one in result.raced}, plan.target, folder / "accuracy.png")
    return result


class _Seen:
    """Notes whether ``visus train`` would begin with pretrained weights, and has the images read for new ones all the same."""

    def __init__(self, choice: InputChooser | None) -> None:
        self._choice = choice
        self._suited: InputSpec | None = None

    def __call__(self, seen: Survey) -> None:
        self._suited = self._choice(seen) if self._choice else None

    def sentence(self, data: Data) -> str:
        """What everybody begins with, for a reader of the result."""
        told = f"everybody begins with new weights and has the same {data.noun}s of {write_shape(data.input_shape)}"
        if self._suited is not None or read_for(data):
            told += f"; visus train alone would begin with the {DEFAULT.source} on this data"
            told += f", at {write_shape(self._suited.size)}" if self._suited else ""
        return f"{told}."


def _task(one: Contestant, seed: int, data: Data, plan: Plan, scratch: Path) -> dict[str, Any]:
    """What a process is told to do, as ``peers.task.Task`` reads it."""
    return {
        "peer": one.peer,
        "network": one.network,
        "epochs": one.epochs,
        "seed": seed,
        "target": plan.target,
        "arrays": str(scratch),
        "num_classes": len(data.classes),
        "design": plan.network,
        "data": None if data.given is None else str(data.given),
        "cache": str(data.store.folder.parent),
        "opened": {
            "preprocessing": data.preprocessing.to_dict(),
            "split": str(scratch / "split.csv"),
            "labels": data.labels,
            "reading": data.reading.to_json(),
            "max_unreadable": data.max_unreadable,
            "is_varied": data.is_varied,
        },
        "recipe": plan.recipe.to_yaml(),
        "device": plan.place,
        "runs": str(scratch / "runs" / one.title.replace(" ", "-")),
        "is_followed": plan.is_followed,
    }


def _refuse_unusable(data: Data) -> None:
    """Refuse what the peers' networks and scaling are not made for, and what leaves nothing to train on."""
    if data.is_whole:
        raise DataError(
            "this data was opened to be scored whole, and a benchmark trains. Open it with visus.open_data, or give its path.",
            where=data.name,
        )
    if len(data.input_shape) != 3 or data.preprocessing.dtype != "uint8":
        raise DataError(
            f"a benchmark needs images of 8 bits, and this data holds {data.preprocessing.dtype} {data.noun}s of "
            f"{write_shape(data.input_shape)}: what the peers' documents train is made for images.",
            where=data.name,
        )


def _write_arrays(data: Data, folder: Path) -> None:
    """The samples for the peers: all that visus does not hold out for its score, and those that it does."""
    held_out = data.scored_split
    training = [data.split(name) for name in ("train", "val") if name != held_out and len(data.split(name))]
    test = data.split(held_out)
    np.save(folder / "train_samples.npy", np.concatenate([part.pixels[part.indices] for part in training]))
    np.save(folder / "train_labels.npy", np.concatenate([part.labels for part in training]))
    np.save(folder / "test_samples.npy", test.pixels[test.indices])
    np.save(folder / "test_labels.npy", test.labels)


def _facts(data: Data, plan: Plan, command: str, seen: _Seen) -> dict[str, Any]:
    """Data, machine and command, for the result."""
    parts = {name: len(data.split(name)) for name in ("train", "val", "test")}
    return {
        "command": command,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "input_shape": list(data.input_shape),
            "num_samples": parts,
        },
        "held_out": data.scored_split,
        "target": plan.target,
        "seeds": list(plan.seeds),
        "weights": seen.sentence(data),
        "order": "interleaved by seed, each training in a process of its own",
        "time_limit_s": plan.time_limit_s,
        "device": plan.place,
        "threads": plan.limits.threads,
        "network": plan.network or "compact",
        "recipe": {
            name: value for name, value in dataclasses.asdict(plan.recipe).items() if value != getattr(Recipe(), name)
        },
        "machine": describe(),
    }


def _new_folder(root: Path, name: str) -> Path:
    """A folder of this name, or with a number behind it where that is taken."""
    path, number = root / name, 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        while path.exists():
            number += 1
            path = root / f"{name}-{number}"
        path.mkdir()
    except OSError as error:
        raise StorageError(
            f"the folder for the result cannot be made: {error.strerror}. Name another place with --output.", where=str(path)
        ) from error
    return path
