"""Two networks' answers for the same samples: the difference of their accuracies, how sure it is, and where they differ.

This file knows answers, labels and names of samples.

Both answered the same samples, so their accuracies are not independent, and each one's own interval says little about the
difference. Only the samples that one of them got right and the other wrong tell which is better.
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
_SURE = 0.05


@dataclass(frozen=True)
class Differing:
    """A sample that two networks answer differently: its name, its label, and both answers, as class names."""

    sample: str
    label: str
    left: str
    right: str

    @property
    def right_one(self) -> str:
        """Which of the two is right: ``left``, ``right``, or ``neither``."""
        return "left" if self.left == self.label else "right" if self.right == self.label else "neither"


@dataclass(frozen=True)
class Paired:
    """How two networks, left and right, do on the same samples. Shares are from 0 to 1, their differences from -1 to 1.

    Attributes:
        num_samples: samples that both answered.
        both_right, only_left, only_right, both_wrong: samples by who got them right; they add up to ``num_samples``.
        difference: accuracy of the right one less that of the left one.
        difference_low, difference_high: its 95 % interval, by Newcombe's method 10 for paired shares.
        p_value: McNemar's exact test: how often networks that are equally good would differ at least so unevenly by chance.
        differing: the samples with different answers, in the order of the samples.
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
        """Share that the left one got right."""
        return (self.both_right + self.only_left) / self.num_samples

    @property
    def accuracy_right(self) -> float:
        """Share that the right one got right."""
        return (self.both_right + self.only_right) / self.num_samples

    @property
    def is_sure(self) -> bool:
        """Whether McNemar's test tells the two apart at 5 %."""
        return self.p_value < _SURE

    def sentence(self, left: str = "left", right: str = "right", noun: str = "sample") -> str:
        """The comparison as one sentence for people."""
        if not self.only_left and not self.only_right:
            return f"{left} and {right} are right on the same {write_number_of(self.num_samples, noun)}."
        better, worse, points = (right, left, self.difference) if self.difference > 0 else (left, right, -self.difference)
        bounds = (self.difference_low, self.difference_high)
        low, high = bounds if self.difference > 0 else (-bounds[1], -bounds[0])
        verdict = "" if self.is_sure else "; so few do not tell them apart"
        return (
            f"{better} is right more often than {worse} by {100 * points:.1f} points on {write_number_of(self.num_samples, noun)} "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}; one alone is right on {self.only_left + self.only_right:,}, "
            f"McNemar's exact test p = {self.p_value:.2g}){verdict}."
            if points
            else f"{left} and {right} are right equally often, on {write_share(self.accuracy_left)} of "
            f"{write_number_of(self.num_samples, noun)}; {left} alone on {self.only_left:,} and {right} alone on {self.only_right:,}."
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            **asdict(self),
            "accuracy_left": self.accuracy_left,
            "accuracy_right": self.accuracy_right,
            "differing": [asdict(each) for each in self.differing],
        }


def compare_answers(
    left: Sequence[int], right: Sequence[int], labels: Sequence[int], classes: Sequence[str], samples: Sequence[str]
) -> Paired:
    """The comparison of two networks' answers, sample by sample.

    Args:
        left, right: index into ``classes`` for each sample, as each network answered.
        labels: what is right.
        classes: class names.
        samples: names of the samples.

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
            f"two answers, a label and a name are needed for each sample, and there are {lengths[0]:,}, {lengths[1]:,}, "
            f"{lengths[2]:,} and {lengths[3]:,}."
        )
    if not lengths[0]:
        raise DataError("there is nothing to compare: no sample was answered by both.")
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
    """McNemar's exact test, two-sided: the probability of so uneven a split, or a more uneven one, by tossing a fair coin.

    It looks only at the samples that one alone got right (McNemar 1947, doi:10.1007/BF02295996; the exact form doubles the
    smaller tail of the binomial distribution and is 1 where that is more). Exact in whole numbers until the last division.

    >>> round(mcnemar(1, 7), 4), mcnemar(0, 0)
    (0.0703, 1.0)
    """
    return min(1.0, 2 * at_most(min(only_left, only_right), only_left + only_right))


def at_most(heads: int, num_tosses: int) -> float:
    """The probability of at most so many heads in tosses of a fair coin; exact in whole numbers until the division.

    >>> at_most(0, 5), at_most(1, 2)
    (0.03125, 0.75)
    """
    term = ways = 1  # the number of ways to choose k of the tosses, and their sum up to k
    for k in range(1, heads + 1):
        term = term * (num_tosses - k + 1) // k
        ways += term
    return float(ways / 2**num_tosses)


def difference_interval(both_right: int, only_left: int, only_right: int, both_wrong: int) -> tuple[float, float]:
    """The interval that holds the true difference of the accuracies, right less left, with 95 % confidence.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17, 2635-2650): Wilson's intervals of both accuracies, squared and
    added, with the correlation of the two sets of answers taken off, itself corrected for continuity.

    >>> tuple(round(bound, 3) for bound in difference_interval(14, 0, 5, 22))
    (0.011, 0.226)
    """
    num_samples = both_right + only_left + only_right + both_wrong
    left, right = both_right + only_left, both_right + only_right
    share_left, share_right = left / num_samples, right / num_samples
    left_low, left_high = wilson_interval(left, num_samples, _CONFIDENCE)
    right_low, right_high = wilson_interval(right, num_samples, _CONFIDENCE)
    margins = left * (num_samples - left) * right * (num_samples - right)
    excess = both_right * both_wrong - only_left * only_right
    corrected = max(excess - num_samples / 2, 0.0) if excess > 0 else float(excess)
    correlation = corrected / math.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    difference = share_right - share_left
    low = difference - reach(share_right - right_low, left_high - share_left)
    high = difference + reach(right_high - share_right, share_left - left_low)
    return max(-1.0, low), min(1.0, high)
