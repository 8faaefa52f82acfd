"""Calibration of multi-label networks: one temperature for all classes, and a threshold for each class.

A logit z of a class is the two logits (0, z) of a choice between absent and present, so the temperature is that of ``evaluation.calibration``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from visus.errors import RunError
from visus.evaluation.calibration import MIN_SAMPLES, NUM_FOLDS, STANDARD_ERRORS, fit_temperature
from visus.tables import Brief
from visus.units import write_number_of

DEFAULT_THRESHOLD: Final = 0.5
MIN_POSITIVE: Final = 10
"""Samples with a class, and samples without it, from which on its threshold is fitted."""


@dataclass(frozen=True)
class Sigmoid:
    """Converts logits to the probability of each class.

    Args:
        temperature: divisor of the logits, above 0.

    >>> Sigmoid(2.0)(torch.tensor([[0.0, 2.0]])).tolist()
    [[0.5, 0.7310585975646973]]
    """

    temperature: float = 1.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (samples, classes) in float32, computed in float64."""
        return self.exact(logits).float()

    def exact(self, logits: Tensor) -> Tensor:
        """The same in float64."""
        return torch.sigmoid(logits.double() / self.temperature)


@dataclass(frozen=True, repr=False)
class ThresholdFit(Brief):
    """The temperature and the thresholds of a multi-label network, fitted on the validation set.

    Attributes:
        temperature: divisor of the logits; 1 if none is used.
        thresholds: for each class, the probability from which on a sample has it.
        reason: why no temperature is used; empty if one is.
        num_samples: number of validation samples.
        num_fitted: number of classes whose threshold was fitted; the others have 0.5.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    reason: str = ""
    num_samples: int = 0
    num_fitted: int = 0

    def _words(self) -> str:
        return self.sentence().rstrip(".")

    @property
    def is_used(self) -> bool:
        """Whether probabilities are calibrated."""
        return not self.reason

    @property
    def calibrator(self) -> Sigmoid:
        """The calibrator with this temperature."""
        return Sigmoid(self.temperature)

    def raw(self) -> ThresholdFit:
        """The same fit for probabilities without a temperature: a logit z reaches a threshold t with the temperature T if the sigmoid of z reaches the sigmoid of ``T logit(t)``.

        >>> ThresholdFit(2.0, (0.8, 0.5)).raw().thresholds
        (0.941176470588235..., 0.5)
        """
        if self.temperature == 1:
            return self
        logits = torch.logit(torch.tensor(self.thresholds, dtype=torch.float64))
        thresholds = tuple(torch.sigmoid(self.temperature * logits).tolist())
        return replace(self, temperature=1.0, thresholds=thresholds, reason="raw probabilities are asked for")

    def sentence(self, noun: str = "sample") -> str:
        """How the probabilities are calibrated, and how thresholds were chosen.

        >>> ThresholdFit(0.5, (0.4, 0.5), "", 300, 1).sentence("image")
        'Probabilities are calibrated: the logits are divided by a temperature of 0.5, fitted on 300 images of the validation set. The thresholds of 1 of 2 classes are half of their highest F1 there; others are 0.5.'
        """
        of = f"{write_number_of(self.num_samples, noun)} of the validation set"
        first = (
            f"Probabilities are calibrated: the logits are divided by a temperature of {self.temperature:.3g}, fitted on {of}."
            if self.is_used
            else f"Probabilities are not calibrated: {self.reason}."
        )
        if not self.num_fitted:
            return f"{first} All thresholds are {DEFAULT_THRESHOLD}."
        others = f"; others are {DEFAULT_THRESHOLD}" if self.num_fitted < len(self.thresholds) else ""
        which = f"{self.num_fitted} of {len(self.thresholds)} classes" if others else "all classes"
        where = "there" if self.is_used else f"on {of}"
        return f"{first} The thresholds of {which} are half of their highest F1 {where}{others}."

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> ThresholdFit:
        """The fit from the data of ``to_json``.

        Raises:
            RunError: a field is missing, unknown or impossible.
        """
        try:
            found = cls(**{**facts, "thresholds": tuple(facts["thresholds"])})
            if not (math.isfinite(found.temperature) and found.temperature > 0):
                raise ValueError(f"the temperature is {found.temperature}")
            if not all(0 <= each <= 1 for each in found.thresholds):
                raise ValueError("a threshold is not between 0 and 1")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"this calibration is not of this version of visus ({error}).") from error
        return found


def fit_thresholds(logits: Tensor, labels: Tensor) -> ThresholdFit:
    """Fit temperature and thresholds on held-out samples.

    The temperature stays 1 unless the cross-validated loss falls by more than one standard error. The threshold of a class is half of the highest F1
    that it reaches on these samples, which is the threshold of the highest expected F1 for calibrated probabilities (Lipton, Elkan and Narayanaswamy 2014,
    arXiv:1402.1892). The threshold at which these samples have their highest F1 moves far with few samples, and predicts worse on new ones
    (``benchmarks/LOG.md``, 2026-12-01). Classes with fewer than ten samples with or without them keep 0.5.

    Args:
        logits: (samples, classes), as in predictions.
        labels: (samples, classes) of 0 and 1.
    """
    count, num_classes = logits.shape[0], labels.shape[1]
    temperature, reason = 1.0, ""
    if not count:
        reason = "there is no validation set to fit a temperature on"
    elif count < MIN_SAMPLES:
        reason = f"{write_number_of(count, 'sample')} of the validation set are too few to fit a temperature on"
    else:
        temperature, reason = _temperature(logits, labels)
    probabilities = Sigmoid(temperature)(logits).numpy().astype(np.float64)
    found = [_half_of_best_f1(probabilities[:, place], labels[:, place].numpy() > 0.5) for place in range(num_classes)]
    thresholds = tuple(DEFAULT_THRESHOLD if each is None else each for each in found)
    return ThresholdFit(temperature, thresholds, reason, count, sum(each is not None for each in found))


def _temperature(logits: Tensor, labels: Tensor) -> tuple[float, str]:
    """The temperature, and why it is 1 if none is used."""
    count = len(logits)
    places = torch.arange(count) % NUM_FOLDS
    held_out = torch.empty(count, dtype=torch.float64)
    for fold in range(NUM_FOLDS):
        inside = places == fold
        held_out[inside] = _losses(logits[inside], labels[inside], _fitted(logits[~inside], labels[~inside], count))
    gains = _losses(logits, labels, 1.0) - held_out
    gain, error = float(gains.mean()), float(gains.std()) / math.sqrt(count)
    found = _fitted(logits, labels, count)
    if gain > STANDARD_ERRORS * error:
        return found, ""
    return 1.0, (
        f"a temperature of {found:.3g} does not lower the loss of the validation set significantly (cross-validated: by {gain:.2g} with a standard "
        f"error of {error:.2g})"
    )


def _fitted(logits: Tensor, labels: Tensor, count: int) -> float:
    pairs = torch.stack([torch.zeros_like(logits), logits], dim=2).reshape(-1, 2)
    return fit_temperature(pairs, labels.reshape(-1).long(), 1 / (count + 2))


def _losses(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Binary cross-entropy of each sample, the mean over the classes, float64."""
    return F.binary_cross_entropy_with_logits(logits.double() / temperature, labels.double(), reduction="none").mean(1)


def _half_of_best_f1(probabilities: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> float | None:
    """Half of the highest F1 that any threshold reaches; None if there are too few samples of either kind."""
    if min(int(is_positive.sum()), int((~is_positive).sum())) < MIN_POSITIVE:
        return None
    order = np.argsort(-probabilities, kind="stable")
    values, hits = probabilities[order], is_positive[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + hits[-1])
    is_last = np.r_[values[1:] != values[:-1], True]  # equal probabilities are on one side
    return float(f1[is_last].max()) / 2
