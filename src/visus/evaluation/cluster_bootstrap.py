"""Confidence intervals of metrics whose samples come in groups, such as several images of each patient: the cluster bootstrap.

Samples of one group resemble each other, so 100 images of 10 patients say less than 100 images of 100 patients. Whole groups are therefore drawn with
replacement, as many as there are, and the metric is computed again for each draw (Davison and Hinkley 1997, section 3.8). The interval is the expanded
percentile interval (Hesterberg 2015, doi:10.1080/00031305.2015.1089789, section 5.3), since plain percentiles are too narrow for few groups.

Shape letters: N samples, G groups, R resamples.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.evaluation.intervals import wilson_interval, write_range
from visus.units import write_number_of

NUM_RESAMPLES: Final = 2_000
ENOUGH_GROUPS: Final = 10
"""Groups below which a note says that an interval is too narrow. In simulations, it holds the true accuracy or error in 45 to 80 % of the cases over 2
groups, in 70 to 83 % over 3, in 82 to 90 % over 4, and in 86 to 94 % from 8 on (``benchmarks/group_intervals.py``)."""
_CONFIDENCE: Final = 0.95
_SEED: Final = 0
_CHUNK: Final = 2**22
"""Values of a chunk of weights; bounds the memory."""

Interval = tuple[float, float]
KnownInterval = tuple[float, float] | tuple[None, None]
GroupsOfSamples = Sequence[Hashable] | NDArray[Any]
"""The group of each sample (N,); an empty text or None for none."""


def group_numbers(groups: Sequence[Hashable] | NDArray[Any]) -> NDArray[np.int64]:
    """The number (N,) of each sample's group, from 0 in the order of the first samples.

    A sample without a group (an empty text, or None) is a group of its own.

    >>> group_numbers(["a", "b", "", "a", ""]).tolist()
    [0, 1, 2, 0, 3]
    """
    numbers: dict[Hashable, int] = {}
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    keys = [(place,) if group is None or group == "" else group for place, group in enumerate(values)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def count_groups(groups: Sequence[Hashable] | NDArray[Any] | None) -> int | None:
    """Number of groups that an interval is over; None without groups, and where each sample is a group of its own.

    >>> count_groups(["a", "b", "a"]), count_groups(["a", "b", "c"]), count_groups(None)
    (2, None, None)
    """
    if groups is None:
        return None
    num_groups = len(set(group_numbers(groups).tolist()))
    return None if num_groups == len(groups) and num_groups > 1 else num_groups


def each_alone(groups: GroupsOfSamples | None, num_samples: int) -> GroupsOfSamples:
    """The groups; without any, each sample is one of its own.

    >>> each_alone(None, 3).tolist(), each_alone(["a", "a"], 2)
    ([0, 1, 2], ['a', 'a'])
    """
    return np.arange(num_samples) if groups is None else groups


def over_groups(num_groups: int | None) -> str:
    """What an interval is over, as a phrase that follows it; empty where each sample is independent.

    >>> over_groups(12), over_groups(1), over_groups(None)
    (' over 12 groups', ' over 1 group', '')
    """
    return "" if num_groups is None else f" over {write_number_of(num_groups, 'group')}"


def write_interval(
    low: float | None, high: float | None, write: Callable[[float], str], num_groups: int | None = None
) -> str:
    """The two ends of an interval and the groups that it is over, or why there is none.

    >>> write_interval(0.5, 0.75, "{:.2f}".format, 12)
    '0.50 to 0.75 over 12 groups'
    """
    written = write_range(low, high, write)
    return written if low is None else f"{written}{over_groups(num_groups)}"


def group_notes(num_groups: int | None) -> tuple[str, ...]:
    """A note beside the scores where an interval is over too few groups.

    >>> group_notes(3)
    ('The 95 % intervals are over 3 groups. Over fewer than 10, they are too narrow; over 2 or 3, far too narrow. Measure on more groups.',)
    >>> group_notes(1)
    ('All samples are of one group, which says nothing about other groups. Measure on 10 groups or more.',)
    >>> group_notes(10)
    ()
    """
    if num_groups is None or num_groups >= ENOUGH_GROUPS:
        return ()
    if num_groups == 1:
        return (
            f"All samples are of one group, which says nothing about other groups. Measure on {ENOUGH_GROUPS} groups or more.",
        )
    return (
        f"The 95 % intervals are{over_groups(num_groups)}. Over fewer than {ENOUGH_GROUPS}, they are too narrow; over 2 or 3, far too narrow. "
        "Measure on more groups.",
    )


def known_interval(interval: Interval) -> KnownInterval:
    """The interval; None for both ends where nothing bounds it, as for an error on samples of one group.

    >>> known_interval((1.0, 2.0)), known_interval((-math.inf, math.inf))
    ((1.0, 2.0), (None, None))
    """
    return interval if all(map(math.isfinite, interval)) else (None, None)


def proportion_interval(
    is_right: Sequence[bool] | NDArray[np.bool_], groups: Sequence[Hashable] | NDArray[Any] | None = None
) -> Interval:
    """95 % interval of a proportion, such as an accuracy, over groups of samples; Wilson's without groups.

    If all samples are right, or none, every draw of groups is the same. Then Wilson's interval for as many samples as there are groups is returned.

    Args:
        is_right: for each sample, whether it counts.
        groups: the group of each sample, empty for none; None, or groups of one sample each, for independent samples.

    >>> right = [True] * 30 + [False] * 10
    >>> [round(bound, 2) for bound in proportion_interval(right)]
    [0.6, 0.86]
    >>> [round(bound, 2) for bound in proportion_interval(right, groups=[place // 10 for place in range(40)])]
    [0.0, 1.0]
    """
    right = np.asarray(is_right, dtype=np.float64)
    numbers = None if groups is None else group_numbers(groups)
    num_groups = len(right) if numbers is None else int(numbers.max()) + 1
    if numbers is None or num_groups == len(right):
        return wilson_interval(float(right.sum()), len(right))
    share = float(right.mean())
    if share in (0.0, 1.0):
        return wilson_interval(share * num_groups, num_groups)
    low, high = mean_interval(right, numbers)
    return max(0.0, low), min(1.0, high)


def mean_interval(
    values: Sequence[float] | NDArray[Any],
    groups: Sequence[Hashable] | NDArray[Any],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = _SEED,
) -> Interval:
    """95 % interval of the mean of a value of each sample, such as its absolute error, over groups of samples.

    It needs the sum and the size of each group only, and groups with equal ones are drawn together, so it is fast for counts.

    Args:
        values: a number for each sample (N,).
        groups: the group of each sample.
        num_resamples: number of draws.
        seed: seed of the draws; the same arguments give the same interval.

    Returns:
        Both bounds; infinite ones for a single group, which says nothing about others.

    >>> values, patients = [1.0, 1.0, 3.0, 3.0, 2.0, 2.0] * 5, [place // 2 for place in range(30)]
    >>> [round(bound, 1) for bound in mean_interval(values, patients)]
    [1.5, 2.5]
    """
    numbers = group_numbers(groups)
    sums = np.bincount(numbers, weights=np.asarray(values, dtype=np.float64))
    sizes = np.bincount(numbers).astype(np.float64)
    (kind_sums, kind_sizes), counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    draws = _draws(counts, len(counts), num_resamples, seed)
    found = [(drawn @ kind_sums) / (drawn @ kind_sizes) for drawn in draws]
    return _expanded_percentiles(np.concatenate(found), len(sizes))


def metric_interval(
    metric: Callable[[NDArray[np.float64]], NDArray[Any]],
    groups: Sequence[Hashable] | NDArray[Any],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = _SEED,
) -> Interval:
    """95 % interval of any metric that counts each sample by a weight, such as average precision, over groups of samples.

    Args:
        metric: returns a value (R,) for each row of weights (R, N): how often each sample was drawn. NaN, where a draw does not define it, is left
            out.
        groups: the group of each sample; with a group for each sample, this is the ordinary bootstrap.
        num_resamples: number of draws.
        seed: seed of the draws.

    Returns:
        Both bounds; infinite ones for a single group, and NaN where no draw defines the metric.

    >>> values = np.array([1.0, 3.0, 2.0] * 10)
    >>> low, high = metric_interval(lambda weights: weights @ values / weights.sum(1), np.arange(30))
    >>> round(low, 1), round(high, 1)
    (1.7, 2.3)
    """
    found, num_groups = _resampled(metric, groups, num_resamples, seed)
    return _expanded_percentiles(found, num_groups) if len(found) else (math.nan, math.nan)


@dataclass(frozen=True)
class BootstrapDifference:
    """The interval of a difference, and how likely one as large is without any difference.

    Args:
        low, high: the 95 % interval.
        p_value: two-sided; from five groups on, below 0.05 exactly if the interval excludes 0.
    """

    low: float
    high: float
    p_value: float


def bootstrap_difference(
    metric: Callable[[NDArray[np.float64]], NDArray[Any]],
    groups: Sequence[Hashable] | NDArray[Any],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = _SEED,
) -> BootstrapDifference:
    """The paired bootstrap of a difference: both networks are scored on the same draws of samples, or of groups of them.

    The p-value is the level at which the interval just reaches 0 (Efron and Tibshirani 1993, section 15.4). It is at least about 1 in the number of
    draws.

    Args:
        metric: the difference for each row of weights, as for ``metric_interval``.
        groups, num_resamples, seed: as for ``metric_interval``.

    Returns:
        Infinite bounds and a p-value of 1 for a single group; a p-value of 1 where no draw differs from 0, or defines the metric.

    >>> gains = np.array([1.0, 3.0, -1.0] * 10)
    >>> found = bootstrap_difference(lambda weights: weights @ gains / weights.sum(1), np.arange(30))
    >>> found.low > 0, found.p_value < 0.05
    (True, True)
    """
    found, num_groups = _resampled(metric, groups, num_resamples, seed)
    if not len(found):
        return BootstrapDifference(math.nan, math.nan, 1.0)
    low, high = _expanded_percentiles(found, num_groups)
    return BootstrapDifference(low, high, _bootstrap_p_value(found, num_groups))


def bootstrap_mean(values: NDArray[Any], groups: GroupsOfSamples) -> BootstrapDifference:
    """``bootstrap_difference`` of a mean over the samples, such as that of the differences of two networks.

    Args:
        values: the difference for each sample (N,).
        groups: the group of each sample.

    >>> bootstrap_mean(np.array([1.0, 3.0, -1.0] * 10), np.arange(30)).p_value < 0.05
    True
    """

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ values / weights.sum(1)
        return found

    return bootstrap_difference(mean, groups)


def _bootstrap_p_value(found: NDArray[np.float64], num_groups: int) -> float:
    """The level at which ``_expanded_percentiles`` reaches 0."""
    if num_groups < 2 or not found.any():
        return 1.0
    ordered = np.sort(found if np.median(found) > 0 else -found)
    low, high = 0.0, 0.5  # the tail at which the quantile is 0
    if float(ordered[0]) > 0:
        low = high = 1 / (len(ordered) + 1)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(np.quantile(ordered, middle)) <= 0 else (low, middle)
    quantile = -statistics.NormalDist().inv_cdf(max(high, 1e-12)) / math.sqrt(num_groups / (num_groups - 1))
    return min(1.0, 2 * (1 - _student_probability(max(0.0, quantile), num_groups - 1)))


def _resampled(
    metric: Callable[[NDArray[np.float64]], NDArray[Any]],
    groups: Sequence[Hashable] | NDArray[Any],
    num_resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], int]:
    """The metric of each draw that defines it, and the number of groups."""
    numbers = group_numbers(groups)
    num_groups = int(numbers.max()) + 1
    draws = _draws(np.ones(num_groups, dtype=np.int64), len(numbers), num_resamples, seed)
    found = np.concatenate([np.asarray(metric(drawn[:, numbers]), dtype=np.float64) for drawn in draws])
    return found[~np.isnan(found)], num_groups


def _draws(counts: NDArray[np.int64], num_columns: int, num_resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each kind of group is drawn, of which there are ``counts`` groups: in chunks whose rows sum to the number of groups."""
    random = np.random.Generator(np.random.PCG64(seed))
    num_groups = int(counts.sum())
    rows = max(1, _CHUNK // num_columns)
    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        yield random.multinomial(num_groups, counts / num_groups, size=size).astype(np.float64)


def _expanded_percentiles(found: NDArray[np.float64], num_groups: int) -> Interval:
    """The percentiles that have the width of Student's t interval for as many independent values as there are groups."""
    if num_groups < 2:
        return -math.inf, math.inf
    quantile = _student_quantile((1 + _CONFIDENCE) / 2, num_groups - 1) * math.sqrt(num_groups / (num_groups - 1))
    tail = statistics.NormalDist().cdf(-quantile)
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


@functools.cache
def _student_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, by bisection of its integral.

    >>> [round(_student_quantile(0.975, degrees), 3) for degrees in (1, 4, 30)]
    [12.706, 2.776, 2.042]
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _angle_probability(middle, degrees) < probability else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _student_probability(value: float, degrees: int) -> float:
    """The probability of values up to this one, at least 0, of Student's t distribution.

    >>> round(_student_probability(2.042, 30), 3)
    0.975
    """
    return _angle_probability(math.atan(value / math.sqrt(degrees)), degrees)


def _angle_probability(angle: float, degrees: int) -> float:
    """The probability of values of Student's t distribution up to ``sqrt(degrees) * tan(angle)``."""
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(math.pi) / 2
    places = np.linspace(0.0, angle, 2_001)
    heights = np.cos(places) ** (degrees - 1)
    area = (heights[0] + heights[-1] + 4 * heights[1::2].sum() + 2 * heights[2:-1:2].sum()) * (angle / 6_000)  # Simpson
    return 0.5 + math.exp(log_scale) * float(area)
