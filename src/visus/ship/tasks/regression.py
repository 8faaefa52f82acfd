"""Numbers for each sample: standardized outputs in the units of the labels, with prediction intervals of a fixed width; mean absolute error.

Numbers are compared in standard deviations of the training labels, so that a tolerance means the same for ages and for distances.

Shape letters: N samples, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from visus.data.plain_values import items, number, record
from visus.data.tasks import TaskName
from visus.evaluation.cluster_bootstrap import each_alone, known_interval, mean_interval
from visus.ship.tasks.task import ONE_SAMPLE, Answers, BundleTask, Groups, Score

_RANGE: Final = 1e100
"""No number of a manifest is larger, and no standard deviation is smaller than its inverse, so that no answer overflows."""
LOOSE: Final = 1e-2
"""Where differences are not judged, numbers agree that are this close, in standard deviations."""


@dataclass(frozen=True)
class RegressionBundle(BundleTask):
    """Numbers for each sample.

    Args:
        mean, std: mean and standard deviation of each target in the training set.
        half_widths: half width of each target's prediction interval, in its units; empty for none.

    >>> RegressionBundle((40.0,), (10.0,)).answers(np.array([[1.5]]), 1.0, 0.0).tolist()
    [[55.0]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    half_widths: tuple[float, ...] = ()

    name: ClassVar[TaskName] = "regression"
    output: ClassVar[str] = "numbers"
    columns: ClassVar[str] = "targets"
    metric: ClassVar[str] = "mean absolute error"
    noun: ClassVar[str] = "a number"
    unit: ClassVar[str] = " standard deviations"
    last_step: ClassVar[str] = "conversion to the units of the labels"
    agreement_words: ClassVar[str] = "numbers"
    label_kind: ClassVar[str] = "float64"
    loss_unit: ClassVar[str] = "standard deviations"
    loss_scale: ClassVar[float] = 1.0

    def answers(self, logits: npt.NDArray[Any], temperature: float, smoothing: float) -> Answers:
        """The numbers: ``evaluation.tasks.regression.Regression.values`` without PyTorch."""
        return np.asarray(logits.astype(np.float64) * self.std + np.asarray(self.mean))

    def label(self, row: npt.NDArray[Any], names: Sequence[str]) -> str:
        """Each target with its number, in six digits."""
        return ", ".join(f"{name} {value:.6g}" for name, value in zip(names, row.tolist(), strict=True))

    def differences(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Answers:
        """In standard deviations of the training labels."""
        return super().differences(found, expected) / self.std

    def rounding(self, expected: npt.NDArray[Any]) -> Answers:
        """Of float32, where numbers are large beside their spread, in standard deviations."""
        return np.asarray(np.finfo(np.float32).eps * np.abs(expected) / self.std)

    def agree(self, found: Answers, expected: Answers, tolerance: float | None) -> npt.NDArray[np.bool_]:
        """All numbers within the tolerance."""
        accepted = LOOSE if tolerance is None else tolerance
        return np.asarray((self.differences(found, expected) <= accepted).all(axis=1))

    def score(self, found: Sequence[Answers], labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The mean absolute error of the last computation in standard deviations, the mean over the targets."""
        errors = self.differences(found[-1], labels).mean(axis=1)
        low, high = known_interval(mean_interval(errors, each_alone(groups, len(errors))))
        return Score(float(errors.mean()), None if low is None else max(0.0, low), high)

    def loss(self, run: Answers, found: Answers, labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """How much larger the mean absolute error is than that of the run."""
        more = (self.differences(found, labels) - self.differences(run, labels)).mean(axis=1)
        return Score(float(more.mean()), *known_interval(mean_interval(more, each_alone(groups, len(more)))))

    def labels_shape(self, num_samples: int, num_outputs: int) -> tuple[int, ...]:
        """(N, K)."""
        return (num_samples, num_outputs)

    def labels_problem(self, labels: npt.NDArray[Any], num_outputs: int) -> str:
        """They are finite, and there are two at least: the error of one has no interval."""
        if not np.isfinite(labels).all():
            return "a value is NaN or infinite"
        return ONE_SAMPLE if len(labels) < 2 else ""

    def check(self, num_outputs: int, temperature: float, smoothing: float) -> None:
        """A mean, a standard deviation and maybe a width for each target; no calibration."""
        items(self.mean, "task.mean", num_outputs)
        items(self.std, "task.std", num_outputs)
        if self.half_widths:
            items(self.half_widths, "task.half_widths", num_outputs)
        number(temperature, "temperature", 1, 1)
        number(smoothing, "smoothing", 0, 0)

    def to_json(self) -> dict[str, Any]:
        """All values."""
        values = {"mean": self.mean, "std": self.std, "half_widths": self.half_widths}
        return {"name": self.name, **{name: list(value) for name, value in values.items()}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> RegressionBundle:
        """All values: finite, standard deviations above 0, widths not negative."""
        found = record(plain, "task", ("name", "mean", "std", "half_widths"))
        return cls(
            tuple(float(number(each, "task.mean", -_RANGE, _RANGE)) for each in items(found["mean"], "task.mean")),
            tuple(float(number(each, "task.std", 1 / _RANGE, _RANGE)) for each in items(found["std"], "task.std")),
            tuple(
                float(number(each, "task.half_widths", 0, _RANGE))
                for each in items(found["half_widths"], "task.half_widths")
            ),
        )

    @staticmethod
    def write(value: float) -> str:
        """Three digits."""
        return f"{value:.3g}"

    @staticmethod
    def write_loss(value: float) -> str:
        """Four decimals."""
        return f"{value + 0.0:.4f}"
