"""Calibration: expected calibration error, temperature scaling, and the inversion of label smoothing.

A temperature T divides all logits before the softmax (Guo et al. 2017, arXiv:1706.04599, section 4.2). Above 1 it lowers the confidence, below 1 it raises
it; the predicted class never changes. It is fitted on the validation set, never on the test set; where that set is small, also on the
cross-validated (out-of-fold) predictions for the training set, if there are any.

A network that was trained with label smoothing e learns ``(1 - e) p + e / K`` for a class of probability p, with K classes (Szegedy et al. 2016,
arXiv:1512.00567, section 7). No temperature turns these values into p, since they never approach 1. Therefore the smoothing is inverted if that lowers
the cross-validated loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visus.caller import for_caller
from visus.data.splits import TEST_FRACTION, VAL_FRACTION
from visus.errors import DataError, RunError, UsageError
from visus.evaluation.label_smoothing import TRANSITION
from visus.evaluation.scores import CALIBRATION_BINS, calibration_bins
from visus.tables import Brief
from visus.units import split_name, write_number_of

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Range of the temperature; if all predictions are correct, the optimum is at 0 and the fit returns the lower limit."""

MIN_SAMPLES: Final = 50
"""Minimum number of samples for a fit; with fewer, chance would decide the temperature."""

ENOUGH_SAMPLES: Final = 500
"""Number of validation samples from which on they suffice; with fewer, out-of-fold predictions join them."""

MIN_OUT_OF_FOLD: Final = 200
"""Minimum number of out-of-fold predictions that join them. Heads of fewer samples are so much less accurate than the head of all of them that their temperature is too high."""

NUM_FOLDS: Final = 5
STANDARD_ERRORS: Final = 1.0
"""A temperature is used if the cross-validated loss falls by more than this many standard errors of the paired differences."""

_MAX_VALUES: Final = 1_000_000
"""Maximum number of logits for the fit of a temperature with inverted label smoothing."""
_TINY: Final = torch.finfo(torch.float32).tiny
_GOLDEN: Final = (3 - 5**0.5) / 2
_LOG_TOLERANCE: Final = 2e-3  # of the logarithm of a temperature, in the search with inverted label smoothing
_MAX_ITERATIONS: Final = 60
_TOLERANCE: Final = 1e-12


@dataclass(frozen=True)
class Calibrator:
    """Converts logits to calibrated probabilities.

    Args:
        temperature: divisor of the logits before the softmax, above 0.
        smoothing: label smoothing to invert after the softmax, 0 to 1; 0 for none.

    >>> Calibrator()(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    >>> confident = torch.tensor([[9.0, 1.0]]).log()  # 0.9 is the highest probability of two classes with a label smoothing of 0.2
    >>> [round(each, 2) for each in Calibrator(smoothing=0.2)(confident)[0].tolist()]
    [0.99, 0.01]
    """

    temperature: float = 1.0
    smoothing: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (samples, classes) in float32, computed in float64; the predicted class does not change."""
        return self.exact(logits).float()

    def exact(self, logits: Tensor) -> Tensor:
        """Probabilities (samples, classes) in float64."""
        probabilities = torch.softmax(logits.double() / self.temperature, dim=-1)
        if not self.smoothing:
            return probabilities
        smallest = self.smoothing / probabilities.shape[-1]
        difference = probabilities - smallest
        # A smooth version of max(difference, 0) keeps the order of the classes, except for rounding far below the smallest probability.
        positive = (difference + (difference.square() + (TRANSITION * smallest) ** 2).sqrt()) / 2
        return positive / positive.sum(dim=-1, keepdim=True)


UNCALIBRATED: Final = Calibrator()


@dataclass(frozen=True)
class Bin:
    """The samples with a confidence in one interval.

    Attributes:
        low, high: the interval, with ``low`` and without ``high``; the last one includes ``high``.
        num_samples: number of samples.
        confidence: mean confidence; None without samples.
        accuracy: accuracy; None without samples.
    """

    low: float
    high: float
    num_samples: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Confidence compared with accuracy.

    Attributes:
        error: expected calibration error (Guo et al. 2017, eq. 3), 0 to 1: mean over the samples of the distance between confidence and
            accuracy of their bin.
        loss: mean cross-entropy in nats.
        confidence: mean probability of the predicted class.
        bins: 15 bins of equal width, from 0 to 1.
    """

    error: float
    loss: float
    confidence: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, repr=False)
class TemperatureFit(Brief):
    """The fitted temperature of a network, or the reason why none is used.

    Losses and errors are those of the samples of the fit. Those "after" are cross-validated: each fifth of the samples is evaluated with the temperature
    of the other four fifths.

    Attributes:
        temperature: divisor of the logits; 1 if none is used.
        smoothing: label smoothing to invert; 0 for none.
        reason: why no temperature is used; empty if one is.
        fitted_on: split of the fit, ``train`` for out-of-fold predictions; empty if there is none.
        num_samples: number of samples of the fit.
        num_out_of_fold: how many of them are training samples with an out-of-fold prediction; the others are validation samples.
        loss_before, loss_after: mean cross-entropy in nats; None without a fit.
        error_before, error_after: expected calibration error, 0 to 1; None without a fit.
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
    num_out_of_fold: int = 0

    def _words(self) -> str:
        return self.sentence().rstrip(".")

    @property
    def is_used(self) -> bool:
        """Whether probabilities are calibrated."""
        return not self.reason

    @property
    def is_worse(self) -> bool:
        """Whether the expected calibration error is larger after calibration than before."""
        return (
            self.error_before is not None and self.error_after is not None and is_worse(self.error_before, self.error_after)
        )

    @property
    def calibrator(self) -> Calibrator:
        """The calibrator with these values."""
        return Calibrator(self.temperature, self.smoothing)

    def sentence(self, noun: str = "sample") -> str:
        """One sentence on how the probabilities are calibrated.

        >>> TemperatureFit(0.625, "", "val", 800).sentence("image")
        'Probabilities are calibrated: the logits are divided by a temperature of 0.625, fitted on 800 images of the validation set.'
        >>> TemperatureFit(reason="there is no validation set to fit a temperature on").sentence()
        'Probabilities are not calibrated: there is no validation set to fit a temperature on.'
        """
        if not self.is_used:
            return f"Probabilities are not calibrated: {self.reason}."
        fitted = describe_fit_samples(self.fitted_on, self.num_samples, self.num_out_of_fold, noun)
        said = f"Probabilities are calibrated: {describe_calibrator(self.calibrator)}, fitted on {fitted}."
        if not self.is_worse or self.error_before is None or self.error_after is None:
            return said
        return (
            f"{said} This made them worse there: the expected calibration error is {100 * self.error_after:.1f} points, and without it "
            f"{100 * self.error_before:.1f}."
        )

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> TemperatureFit:
        """The fit from the data of ``to_json``.

        Raises:
            RunError: a field is missing or unknown, or the temperature is not a positive number.
        """
        try:
            found = cls(**facts)
            if not (math.isfinite(found.temperature) and found.temperature > 0):
                raise ValueError(f"the temperature is {found.temperature}")
            if not 0 <= found.smoothing < 1:
                raise ValueError(f"the smoothing is {found.smoothing}")
        except (TypeError, ValueError) as error:
            raise RunError(
                f"this calibration is not of this version of visus ({error}). Renew it with: {for_caller('visus report RUN', 'run.report()')}"
            ) from error
        return found


def is_worse(before: float, after: float) -> bool:
    """Whether a calibration error is larger after calibration, in tenths of a point, which is how it is written.

    >>> is_worse(0.239, 0.379), is_worse(0.0301, 0.0302)
    (True, False)
    """
    return round(100 * after, 1) > round(100 * before, 1)


def describe_calibrator(calibrator: Calibrator) -> str:
    """A clause on how logits become probabilities.

    >>> describe_calibrator(Calibrator(0.96, 0.2))
    'the logits are divided by a temperature of 0.96, and the label smoothing of 0.2 is inverted'
    """
    inversion = f", and the label smoothing of {calibrator.smoothing:g} is inverted"
    return (
        f"the logits are divided by a temperature of {calibrator.temperature:.3g}{inversion if calibrator.smoothing else ''}"
    )


def describe_fit_samples(split: str, num_samples: int, num_out_of_fold: int, noun: str) -> str:
    """The samples that a temperature was fitted on, as a phrase.

    >>> describe_fit_samples("val", 800, 0, "image")
    '800 images of the validation set'
    >>> describe_fit_samples("train", 108, 96, "image")
    '96 images of the training set, out-of-fold, and 12 images of the validation set'
    """
    held_out = write_number_of(num_samples - num_out_of_fold, noun)
    if not num_out_of_fold:
        return f"{held_out} of the {split_name(split)} set"
    found = f"{write_number_of(num_out_of_fold, noun)} of the training set, out-of-fold"
    return f"{found}, and {held_out} of the validation set" if num_samples > num_out_of_fold else found


@dataclass(frozen=True)
class Calibration:
    """Reliability before and after calibration.

    Attributes:
        measured_on: split of the measurement.
        num_samples: number of its samples.
        before: reliability of the network's own probabilities.
        fitted_on: split of the temperature fit, ``train`` for out-of-fold predictions; empty if there is none.
        num_fitted: number of its samples.
        num_out_of_fold: how many of them are training samples with an out-of-fold prediction; the others are validation samples.
        temperature: divisor of the logits; None if none is used.
        smoothing: label smoothing to invert; 0 for none.
        after: reliability of the calibrated probabilities, which predictions use; None if no temperature is used.
        reason: why no temperature is used; empty if one is.
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
    num_out_of_fold: int = 0

    @property
    def calibrator(self) -> Calibrator:
        """The calibrator that predictions use."""
        return Calibrator(self.temperature or 1.0, self.smoothing)

    @property
    def is_worse(self) -> bool:
        """Whether the expected calibration error is larger after calibration than before."""
        return self.after is not None and is_worse(self.before.error, self.after.error)

    @property
    def is_own(self) -> bool:
        """Whether samples of the measurement took part in the fit, which makes the values after calibration too good."""
        has_validation = self.fitted_on == "val" or self.num_fitted > self.num_out_of_fold > 0
        return has_validation if self.measured_on == "val" else self.fitted_on == self.measured_on

    @property
    def is_at_limit(self) -> bool:
        """Whether the temperature is at a limit of its range."""
        return self.temperature is not None and self.temperature in (MIN_TEMPERATURE, MAX_TEMPERATURE)

    def to_json(self) -> dict[str, Any]:
        """The values as JSON data."""
        return asdict(self)


def reliability(logits: Tensor, labels: Tensor, calibrator: Calibrator = UNCALIBRATED) -> Reliability:
    """Measure confidence and accuracy, with their expected calibration error.

    Args:
        logits: (samples, classes).
        labels: (samples,) class indices.
        calibrator: converts the logits to probabilities.

    Raises:
        DataError: there is no sample.
        UsageError: the temperature is not positive.

    >>> found = reliability(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
    >>> round(found.confidence, 3), round(found.error, 3)
    (0.881, 0.381)
    """
    if not len(logits):
        raise DataError("there is nothing to calibrate: no samples were given.")
    if not calibrator.temperature > 0:
        raise UsageError(f"a temperature must be above 0, not {calibrator.temperature}.")
    # Rounded to float32, so that each sample is in the same bin here as in the scores.
    probabilities = calibrator(logits).double()
    return _reliability(probabilities, labels)


def _reliability(probabilities: Tensor, labels: Tensor) -> Reliability:
    """Reliability of probabilities (samples, classes)."""
    confidence, predicted = probabilities.max(dim=1)
    is_right = (predicted == labels).double()
    places = calibration_bins(confidence)
    bins, error = [], 0.0
    for place in range(CALIBRATION_BINS):
        inside = places == place
        count = int(inside.sum())
        mean, accuracy = (float(each[inside].mean()) if count else None for each in (confidence, is_right))
        bins.append(Bin(place / CALIBRATION_BINS, (place + 1) / CALIBRATION_BINS, count, mean, accuracy))
        error += count / len(probabilities) * abs(mean - accuracy) if mean is not None and accuracy is not None else 0.0
    loss = _losses(probabilities, labels).mean()
    return Reliability(error, float(loss), float(confidence.mean()), tuple(bins))


def fit_temperature(logits: Tensor, labels: Tensor, target_smoothing: float = 0.0) -> float:
    """The temperature with the smallest cross-entropy on these samples (Guo et al. 2017, section 4.2).

    The cross-entropy is convex in 1/T. Newton's method, with bisection as a fallback, finds the zero of its derivative.

    Args:
        logits: (samples, classes), of the validation set.
        labels: (samples,) class indices.
        target_smoothing: total probability of the other classes in the targets.

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
        """First and second derivative of the cross-entropy with respect to 1/T."""
        probabilities = torch.softmax(values * inverse, dim=1)
        mean = (probabilities * values).sum(dim=1, keepdim=True)
        variance = (probabilities * (values - mean).square()).sum(dim=1).mean()
        return float(mean.mean() - right), float(variance)

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slopes(low)[0] >= 0:
        return MAX_TEMPERATURE
    if slopes(high)[0] <= 0:
        return MIN_TEMPERATURE
    inverse = 1.0
    for _ in range(_MAX_ITERATIONS):
        slope, curvature = slopes(inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        newton = inverse - slope / curvature if curvature > 0 else low
        updated = newton if low < newton < high else (low * high) ** 0.5
        if abs(updated - inverse) <= _TOLERANCE * inverse:
            break
        inverse = updated
    return 1 / inverse


def fit_calibrator(logits: Tensor, labels: Tensor, smoothing: float = 0.0, target_smoothing: float = 0.0) -> Calibrator:
    """The calibrator with the smallest cross-entropy on these samples.

    Args:
        logits: (samples, classes), of the validation set.
        labels: (samples,) class indices.
        smoothing: label smoothing to invert; 0 for none.
        target_smoothing: total probability of the other classes in the targets.

    Raises:
        DataError: there is no sample.
    """
    start = fit_temperature(logits, labels, target_smoothing)
    return _fit_with_smoothing(logits, labels, smoothing, target_smoothing, start)


def _fit_with_smoothing(
    logits: Tensor, labels: Tensor, smoothing: float, target_smoothing: float, start: float
) -> Calibrator:
    """The best calibrator with inverted label smoothing; ``start`` is the best temperature without it.

    Inversion raises the confidence, so its temperature is above ``start``. A golden-section search over the logarithm finds it.
    """
    if not smoothing:
        return Calibrator(start)
    step = -(-logits.numel() // _MAX_VALUES)
    values, labels = logits[::step].double(), labels[::step]

    def loss(log_temperature: float) -> float:
        probabilities = Calibrator(math.exp(log_temperature), smoothing).exact(values)
        return float(_losses(probabilities, labels, target_smoothing).mean())

    lowest, highest = low, high = math.log(start), math.log(MAX_TEMPERATURE)
    left, right = low + (high - low) * _GOLDEN, high - (high - low) * _GOLDEN
    at_left, at_right = loss(left), loss(right)
    while high - low > _LOG_TOLERANCE:
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
    return Calibrator(MAX_TEMPERATURE if high == highest else math.exp((low + high) / 2), smoothing)


def _losses(probabilities: Tensor, labels: Tensor, target_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy (samples,) of probabilities (samples, classes) in float64."""
    own = probabilities.gather(1, labels[:, None])[:, 0].clamp(min=_TINY).log()
    if not target_smoothing:
        return -own
    others = (probabilities.clamp(min=_TINY).log().sum(1) - own) / max(1, probabilities.shape[1] - 1)
    return -((1 - target_smoothing) * own + target_smoothing * others)


def _num_more(num_validation: int, num_out_of_fold: int | None) -> int:
    """About how many more samples in the data allow a fit, by the default split: for the validation set, or for the training set if its
    predictions are out-of-fold. Rounded up to two digits.

    >>> _num_more(12, 109), _num_more(12, None)
    (130, 480)
    """
    for_training = (1 - TEST_FRACTION) * (1 - VAL_FRACTION)
    needed = (MIN_SAMPLES - num_validation) / ((1 - TEST_FRACTION) * VAL_FRACTION)
    if num_out_of_fold is not None and num_out_of_fold < MIN_OUT_OF_FOLD:
        needed = min(needed, (MIN_OUT_OF_FOLD - num_out_of_fold) / for_training)
    step = 10 ** max(0, len(str(math.ceil(needed))) - 2)
    return int(step * math.ceil(round(needed / step, 6)))


def choose_temperature(
    logits: Tensor,
    labels: Tensor,
    split: str,
    smoothing: float = 0.0,
    *,
    out_of_fold: tuple[Tensor, Tensor] | None = None,
) -> TemperatureFit:
    """Fit a temperature on held-out samples; it stays 1 unless another value is significantly better.

    With n samples, the targets give ``1 / (n + 2)`` to the other classes (Platt 1999, "Probabilistic outputs for support vector machines",
    section 2.2), which bounds the confidence of a network without errors. A temperature is used if the cross-validated loss falls by more than one
    standard error of the paired differences. The label smoothing is inverted if that lowers this loss further.

    Args:
        logits: (samples, classes), with test-time augmentation as in predictions.
        labels: (samples,) class indices.
        split: split of the samples.
        smoothing: label smoothing of the training; 0 for none.
        out_of_fold: cross-validated logits and labels of the training samples, by heads that were fitted without label smoothing. At least
            ``MIN_OUT_OF_FOLD`` of them join less than ``ENOUGH_SAMPLES`` samples.
    """
    num_out_of_fold = 0
    if out_of_fold is not None and len(out_of_fold[0]) >= MIN_OUT_OF_FOLD and len(logits) < ENOUGH_SAMPLES:
        logits, labels = (torch.cat([found, held]) for found, held in zip(out_of_fold, (logits, labels), strict=True))
        split, smoothing, num_out_of_fold = "train", 0.0, len(out_of_fold[0])
    num_samples = len(logits)
    name = split_name(split)
    if not num_samples:
        return TemperatureFit(reason=f"there is no {name} set to fit a temperature on")
    if num_samples < MIN_SAMPLES:
        few = write_number_of(num_samples, "sample")
        more = _num_more(num_samples, None if out_of_fold is None else len(out_of_fold[0]))
        return TemperatureFit(
            1.0,
            f"{few} of the {name} set are too few to fit a temperature on; about {more:,} more samples in the data allow it",
            split,
            num_samples,
        )
    if not torch.isfinite(logits).all():
        reason = f"the logits for the {name} set are not all finite"
        return TemperatureFit(1.0, reason, split, num_samples, num_out_of_fold=num_out_of_fold)
    values = logits.double()
    own = UNCALIBRATED(values).double()
    candidates = _cross_validated(values, labels, tuple(dict.fromkeys((0.0, smoothing))))
    inverted, held_out = min(candidates.items(), key=lambda each: float(_losses(each[1], labels).mean()))
    found = fit_calibrator(values, labels, inverted, 1 / (num_samples + 2))
    gains = _losses(own, labels) - _losses(held_out, labels)
    gain, error = float(gains.mean()), float(gains.std()) / math.sqrt(num_samples)
    before, after = _reliability(own, labels), _reliability(held_out, labels)
    figures = (before.loss, after.loss, before.error, after.error)
    if gain > STANDARD_ERRORS * error:
        return TemperatureFit(found.temperature, "", split, num_samples, inverted, *figures, num_out_of_fold)
    lowered = f"the {name} set" if not num_out_of_fold else "the training set, out-of-fold,"
    reason = (
        f"a temperature of {found.temperature:.3g}{' with the label smoothing inverted' if inverted else ''} does not lower the loss of {lowered} significantly "
        f"(cross-validated: by {gain:.2g} with a standard error of {error:.2g})"
    )
    return TemperatureFit(1.0, reason, split, num_samples, 0.0, *figures, num_out_of_fold)


def _cross_validated(values: Tensor, labels: Tensor, smoothings: Sequence[float]) -> dict[float, Tensor]:
    """Cross-validated probabilities (float64) of all samples, for each label smoothing to invert."""
    num_samples = len(values)
    places = torch.arange(num_samples) % NUM_FOLDS
    probabilities = {smoothing: torch.empty_like(values) for smoothing in smoothings}
    for fold in range(NUM_FOLDS):
        is_fitted = places != fold
        fit_samples = values[is_fitted], labels[is_fitted]
        start = fit_temperature(*fit_samples, 1 / (num_samples + 2))
        for smoothing, held_out in probabilities.items():
            fitted = _fit_with_smoothing(*fit_samples, smoothing, 1 / (num_samples + 2), start)
            held_out[~is_fitted] = fitted(values[~is_fitted]).double()
    return probabilities


def calibrate(logits: Tensor, labels: Tensor, split: str, fit: TemperatureFit) -> Calibration:
    """Measure the reliability of the network's own probabilities and, if a temperature is used, of the calibrated ones.

    Args:
        logits: (samples, classes).
        labels: (samples,) class indices.
        split: split of the samples.
        fit: fitted temperature of the run.

    Raises:
        DataError: there is no sample.
    """
    before = reliability(logits, labels)
    count = fit.num_out_of_fold
    if not fit.is_used:
        return Calibration(
            split, len(logits), before, fit.fitted_on, fit.num_samples, reason=fit.reason, num_out_of_fold=count
        )
    after = reliability(logits, labels, fit.calibrator)
    fitted = fit.fitted_on, fit.num_samples, fit.temperature, after, "", fit.smoothing, count
    return Calibration(split, len(logits), before, *fitted)
