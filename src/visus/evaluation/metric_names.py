"""The names of the metrics that can select an epoch, and how their values are written. Loads neither PyTorch nor NumPy; ``metrics`` computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from visus.errors import UsageError, unknown_name
from visus.units import write_share

if TYPE_CHECKING:  # which imports numpy, and the help does not need it
    from visus.data.tasks import TaskName


@dataclass(frozen=True)
class MetricName:
    """A metric.

    Args:
        name: its name in settings and files.
        words: its name in sentences.
        tasks: the tasks that have it.
        is_error: whether smaller is better.
        is_share: whether it is a share, which is written in percent.
    """

    name: str
    words: str
    tasks: tuple[TaskName, ...]
    is_error: bool = False
    is_share: bool = True

    def write(self, value: float) -> str:
        """A value as text.

        >>> METRIC_NAMES["accuracy"].write(0.912), METRIC_NAMES["mae"].write(1.23456)
        ('91.2 %', '1.235')
        """
        if math.isnan(value):
            return "-"
        return write_share(value) if self.is_share else f"{value:.4g}"


_CLASSES: Final[tuple[TaskName, ...]] = ("single-label", "multi-label")
_ALL: Final = (
    MetricName("accuracy", "accuracy", ("single-label",)),
    MetricName("balanced_accuracy", "balanced accuracy", ("single-label",)),
    MetricName("top5_accuracy", "top-5 accuracy", ("single-label",)),
    MetricName("average_precision", "mean average precision", _CLASSES),
    MetricName("auroc", "AUROC", _CLASSES),
    MetricName("macro_f1", "macro F1", _CLASSES),
    MetricName("exact_match", "exact match", ("multi-label",)),
    MetricName("log_loss", "log loss", _CLASSES, is_error=True, is_share=False),
    MetricName("mae", "mean absolute error", ("regression",), is_error=True, is_share=False),
    MetricName("rmse", "root mean squared error", ("regression",), is_error=True, is_share=False),
    MetricName("r2", "R2", ("regression",), is_share=False),
)
METRIC_NAMES: Final[dict[str, MetricName]] = {each.name: each for each in _ALL}
"""All metrics, by name."""

DEFAULT_METRICS: Final[dict[TaskName, str]] = {
    "single-label": "accuracy",
    "multi-label": "average_precision",
    "regression": "mae",
}
"""The metric that selects the epoch, for each task."""


def names_for(task: TaskName) -> list[str]:
    """The metrics of a task, sorted.

    >>> names_for("regression")
    ['mae', 'r2', 'rmse']
    """
    return sorted(each.name for each in _ALL if task in each.tasks)


def check_metric(name: str, task: TaskName) -> MetricName:
    """The metric of this name.

    Raises:
        UsageError: there is none for this task.

    >>> check_metric("mae", "regression").words
    'mean absolute error'
    """
    known = names_for(task)
    if name in known:
        return METRIC_NAMES[name]
    if name in METRIC_NAMES:
        raise UsageError(f"{name} is no metric of {task}. Known: {', '.join(known)}.")
    raise UsageError(unknown_name("metric", name, known))


def write_metric(name: str, value: float) -> str:
    """A value of a metric as text; of a person's own metric with four digits.

    >>> write_metric("accuracy", 0.9), write_metric("mymetrics:cost", -12.345)
    ('90.0 %', '-12.35')
    """
    return METRIC_NAMES[name].write(value) if name in METRIC_NAMES else f"{value:.4g}"


def metric_words(name: str, num_targets: int = 1) -> str:
    """The name of a metric in sentences; a person's own one as it is.

    Args:
        name: the metric.
        num_targets: of regression, the number of targets; the errors of several are averaged in standard deviations of the training labels.

    >>> metric_words("mae"), metric_words("mymetrics:cost")
    ('mean absolute error', 'mymetrics:cost')
    >>> metric_words("mae", num_targets=2)
    'mean absolute error in standard deviations (mean of 2 targets)'
    """
    if name not in METRIC_NAMES:
        return name
    known = METRIC_NAMES[name]
    if num_targets == 1 or known.tasks != ("regression",):
        return known.words
    return f"{known.words}{' in standard deviations' if known.is_error else ''} (mean of {num_targets:,} targets)"
