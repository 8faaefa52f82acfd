"""Average precision and the area under the ROC curve, also for weighted samples, so that many resamples share one sort.

Shape letters: N samples, R rows of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Ranking:
    """Samples sorted by their score, from the highest to the lowest. Samples of equal score count at one threshold.

    Args:
        scores: (N,) score of each sample.
        labels: (N,) whether each sample is positive.

    >>> found = Ranking(np.array([0.9, 0.8, 0.3]), np.array([1, 0, 1]))
    >>> round(found.average_precision(), 4), found.auroc()
    (0.8333, 0.5)
    """

    def __init__(self, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._positive = labels[self._order].astype(np.float64)
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.intp)

    def average_precision(self) -> float:
        """The area under the steps of the precision-recall curve, as ``torchmetrics`` computes it; NaN without positive samples."""
        return float(self.average_precisions(np.ones((1, len(self._positive))))[0])

    def auroc(self) -> float:
        """The probability that a positive sample has a higher score than a negative one, ties counted half; NaN without both kinds."""
        return float(self.aurocs(np.ones((1, len(self._positive))))[0])

    def average_precisions(self, weights: NDArray[Any]) -> Floats:
        """The average precision for each row of weights (R, N), as (R,)."""
        positive, total = self._sums(weights)
        hits, seen = positive.cumsum(1), total.cumsum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(seen > 0, hits / seen, 0.0)
            found: Floats = (precision * positive).sum(1) / positive.sum(1)
        return found

    def aurocs(self, weights: NDArray[Any]) -> Floats:
        """The area under the ROC curve for each row of weights (R, N), as (R,)."""
        positive, total = self._sums(weights)
        negative = total - positive
        below = negative.sum(1, keepdims=True) - negative.cumsum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = (positive * (below + negative / 2)).sum(1) / (positive.sum(1) * negative.sum(1))
        return found

    def _sums(self, weights: NDArray[Any]) -> tuple[Floats, Floats]:
        """The weights of positive samples, and of all samples, at each score."""
        ordered = np.asarray(weights, dtype=np.float64)[:, self._order]
        positive: Floats = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        total: Floats = np.add.reduceat(ordered, self._starts, axis=1)
        return positive, total


def mean_average_precisions(rankings: Sequence[Ranking], weights: NDArray[Any]) -> Floats:
    """The mean (R,) of the average precisions of several classes, for each row of weights (R, N), over the classes that have a positive sample.

    A class whose positive samples all have the weight 0 in a row keeps its value over all samples there: a mean over the other classes would be another
    quantity, and intervals of rare classes would mix both. NaN if no class has a positive sample.

    >>> classes = [Ranking(np.array([0.9, 0.2]), np.array(labels)) for labels in ([1, 0], [0, 1], [0, 0])]
    >>> mean_average_precisions(classes, np.array([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [0.75, 0.75]
    """
    over_all = np.array([each.average_precision() for each in rankings])
    occurs = ~np.isnan(over_all)
    if not occurs.any():
        return np.full(len(weights), np.nan)
    every = np.stack([each.average_precisions(weights) for each, is_there in zip(rankings, occurs, strict=True) if is_there])
    found: Floats = np.where(np.isnan(every), over_all[occurs, None], every).mean(0)
    return found
