"""Confidence intervals of proportions, and how intervals are written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Final

_CONFIDENCE: Final = 0.95
NO_INTERVAL: Final = "no interval: all samples are of one group"


def wilson_interval(num_right: float, num_samples: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Confidence interval of a proportion, from ``num_right`` of ``num_samples``.

    Wilson's score interval (Wilson 1927) stays within 0 and 1, and is accurate for small counts and for proportions near 0 and 1, unlike the normal
    approximation.

    >>> tuple(round(bound, 4) for bound in wilson_interval(944, 1000))
    (0.928, 0.9566)
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    proportion, shift = num_right / num_samples, z * z / num_samples
    middle = (proportion + shift / 2) / (1 + shift)
    half = z / (1 + shift) * math.sqrt(proportion * (1 - proportion) / num_samples + shift / (4 * num_samples))
    return max(0.0, min(proportion, middle - half)), min(1.0, max(proportion, middle + half))


def write_range(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """The two ends of an interval, or why there is none.

    >>> write_range(0.5, 0.75, "{:.2f}".format)
    '0.50 to 0.75'
    """
    return NO_INTERVAL if low is None or high is None else f"{write(low)} to {write(high)}"


def is_larger(one: float, num_one: int, other: float, num_other: int) -> bool:
    """Whether one accuracy is larger than another on other samples: the 95 % interval of the difference is above 0.

    The interval is that of two independent proportions, from their Wilson intervals (Newcombe 1998, method 10). Without the number of samples,
    the accuracies are compared as they are.

    Args:
        one, other: the accuracies, 0 to 1.
        num_one, num_other: their numbers of samples; 0 if unknown.

    >>> is_larger(1.0, 50, 0.9, 10), is_larger(1.0, 500, 0.9, 100)
    (False, True)
    """
    if not num_one or not num_other:
        return one > other
    low, _ = wilson_interval(one * num_one, num_one)
    _, high = wilson_interval(other * num_other, num_other)
    return one - other > math.hypot(one - low, high - other)
