"""The calibration of a run: a temperature for its weights and its test-time augmentation, saved in its folder."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Final, TypeAlias

from torch import Tensor

from visus.caller import report_call, resume_call
from visus.data.splits import read_split_csv
from visus.data.tasks import TaskName
from visus.errors import DataError, RunError
from visus.evaluation.calibration import MIN_SAMPLES, TemperatureFit, choose_temperature
from visus.evaluation.tasks.label_thresholds import ThresholdFit, fit_thresholds
from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.prediction_intervals import COVERAGE, IntervalFit, fit_intervals
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.task import Task
from visus.training.runs import RunFolder
from visus.units import write_number_of

FILE: Final = "calibration.json"
Fit: TypeAlias = TemperatureFit | ThresholdFit | IntervalFit
"""What is fitted on the validation set: a temperature; for multi-label thresholds too; for regression intervals."""
_FITS: Final[dict[TaskName, type[TemperatureFit] | type[ThresholdFit] | type[IntervalFit]]] = {
    "single-label": TemperatureFit,
    "multi-label": ThresholdFit,
    "regression": IntervalFit,
}


def write_calibration(
    folder: RunFolder,
    logits: Tensor,
    labels: Tensor,
    tta: str,
    smoothing: float = 0.0,
    out_of_fold: tuple[Tensor, Tensor] | None = None,
    task: Task | None = None,
    *,
    has_groups: bool = False,
) -> Fit:
    """Fit a temperature on the logits of the validation split and save it in the run; thresholds or intervals of other tasks too.

    Args:
        folder: the run folder.
        logits: (samples, classes) of the best weights, computed as in prediction; empty if there is no validation split.
        labels: labels of these samples.
        tta: the test-time augmentation of these logits.
        smoothing: label smoothing of the training.
        out_of_fold: logits and labels of the training samples, out of fold, for a small validation split; None for none.
        task: the task; None for single labels.
        has_groups: whether the samples have groups, such as patients.
    """
    found: Fit
    if isinstance(task, MultiLabel):
        found = fit_thresholds(logits, labels)
    elif isinstance(task, Regression):
        found = fit_intervals(task, logits, labels, has_groups=has_groups)
    else:
        found = choose_temperature(logits, labels, "val", smoothing, out_of_fold=out_of_fold)
    belongs_to = {"tta": tta, "weights": _digest(folder.weights_file("best"))}
    folder.write_json(FILE, found.to_json() | {"belongs_to": belongs_to})
    return found


def read_calibration(folder: RunFolder, which: str, tta: str, task: TaskName = "single-label") -> Fit:
    """The temperature of a run; 1, with the reason, if the run has no matching temperature. Of other tasks, thresholds or intervals.

    Args:
        folder: the run.
        which: weights in use, ``best`` or ``last``.
        tta: test-time augmentation in use.
        task: the task of the run.

    Raises:
        RunError: the file is damaged.
    """
    kind = _FITS[task]
    renew = resume_call(folder.path) if folder.is_unfinished else report_call(folder.path)
    remedy = _remedy(folder, renew, task)
    if not (folder.path / FILE).is_file():
        return kind(reason=f"this run keeps no {'interval' if task == 'regression' else 'temperature'}{remedy}")
    facts = folder.read_json(FILE)
    belongs_to = facts.pop("belongs_to", None) if isinstance(facts, dict) else None
    if not isinstance(belongs_to, dict) or set(belongs_to) != {"tta", "weights"}:
        raise RunError(f"{FILE} is damaged. Renew it with: {renew}", where=str(folder.path))
    try:
        found = kind.from_json(facts)
    except RunError as error:
        raise error.within(str(folder.path / FILE)) from error
    if belongs_to["tta"] != tta:
        return kind(reason=f"the temperature was fitted with tta {belongs_to['tta']}, and this run now has {tta}{remedy}")
    if belongs_to["weights"] != _digest(folder.weights_file(which)):
        return kind(reason=f"the temperature was fitted for other weights than these{remedy}")
    return found


def _remedy(folder: RunFolder, renew: str, task: TaskName) -> str:
    """The call that fits a calibration, or why none can be fitted, as the end of a sentence."""
    needed = math.ceil(round(COVERAGE / (1 - COVERAGE), 9)) if task == "regression" else MIN_SAMPLES
    try:
        count = sum(row.split == "val" for row in read_split_csv(folder.path / "split.csv"))
    except DataError:  # the samples are unknown
        return f" ({renew} fits one)"
    if count >= needed or (folder.path / "out_of_fold.npz").is_file():
        return f" ({renew} fits one)"
    return f", and {write_number_of(count, 'validation sample')} {'is' if count == 1 else 'are'} too few to fit one: {needed} are needed"


def _digest(file: Path) -> str:
    """SHA-256 of a file; computed again where the file has changed."""
    facts = file.stat()
    return _digest_of(file, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=64)
def _digest_of(file: Path, mtime_ns: int, num_bytes: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
