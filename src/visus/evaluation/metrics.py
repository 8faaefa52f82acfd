"""Metrics of a whole set of samples, by name: for keeping and stopping (``select``), and for scores.

Undefined values are NaN, such as the AUROC of samples of one class. Shape letters: N samples, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.evaluation.metric_names import METRIC_NAMES
from visus.evaluation.ranking import Ranking
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.task import ClassTask, Task, as_float64

TOP: Final = 5
NUM_BLOCKS: Final = 20
Compute = Callable[[Task, Tensor, Tensor], float]


@dataclass(frozen=True)
class Metric:
    """How a metric is computed.

    Args:
        name: its name.
        compute: the value for a task, outputs (N, K) and labels.
        is_error: whether smaller is better.
    """

    name: str
    compute: Compute
    is_error: bool = False


def _accuracy(task: Task, outputs: Tensor, labels: Tensor) -> float:
    found = task.is_right(outputs, labels)
    assert found is not None, "these tasks have right predictions"
    return float(found.double().mean())


def _balanced_accuracy(task: Task, outputs: Tensor, labels: Tensor) -> float:
    """The mean recall of the classes with samples."""
    predicted = outputs.argmax(1)
    recalls = [float((predicted[labels == place] == place).double().mean()) for place in torch.unique(labels).tolist()]
    return float(np.mean(recalls))


def _top_accuracy(task: Task, outputs: Tensor, labels: Tensor) -> float:
    """The share of samples whose label is among the five most probable classes. Of equal outputs, the first class counts as more probable."""
    own = outputs.gather(1, labels[:, None])
    places = torch.arange(outputs.shape[1])
    ahead = (outputs > own) | ((outputs == own) & (places < labels[:, None]))
    return float((ahead.sum(1) < TOP).double().mean())


def _with_classes(task: Task) -> ClassTask:
    assert isinstance(task, ClassTask), "these metrics are of classes"
    return task


def _macro_f1(task: Task, outputs: Tensor, labels: Tensor) -> float:
    classes = _with_classes(task)
    predicted, truth = classes.predicted_sets(outputs), classes.true_sets(labels, outputs.shape[1])
    hits, marked, positive = (predicted & truth).sum(0), predicted.sum(0), truth.sum(0)
    defined = (marked + positive) > 0
    return float((2 * hits[defined] / (marked + positive)[defined]).double().mean())


def rankings(task: Task, outputs: Tensor, labels: Tensor) -> list[Ranking]:
    """For each class, the samples sorted by its probability."""
    classes = _with_classes(task)
    scores, truth = as_float64(classes.class_logits(outputs)), classes.true_sets(labels, outputs.shape[1]).cpu().numpy()
    return [Ranking(scores[:, place], truth[:, place]) for place in range(scores.shape[1])]


def nan_mean(values: NDArray[np.float64] | list[float]) -> float:
    """The mean of the values that are not NaN; NaN without any."""
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else math.nan


def _auroc(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return nan_mean([each.auroc() for each in rankings(task, outputs, labels)])


def _average_precision(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return nan_mean([each.average_precision() for each in rankings(task, outputs, labels)])


def _log_loss(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return float(task.losses(outputs.double(), labels.double() if labels.is_floating_point() else labels).mean())


def _errors(task: Task, outputs: Tensor, labels: Tensor) -> NDArray[np.float64]:
    assert isinstance(task, Regression), "only regression has errors"
    return as_float64(task.values(outputs) - labels.double())


def _mean_error(task: Task, errors: NDArray[np.float64]) -> float:
    """The error of one target in its own unit; of several (K,), the mean in standard deviations of the training labels, so that targets with large numbers do not decide alone."""
    assert isinstance(task, Regression), "only regression has errors"
    return float(errors[0]) if len(errors) == 1 else float((errors / np.array(task.std)).mean())


def _mae(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return _mean_error(task, np.abs(_errors(task, outputs, labels)).mean(0))


def _rmse(task: Task, outputs: Tensor, labels: Tensor) -> float:
    return _mean_error(task, np.sqrt((_errors(task, outputs, labels) ** 2).mean(0)))


def _r2(task: Task, outputs: Tensor, labels: Tensor) -> float:
    """The mean over the targets of 1 minus the squared errors, divided by the squared deviations from the mean of these labels."""
    truth = as_float64(labels)
    spread = ((truth - truth.mean(0)) ** 2).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 1 - (_errors(task, outputs, labels) ** 2).sum(0) / np.where(spread > 0, spread, np.nan)
    return nan_mean(found)


_COMPUTE: Final[dict[str, Compute]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "top5_accuracy": _top_accuracy,
    "average_precision": _average_precision,
    "auroc": _auroc,
    "macro_f1": _macro_f1,
    "exact_match": _accuracy,
    "log_loss": _log_loss,
    "mae": _mae,
    "rmse": _rmse,
    "r2": _r2,
}
METRICS: Final[dict[str, Metric]] = {
    name: Metric(name, _COMPUTE[name], each.is_error) for name, each in METRIC_NAMES.items()
}
"""All metrics, by name."""


def jackknife_error(metric: Metric, task: Task, outputs: Tensor, labels: Tensor) -> float:
    """The standard error of a metric by the delete-a-group jackknife: the metric without each twentieth of the samples (Kott 2001).

    Args:
        metric: the metric.
        task: the task.
        outputs: (N, K).
        labels: the labels.

    Returns:
        The standard error; NaN for fewer than 40 samples, or where the metric is undefined without one of the twentieths.

    >>> from visus.evaluation.tasks.single_label import SingleLabel
    >>> outputs, labels = torch.eye(2)[torch.arange(200) % 2], (torch.arange(200) % 4 > 1).long()
    >>> found = jackknife_error(METRICS["accuracy"], SingleLabel(("a", "b")), outputs, labels)
    >>> 0.02 < found < 0.06  # the binomial standard error is 0.035
    True
    """
    count = len(labels)
    if count < 2 * NUM_BLOCKS:
        return math.nan
    order = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).permutation(count))
    values = []
    for block in range(NUM_BLOCKS):
        kept = order[torch.arange(count) % NUM_BLOCKS != block]
        values.append(metric.compute(task, outputs[kept], labels[kept]))
    found = np.array(values)
    return float(np.sqrt((NUM_BLOCKS - 1) / NUM_BLOCKS * ((found - found.mean()) ** 2).sum()))
