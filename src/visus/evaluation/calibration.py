"""Calibration: whether a network's probabilities can be trusted, and temperature scaling, which corrects them.

This file knows logits and labels.

A temperature T divides all logits before the softmax (Guo et al. 2017, arXiv:1706.04599, section 4.2): above 1 it makes a network less
confident, below 1 more confident, and it never changes which class is the most probable. It is fitted on the validation split, never on a
test split.

A network that was trained with label smoothing e learns the probabilities of smoothed labels (Szegedy et al. 2016, arXiv:1512.00567, section
7): ``(1 - e) p + e / K`` where a class has the probability p, for K classes. No temperature turns these into p, since they never come near 1
where the network is sure. So the smoothing is taken back where that lowers the cross-validated loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visus.errors import DataError, RunError, UsageError
from visus.evaluation.scores import CALIBRATION_BINS, calibration_bins
from visus.units import split_name, write_number_of

COOLEST, HOTTEST = 0.05, 20.0
"""The temperatures that are tried; where all samples are right with any margin, none is the best and the coolest is given."""

MIN_SAMPLES: Final = 50
"""On fewer samples no temperature is fitted: chance would choose it."""

NUM_FOLDS: Final = 5
STANDARD_ERRORS: Final = 1.0
"""A temperature is used where the cross-validated loss falls by more than this many standard errors of the paired differences."""

_ROUNDING: Final = 0.1
"""Width of the smooth corner above 0 where a smoothing is taken back, as a share of the least probability that it leaves."""
_MAX_VALUES: Final = 1_000_000
"""A smoothing is taken back by a temperature that is fitted on at most so many logits."""
_TINY: Final = torch.finfo(torch.float32).tiny
_GOLDEN: Final = (3 - 5**0.5) / 2
_NARROW: Final = 2e-3  # of the logarithm of a temperature: how exactly it is searched where a smoothing is taken back
_ROUNDS: Final = 60
_TOLERANCE: Final = 1e-12


@dataclass(frozen=True)
class Calibrator:
    """How outputs become probabilities.

    Args:
        temperature: divides the logits before the softmax.
        smoothing: label smoothing of the training, which is taken back after it; 0 for none.

    >>> Calibrator()(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    >>> sure = torch.tensor([[9.0, 1.0]]).log()  # 0.9 is as sure as labels smoothed by 0.2 let a network of two classes be
    >>> [round(each, 2) for each in Calibrator(smoothing=0.2)(sure)[0].tolist()]
    [0.99, 0.01]
    """

    temperature: float = 1.0
    smoothing: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities float32 (samples, classes) of logits, computed in float64; the most probable class stays the most probable."""
        return self.exact(logits).float()

    def exact(self, logits: Tensor) -> Tensor:
        """The same in float64."""
        probabilities = torch.softmax(logits.double() / self.temperature, dim=-1)
        if not self.smoothing:
            return probabilities
        least = self.smoothing / probabilities.shape[-1]
        above = probabilities - least
        # Smoothly above 0: so the order of the classes stays, but for the rounding of classes far below the least probability.
        positive = (above + (above.square() + (_ROUNDING * least) ** 2).sqrt()) / 2
        return positive / positive.sum(dim=-1, keepdim=True)


UNCALIBRATED: Final = Calibrator()


@dataclass(frozen=True)
class Bin:
    """The samples whose confidence lies in one interval.

    Attributes:
        low, high: the interval; the low end belongs to it, and of the last one the high end too.
        num_samples: samples in it.
        confidence: their mean confidence; None where there are none.
        accuracy: share of them that is right; None where there are none.
    """

    low: float
    high: float
    num_samples: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """How confidence and accuracy go together.

    Attributes:
        error: expected calibration error (Guo et al. 2017, eq. 3): mean over the samples of the distance between confidence and accuracy of
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
class TemperatureFit:
    """The temperature that calibrates a network's answers, or why none is used.

    The figures "before" and "after" are those of the samples that it was fitted on. "After" is cross-validated: each fifth of them is measured
    with the temperature of the other four fifths.

    Attributes:
        temperature: divides the logits; 1 where none is used.
        smoothing: label smoothing that is taken back after it; 0 for none.
        reason: why none is used; empty where one is.
        fitted_on: the split; empty where there was none.
        num_samples: samples of that split.
        loss_before, loss_after: mean cross-entropy in nats.
        error_before, error_after: expected calibration error, 0 to 1.
    """

    temperature: float = 1.0
    reason: str = ""
    fitted_on: str = ""
    num_samples: int = 0
    smoothing: float = 0.0
    loss_before: float | None = None
    loss_after: float | None = None
    error_before: float | None = None
    error_after: float | None = None

    @property
    def is_used(self) -> bool:
        """Whether probabilities are calibrated."""
        return not self.reason

    @property
    def calibrator(self) -> Calibrator:
        """What gives the probabilities."""
        return Calibrator(self.temperature, self.smoothing)

    def sentence(self, noun: str = "sample") -> str:
        """One sentence for a reader of probabilities.

        >>> TemperatureFit(0.625, "", "val", 800).sentence("image")
        'Probabilities are calibrated: the outputs are divided by a temperature of 0.625, fitted on 800 images of the validation split.'
        >>> TemperatureFit(reason="there is no validation split to fit a temperature on").sentence()
        "Probabilities are the network's own, not calibrated: there is no validation split to fit a temperature on."
        """
        if not self.is_used:
            return f"Probabilities are the network's own, not calibrated: {self.reason}."
        split = split_name(self.fitted_on)
        return (
            f"Probabilities are calibrated: {what_is_done(self.calibrator)}, fitted on "
            f"{write_number_of(self.num_samples, noun)} of the {split} split."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data that ``from_json`` reads back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> TemperatureFit:
        """The fit that ``to_json`` wrote.

        Raises:
            RunError: a field is missing or unknown, or the temperature is not a number above 0.
        """
        try:
            found = cls(**facts)
            if not (math.isfinite(found.temperature) and found.temperature > 0):
                raise ValueError(f"the temperature is {found.temperature}")
            if not 0 <= found.smoothing < 1:
                raise ValueError(f"the smoothing is {found.smoothing}")
        except (TypeError, ValueError) as error:
            raise RunError(
                f"this is not a calibration that this version of visus wrote ({error}). Renew it with: visus report RUN"
            ) from error
        return found


def what_is_done(calibrator: Calibrator) -> str:
    """A half sentence on how outputs become probabilities.

    >>> what_is_done(Calibrator(0.96, 0.2))
    'the outputs are divided by a temperature of 0.96, and the label smoothing of 0.2 that they were trained with is taken back'
    """
    back = f", and the label smoothing of {calibrator.smoothing:g} that they were trained with is taken back"
    return f"the outputs are divided by a temperature of {calibrator.temperature:.3g}{back if calibrator.smoothing else ''}"


@dataclass(frozen=True)
class Calibration:
    """Reliability of a network's own probabilities, and of the calibrated ones.

    Attributes:
        measured_on: the split that both are measured on.
        num_samples: samples of it.
        before: of the network's own probabilities.
        fitted_on: the split that the temperature was fitted on; empty where there is none.
        num_fitted: samples of it.
        temperature: divides the logits; None where none is used.
        smoothing: label smoothing that is taken back after it; 0 for none.
        after: of the calibrated probabilities, which are those that the network gives in use; None where none is used.
        reason: why no temperature is used; empty where one is.
    """

    measured_on: str
    num_samples: int
    before: Reliability
    fitted_on: str = ""
    num_fitted: int = 0
    temperature: float | None = None
    after: Reliability | None = None
    reason: str = ""
    smoothing: float = 0.0

    @property
    def calibrator(self) -> Calibrator:
        """What gives the probabilities in use."""
        return Calibrator(self.temperature or 1.0, self.smoothing)

    @property
    def is_own(self) -> bool:
        """Whether the temperature was fitted on the samples that it is measured on, which makes the figures after it too good."""
        return self.fitted_on == self.measured_on

    @property
    def is_at_limit(self) -> bool:
        """Whether the best temperature lies outside of what is tried."""
        return self.temperature is not None and self.temperature in (COOLEST, HOTTEST)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


def reliability(logits: Tensor, labels: Tensor, calibrator: Calibrator = UNCALIBRATED) -> Reliability:
    """How confidence and accuracy go together.

    Args:
        logits: (samples, classes).
        labels: (samples,) class indices.
        calibrator: what gives the probabilities.

    Raises:
        DataError: there is no sample.
        UsageError: the temperature is not above 0.

    >>> found = reliability(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    >>> round(found.confidence, 3), round(found.error, 3)
    (0.881, 0.381)
    """
    if not len(logits):
        raise DataError("there is nothing to calibrate: no samples were given.")
    if not calibrator.temperature > 0:
        raise UsageError(f"a temperature must be above 0, not {calibrator.temperature}.")
    # Rounded to float32 as everywhere, so that a sample lies in the same bin here as in the scores.
    chances = calibrator(logits).double()
    return _reliability(chances, labels)


def _reliability(chances: Tensor, labels: Tensor) -> Reliability:
    """Of probabilities (samples, classes)."""
    confidence, predicted = chances.max(dim=1)
    is_right = (predicted == labels).double()
    places = calibration_bins(confidence)
    bins, error = [], 0.0
    for place in range(CALIBRATION_BINS):
        inside = places == place
        count = int(inside.sum())
        sure, right = (float(each[inside].mean()) if count else None for each in (confidence, is_right))
        bins.append(Bin(place / CALIBRATION_BINS, (place + 1) / CALIBRATION_BINS, count, sure, right))
        error += count / len(chances) * abs(sure - right) if sure is not None and right is not None else 0.0
    loss = _losses(chances, labels).mean()
    return Reliability(error, float(loss), float(confidence.mean()), tuple(bins))


def fit_temperature(logits: Tensor, labels: Tensor, target_smoothing: float = 0.0) -> float:
    """The temperature with the smallest cross-entropy on these samples (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in 1/T, so its slope there is followed to 0, by Newton's method between bounds that close in.

    Args:
        logits: (samples, classes), of samples that the network is not scored on.
        labels: (samples,) class indices.
        target_smoothing: probability that the targets give to the other classes together.

    Returns:
        The temperature, between 0.05 and 20.

    Raises:
        DataError: there is no sample.

    >>> round(fit_temperature(torch.tensor([[3.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)
    2.731
    """
    if not len(logits):
        raise DataError("there is nothing to fit a temperature on: no samples were given.")
    values = logits.double()
    own = values.gather(1, labels[:, None])
    others = (values.sum(dim=1, keepdim=True) - own) / max(1, values.shape[1] - 1)
    right = ((1 - target_smoothing) * own + target_smoothing * others).mean()

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
        if abs(better - inverse) <= _TOLERANCE * inverse:
            break
        inverse = better
    return 1 / inverse


def fit_calibrator(logits: Tensor, labels: Tensor, smoothing: float = 0.0, target_smoothing: float = 0.0) -> Calibrator:
    """The calibrator with the smallest cross-entropy on these samples.

    Args:
        logits, labels: as for ``fit_temperature``.
        smoothing: label smoothing of the training that it takes back.
        target_smoothing: probability that the targets give to the other classes together.

    Raises:
        DataError: there is no sample.
    """
    start = fit_temperature(logits, labels, target_smoothing)
    return _from_start(logits, labels, smoothing, target_smoothing, start)


def _from_start(logits: Tensor, labels: Tensor, smoothing: float, target_smoothing: float, start: float) -> Calibrator:
    """The best calibrator, where ``start`` is the best temperature without a smoothing.

    Taking a smoothing back makes surer, so its temperature lies above ``start``: golden-section search over the logarithm.
    """
    if not smoothing:
        return Calibrator(start)
    step = -(-logits.numel() // _MAX_VALUES)
    values, labels = logits[::step].double(), labels[::step]

    def loss(place: float) -> float:
        chances = Calibrator(math.exp(place), smoothing).exact(values)
        return float(_losses(chances, labels, target_smoothing).mean())

    lowest, highest = low, high = math.log(start), math.log(HOTTEST)
    left, right = low + (high - low) * _GOLDEN, high - (high - low) * _GOLDEN
    at_left, at_right = loss(left), loss(right)
    while high - low > _NARROW:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = low + (high - low) * _GOLDEN
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = high - (high - low) * _GOLDEN
            at_right = loss(right)
    if low == lowest:
        return Calibrator(start, smoothing)
    return Calibrator(HOTTEST if high == highest else math.exp((low + high) / 2), smoothing)


def _losses(chances: Tensor, labels: Tensor, target_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy (samples,) of probabilities (samples, classes) in float64."""
    own = chances.gather(1, labels[:, None])[:, 0].clamp(min=_TINY).log()
    if not target_smoothing:
        return -own
    others = (chances.clamp(min=_TINY).log().sum(1) - own) / max(1, chances.shape[1] - 1)
    return -((1 - target_smoothing) * own + target_smoothing * others)


def choose_temperature(logits: Tensor, labels: Tensor, split: str, smoothing: float = 0.0) -> TemperatureFit:
    """What calibrates a network's answers, fitted on held-out samples; a temperature of 1 where these do not show that another is better.

    Of n samples, the targets give ``1 / (n + 2)`` to the other classes (Platt 1999, "Probabilistic outputs for support vector machines",
    section 2.2). So a network that is right on all of them gets no endless confidence. A temperature is used where the cross-validated loss
    falls by more than one standard error of the paired differences; the label smoothing is taken back where that loss is smaller then.

    Args:
        logits: (samples, classes): the answers as they are given in use, test-time augmentation included.
        labels: (samples,) class indices.
        split: what the samples are of.
        smoothing: label smoothing of the training.
    """
    num_samples = len(logits)
    name = split_name(split)
    if not num_samples:
        return TemperatureFit(reason=f"there is no {name} split to fit a temperature on")
    if num_samples < MIN_SAMPLES:
        few = write_number_of(num_samples, "sample")
        return TemperatureFit(
            1.0,
            f"{few} of the {name} split are too few to fit a temperature on: {MIN_SAMPLES} are needed",
            split,
            num_samples,
        )
    if not torch.isfinite(logits).all():
        return TemperatureFit(1.0, f"the network's answers for the {name} split are not all finite", split, num_samples)
    values = logits.double()
    own = UNCALIBRATED(values).double()
    tried = _held_out(values, labels, tuple(dict.fromkeys((0.0, smoothing))))
    taken_back, held_out = min(tried.items(), key=lambda each: float(_losses(each[1], labels).mean()))
    found = fit_calibrator(values, labels, taken_back, 1 / (num_samples + 2))
    gains = _losses(own, labels) - _losses(held_out, labels)
    gain, error = float(gains.mean()), float(gains.std()) / math.sqrt(num_samples)
    before, after = _reliability(own, labels), _reliability(held_out, labels)
    figures = (before.loss, after.loss, before.error, after.error)
    if gain > STANDARD_ERRORS * error:
        return TemperatureFit(found.temperature, "", split, num_samples, taken_back, *figures)
    reason = (
        f"a temperature of {found.temperature:.3g}{' with the label smoothing taken back' if taken_back else ''} does not lower the loss of the {name} split by more than chance "
        f"(cross-validated: by {gain:.2g} with a standard error of {error:.2g})"
    )
    return TemperatureFit(1.0, reason, split, num_samples, 0.0, *figures)


def _held_out(values: Tensor, labels: Tensor, smoothings: Sequence[float]) -> dict[float, Tensor]:
    """Probabilities float64 of each fifth of the samples by what was fitted on the other four, for each smoothing that may be taken back."""
    num_samples = len(values)
    places = torch.arange(num_samples) % NUM_FOLDS
    chances = {smoothing: torch.empty_like(values) for smoothing in smoothings}
    for fold in range(NUM_FOLDS):
        others = places != fold
        known = values[others], labels[others]
        start = fit_temperature(*known, 1 / (num_samples + 2))
        for smoothing, found in chances.items():
            fitted = _from_start(*known, smoothing, 1 / (num_samples + 2), start)
            found[~others] = fitted(values[~others]).double()
    return chances


def calibrate(logits: Tensor, labels: Tensor, split: str, fit: TemperatureFit) -> Calibration:
    """Reliability of the network's own probabilities and, where a temperature is used, of the calibrated ones.

    Args:
        logits, labels: of the scored samples: (samples, classes) and (samples,).
        split: what they are of.
        fit: the temperature of the run.

    Raises:
        DataError: there is no sample.
    """
    before = reliability(logits, labels)
    if not fit.is_used:
        return Calibration(split, len(logits), before, fit.fitted_on, fit.num_samples, reason=fit.reason)
    after = reliability(logits, labels, fit.calibrator)
    return Calibration(split, len(logits), before, fit.fitted_on, fit.num_samples, fit.temperature, after, "", fit.smoothing)
