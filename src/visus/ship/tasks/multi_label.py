"""A set of classes for each sample: sigmoid with one temperature, a threshold for each class, mean average precision.

Shape letters: N samples, K classes, R rows of weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from visus.data.plain_values import items, number, record
from visus.data.tasks import SEPARATOR, TaskName
from visus.evaluation.cluster_bootstrap import GroupsOfSamples, each_alone, metric_interval
from visus.evaluation.ranking import Ranking, mean_average_precisions
from visus.ship.tasks.single_label import slack
from visus.ship.tasks.task import ONE_SAMPLE, Answers, BundleTask, Groups, Score


@dataclass(frozen=True)
class MultiLabelBundle(BundleTask):
    """A set of classes for each sample.

    Args:
        thresholds: for each class, the probability from which on a sample has it.

    >>> MultiLabelBundle((0.5, 0.3)).label(np.array([0.4, 0.3]), ["cat", "dog"])
    'dog'
    """

    thresholds: tuple[float, ...]

    name: ClassVar[TaskName] = "multi-label"
    metric: ClassVar[str] = "mean average precision"
    last_step: ClassVar[str] = "calibration (temperature and sigmoid)"
    agreement_words: ClassVar[str] = "sets of labels"
    label_kind: ClassVar[str] = "float32"

    def answers(self, logits: npt.NDArray[Any], temperature: float, smoothing: float) -> Answers:
        """The probability of each class; ``evaluation.tasks.label_thresholds.Sigmoid`` without PyTorch."""
        values = logits.astype(np.float64) / temperature
        powers = np.exp(-np.abs(values))
        return np.asarray(np.where(values >= 0, 1.0, powers) / (1 + powers))

    def present(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Mask (N, K) of the classes whose probability, in float32 as a run has it, reaches the threshold."""
        return np.asarray(probabilities.astype(np.float32).astype(np.float64) >= self.thresholds)

    def label(self, row: npt.NDArray[Any], names: Sequence[str]) -> str:
        """The classes that reach their threshold."""
        return SEPARATOR.join(name for name, is_there in zip(names, self.present(row), strict=True) if is_there)

    def agree(self, found: Answers, expected: Answers, tolerance: float | None) -> npt.NDArray[np.bool_]:
        """The same set; a class whose probability is at its threshold up to a tolerance of float32 may be in it or not."""
        is_near = np.abs(expected - self.thresholds) <= slack(tolerance)
        return np.asarray(((self.present(found) == self.present(expected)) | is_near).all(axis=1))

    def score(self, found: Sequence[Answers], labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The mean average precision of the last computation."""
        metric = _mean_precision(found[-1], labels)
        return Score(float(metric(np.ones((1, len(labels))))[0]), *_interval(metric, each_alone(groups, len(labels))))

    def loss(self, run: Answers, found: Answers, labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The mean average precision of the run minus that of the answers, on the same draws for both."""
        of_run, of_found = _mean_precision(run, labels), _mean_precision(found, labels)

        def difference(weights: npt.NDArray[np.float64]) -> Answers:
            return of_run(weights) - of_found(weights)

        value = float(difference(np.ones((1, len(labels))))[0])
        return Score(value, *_interval(difference, each_alone(groups, len(labels)), low=-1.0))

    def labels_shape(self, num_samples: int, num_outputs: int) -> tuple[int, ...]:
        """(N, K)."""
        return (num_samples, num_outputs)

    def labels_problem(self, labels: npt.NDArray[Any], num_outputs: int) -> str:
        """They are 0 or 1, at least one is 1, and there are two samples at least: the metric of one has no interval."""
        if not np.isin(labels, (0, 1)).all():
            return "a value is neither 0 nor 1"
        if len(labels) < 2:
            return ONE_SAMPLE
        return "" if labels.any() else "none of the held-out samples has a class, and one at least is needed"

    def check(self, num_outputs: int, temperature: float, smoothing: float) -> None:
        """One threshold for each class, and no label smoothing to invert."""
        items(self.thresholds, "task.thresholds", num_outputs)
        number(smoothing, "smoothing", 0, 0)

    def to_json(self) -> dict[str, Any]:
        """The name and the thresholds."""
        return {"name": self.name, "thresholds": list(self.thresholds)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> MultiLabelBundle:
        """The name and the thresholds, from 0 to 1."""
        found = record(plain, "task", ("name", "thresholds"))
        thresholds = items(found["thresholds"], "task.thresholds")
        return cls(tuple(float(number(each, "task.thresholds", 0, 1)) for each in thresholds))


def _mean_precision(probabilities: Answers, labels: npt.NDArray[Any]) -> Callable[[npt.NDArray[np.float64]], Answers]:
    """The mean average precision (R,) of the classes that occur, for rows of weights (R, N); NaN where none occurs."""
    ranked = [Ranking(probabilities[:, place], labels[:, place] > 0.5) for place in np.flatnonzero(labels.any(axis=0))]
    return functools.partial(mean_average_precisions, ranked)


def _interval(
    metric: Callable[[npt.NDArray[np.float64]], Answers], groups: GroupsOfSamples, low: float = 0.0
) -> tuple[float, float]:
    """The bootstrap interval, within the range of the metric."""
    found = metric_interval(metric, groups)
    return max(low, found[0]), min(1.0, found[1])
