"""Scores runs on the same samples, and compares their predictions in pairs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch

from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.evaluation.cluster_bootstrap import group_notes
from visus.evaluation.predictions import predict_logits
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples
from visus.progress import SILENT, Monitor
from visus.training.runs import RunFolder, training_seconds
from visus.training.validation import EVALUATION_BATCH
from visus.workbench.compare.answers import Answered, answered
from visus.workbench.compare.comparison import Comparison, Contender, RunPair
from visus.workbench.modules import count_macs
from visus.workbench.runs.saved import SavedRun, network_name, unfinished_notes
from visus.workbench.runs.scoring import known_among
from visus.workbench.runs.shifts import MAX_SAMPLES, AnyShiftFigures, reach_of, shift_figures, some_samples

SHIFT_WAY: Final = "roll"
Entry = tuple[SavedRun, str, Part, Data]
"""A run, its kind as in ``Contender``, the samples to score, and the data that contains them."""


def compare_entries(
    entries: Sequence[Entry],
    split: str,
    noun: str,
    notes: Sequence[str],
    *,
    shifts: bool = False,
    is_plain: bool = False,
    monitor: Monitor = SILENT,
) -> Comparison:
    """Score runs on the same samples, each with its own preprocessing, in the sample order of the first run.

    Args:
        entries: the runs, their kinds and samples.
        split: the name of the split, for display.
        noun: word for one sample.
        notes: remarks on the comparison.
        shifts: whether to measure the predictions for shifted samples too.
        is_plain: score without test-time augmentation, whatever the recipe.
        monitor: receives the progress, and can cancel.
    """
    first_run, _, first_part, first_data = entries[0]
    own_groups = first_data.samples.groups
    group_of = dict(zip(first_data.samples.names, own_groups, strict=True)) if own_groups is not None else {}
    groups = [group_of[name] for name in first_part.names] if group_of else None
    places = {sample: index for index, sample in enumerate(first_part.names)}
    samples = LabeledSamples(first_part.labels, split, groups=groups, names=first_part.names)
    found: list[Answered] = []
    contenders = []
    for run, kind, part, data in entries:
        batches = monitor.over(batches_in_order(part, run.preprocessing, EVALUATION_BATCH), f"scoring {run.name}", len(part))
        logits = _plain_logits(run, batches) if is_plain else run.logits(batches)
        order = np.argsort([places[sample] for sample in part.names])
        known, unknown = known_among(run, part, data)
        in_order = None if known is None else (known[0][order], known[1][order])
        notes = [*notes, *(f"{run.name}: {note}" for note in (*unfinished_notes(run), *unknown))]
        found.append(answered(run, logits[torch.from_numpy(order)], first_run.classes, samples, in_order, raw=is_plain))
        contenders.append(_contender(run, kind, found[-1], _shifts(run, part, monitor) if shifts else None))
    if len({each.name for each in contenders}) < len(contenders):
        contenders = [dataclasses.replace(each, name=str(each.folder)) for each in contenders]

    notes = [*notes, *group_notes(contenders[0].scores.num_groups)]

    def pair(left: int, right: int) -> RunPair:
        compared = found[left].evaluation.compare(found[left].answers, found[right].answers, samples)
        unfinished = tuple(contenders[each].name for each in (left, right) if unfinished_notes(entries[each][0]))
        return RunPair(contenders[left].name, contenders[right].name, compared, unfinished=unfinished)

    chosen = [(0, other) for other in range(1, len(contenders))]
    chosen += [
        (index, index + 1)
        for index, (each, after) in enumerate(itertools.pairwise(contenders))
        if index and after.is_shuffled and each.kind == after.kind and not each.is_shuffled
    ]
    return Comparison(split, noun, tuple(contenders), tuple(pair(*each) for each in chosen), tuple(dict.fromkeys(notes)))


def _plain_logits(run: SavedRun, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The outputs for each sample as it is, whatever views the recipe averages."""
    machine = run.machine
    return predict_logits(
        run.module, batches, device=machine.device, precision=machine.precision, channels_last=machine.channels_last
    )


def _contender(run: SavedRun, kind: str, found: Answered, shifts: AnyShiftFigures | None) -> Contender:
    history = RunFolder.open(run.folder).read_results()
    return Contender(
        name=run.name,
        kind=kind,
        is_shuffled=run.preprocessing.shuffle_seed is not None,
        folder=run.folder,
        num_parameters=sum(values.numel() for values in run.module.parameters()),
        macs=count_macs(run.module, run.preprocessing.input_shape),
        seconds=training_seconds(history),
        scores=found.scores,
        history=history,
        shifts=shifts,
        calibrator=found.evaluation.calibrator,
        network=network_name(run),
    )


def _shifts(run: SavedRun, part: Part, monitor: Monitor) -> AnyShiftFigures:
    samples, _ = some_samples(run, part, MAX_SAMPLES)
    return shift_figures(run, samples, reach_of(samples.shape[2:]), SHIFT_WAY, monitor)
