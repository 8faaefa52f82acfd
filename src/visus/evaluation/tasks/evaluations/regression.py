"""Numbers for each sample: prediction intervals, mean absolute error, paired bootstrap.

Shape letters: N samples, K targets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.tasks.evaluations.evaluation import Answers, Evaluation, LabeledSamples
from visus.evaluation.tasks.paired_differences import PairedNumbers, compare_numbers
from visus.evaluation.tasks.prediction_intervals import COVERAGE, IntervalFit, Numbers, fit_intervals
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import RegressionScores, score_numbers


@dataclass(frozen=True)
class RegressionEvaluation(Evaluation[Regression, IntervalFit]):
    """Numbers for each sample.

    >>> task = Regression(("age", "height"), mean=(40.0, 1.7), std=(10.0, 0.1))
    >>> own = RegressionEvaluation(task, IntervalFit((5.0, 0.2), "", 90, task.outputs))
    >>> own.chosen([1]).half_widths, own.chosen([1]).answers(torch.tensor([[0.0]])).values.tolist()
    ((0.2,), [[1.7]])
    """

    name: ClassVar[TaskName] = "regression"
    fit_kind: ClassVar[type[IntervalFit]] = IntervalFit
    fitted: ClassVar[str] = "interval"
    min_samples: ClassVar[int] = math.ceil(round(COVERAGE / (1 - COVERAGE), 9))

    @classmethod
    def fit_on(
        cls,
        task: Regression,
        outputs: Tensor,
        labels: Tensor,
        *,
        smoothing: float = 0.0,
        out_of_fold: tuple[Tensor, Tensor] | None = None,
        has_groups: bool = False,
    ) -> IntervalFit:
        """The half widths of the intervals; out-of-fold predictions do not join."""
        return fit_intervals(task, outputs, labels, has_groups=has_groups)

    @property
    def calibrator(self) -> Numbers:
        """The numbers in the units of the labels."""
        return Numbers(self.task)

    @property
    def half_widths(self) -> tuple[float, ...]:
        """The half width of each target's interval; empty if there are too few validation samples."""
        return self.fit.half_widths

    def raw(self) -> RegressionEvaluation:
        """The same: numbers are not calibrated."""
        return self

    def chosen(self, places: Sequence[int]) -> RegressionEvaluation:
        """The evaluation of some targets, in this order."""
        own = super().chosen(places)
        mean, std = (tuple(values[place] for place in places) for values in (self.task.mean, self.task.std))
        widths = tuple(self.half_widths[place] for place in places) if self.half_widths else ()
        fit = dataclasses.replace(self.fit, half_widths=widths, targets=own.task.outputs)
        return dataclasses.replace(own, task=dataclasses.replace(own.task, mean=mean, std=std), fit=fit)

    def answers(self, outputs: Tensor) -> Answers:
        """The numbers."""
        numbers = self.calibrator(outputs).numpy()
        return Answers(numbers, numbers)

    def score(self, outputs: Tensor, samples: LabeledSamples) -> RegressionScores:
        """The scores of the numbers and of their intervals."""
        found = score_numbers(self.task, outputs, torch.from_numpy(samples.labels), self.fit, **samples.shown)
        return dataclasses.replace(found, **samples.counts)

    def score_means(self, values: NDArray[Any], thresholds: Sequence[float], samples: LabeledSamples) -> RegressionScores:
        """The scores of the mean numbers, which have no intervals; the baseline is that of this network."""
        own = dataclasses.replace(self, fit=IntervalFit(reason="a mean has none"))
        return own.score(self.task.standardized(torch.from_numpy(values)), samples)

    def compare(self, left: Answers, right: Answers, samples: LabeledSamples) -> PairedNumbers:
        """The difference of the absolute errors of each target."""
        values = (left.values, right.values)
        return compare_numbers(values, samples.labels, self.task.outputs, samples.names, samples.groups)
