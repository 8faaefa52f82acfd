"""One class for each sample: calibrated softmax, accuracy.

Shape letters: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from visus.data.plain_values import record
from visus.data.tasks import TaskName
from visus.evaluation.cluster_bootstrap import proportion_interval
from visus.evaluation.label_smoothing import TRANSITION
from visus.evaluation.paired import difference_test
from visus.ship.tasks.task import Answers, BundleTask, Groups, Score


@dataclass(frozen=True)
class SingleLabelBundle(BundleTask):
    """One class for each sample.

    >>> SingleLabelBundle().label(np.array([0.2, 0.8]), ["cat", "dog"])
    'dog'
    """

    name: ClassVar[TaskName] = "single-label"
    metric: ClassVar[str] = "accuracy"
    last_step: ClassVar[str] = "calibration (temperature and softmax)"
    agreement_words: ClassVar[str] = "labels"
    label_kind: ClassVar[str] = "int64"

    def answers(self, logits: npt.NDArray[Any], temperature: float, smoothing: float) -> Answers:
        """Calibrated probabilities."""
        return calibrated(logits, temperature, smoothing)

    def label(self, row: npt.NDArray[Any], names: Sequence[str]) -> str:
        """The most probable class."""
        return names[int(row.argmax())]

    def agree(self, found: Answers, expected: Answers, tolerance: float | None) -> npt.NDArray[np.bool_]:
        """Of two classes that are equally probable up to a tolerance of float32, either counts."""
        chosen = np.take_along_axis(expected, found.argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.asarray(chosen >= expected.max(axis=1) - 2 * slack(tolerance))

    def score(self, found: Sequence[Answers], labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The accuracy, the mean over the computations."""
        is_right = np.mean([each.argmax(axis=1) == labels for each in found], axis=0)
        return Score(float(is_right.mean()), *proportion_interval(is_right, groups))

    def loss(self, run: Answers, found: Answers, labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The accuracy of the run minus that of the answers."""
        more = (run.argmax(axis=1) == labels).astype(np.int64) - (found.argmax(axis=1) == labels)
        low, high, _ = difference_test(more, groups)
        return Score(float(more.mean()), low, high)

    def labels_shape(self, num_samples: int, num_outputs: int) -> tuple[int, ...]:
        """(N,)."""
        return (num_samples,)

    def labels_problem(self, labels: npt.NDArray[Any], num_outputs: int) -> str:
        """They are indices of classes."""
        if labels.size and not (labels.min() >= 0 and labels.max() < num_outputs):
            return f"a value is not between 0 and {num_outputs - 1:,}"
        return ""

    def check(self, num_outputs: int, temperature: float, smoothing: float) -> None:
        """Nothing beside the calibration."""

    def to_json(self) -> dict[str, Any]:
        """The name alone."""
        return {"name": self.name}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SingleLabelBundle:
        """The name alone."""
        record(plain, "task", ("name",))
        return cls()


def slack(tolerance: float | None) -> float:
    """The tolerance where it only allows for the rounding of float32; no other precision may change a prediction."""
    return tolerance if tolerance is not None and tolerance <= 1e-4 else 0.0


def calibrated(logits: npt.NDArray[Any], temperature: float, smoothing: float) -> Answers:
    """Probabilities (N, K) in float64: ``evaluation.calibration.Calibrator`` without PyTorch."""
    probabilities = softmax(logits.astype(np.float64) / temperature)
    if not smoothing:
        return probabilities
    smallest = smoothing / probabilities.shape[-1]
    difference = probabilities - smallest
    positive = (difference + np.sqrt(np.square(difference) + (TRANSITION * smallest) ** 2)) / 2
    return np.asarray(positive / positive.sum(axis=-1, keepdims=True))


def softmax(logits: npt.NDArray[np.float64]) -> Answers:
    """Probabilities (N, K)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
