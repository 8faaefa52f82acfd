"""Paired comparison of two networks on the same samples: difference of accuracies, confidence interval, p-value, differing predictions.

The accuracies of two networks on the same samples are not independent, so their separate intervals say little about the difference. Only the samples that
exactly one network predicts correctly show which is better. Where samples come in groups, whole groups are drawn for the interval and the p-value
(``evaluation.cluster_bootstrap``): several samples of one patient are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visus.errors import DataError, UsageError
from visus.evaluation.cluster_bootstrap import bootstrap_mean, count_groups, write_interval
from visus.units import write_number_of, write_share

_CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
"""The p-value below which a difference is called significant."""


@dataclass(frozen=True)
class Differing:
    """A sample with different predictions: its name, its label and both predictions, as class names."""

    sample: str
    label: str
    left: str
    right: str

    @property
    def right_one(self) -> str:
        """Which prediction is correct: ``left``, ``right`` or ``neither``."""
        return "left" if self.left == self.label else "right" if self.right == self.label else "neither"


@dataclass(frozen=True)
class Paired:
    """Comparison of two networks, left and right, on the same samples. Accuracies are from 0 to 1, differences from -1 to 1.

    Attributes:
        num_samples: number of samples.
        both_right: number of samples that both networks predict correctly.
        only_left: number that only the left network predicts correctly.
        only_right: number that only the right network predicts correctly.
        both_wrong: number that neither predicts correctly.
        difference: accuracy of the right network minus that of the left one.
        difference_low, difference_high: its 95 % confidence interval, the score interval of Tango 1998; it excludes 0 exactly if ``p_value`` is below 0.05.
            Over groups, that of the paired bootstrap.
        p_value: two-sided p-value of McNemar's test; over groups, of the paired bootstrap.
        differing: samples with different predictions, in order.
        num_groups: number of groups that interval and p-value are over; None for independent samples.
    """

    num_samples: int
    both_right: int
    only_left: int
    only_right: int
    both_wrong: int
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    differing: tuple[Differing, ...]
    num_groups: int | None = None

    @property
    def accuracy_left(self) -> float:
        """Accuracy of the left network."""
        return (self.both_right + self.only_left) / self.num_samples

    @property
    def accuracy_right(self) -> float:
        """Accuracy of the right network."""
        return (self.both_right + self.only_right) / self.num_samples

    @property
    def p_values(self) -> tuple[float, ...]:
        """The p-value, as the only one."""
        return (self.p_value,)

    @property
    def is_sure(self) -> bool:
        """Whether the difference is significant at 5 %."""
        return self.p_value < SIGNIFICANCE

    def sentence(
        self, left: str = "left", right: str = "right", noun: str = "sample", holm_p_value: float | None = None
    ) -> str:
        """The comparison as one sentence.

        Args:
            left, right: names of the networks.
            noun: word for one sample.
            holm_p_value: the p-value after Holm's correction, if this is one of several comparisons; it then decides on significance.
        """
        if not self.only_left and not self.only_right:
            return f"{left} and {right} are correct on the same samples, of {write_number_of(self.num_samples, noun)}."
        better, worse, points = (right, left, self.difference) if self.difference > 0 else (left, right, -self.difference)
        bounds = (self.difference_low, self.difference_high)
        low, high = bounds if self.difference > 0 else (-bounds[1], -bounds[0])
        is_sure = self.is_sure if holm_p_value is None else holm_p_value < SIGNIFICANCE
        verdict = "" if is_sure else "; the difference is not significant"
        corrected = "" if holm_p_value is None else f", {holm_p_value:.2g} by Holm's correction"
        test = "McNemar's test" if self.num_groups is None else "paired bootstrap"
        interval = write_interval(100 * low, 100 * high, "{:.1f}".format, self.num_groups)
        return (
            f"{better} is more accurate than {worse} by {100 * points:.1f} points on {write_number_of(self.num_samples, noun)} "
            f"(95 % interval {interval}; exactly one is correct on "
            f"{self.only_left + self.only_right:,}, {test} p = {self.p_value:.2g}{corrected}){verdict}."
            if points
            else f"{left} and {right} have equal accuracy, {write_share(self.accuracy_left)} of "
            f"{write_number_of(self.num_samples, noun)}; only {left} is correct on {self.only_left:,}, and only {right} on {self.only_right:,}."
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON data."""
        return {
            **asdict(self),
            "accuracy_left": self.accuracy_left,
            "accuracy_right": self.accuracy_right,
            "differing": [asdict(each) for each in self.differing],
        }


def compare_answers(
    left: Sequence[int],
    right: Sequence[int],
    labels: Sequence[int],
    classes: Sequence[str],
    samples: Sequence[str],
    groups: Sequence[str] | None = None,
) -> Paired:
    """Compare the predictions of two networks, sample by sample.

    Args:
        left, right: predicted index into ``classes`` for each sample, by each network.
        labels: label of each sample, as an index into ``classes``.
        classes: class names.
        samples: name of each sample.
        groups: the group of each sample, empty for none; None for independent samples.

    Raises:
        DataError: there is no sample.
        UsageError: the lengths differ.

    >>> found = compare_answers([0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 1, 0], ["cat", "dog"], ["a", "b", "c", "d"])
    >>> found.only_left, found.only_right, [each.sample for each in found.differing]
    (1, 1, ['b', 'd'])
    """
    lengths = [len(each) for each in (left, right, labels, samples)]
    if len(set(lengths)) > 1:
        raise UsageError(
            f"each sample needs two predictions, a label and a name; their numbers are {lengths[0]:,}, {lengths[1]:,}, "
            f"{lengths[2]:,} and {lengths[3]:,}."
        )
    if not lengths[0]:
        raise DataError("there is nothing to compare: no sample has predictions of both networks.")
    pairs = [(one == label, other == label) for one, other, label in zip(left, right, labels, strict=True)]
    table = (
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
    )
    low, high, p_value = difference_test([right - left for left, right in pairs], groups)
    differing = tuple(
        Differing(sample, classes[label], classes[one], classes[other])
        for one, other, label, sample in zip(left, right, labels, samples, strict=True)
        if one != other
    )
    difference = (table[2] - table[1]) / lengths[0]
    return Paired(lengths[0], *table, difference, low, high, p_value, differing, count_groups(groups))


def difference_test(
    gains: Sequence[int] | NDArray[Any], groups: Sequence[Hashable] | NDArray[Any] | None = None
) -> tuple[float, float, float]:
    """95 % interval of the difference of two accuracies, right minus left, and its two-sided p-value.

    Of independent samples, Tango's interval and McNemar's test. Over groups, the paired bootstrap of groups; if the networks are equal in each group, so that
    every draw is the same, Tango's interval for as many samples as there are groups.

    Args:
        gains: for each sample, 1 if only the right network is correct, -1 if only the left one is, 0 otherwise.
        groups: the group of each sample, empty for none; None for independent samples.

    Returns:
        Both bounds, from -1 to 1, and the p-value.

    >>> gains = [1] * 9 + [0] * 31
    >>> [round(each, 3) for each in difference_test(gains)]
    [0.118, 0.375, 0.003]
    >>> [round(each, 3) for each in difference_test(gains, groups=[place // 10 for place in range(40)])]  # all gains are of one group
    [0.0, 0.9, 0.698]
    """
    values = np.asarray(gains, dtype=np.float64)
    num_groups = count_groups(groups)
    if groups is None or num_groups is None:
        only_left, only_right = int((values < 0).sum()), int((values > 0).sum())
        rest = len(values) - only_left - only_right
        return *difference_interval(rest, only_left, only_right, 0), mcnemar(only_left, only_right)
    found = bootstrap_mean(values, groups)
    if found.low == found.high == 0:
        return *difference_interval(num_groups, 0, 0, 0), found.p_value
    return max(-1.0, found.low), min(1.0, found.high), found.p_value


def mcnemar(only_left: int, only_right: int) -> float:
    """Two-sided p-value of McNemar's test (McNemar 1947, doi:10.1007/BF02295996), without continuity correction.

    It agrees with ``difference_interval``, of which it is the test at a difference of 0: p is below 0.05 exactly if the interval excludes 0. Fagerland,
    Lydersen and Laake 2013 (doi:10.1186/1471-2288-13-91) recommend it over the exact test, which is too conservative.

    Args:
        only_left, only_right: numbers of samples that only this network predicts correctly.

    >>> round(mcnemar(1, 7), 4), mcnemar(0, 0)
    (0.0339, 1.0)
    """
    if not only_left + only_right:
        return 1.0
    return math.erfc(abs(only_right - only_left) / math.sqrt(2 * (only_left + only_right)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values of several tests after Holm's correction (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    If every difference below 0.05 is called significant, the probability of even one false claim among all is at most 5 %, however
    the tests depend on each other. The smallest of n p-values is multiplied by n, the next by n - 1, and so on; no corrected value is
    below that of a smaller one, or above 1.

    >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return tuple(corrected)


def at_most(heads: int, num_tosses: int) -> float:
    """Probability of at most ``heads`` heads in ``num_tosses`` of a fair coin; exact in integers before the division.

    >>> at_most(0, 5), at_most(1, 2)
    (0.03125, 0.75)
    """
    term = ways = 1  # the number of ways to choose k of the tosses, and their sum up to k
    for k in range(1, heads + 1):
        term = term * (num_tosses - k + 1) // k
        ways += term
    return float(ways / 2**num_tosses)


def difference_interval(both_right: int, only_left: int, only_right: int, both_wrong: int) -> tuple[float, float]:
    """95 % confidence interval of the difference of the accuracies, right minus left: the score interval of Tango 1998 (Statistics in Medicine 17, 891-908).

    It holds the differences that the score test does not reject at 5 %; at a difference of 0, this test is McNemar's.

    >>> tuple(round(bound, 3) for bound in difference_interval(59, 6, 16, 80))
    (0.005, 0.124)
    """
    num_samples = both_right + only_left + only_right + both_wrong
    estimate = (only_right - only_left) / num_samples
    z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)

    def is_accepted(difference: float) -> bool:
        return abs(_score_statistic(only_left, only_right, num_samples, difference)) <= z

    return _last_accepted(estimate, -1.0, is_accepted), _last_accepted(estimate, 1.0, is_accepted)


def _score_statistic(only_left: int, only_right: int, num_samples: int, difference: float) -> float:
    """Score statistic for a true difference, with the restricted maximum-likelihood estimate of the disagreement (Tango 1998, equations 2 and 3)."""
    deviation = only_right - only_left - num_samples * difference
    linear = (2 * num_samples + only_left - only_right) * difference - only_left - only_right
    constant = -only_left * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear**2 - 8 * num_samples * constant))
    share_left = max(0.0, (root - linear) / (4 * num_samples))  # of samples that only the left network predicts correctly
    variance = num_samples * (2 * share_left + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if abs(deviation) < 1e-9 else math.copysign(math.inf, deviation)
    return deviation / math.sqrt(variance)


def _last_accepted(accepted: float, end: float, is_accepted: Callable[[float], bool]) -> float:
    """The value nearest to ``end`` that is accepted, by bisection; ``accepted`` is one that is."""
    if is_accepted(end):
        return end
    rejected = end
    for _ in range(60):
        middle = (accepted + rejected) / 2
        if is_accepted(middle):
            accepted = middle
        else:
            rejected = middle
    return accepted
