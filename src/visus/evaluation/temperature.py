"""Can a network's probabilities be taken at their word, and would one number mend them? Reliability, and temperature scaling.

This file knows logits and labels. It must not know networks, data sets, charts or printing.

A temperature T divides all logits before the softmax (Guo et al. 2017, arXiv:1706.04599, section 4.2): above 1 it makes a network less
sure, below 1 surer, and never changes which class is the most probable. It is fitted on items that the network was not scored on. Nothing
here changes what a network answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visus.errors import DataError, UsageError
from visus.evaluation.scores import CALIBRATION_BINS, calibration_bins

COOLEST, HOTTEST = 0.05, 20.0
"""The temperatures that are tried; where all items are right with any margin, none is the best and the coolest is given."""

FEWEST: Final = 50
"""On fewer items no temperature is fitted: chance would choose it."""

_TINY: Final = torch.finfo(torch.float32).tiny
_ROUNDS: Final = 60
_ENOUGH: Final = 1e-12


@dataclass(frozen=True)
class Bin:
    """The items whose confidence lies in one interval.

    Attributes:
        low, high: the interval; the low end belongs to it, and of the last one the high end too.
        num_items: items in it.
        confidence: their mean confidence; None where there are none.
        accuracy: share of them that is right; None where there are none.
    """

    low: float
    high: float
    num_items: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """How confidence and accuracy go together.

    Attributes:
        error: expected calibration error (Guo et al. 2017, eq. 3): mean over the items of the distance between confidence and accuracy of
            their bin; 0 to 1.
        loss: mean cross-entropy in nats.
        confidence: mean probability of the predicted class.
        bins: 15 of equal width, from 0 to 1.
    """

    error: float
    loss: float
    confidence: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Calibration:
    """Reliability as the network is, and with a temperature that was fitted elsewhere.

    Attributes:
        measured_on: the split that both are measured on.
        num_items: items of it.
        before: as the network is.
        fitted_on: the split that the temperature was fitted on; empty where there is none.
        num_fitted: items of it.
        temperature: by which the logits would be divided; None where nothing, or too little, was left to fit it on.
        after: with that temperature.
    """

    measured_on: str
    num_items: int
    before: Reliability
    fitted_on: str = ""
    num_fitted: int = 0
    temperature: float | None = None
    after: Reliability | None = None

    @property
    def is_own(self) -> bool:
        """Whether the temperature was fitted on the items that it is measured on, which makes the figures after it too good."""
        return self.fitted_on == self.measured_on

    @property
    def is_at_limit(self) -> bool:
        """Whether the best temperature lies outside of what is tried."""
        return self.temperature is not None and self.temperature in (COOLEST, HOTTEST)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


def reliability(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Reliability:
    """How confidence and accuracy go together.

    Args:
        logits: (items, classes).
        labels: (items,) class indices.
        temperature: by which the logits are divided.

    Raises:
        DataError: there is no item.
        UsageError: the temperature is not above 0.

    >>> found = reliability(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    >>> round(found.confidence, 3), round(found.error, 3)
    (0.881, 0.381)
    """
    if not len(logits):
        raise DataError("there is nothing to calibrate: no items were given.")
    if not temperature > 0:
        raise UsageError(f"a temperature must be above 0, not {temperature}.")
    # Rounded to float32 as everywhere, so that an item lies in the same bin here as in the scores.
    chances = torch.softmax(logits.double() / temperature, dim=1).float().double()
    confidence, predicted = chances.max(dim=1)
    is_right = (predicted == labels).double()
    places = calibration_bins(confidence)
    bins, error = [], 0.0
    for place in range(CALIBRATION_BINS):
        inside = places == place
        count = int(inside.sum())
        sure, right = (float(each[inside].mean()) if count else None for each in (confidence, is_right))
        bins.append(Bin(place / CALIBRATION_BINS, (place + 1) / CALIBRATION_BINS, count, sure, right))
        error += count / len(logits) * abs(sure - right) if sure is not None and right is not None else 0.0
    loss = -chances.gather(1, labels[:, None]).clamp(min=_TINY).log().mean()
    return Reliability(error, float(loss), float(confidence.mean()), tuple(bins))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest cross-entropy on these items (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in 1/T, so its slope there is followed to 0, by Newton's method between bounds that close in.

    Args:
        logits: (items, classes), of items that the network is not scored on.
        labels: (items,) class indices.

    Returns:
        The temperature, between 0.05 and 20.

    Raises:
        DataError: there is no item.

    >>> round(fit_temperature(torch.tensor([[3.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)
    2.731
    """
    if not len(logits):
        raise DataError("there is nothing to fit a temperature on: no items were given.")
    values = logits.double()
    right = values.gather(1, labels[:, None]).mean()

    def slopes(inverse: float) -> tuple[float, float]:
        """First and second derivative of the cross-entropy by 1/T."""
        chances = torch.softmax(values * inverse, dim=1)
        mean = (chances * values).sum(dim=1, keepdim=True)
        spread = (chances * (values - mean).square()).sum(dim=1).mean()
        return float(mean.mean() - right), float(spread)

    low, high = 1 / HOTTEST, 1 / COOLEST
    if slopes(low)[0] >= 0:
        return HOTTEST
    if slopes(high)[0] <= 0:
        return COOLEST
    inverse = 1.0
    for _ in range(_ROUNDS):
        slope, curve = slopes(inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curve if curve > 0 else low
        better = step if low < step < high else (low * high) ** 0.5
        if abs(better - inverse) <= _ENOUGH * inverse:
            break
        inverse = better
    return 1 / inverse


def calibrate(
    logits: Tensor, labels: Tensor, split: str, held_back: tuple[Tensor, Tensor] | None = None, held_back_split: str = ""
) -> Calibration:
    """Reliability before and after a temperature; of fewer than 50 items to fit it on, before alone.

    Args:
        logits, labels: of the scored items: (items, classes) and (items,).
        split: what they are of.
        held_back: logits and labels that the temperature is fitted on; None where there are none.
        held_back_split: what those are of.

    Raises:
        DataError: there is no item.
    """
    before = reliability(logits, labels)
    if held_back is None:
        return Calibration(split, len(logits), before)
    if 0 < len(held_back[0]) < FEWEST:
        return Calibration(split, len(logits), before, held_back_split, len(held_back[0]))
    temperature = fit_temperature(*held_back)
    after = reliability(logits, labels, temperature)
    return Calibration(split, len(logits), before, held_back_split, len(held_back[0]), temperature, after)
