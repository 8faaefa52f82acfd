"""What the accuracies of the epochs say about the length of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

OVERFITTED: Final = 0.05
"""Distance between training and validation accuracy from which more samples are advised, not more epochs."""

PERFECT: Final = 0.995
"""Validation accuracy from which a longer training has nothing to gain."""

EARLY: Final = 0.6
"""Share of the epochs before which the kept one counts as early."""


def is_unfinished(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether a longer training may gain more: the best epoch is among the last and better than the first, and there is no sign of overfitting.

    Args:
        rows: a row for each epoch, with ``epoch``, ``train_accuracy`` and ``val_accuracy`` (NaN where it was not measured).

    >>> row = {"epoch": 1, "train_accuracy": 0.6, "val_accuracy": 0.62}
    >>> is_unfinished([row, {**row, "epoch": 2, "val_accuracy": 0.7}])
    True
    >>> is_unfinished([row, {**row, "epoch": 2, "train_accuracy": 0.9}]), is_unfinished([row, {**row, "epoch": 2}])
    (False, False)
    """
    measured = [row for row in rows if row["val_accuracy"] == row["val_accuracy"]]
    if not measured:
        return False
    best = max(reversed(measured), key=lambda row: row["val_accuracy"])
    is_late = best["epoch"] >= EARLY * measured[-1]["epoch"]
    has_risen = len(measured) == 1 or best["val_accuracy"] > measured[0]["val_accuracy"]
    is_overfitted = best["train_accuracy"] - best["val_accuracy"] > OVERFITTED
    return is_late and has_risen and not is_overfitted and best["val_accuracy"] <= PERFECT
