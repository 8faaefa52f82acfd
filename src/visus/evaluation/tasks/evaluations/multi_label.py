"""A set of classes for each sample: one temperature, a threshold for each class, mean average precision, paired bootstrap.

Shape letters: N samples, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.tasks.evaluations.evaluation import Answers, Evaluation, LabeledSamples
from visus.evaluation.tasks.label_thresholds import DEFAULT_THRESHOLD, Sigmoid, ThresholdFit, fit_thresholds
from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores, score_set_probabilities, score_sets
from visus.evaluation.tasks.paired_differences import PairedSets, compare_sets


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation[MultiLabel, ThresholdFit]):
    """A set of classes for each sample.

    >>> own = MultiLabelEvaluation(MultiLabel(("cat", "dog")), ThresholdFit(2.0, (0.65, 0.5)))
    >>> logits = torch.tensor([[1.0, 1.0], [2.0, -1.0]])
    >>> own.answers(logits).predicted.tolist()
    [[False, True], [True, False]]
    >>> own.raw().answers(logits).predicted.tolist(), own.raw().calibrator.temperature
    ([[False, True], [True, False]], 1.0)
    """

    name: ClassVar[TaskName] = "multi-label"
    fit_kind: ClassVar[type[ThresholdFit]] = ThresholdFit

    @classmethod
    def fit_on(
        cls,
        task: MultiLabel,
        outputs: Tensor,
        labels: Tensor,
        *,
        smoothing: float = 0.0,
        out_of_fold: tuple[Tensor, Tensor] | None = None,
        has_groups: bool = False,
    ) -> ThresholdFit:
        """The temperature and the thresholds; label smoothing is not inverted, and out-of-fold predictions do not join."""
        return fit_thresholds(outputs, labels)

    @property
    def calibrator(self) -> Sigmoid:
        """The sigmoid with the fitted temperature."""
        return self.fit.calibrator

    @property
    def thresholds(self) -> tuple[float, ...]:
        """For each class, the probability from which on a sample has it."""
        return self.fit.thresholds or (DEFAULT_THRESHOLD,) * len(self.task.outputs)

    def raw(self) -> MultiLabelEvaluation:
        """The sigmoid alone, with the thresholds that the same logits reach."""
        return dataclasses.replace(self, fit=self.fit.raw())

    def chosen(self, places: Sequence[int]) -> MultiLabelEvaluation:
        """The evaluation of some classes, in this order."""
        fit = dataclasses.replace(self.fit, thresholds=tuple(self.thresholds[place] for place in places))
        return dataclasses.replace(super().chosen(places), fit=fit)

    def answers(self, outputs: Tensor) -> Answers:
        """The probabilities, and whether each class reaches its threshold."""
        shares = self.calibrator(outputs).numpy().astype(np.float64)
        return Answers(shares, shares >= np.array(self.thresholds))

    def score(self, outputs: Tensor, samples: LabeledSamples) -> MultiLabelScores:
        """The scores of the sets."""
        found = score_sets(outputs, torch.from_numpy(samples.labels), self.task.outputs, self.fit, **samples.shown)
        return dataclasses.replace(found, **samples.counts)

    def score_means(self, values: NDArray[Any], thresholds: Sequence[float], samples: LabeledSamples) -> MultiLabelScores:
        """The scores of the sets of classes whose mean probability reaches the mean threshold."""
        found = score_set_probabilities(values, samples.labels, self.task.outputs, np.array(thresholds), **samples.shown)
        return dataclasses.replace(found, **samples.counts)

    def compare(self, left: Answers, right: Answers, samples: LabeledSamples) -> PairedSets:
        """The difference of the mean average precisions, and of the exact matches."""
        values, predicted = (left.values, right.values), (left.predicted, right.predicted)
        return compare_sets(values, predicted, samples.labels, self.task.outputs, samples.names, samples.groups)
