"""``Evaluation``: how the outputs of a network for one kind of label are calibrated, scored and compared. ``registry`` has one for each task.

Shape letters: N samples, K outputs of the network.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visus.data.tasks import TaskName
from visus.evaluation.calibration import MIN_SAMPLES, Calibrator, TemperatureFit
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.label_thresholds import Sigmoid, ThresholdFit
from visus.evaluation.tasks.paired_differences import AnyPaired
from visus.evaluation.tasks.prediction_intervals import IntervalFit, Numbers
from visus.evaluation.tasks.task import Task

Fit: TypeAlias = TemperatureFit | ThresholdFit | IntervalFit
"""What is fitted on the validation set: a temperature; for multi-label thresholds too; for regression intervals."""

AnyCalibrator: TypeAlias = Calibrator | Sigmoid | Numbers
Marks: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""For each sample: whether it was a training sample; whether it was only a validation sample."""

_COUNTS: Final = ("num_learned", "num_chose")
OwnTask = TypeVar("OwnTask", bound=Task)
OwnFit = TypeVar("OwnFit", bound=Fit)


@dataclass(frozen=True, eq=False)
class LabeledSamples:
    """Samples to score or to compare networks on.

    Args:
        labels: the labels, as in ``visus.data.tasks``, with the classes in the order of the outputs.
        split: name of the split, stored in scores.
        notes: remarks for the reader, stored in scores.
        known: whether each sample is in the training set, and whether it is in the validation set; None if unknown.
        groups: the group of each sample, for intervals; None for independent samples.
        names: name of each sample; only comparisons need them.
    """

    labels: NDArray[Any]
    split: str = ""
    notes: Sequence[str] = ()
    known: Marks | None = None
    groups: Sequence[str] | None = None
    names: Sequence[str] = ()

    @property
    def shown(self) -> dict[str, Any]:
        """What the functions that score take as keywords: split, notes and groups."""
        return {"split": self.split, "notes": self.notes, "groups": self.groups}

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers of training and of validation samples, as fields of scores; empty if they are unknown."""
        return {} if self.known is None else dict(zip(_COUNTS, (int(marks.sum()) for marks in self.known), strict=True))


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers for samples.

    Args:
        values: the probability of each class (N, K), or the numbers (N, K).
        predicted: the place of the predicted class (N,), whether each class is predicted (N, K), or the numbers.
    """

    values: NDArray[Any]
    predicted: NDArray[Any]


@dataclass(frozen=True)
class Evaluation(ABC, Generic[OwnTask, OwnFit]):
    """How the outputs of one network are evaluated.

    Args:
        task: what the network predicts.
        fit: what was fitted on its validation set.

    Attributes:
        name: the task.
        fit_kind: class of the fit.
        fitted: what a fit consists of, in a word.
        min_samples: validation samples from which on there is a fit.
    """

    task: OwnTask
    fit: OwnFit

    name: ClassVar[TaskName]
    fit_kind: ClassVar[type[TemperatureFit] | type[ThresholdFit] | type[IntervalFit]]
    fitted: ClassVar[str] = "temperature"
    min_samples: ClassVar[int] = MIN_SAMPLES

    @classmethod
    @abstractmethod
    def fit_on(
        cls,
        task: OwnTask,
        outputs: Tensor,
        labels: Tensor,
        *,
        smoothing: float = 0.0,
        out_of_fold: tuple[Tensor, Tensor] | None = None,
        has_groups: bool = False,
    ) -> OwnFit:
        """The fit on the validation set.

        Args:
            task: what the network predicts.
            outputs: (N, K), as in predictions.
            labels: the labels, as in ``visus.data.tasks``.
            smoothing: label smoothing of the training.
            out_of_fold: outputs and labels of the training samples, out of fold; None for none.
            has_groups: whether the samples have groups, such as patients.
        """

    @property
    @abstractmethod
    def calibrator(self) -> AnyCalibrator:
        """Converts outputs (N, K) to probabilities, or to numbers in the units of the labels."""

    @abstractmethod
    def raw(self) -> Self:
        """The same network without calibration: its own probabilities, with the same predictions."""

    def chosen(self, places: Sequence[int]) -> Self:
        """The evaluation of some outputs of the network, in this order."""
        outputs = tuple(self.task.outputs[place] for place in places)
        return dataclasses.replace(self, task=dataclasses.replace(self.task, outputs=outputs))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of multi-label, for each class the probability from which on a sample has it; else empty."""
        return ()

    @property
    def half_widths(self) -> tuple[float, ...]:
        """Of regression, the half width of each target's interval, if there are intervals; else empty."""
        return ()

    @abstractmethod
    def answers(self, outputs: Tensor) -> Answers:
        """The answers for outputs (N, K)."""

    def accuracy(self, outputs: Tensor, labels: Tensor) -> float | None:
        """The share of samples whose most probable class is their label; None where a sample has no single class."""
        return None

    @abstractmethod
    def score(self, outputs: Tensor, samples: LabeledSamples) -> AnyScores:
        """The scores of outputs (N, K).

        Raises:
            DataError: there is no sample, or none has a class.
            TrainingError: an output is NaN or infinite.
        """

    @abstractmethod
    def score_means(self, values: NDArray[Any], thresholds: Sequence[float], samples: LabeledSamples) -> AnyScores:
        """The scores of the mean answers of this network and others.

        Args:
            values: mean probabilities (N, K), or mean numbers (N, K).
            thresholds: of multi-label, the mean thresholds (K,); else empty.
            samples: the samples.

        Raises:
            DataError: there is no sample, or none has a class.
        """

    @abstractmethod
    def compare(self, left: Answers, right: Answers, samples: LabeledSamples) -> AnyPaired:
        """The difference of two networks on the same samples.

        Args:
            left, right: the answers of each, with the outputs in the order of this one.
            samples: the samples, with their names.

        Raises:
            DataError: there is no sample, or none has a class.
        """
