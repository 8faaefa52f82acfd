"""The largest errors of a run that predicts sets of classes or numbers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from visus.data.batches import Part
from visus.data.opened import Data
from visus.examine.largest_errors import LargestErrors, find_largest_errors
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.runs.saved import SavedRun, opened, run_evaluation
from visus.workbench.runs.scoring import answers_of


def run_errors(run: SavedRun, part: Part, outputs: Tensor, limit: int) -> LargestErrors:
    """The largest errors among the outputs (samples, K) of a run for a split.

    Raises:
        UsageError: ``limit`` is below 1.
    """
    evaluation = run_evaluation(run)
    values = evaluation.calibrator(outputs).numpy()
    return find_largest_errors(run.task, part, values, evaluation.thresholds, limit=limit)


def find_run_errors(
    run: SavedRun,
    data: str | Path | Data | None = None,
    *,
    split: str | None = None,
    limit: int = 8,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> LargestErrors:
    """The largest errors of a run; the arguments are those of ``Run.mistakes``.

    Raises:
        DataError: the split is empty, or the data has changed since the training.
        UsageError: ``limit`` is below 1.
    """
    monitor = Monitor(on_event, should_stop)
    samples = opened(run, data, cache_dir=cache_dir, monitor=monitor)
    chosen = split or samples.scored_split
    return run_errors(run, samples.split(chosen), answers_of(run, samples, chosen, monitor), limit)
