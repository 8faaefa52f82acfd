"""The calibration of a run: a temperature for its weights and its test-time augmentation, saved in its folder."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from visus.caller import report_call, resume_call
from visus.data.splits import read_split_csv
from visus.data.tasks import TaskName
from visus.errors import DataError, RunError
from visus.evaluation.tasks.evaluations.evaluation import Fit
from visus.evaluation.tasks.evaluations.registry import EVALUATIONS
from visus.evaluation.tasks.task import Task
from visus.training.runs import RunFolder
from visus.units import write_number_of

FILE: Final = "calibration.json"


def write_calibration(
    folder: RunFolder,
    task: Task,
    outputs: Tensor,
    labels: Tensor,
    *,
    tta: str,
    smoothing: float = 0.0,
    out_of_fold: tuple[Tensor, Tensor] | None = None,
    has_groups: bool = False,
) -> Fit:
    """Fit the calibration of a task on the outputs for the validation split, and save it in the run.

    Args:
        folder: the run folder.
        task: the task.
        outputs: (samples, outputs) of the best weights, computed as in prediction; empty if there is no validation split.
        labels: labels of these samples.
        tta: the test-time augmentation of these outputs.
        smoothing, out_of_fold, has_groups: as for ``Evaluation.fit_on``.
    """
    own: dict[str, Any] = {"smoothing": smoothing, "out_of_fold": out_of_fold, "has_groups": has_groups}
    found: Fit = EVALUATIONS[task.name].fit_on(task, outputs, labels, **own)
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
    evaluation = EVALUATIONS[task]
    kind = evaluation.fit_kind
    renew = resume_call(folder.path) if folder.is_unfinished else report_call(folder.path)
    remedy = _remedy(folder, renew, evaluation.min_samples)
    if not (folder.path / FILE).is_file():
        return kind(reason=f"this run keeps no {evaluation.fitted}{remedy}")
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


def _remedy(folder: RunFolder, renew: str, needed: int) -> str:
    """The call that fits a calibration, or why none can be fitted, as the end of a sentence."""
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
