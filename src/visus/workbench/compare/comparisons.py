"""Runs side by side: two of them sample by sample, a run beside its perceptron twins, and both on shuffled images.

This file knows which runs are trained for a comparison and what is compared.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.design import Design
from visus.design.mlp_equivalents import KINDS, perceptron_twins
from visus.errors import DataError, UsageError, unknown_name
from visus.evaluation.calibration import UNCALIBRATED, Calibrator
from visus.evaluation.paired import Paired, compare_answers
from visus.evaluation.predictions import predict_logits
from visus.evaluation.scores import Scores, score
from visus.evaluation.shifts import ShiftFigures, measure_shifts
from visus.networks.roles import accepts
from visus.training.loop import EVALUATION_BATCH
from visus.training.recipe import Recipe
from visus.training.resolve import for_new_network
from visus.training.runs import RunFolder, training_seconds
from visus.units import Described, write_count, write_number_of, write_share, write_split
from visus.workbench.modules import count_macs, make_network
from visus.workbench.runs.own_data import open_own_data
from visus.workbench.runs.run import Run
from visus.workbench.runs.shifts import (
    MAX_SAMPLES,
    NUM_SHIFTS,
    ShiftReport,
    antialiased_design,
    own_design,
    reach_of,
    reading,
    report_shifts,
    some_samples,
)
from visus.workbench.train.training import OnEvent, train

TRAINED_KINDS: Final = ("equal parameters", "equal width")
SHUFFLE_SEED: Final = 0
SHIFT_WAY: Final = "roll"
_SHUFFLE_NOTE: Final = (
    f"shuffled: the positions of all samples are in one random order (seed {SHUFFLE_SEED}), after all other changes. A perceptron with its "
    "first weights in the same order answers the same, so what it changes by is the chance of its start."
)


@dataclass(frozen=True)
class Contender:
    """One of the networks that are compared.

    Args:
        name: of its run.
        kind: ``network``; a key of ``design.mlp_equivalents.KINDS`` for a perceptron; or what was changed in the first design, in words.
        is_shuffled: whether it was trained, and is scored, on shuffled positions.
        folder: its run folder.
        num_parameters, macs: its trained values, and its multiply-adds for one sample.
        seconds: what its training took.
        scores: on the samples that all contenders are compared on.
        history: a row for each epoch of its ``results.csv``.
        shifts: how its answers change when the samples move round a ring; None where that was not asked for.
        calibrator: what makes probabilities of its outputs.
    """

    name: str
    kind: str
    is_shuffled: bool
    folder: Path
    num_parameters: int
    macs: int
    seconds: float
    scores: Scores
    history: tuple[dict[str, float], ...]
    shifts: ShiftFigures | None = None
    calibrator: Calibrator = UNCALIBRATED

    def to_json(self) -> dict[str, Any]:
        """The contender as plain data."""
        named = ("name", "kind", "is_shuffled", "num_parameters", "macs", "seconds")
        facts = {name: getattr(self, name) for name in named}
        return {
            **facts,
            **dataclasses.asdict(self.calibrator),
            "folder": str(self.folder),
            "scores": self.scores.to_json(),
            "history": [dict(row) for row in self.history],
            "shifts": self.shifts.to_json() if self.shifts else None,
        }


@dataclass(frozen=True)
class RunPair:
    """Two of the contenders, by name, and how their answers differ."""

    left: str
    right: str
    answers: Paired

    def sentence(self, noun: str = "sample") -> str:
        """The difference as one sentence for people."""
        return self.answers.sentence(self.left, self.right, noun)

    def to_json(self) -> dict[str, Any]:
        """The pair as plain data."""
        return {"left": self.left, "right": self.right, **self.answers.to_json()}


@dataclass(frozen=True, repr=False)
class Comparison(Described):
    """Runs on the same samples; the first is what the others are compared with.

    Args:
        split: which split the samples are of; ``all`` where the data was scored whole.
        noun: what a sample is called.
        contenders: the runs.
        pairs: the first run with each of the others; and each perceptron with itself on shuffled positions, where there is one.
        notes: what a reader must know.
    """

    split: str
    noun: str
    contenders: tuple[Contender, ...]
    pairs: tuple[RunPair, ...]
    notes: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = (
            f"Comparison on {write_number_of(self.contenders[0].scores.num_samples, self.noun)} of {write_split(self.split)}"
        )
        facts = [
            (each.name, f"{write_share(each.scores.accuracy)}, {write_count(each.num_parameters)} parameters")
            for each in self.contenders
        ]
        facts += [("difference", pair.sentence(self.noun)) for pair in self.pairs[:2]]
        facts += [("more", f"{len(self.pairs) - 2:,} in .pairs")] if len(self.pairs) > 2 else []
        return title, [*facts, ("next", ".contenders, .pairs; .to_json() gives all measures")]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "split": self.split,
            "num_samples": self.contenders[0].scores.num_samples,
            "runs": [each.to_json() for each in self.contenders],
            "pairs": [pair.to_json() for pair in self.pairs],
            "notes": list(self.notes),
        }


def compare_runs(
    left: Run,
    right: Run,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    cache_dir: str | Path | None = None,
) -> Comparison:
    """Two runs on the same samples, sample by sample.

    Without ``data``, the samples are those that both runs held out; each run reads them with its own size and scaling.

    Args:
        left, right: the runs; they may differ in network, recipe, seed and size of the samples.
        data: other data; None for the runs' own.
        split: ``train``, ``val`` or ``test``; None for the held-out one.
        cache_dir: another folder for the decoded samples.

    Raises:
        UsageError: the runs know different classes.
        DataError: the runs were trained on different data and none was given, or no sample is held out by both.
    """
    if set(left.classes) != set(right.classes):
        others = sorted(set(left.classes) ^ set(right.classes))
        raise UsageError(
            f"{left.name} and {right.name} cannot be compared: only one of them knows {', '.join(others)}. Give runs with the same classes."
        )
    facts = [RunFolder.open(run.folder).read_json("data.json") for run in (left, right)]
    if data is None and facts[0]["fingerprint"] != facts[1]["fingerprint"]:
        raise DataError(
            f"{left.name} was trained on {facts[0]['name']} and {right.name} on other data ({facts[1]['name']}), so they share no "
            "held-out samples. Give the data to compare them on with --data."
        )
    opened = [run.open_data(data, cache_dir=cache_dir) for run in (left, right)]
    chosen = split or opened[0].scored_split
    parts = [each.split(chosen) for each in opened]
    shared = set(parts[0].names) & set(parts[1].names)
    if not shared:
        raise DataError(
            f"no sample is in the {chosen} split of both {left.name} and {right.name}. Name another with --split, or give data with --data."
        )
    kept = [_only(part, shared) for part in parts]
    said = [run.notes_on(each, chosen) for run, each in zip((left, right), opened, strict=True)]
    notes = [note for note in said[0] if note in said[1]]
    for run, own in zip((left, right), said, strict=True):
        notes += [f"{run.name}: {note}" for note in own if note not in notes]
    left_out = len(parts[0]) - len(shared)
    if left_out:
        notes.append(
            f"{left_out:,} of the {len(parts[0]):,} samples in the {chosen} split of {left.name} are not in that of {right.name}, and are left out."
        )
    shown = "all" if opened[0].is_whole else chosen
    return _compare(
        [(left, "network", kept[0], opened[0]), (right, "network", kept[1], opened[1])], shown, opened[0].noun, notes
    )


def compare_with_twins(
    run: Run,
    *,
    kinds: Sequence[str] = TRAINED_KINDS,
    with_shuffled: bool = False,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    command: str = "",
) -> Comparison:
    """Train the perceptron twins of a run with its data, split, recipe and seed, and compare all of them.

    Args:
        run: the run; its network must be a design with a convolution.
        kinds: which twins, keys of ``design.mlp_equivalents.KINDS``.
        with_shuffled: train the network and each twin once more on images whose positions are in one fixed random order.
        output: folder of the new runs; None for that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: called with everything that happens in the trainings.
        command: what was typed, for the reports.

    Raises:
        UsageError: the network is no design, or there is no such kind.
        DesignError: the design has no convolution.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(unknown_name("kind of twin", kind, KINDS))
    design = _design_for(run, "perceptron twins are made of designs")
    shape, num_classes = run.preprocessing.input_shape, len(run.classes)
    twins = {twin.kind: twin for twin in perceptron_twins(design, shape, num_classes) if twin.kind in kinds}

    def again(network: Design, word: str, shuffle_seed: int | None) -> Run:
        return train_again(
            run, network, f"{run.name}-{word}", shuffle_seed=shuffle_seed,
            output=output, cache_dir=cache_dir, on_event=on_event, command=command,
        )  # fmt: skip

    runs: list[tuple[Run, str]] = [(run, "network")]
    if with_shuffled:
        runs.append((again(design, "shuffled", SHUFFLE_SEED), "network"))
    for kind in kinds:
        word = f"mlp-{kind.replace(' ', '-')}"
        runs.append((again(twins[kind].design, word, None), kind))
        if with_shuffled:
            runs.append((again(twins[kind].design, f"{word}-shuffled", SHUFFLE_SEED), kind))
    notes = [f"{kind}: {KINDS[kind]}" for kind in kinds]
    return compare_trained(runs, notes=[*notes, *([_SHUFFLE_NOTE] if with_shuffled else [])], cache_dir=cache_dir)


def compare_shuffled(
    run: Run,
    *,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    command: str = "",
) -> Comparison:
    """Train the network of a run once more on images whose positions are in one fixed random order, and compare.

    Raises:
        UsageError: the network is no design.
    """
    design = _design_for(run, "a network is trained once more from its design")
    other = train_again(
        run, design, f"{run.name}-shuffled", shuffle_seed=SHUFFLE_SEED,
        output=output, cache_dir=cache_dir, on_event=on_event, command=command,
    )  # fmt: skip
    return compare_trained([(run, "network"), (other, "network")], notes=[_SHUFFLE_NOTE], cache_dir=cache_dir)


def compare_trained(
    runs: Sequence[tuple[Run, str]], *, notes: Sequence[str] = (), cache_dir: str | Path | None = None
) -> Comparison:
    """Runs with one data set and one split, each with its kind, on the held-out samples; their answers to shifts too.

    Where one of them reads shuffled samples, which have no mirrored or moved views, all of them are scored on each sample as it is.
    """
    run = runs[0][0]
    first = open_own_data(run.folder, run.preprocessing, cache_dir=cache_dir)
    part = first.split(first.scored_split)
    entries = [(each, kind, part, first) for each, kind in runs]
    plain = any(each.preprocessing.shuffle_seed is not None for each, _ in runs)
    said = run.notes_on(first, first.scored_split)
    if plain and run.views_sentence:
        said = [
            f"Each answer is that to the {first.noun} as it is, since shuffled {first.noun}s have no other views: {run.name} may have "
            "another figure in its own report.",
            *(note for note in said if note != run.views_sentence),
        ]
    whole = [each.name for each, _ in runs[1:] if min(run.recipe.sides) < 1 and min(each.recipe.sides) == 1]
    if whole:
        said.append(
            f"{run.name} began with smaller {first.noun}s; whole ones throughout, since they take no others: {', '.join(whole)}."
        )
    return _compare(entries, first.scored_split, first.noun, [*said, *notes], shifts=True, plain=plain)


def train_again(
    run: Run,
    network: Design,
    name: str,
    *,
    shuffle_seed: int | None = None,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    command: str = "",
) -> Run:
    """Another network with the data, split, recipe and seed of a run, in a run folder of its own.

    Two settings of the recipe are left out where they cannot be used: smaller samples at first, by a network that accepts one size
    alone, and views that are averaged, of samples that are shuffled.

    Args:
        shuffle_seed: where it is given, the positions of all samples are in the order that it fixes (``Preprocessing``).
        output: folder of the new run; None for that of the run.
    """
    preprocessing = dataclasses.replace(run.preprocessing, shuffle_seed=shuffle_seed)
    data = open_own_data(run.folder, preprocessing, cache_dir=cache_dir)
    recipe = usable_recipe(for_new_network(run.recipe), network, data)
    return train(data, network, recipe, output=output or run.folder.parent, name=name, on_event=on_event, command=command)


@dataclass(frozen=True)
class Antialiased:
    """A run beside its antialiased design.

    Args:
        before, after: how the answers of both change when the samples move.
        comparison: both on the held-out samples.
    """

    before: ShiftReport
    after: ShiftReport
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "shifts": self.before.to_json(),
            "shifts_antialiased": self.after.to_json(),
            "comparison": self.comparison.to_json(),
        }


def compare_antialiased(
    run: Run,
    *,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    command: str = "",
) -> Antialiased:
    """Train a run's design with global pooling for flatten and blurred pooling for strides, and measure both.

    Args:
        output: folder of the new run; None for that of the run.

    Raises:
        UsageError: there is nothing to change.
    """
    changed = antialiased_design(run)
    if changed is None:
        raise UsageError(
            "this network has no flatten and no stride that could be changed, or is no design: there is nothing to train.",
            where=str(run.folder),
        )
    design, changes = changed
    data = run.open_data(cache_dir=cache_dir)
    before = report_shifts(run, data)
    given: dict[str, Any] = {"output": output, "cache_dir": cache_dir, "on_event": on_event, "command": command}
    other = train_again(run, design, f"{run.name}-antialiased", **given)
    both = compare_trained([(run, "network"), (other, changes)], cache_dir=cache_dir)
    return Antialiased(before, report_shifts(other, data), both)


def usable_recipe(recipe: Recipe, network: Design, data: Data) -> Recipe:
    """A run's recipe for another network: no smaller samples where it accepts none, no averaged views where positions are shuffled."""
    is_shuffled = data.preprocessing.shuffle_seed is not None
    if is_shuffled:
        recipe = recipe.replace(tta="none")
    sides = [side for side in recipe.sides if side < 1]
    if not sides:
        return recipe
    channels, *size = data.input_shape
    module = make_network(network, data.input_shape, len(data.classes), seed=recipe.seed).module
    shapes = [(channels, *(max(1, round(side * length)) for length in size)) for side in sides]
    if is_shuffled or not all(accepts(module, shape) for shape in shapes):
        recipe = recipe.replace(progressive_resize="1")
    return recipe


def _design_for(run: Run, purpose: str) -> Design:
    if run.preprocessing.shuffle_seed is not None:
        raise UsageError(
            f"this run was trained on shuffled {run.preprocessing.noun}s itself. Give the run that it was made from.",
            where=str(run.folder),
        )
    design = own_design(run)
    if design is None:
        raise UsageError(f"{purpose}, and this run's network is a Python object or callable.", where=str(run.folder))
    return design


def _compare(
    entries: Sequence[tuple[Run, str, Part, Data]],
    split: str,
    noun: str,
    notes: Sequence[str],
    *,
    shifts: bool = False,
    plain: bool = False,
) -> Comparison:
    """Each run's answers for its own reading of the same samples, in the order of the first run's; with ``plain`` those to one view of each."""
    first_run, _, first_part, _ = entries[0]
    places = {sample: index for index, sample in enumerate(first_part.names)}
    answers: list[list[int]] = []
    contenders = []
    for run, kind, part, data in entries:
        batches = batches_in_order(part, run.preprocessing, EVALUATION_BATCH)
        logits = _plain_logits(run, batches) if plain else run.logits(batches)
        order = np.argsort([places[sample] for sample in part.names])
        logits = logits[torch.from_numpy(order)][:, [run.classes.index(name) for name in first_run.classes]]
        calibrator = run.calibrator(raw=plain)  # it belongs to the answers that the run gives
        chances, labels = calibrator(logits), torch.from_numpy(first_part.labels)
        known, unknown = run.known(part, data)
        in_order = None if known is None else (known[0][order], known[1][order])
        notes = [*notes, *(f"{run.name}: {note}" for note in unknown)]
        found = score(chances, labels, first_run.classes, split=split, known=in_order)
        answers.append(logits.argmax(dim=1).tolist())
        contenders.append(_contender(run, kind, found, _shifts(run, part) if shifts else None, calibrator))
    if len({each.name for each in contenders}) < len(contenders):
        contenders = [dataclasses.replace(each, name=str(each.folder)) for each in contenders]

    def pair(left: int, right: int) -> RunPair:
        labels = first_part.labels.tolist()
        compared = compare_answers(answers[left], answers[right], labels, first_run.classes, first_part.names)
        return RunPair(contenders[left].name, contenders[right].name, compared)

    chosen = [(0, other) for other in range(1, len(contenders))]
    chosen += [
        (index, index + 1)
        for index, (each, after) in enumerate(itertools.pairwise(contenders))
        if index and after.is_shuffled and each.kind == after.kind and not each.is_shuffled
    ]
    return Comparison(split, noun, tuple(contenders), tuple(pair(*each) for each in chosen), tuple(dict.fromkeys(notes)))


def _plain_logits(run: Run, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The outputs for each sample as it is, whatever views the recipe averages."""
    machine = run.machine
    return predict_logits(
        run.module, batches, device=machine.device, precision=machine.precision, channels_last=machine.channels_last
    )


def _contender(run: Run, kind: str, scores: Scores, shifts: ShiftFigures | None, calibrator: Calibrator) -> Contender:
    history = RunFolder.open(run.folder).read_results()
    return Contender(
        name=run.name,
        kind=kind,
        is_shuffled=run.preprocessing.shuffle_seed is not None,
        folder=run.folder,
        num_parameters=sum(values.numel() for values in run.module.parameters()),
        macs=count_macs(run.module, run.preprocessing.input_shape),
        seconds=training_seconds(history),
        scores=scores,
        history=history,
        shifts=shifts,
        calibrator=calibrator,
    )


def _shifts(run: Run, part: Part) -> ShiftFigures:
    samples, _ = some_samples(run, part, MAX_SAMPLES)
    return measure_shifts(
        reading(run), samples, reach_of(samples.shape[2:]), SHIFT_WAY, limit=NUM_SHIFTS, device=run.machine.device
    )


def _only(part: Part, samples: set[str]) -> Part:
    """The part's samples that are among ``samples``."""
    chosen = np.array([index for index, sample in enumerate(part.names) if sample in samples], dtype=np.int64)
    return Part(
        part.name, part.pixels, part.indices[chosen], part.labels[chosen], tuple(part.names[index] for index in chosen)
    )
