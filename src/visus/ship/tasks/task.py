"""``BundleTask``: what the outputs of a bundle's network mean, and how they are compared with those of the run. Works without PyTorch.

Shape letters: N samples, K outputs of the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from visus.data.tasks import TaskName
from visus.units import write_share

Answers = npt.NDArray[np.float64]
"""Probabilities of classes, or numbers in the units of the labels (N, K)."""

Groups = npt.NDArray[np.int64]
"""The number of each sample's group (N,)."""

ONE_SAMPLE: Final = "there is one held-out sample, and two at least are needed for an interval"


@dataclass(frozen=True)
class Score:
    """The metric of a task on held-out samples, or a difference of two, with its 95 % interval; None for an error on samples of one group."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class BundleTask(ABC):
    """What the outputs of a bundle's network mean.

    Attributes:
        name: the task.
        output: name of what the network returns beside its logits.
        columns: what its outputs are: classes or targets.
        metric: what is measured on held-out samples.
        noun: one value of an answer, with its article.
        unit: the unit of differences between answers, with a space before it; empty for probabilities.
        last_step: what turns logits into answers, with details in brackets.
        agreement_words: what the share of agreeing samples counts.
        label_kind: data type of the labels in a proof.
        loss_unit: the unit of losses in text.
        loss_scale: losses in that unit for a loss of 1.
    """

    name: ClassVar[TaskName]
    output: ClassVar[str] = "probabilities"
    columns: ClassVar[str] = "classes"
    metric: ClassVar[str]
    noun: ClassVar[str] = "a probability"
    unit: ClassVar[str] = ""
    last_step: ClassVar[str]
    agreement_words: ClassVar[str]
    label_kind: ClassVar[str]
    loss_unit: ClassVar[str] = "points"
    loss_scale: ClassVar[float] = 100.0

    @abstractmethod
    def answers(self, logits: npt.NDArray[Any], temperature: float, smoothing: float) -> Answers:
        """The answers (N, K) for logits (N, K)."""

    @abstractmethod
    def label(self, row: npt.NDArray[Any], names: Sequence[str]) -> str:
        """The prediction in one text, for answers (K,) and the names of the outputs."""

    def differences(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Answers:
        """How far two answers (N, K) are apart, in the unit of the tolerance."""
        return np.asarray(np.abs(np.asarray(found, dtype=np.float64) - expected))

    def rounding(self, expected: npt.NDArray[Any]) -> Answers | float:
        """What the graph's own output, which an engine may compute in float32, may differ by beside the tolerance."""
        return 0.0

    @abstractmethod
    def agree(self, found: Answers, expected: Answers, tolerance: float | None) -> npt.NDArray[np.bool_]:
        """Mask (N,) of the samples with the run's prediction.

        Args:
            found, expected: answers of an engine and of the run.
            tolerance: largest difference that is accepted; None if differences are not judged.
        """

    @abstractmethod
    def score(self, found: Sequence[Answers], labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """The metric of answers on labels, with its interval; of several computations of the same samples, if their predictions may differ, the mean.

        Args:
            found: answers (N, K) of each computation.
            labels: the labels.
            groups: the group of each sample (N,), over which the interval is; None for independent samples.
        """

    @abstractmethod
    def loss(self, run: Answers, found: Answers, labels: npt.NDArray[Any], groups: Groups | None = None) -> Score:
        """How much worse answers are than those of the run on the same samples, with the interval of the paired comparison, over groups as for ``score``."""

    @abstractmethod
    def labels_shape(self, num_samples: int, num_outputs: int) -> tuple[int, ...]:
        """The shape of the labels in a proof."""

    @abstractmethod
    def labels_problem(self, labels: npt.NDArray[Any], num_outputs: int) -> str:
        """Why labels of the right shape and type cannot be compared with; empty if they can."""

    @abstractmethod
    def check(self, num_outputs: int, temperature: float, smoothing: float) -> None:
        """Compare the values with the number of outputs and with the calibration.

        Raises:
            ValueError: a value is impossible; the message names it.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data from which ``registry.task_from_plain`` makes an equal value; the digest of the answers covers it."""

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> BundleTask:
        """The task from plain data that may hold anything.

        Raises:
            ValueError: a field is missing, unknown or impossible; the message names it.
        """

    @staticmethod
    def write(value: float) -> str:
        """A value of the metric as text; by default, of a share."""
        return write_share(value)

    @staticmethod
    def write_loss(value: float) -> str:
        """A difference of two values of the metric as text, in ``loss_unit``; by default, of shares."""
        return f"{100 * value + 0.0:.1f}"
