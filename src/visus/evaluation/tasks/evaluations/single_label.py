"""One class for each sample: temperature scaling, accuracy, McNemar's test.

Shape letters: N samples, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.calibration import Calibrator, TemperatureFit, choose_temperature
from visus.evaluation.paired import Paired, compare_answers
from visus.evaluation.scores import Scores, score
from visus.evaluation.tasks.evaluations.evaluation import Answers, Evaluation, LabeledSamples
from visus.evaluation.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class SingleLabelEvaluation(Evaluation[SingleLabel, TemperatureFit]):
    """One class for each sample.

    >>> import numpy as np
    >>> import torch
    >>> own = SingleLabelEvaluation(SingleLabel(("cat", "dog")), TemperatureFit(2.0))
    >>> own.calibrator.temperature, own.raw().calibrator.temperature
    (2.0, 1.0)
    >>> own.score(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), LabeledSamples(np.array([0, 1]))).accuracy
    0.5
    """

    name: ClassVar[TaskName] = "single-label"
    fit_kind: ClassVar[type[TemperatureFit]] = TemperatureFit

    @classmethod
    def fit_on(
        cls,
        task: SingleLabel,
        outputs: Tensor,
        labels: Tensor,
        *,
        smoothing: float = 0.0,
        out_of_fold: tuple[Tensor, Tensor] | None = None,
        has_groups: bool = False,
    ) -> TemperatureFit:
        """The temperature, and whether the label smoothing is inverted."""
        return choose_temperature(outputs, labels, "val", smoothing, out_of_fold=out_of_fold)

    @property
    def calibrator(self) -> Calibrator:
        """The softmax with the fitted temperature."""
        return self.fit.calibrator

    def raw(self) -> SingleLabelEvaluation:
        """The softmax alone: a temperature keeps the most probable class."""
        return dataclasses.replace(self, fit=dataclasses.replace(self.fit, temperature=1.0, smoothing=0.0))

    def answers(self, outputs: Tensor) -> Answers:
        """The probabilities, and the most probable class."""
        return Answers(self.calibrator(outputs).numpy(), outputs.argmax(dim=1).numpy())

    def accuracy(self, outputs: Tensor, labels: Tensor) -> float:
        """The share of samples whose most probable class is their label."""
        return int(self.task.is_right(outputs, labels).sum()) / len(labels)

    def score(self, outputs: Tensor, samples: LabeledSamples) -> Scores:
        """The scores of the calibrated probabilities."""
        return score(self.calibrator(outputs), samples.labels, self.task.outputs, known=samples.known, **samples.shown)

    def score_means(self, values: NDArray[Any], thresholds: Sequence[float], samples: LabeledSamples) -> Scores:
        """The scores of the mean probabilities."""
        return score(values, samples.labels, self.task.outputs, known=samples.known, **samples.shown)

    def compare(self, left: Answers, right: Answers, samples: LabeledSamples) -> Paired:
        """The difference of the accuracies."""
        answers = (left.predicted.tolist(), right.predicted.tolist())
        return compare_answers(*answers, samples.labels.tolist(), self.task.outputs, samples.names, samples.groups)
