"""Paired comparison of two networks that predict sets of classes or numbers, on the same samples; ``evaluation.paired`` has that of single labels.

Both networks are scored on the same bootstrap draws of samples, or of groups of them (``evaluation.cluster_bootstrap``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visus.data.tasks import label_text
from visus.errors import DataError
from visus.evaluation.cluster_bootstrap import (
    bootstrap_difference,
    bootstrap_mean,
    count_groups,
    each_alone,
    known_interval,
    write_interval,
)
from visus.evaluation.intervals import NO_INTERVAL
from visus.evaluation.paired import SIGNIFICANCE, Differing, Paired, compare_answers
from visus.evaluation.ranking import Ranking, mean_average_precisions
from visus.units import write_number_of

EMPTY_SET: Final = "-"
MAX_LARGEST: Final = 20


@dataclass(frozen=True)
class PairedSets:
    """Comparison of two networks that predict sets of classes, left and right, on the same samples. Fractions are from 0 to 1, differences from -1 to 1.

    Attributes:
        num_samples: number of samples.
        precision_left, precision_right: mean average precision of each network, over the classes that occur.
        difference: that of the right network minus that of the left one.
        difference_low, difference_high: its 95 % interval by the paired bootstrap.
        p_value: two-sided p-value of the bootstrap; from five samples, or groups, on, below 0.05 exactly if the interval excludes 0.
        exact: comparison of the exact match: a sample is right if its whole set is.
    """

    num_samples: int
    precision_left: float
    precision_right: float
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    exact: Paired

    @property
    def p_values(self) -> tuple[float, ...]:
        """The p-values of the mean average precision, and of the exact match."""
        return self.p_value, self.exact.p_value

    @property
    def differing(self) -> tuple[Differing, ...]:
        """Samples with different predicted sets, in order."""
        return self.exact.differing

    @property
    def is_sure(self) -> bool:
        """Whether the difference of the mean average precisions is significant at 5 %."""
        return self.p_value < SIGNIFICANCE

    def sentence(
        self, left: str = "left", right: str = "right", noun: str = "sample", holm_p_values: Sequence[float] = ()
    ) -> str:
        """The comparison as two sentences.

        Args:
            left, right: names of the networks.
            noun: word for one sample.
            holm_p_values: the p-values after Holm's correction, if this is one of several comparisons; they then decide on significance.
        """
        first, second = holm_p_values or (None, None)
        exact = f"By exact match, {self.exact.sentence(left, right, noun, second)}"
        of = f"of {write_number_of(self.num_samples, noun)}"
        if self.difference == 0:
            return f"{left} and {right} have the same mean average precision, {of}. {exact}"
        better, worse = (right, left) if self.difference > 0 else (left, right)
        low, high = _ordered(self.difference_low, self.difference_high, is_turned=self.difference < 0)
        test = _test(self.p_value, first)
        interval = write_interval(100 * low, 100 * high, "{:.1f}".format, self.exact.num_groups)
        return (
            f"{better} has a higher mean average precision than {worse}, by {100 * abs(self.difference):.1f} points on "
            f"{write_number_of(self.num_samples, noun)} (95 % interval {interval}; {test}. {exact}"
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {**asdict(self), "exact": self.exact.to_json()}


@dataclass(frozen=True)
class TargetDifference:
    """Comparison of the absolute errors of one target, in its units.

    Attributes:
        name: the target.
        mae_left, mae_right: mean absolute error of each network.
        difference: that of the right network minus that of the left one; below 0, the right one is better.
        difference_low, difference_high: its 95 % interval by the paired bootstrap; None where all samples are of one group.
        p_value: two-sided p-value of the bootstrap; from five samples, or groups, on, below 0.05 exactly if the interval excludes 0.
    """

    name: str
    mae_left: float
    mae_right: float
    difference: float
    difference_low: float | None
    difference_high: float | None
    p_value: float

    def sentence(
        self,
        left: str,
        right: str,
        noun: str,
        num_samples: int,
        holm_p_value: float | None,
        num_groups: int | None = None,
    ) -> str:
        """The comparison as one sentence."""
        samples = write_number_of(num_samples, noun)
        if self.difference == 0:
            return f"{left} and {right} have the same mean absolute error of {self.name}, of {samples}."
        better, worse = (right, left) if self.difference < 0 else (left, right)
        interval = NO_INTERVAL
        if self.difference_low is not None and self.difference_high is not None:
            low, high = _ordered(self.difference_low, self.difference_high, is_turned=self.difference < 0)
            interval = f"95 % interval {write_interval(low, high, '{:.4g}'.format, num_groups)}"
        return f"{better} has a smaller mean absolute error of {self.name} than {worse}, by {abs(self.difference):.4g} on {samples} ({interval}; {_test(self.p_value, holm_p_value)}."


@dataclass(frozen=True)
class PairedNumbers:
    """Comparison of two networks that predict numbers, left and right, on the same samples.

    Attributes:
        num_samples: number of samples.
        targets: the difference of the absolute errors of each target.
        largest: the samples whose absolute errors of the first target differ most.
        num_groups: number of groups that the intervals are over; None for independent samples.
    """

    num_samples: int
    targets: tuple[TargetDifference, ...]
    largest: tuple[Differing, ...] = ()
    num_groups: int | None = None

    @property
    def p_value(self) -> float:
        """The p-value of the first target."""
        return self.targets[0].p_value

    @property
    def p_values(self) -> tuple[float, ...]:
        """The p-value of each target."""
        return tuple(each.p_value for each in self.targets)

    @property
    def is_sure(self) -> bool:
        """Whether the difference of the first target is significant at 5 %."""
        return self.p_value < SIGNIFICANCE

    def sentence(
        self, left: str = "left", right: str = "right", noun: str = "sample", holm_p_values: Sequence[float] = ()
    ) -> str:
        """The comparison as one sentence for each target; the arguments are those of ``PairedSets.sentence``."""
        corrected: Sequence[float | None] = holm_p_values or [None] * len(self.targets)
        return " ".join(
            each.sentence(left, right, noun, self.num_samples, value, self.num_groups)
            for each, value in zip(self.targets, corrected, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return asdict(self)


AnyPaired: TypeAlias = Paired | PairedSets | PairedNumbers


def compare_sets(
    probabilities: Sequence[NDArray[Any]],
    predicted: Sequence[NDArray[Any]],
    labels: NDArray[Any],
    classes: Sequence[str],
    samples: Sequence[str],
    groups: Sequence[str] | None = None,
) -> PairedSets:
    """Compare two networks that predict sets of classes.

    Args:
        probabilities: (samples, classes) of the left and of the right network.
        predicted: (samples, classes) of both, whether the class is predicted.
        labels: (samples, classes) of 0 and 1.
        classes: class names.
        samples: name of each sample.
        groups: the group of each sample; None for independent samples.

    Raises:
        DataError: there is no sample, or none has a class.

    >>> shares, labels = np.array([[0.9, 0.2], [0.1, 0.8]]), np.array([[1, 0], [0, 1]])
    >>> found = compare_sets([shares, 1 - shares], [shares > 0.5, shares < 0.5], labels, ["cat", "dog"], ["a", "b"])
    >>> found.difference, found.exact.only_left
    (-0.5, 2)
    """
    truth = np.asarray(labels) > 0.5
    if not truth.any():
        raise DataError("there is nothing to compare: no sample has any of the classes.")
    rankings = [[Ranking(shares[:, place], truth[:, place]) for place in range(len(classes))] for shares in probabilities]

    def precisions(weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return [np.nan_to_num(mean_average_precisions(ranked, weights)) for ranked in rankings]

    def gain(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        left, right = precisions(weights)
        return right - left

    left, right = (float(each[0]) for each in precisions(np.ones((1, len(truth)))))
    found = bootstrap_difference(gain, each_alone(groups, len(truth)))
    sets = [[_set_text(row, classes) for row in rows] for rows in (*map(np.asarray, predicted), truth)]
    known = sorted({text for texts in sets for text in texts})
    number = {text: place for place, text in enumerate(known)}
    left_sets, right_sets, label_sets = ([number[text] for text in texts] for texts in sets)
    exact = compare_answers(left_sets, right_sets, label_sets, known, samples, groups)
    interval = max(-1.0, found.low), min(1.0, found.high)
    return PairedSets(len(truth), left, right, right - left, *interval, found.p_value, exact)


def compare_numbers(
    predicted: Sequence[NDArray[Any]],
    labels: NDArray[Any],
    targets: Sequence[str],
    samples: Sequence[str],
    groups: Sequence[str] | None = None,
) -> PairedNumbers:
    """Compare the absolute errors of two networks that predict numbers.

    Args:
        predicted: (samples, targets) of the left and of the right network.
        labels: (samples, targets).
        targets: names of the targets.
        samples: name of each sample.
        groups: the group of each sample; None for independent samples.

    Raises:
        DataError: there is no sample.

    >>> labels = np.zeros((4, 1))
    >>> compare_numbers([labels + 2, labels - 1], labels, ["age"], ["a", "b", "c", "d"]).targets[0].difference
    -1.0
    """
    if not len(labels):
        raise DataError("there is nothing to compare: no sample has predictions of both networks.")
    left, right = (np.abs(np.asarray(each, dtype=np.float64) - labels) for each in predicted)
    rows = tuple(_target_difference(name, left[:, at], right[:, at], groups) for at, name in enumerate(targets))
    apart = np.abs(right[:, 0] - left[:, 0])
    order = [place for place in np.argsort(-apart, kind="stable")[:MAX_LARGEST].tolist() if apart[place] > 0]
    largest = tuple(
        Differing(samples[at], f"{labels[at, 0]:.4g}", *(f"{float(each[at, 0]):.4g}" for each in predicted)) for at in order
    )
    return PairedNumbers(len(labels), rows, largest, count_groups(groups))


def _target_difference(
    name: str, left: NDArray[np.float64], right: NDArray[np.float64], groups: Sequence[str] | None
) -> TargetDifference:
    gains = right - left
    found = bootstrap_mean(gains, each_alone(groups, len(gains)))
    own = float(left.mean()), float(right.mean())
    low, high = known_interval((found.low, found.high))
    return TargetDifference(name, *own, float(gains.mean()), low, high, found.p_value)


def _set_text(row: NDArray[Any], classes: Sequence[str]) -> str:
    return label_text(row, "multi-label", classes, separator=", ") or EMPTY_SET


def _ordered(low: float, high: float, *, is_turned: bool) -> tuple[float, float]:
    return (-high, -low) if is_turned else (low, high)


def _test(p_value: float, holm_p_value: float | None) -> str:
    """The p-value, the closing bracket, and the verdict."""
    corrected = "" if holm_p_value is None else f", {holm_p_value:.2g} by Holm's correction"
    is_sure = (p_value if holm_p_value is None else holm_p_value) < SIGNIFICANCE
    return f"paired bootstrap p = {p_value:.2g}{corrected}){'' if is_sure else '; the difference is not significant'}"
