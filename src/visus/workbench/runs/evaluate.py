"""The scores of a run on one split, on other data or on arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visus.data.array_labels import is_one_hot
from visus.data.contents import hash_rows
from visus.data.given_arrays import plain_labels, refuse_other_modes
from visus.data.given_labels import encode_given_labels
from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels
from visus.data.value_ranges import some_values
from visus.errors import UsageError
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.training.validation import EVALUATION_BATCH
from visus.workbench.runs.learned_samples import read_known
from visus.workbench.runs.predict_inputs import array_rows, as_array
from visus.workbench.runs.saved import SavedRun, unfinished_notes
from visus.workbench.runs.saved import opened as opened_data
from visus.workbench.runs.scoring import score_logits, score_split, views_sentence
from visus.workbench.runs.value_range import range_warning


def evaluate(
    run: SavedRun,
    data: Any = None,
    *,
    split: str | None = None,
    raw: bool = False,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> AnyScores:
    """Score a run; the arguments are those of ``Run.evaluate``.

    Raises:
        DataError: the data has a class that the network does not know, or has changed since the training.
        UsageError: arrays were combined with a split, or have a different number of labels.
    """
    monitor = Monitor(on_event, should_stop)
    if isinstance(data, tuple):
        if split is not None:
            raise UsageError(f"a pair of arrays has no split {split!r}. Leave the split out.")
        scores = _score_arrays(run, *data, raw=raw, monitor=monitor)
    else:
        opened = opened_data(run, data, cache_dir=cache_dir, monitor=monitor)
        chosen = split or opened.scored_split
        scores = score_split(run, opened, chosen, raw=raw, monitor=monitor)
        if warning := range_warning(some_values(opened.split(chosen)), run.preprocessing):
            scores = dataclasses.replace(scores, notes=(*scores.notes, warning))
    return dataclasses.replace(scores, notes=(*scores.notes, *unfinished_notes(run)))


def _score_arrays(run: SavedRun, samples: Pixels | torch.Tensor, labels: Any, *, raw: bool, monitor: Monitor) -> AnyScores:
    refuse_other_modes(samples, "samples")
    ledger = Ledger()
    rows = [
        run.preprocessing.fit_row(sample.row, ledger, sample.name)
        for sample in array_rows(samples, "samples", run.preprocessing)
    ]
    truth = encode_given_labels(labels, run.task.name, run.classes)
    if len(rows) != len(truth):
        raise UsageError(f"there are {len(rows):,} samples and {len(truth):,} labels. Give one label for each sample.")
    chunks = [rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH)]
    batches = (
        run.preprocessing.scaled(torch.from_numpy(np.stack(chunk))) for chunk in monitor.over(chunks, "scoring", len(rows))
    )
    notes = [sentence] if (sentence := views_sentence(run)) else []
    notes += ledger.short_sentences()
    if run.task.name == "single-label" and is_one_hot(as_array(plain_labels(labels, "labels"))):
        notes.append(f"The labels are one-hot: read as {len(run.classes):,} classes.")
    if warning := range_warning(as_array(samples), run.preprocessing):
        notes.append(warning)
    logits, learned = run.logits(batches), read_known(RunFolder.open(run.folder))
    known = learned.marks(hash_rows(rows)) if learned is not None else None
    return score_logits(run, logits, LabeledSamples(truth, notes=notes, known=known), raw=raw)
