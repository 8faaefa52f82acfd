"""Paired comparison of two networks on the same samples: difference of accuracies, confidence interval, p-value, differing predictions.

The accuracies of two networks on the same samples are not independent, so their separate intervals say little about the difference. Only the samples that
exactly one network predicts correctly show which is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from visus.errors import DataError, UsageError
from visus.evaluation.scores import wilson_interval
from visus.units import write_number_of, write_share

_CONFIDENCE = 0.95
_SIGNIFICANCE = 0.05


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
        difference_low, difference_high: its 95 % confidence interval, by Newcombe's method 10 for paired proportions.
        p_value: two-sided p-value of McNemar's exact test.
        differing: samples with different predictions, in order.
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

    @property
    def accuracy_left(self) -> float:
        """Accuracy of the left network."""
        return (self.both_right + self.only_left) / self.num_samples

    @property
    def accuracy_right(self) -> float:
        """Accuracy of the right network."""
        return (self.both_right + self.only_right) / self.num_samples

    @property
    def is_sure(self) -> bool:
        """Whether the difference is significant at 5 % in McNemar's test."""
        return self.p_value < _SIGNIFICANCE

    def sentence(self, left: str = "left", right: str = "right", noun: str = "sample") -> str:
        """The comparison as one sentence."""
        if not self.only_left and not self.only_right:
            return f"{left} and {right} are correct on the same samples, of {write_number_of(self.num_samples, noun)}."
        better, worse, points = (right, left, self.difference) if self.difference > 0 else (left, right, -self.difference)
        bounds = (self.difference_low, self.difference_high)
        low, high = bounds if self.difference > 0 else (-bounds[1], -bounds[0])
        verdict = "" if self.is_sure else "; the difference is not significant"
        return (
            f"{better} is more accurate than {worse} by {100 * points:.1f} points on {write_number_of(self.num_samples, noun)} "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}; exactly one is correct on {self.only_left + self.only_right:,}, "
            f"McNemar's exact test p = {self.p_value:.2g}){verdict}."
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
    left: Sequence[int], right: Sequence[int], labels: Sequence[int], classes: Sequence[str], samples: Sequence[str]
) -> Paired:
    """Compare the predictions of two networks, sample by sample.

    Args:
        left, right: predicted index into ``classes`` for each sample, by each network.
        labels: label of each sample, as an index into ``classes``.
        classes: class names.
        samples: name of each sample.

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
    low, high = difference_interval(*table)
    differing = tuple(
        Differing(sample, classes[label], classes[one], classes[other])
        for one, other, label, sample in zip(left, right, labels, samples, strict=True)
        if one != other
    )
    difference = (table[2] - table[1]) / lengths[0]
    return Paired(lengths[0], *table, difference, low, high, mcnemar(table[1], table[2]), differing)


def mcnemar(only_left: int, only_right: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947, doi:10.1007/BF02295996).

    It is twice the smaller tail of the binomial distribution, at most 1, over the samples that exactly one network predicts correctly. All arithmetic
    before the last division is in exact integers.

    >>> round(mcnemar(1, 7), 4), mcnemar(0, 0)
    (0.0703, 1.0)
    """
    return min(1.0, 2 * at_most(min(only_left, only_right), only_left + only_right))


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
    """95 % confidence interval of the difference of the accuracies, right minus left.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17, 2635-2650) combines the Wilson intervals of both accuracies, with a continuity-corrected
    correlation of the two sets of predictions.

    >>> tuple(round(bound, 3) for bound in difference_interval(14, 0, 5, 22))
    (0.011, 0.226)
    """
    num_samples = both_right + only_left + only_right + both_wrong
    left, right = both_right + only_left, both_right + only_right
    accuracy_left, accuracy_right = left / num_samples, right / num_samples
    left_low, left_high = wilson_interval(left, num_samples, _CONFIDENCE)
    right_low, right_high = wilson_interval(right, num_samples, _CONFIDENCE)
    margins = left * (num_samples - left) * right * (num_samples - right)
    excess = both_right * both_wrong - only_left * only_right
    corrected = max(excess - num_samples / 2, 0.0) if excess > 0 else float(excess)
    correlation = corrected / math.sqrt(margins) if margins else 0.0

    def half_width(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    difference = accuracy_right - accuracy_left
    low = difference - half_width(accuracy_right - right_low, left_high - accuracy_left)
    high = difference + half_width(right_high - accuracy_right, accuracy_left - left_low)
    return max(-1.0, low), min(1.0, high)
