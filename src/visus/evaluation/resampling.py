"""Bootstrap intervals: a metric on many resamples of the samples, or of whole groups of samples.

Samples of one group, such as the images of one patient, are alike, so a resample draws whole groups (cluster bootstrap; Davison and Hinkley 1997, section
3.8). The 95 % interval has the 2.5 % and 97.5 % quantiles of the resamples as its ends (percentile interval; Efron 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES: Final = 1_000
SEED: Final = 0
_MAX_VALUES: Final = 2**22
"""Weights that are held at once."""

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A metric of each row of weights (R, samples), as (R,)."""


def bootstrap_interval(
    metric: Metric,
    num_samples: int,
    groups: Sequence[str] | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a metric. A resample is a row of weights: how often each sample was drawn.

    Args:
        metric: the metric of each row of weights; NaN where it is undefined.
        num_samples: number of samples.
        groups: the group of each sample, "" for none; groups are drawn as a whole. None for no groups.
        num_resamples: number of resamples.
        seed: seed of the draws.

    Returns:
        Low and high end; both NaN if no resample has the metric.

    >>> values = np.array([1.0, 2.0, 3.0, 4.0])
    >>> low, high = bootstrap_interval(lambda weights: weights @ values / weights.sum(1), 4)
    >>> 1 <= low < 2.5 < high <= 4
    True
    """
    found = np.concatenate([metric(weights) for weights in _resamples(num_samples, groups, num_resamples, seed)])
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _resamples(
    num_samples: int, groups: Sequence[str] | None, num_resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Rows of weights (R, samples), ``num_resamples`` in all."""
    unit = units(num_samples, groups)
    num_units = int(unit.max(initial=-1)) + 1
    random = np.random.Generator(np.random.PCG64(seed))
    share = np.full(num_units, 1 / max(1, num_units))
    rows = max(1, _MAX_VALUES // max(1, num_samples))
    for start in range(0, num_resamples, rows):
        counts = random.multinomial(num_units, share, size=min(rows, num_resamples - start))
        yield counts[:, unit].astype(np.float64)


def units(num_samples: int, groups: Sequence[str] | None) -> NDArray[np.int64]:
    """The number of the group of each sample; a sample without a group is one by itself.

    >>> units(4, ["a", "", "a", ""]).tolist()
    [0, 1, 0, 2]
    """
    if groups is None:
        return np.arange(num_samples)
    known: dict[Any, int] = {}
    keys = [group or place for place, group in enumerate(groups)]
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
