"""What a run answers on the compared samples, by task: its scores, and the difference of two runs sample by sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from visus.evaluation.calibration import Calibrator
from visus.evaluation.paired import compare_answers
from visus.evaluation.scores import score
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.label_thresholds import DEFAULT_THRESHOLD, Sigmoid, ThresholdFit
from visus.evaluation.tasks.multi_label_scores import score_sets
from visus.evaluation.tasks.paired_differences import AnyPaired, compare_numbers, compare_sets
from visus.evaluation.tasks.prediction_intervals import IntervalFit, Numbers
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import score_numbers
from visus.workbench.runs.learned_samples import Marks, mark_counts
from visus.workbench.runs.saved import SavedRun, class_calibrator

AnyCalibrator: TypeAlias = Calibrator | Sigmoid | Numbers


@dataclass(frozen=True, eq=False)
class Samples:
    """The compared samples, in the order of the first run.

    Args:
        names: name of each sample.
        labels: their labels, as in ``visus.data.tasks``, with the classes in the order of the first run.
        classes: the classes of the first run; of regression, the targets.
        split: name of the split.
        groups: group of each sample; None without groups.
    """

    names: tuple[str, ...]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    split: str
    groups: Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers of a run on the samples.

    Args:
        scores: their scores.
        calibrator: what turned the outputs into the answers.
        values: the predicted class (N,), the probabilities (N, K), or the numbers (N, K).
        predicted: of sets, whether each class is predicted (N, K); else empty.
    """

    scores: AnyScores
    calibrator: AnyCalibrator
    values: NDArray[Any]
    predicted: NDArray[Any]


def answered(run: SavedRun, logits: torch.Tensor, samples: Samples, known: Marks | None, *, raw: bool = False) -> Answered:
    """The scores and answers of a run.

    Args:
        run: the run.
        logits: its outputs for the samples, in their order, with the columns of the run.
        samples: the samples.
        known: whether each sample is in the training set, and whether it is in the validation set; None if unknown.
        raw: use the network's own probabilities.
    """
    places = [run.classes.index(name) for name in samples.classes]
    logits, labels = logits[:, places], torch.from_numpy(samples.labels)
    how: dict[str, Any] = {"split": samples.split, "groups": samples.groups}
    counts = mark_counts(known)
    none = np.empty(0, dtype=np.bool_)
    if isinstance(run.task, Regression):
        task = dataclasses.replace(
            run.task,
            outputs=samples.classes,
            mean=tuple(run.task.mean[place] for place in places),
            std=tuple(run.task.std[place] for place in places),
        )
        fit = run.calibration
        assert isinstance(fit, IntervalFit), "regression has intervals"
        widths = tuple(fit.half_widths[place] for place in places) if fit.half_widths else ()
        scores = score_numbers(task, logits, labels, dataclasses.replace(fit, half_widths=widths), **how)
        calibrator = Numbers(task)
        return Answered(dataclasses.replace(scores, **counts), calibrator, calibrator(logits).numpy(), none)
    if run.task.name == "multi-label":
        found = run.calibration
        assert isinstance(found, ThresholdFit), "multi-label has thresholds"
        given = found.thresholds or (DEFAULT_THRESHOLD,) * len(places)
        found = dataclasses.replace(
            found, thresholds=tuple(given[place] for place in places), temperature=1.0 if raw else found.temperature
        )
        shares = found.calibrator(logits).numpy().astype(np.float64)
        sets = dataclasses.replace(score_sets(logits, labels, samples.classes, found, **how), **counts)
        return Answered(sets, found.calibrator, shares, shares >= np.array(found.thresholds))
    own = class_calibrator(run, raw=raw)  # it belongs to the answers that the run gives
    return Answered(score(own(logits), labels, samples.classes, known=known, **how), own, logits.argmax(dim=1).numpy(), none)


def paired(left: Answered, right: Answered, samples: Samples) -> AnyPaired:
    """The difference of two runs on the same samples."""
    if samples.labels.ndim == 1:
        answers = (left.values.tolist(), right.values.tolist())
        return compare_answers(*answers, samples.labels.tolist(), samples.classes, samples.names, samples.groups)
    values = (left.values, right.values)
    if left.predicted.size:
        sets = (left.predicted, right.predicted)
        return compare_sets(values, sets, samples.labels, samples.classes, samples.names, samples.groups)
    return compare_numbers(values, samples.labels, samples.classes, samples.names, samples.groups)
