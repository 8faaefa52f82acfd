"""Folds in which no class is alone: the repair of an assignment that put all samples of a class into one fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAX_STEPS: Final = 100
_WAITING_STEPS: Final = 7
"""Steps during which a unit does not return to a fold that it left (tabu search, Glover 1989)."""


class _Change(NamedTuple):
    """A unit that moves to another fold, and the unit of that fold that takes its place; -1 for none."""

    unit: int
    fold: int
    other: int


class _Units:
    """Units and their folds, with the number of samples of each class in each fold."""

    def __init__(self, classes: Sequence[Counter[int]], sizes: Sequence[int], folds: Sequence[int], num_folds: int) -> None:
        self.classes, self.sizes, self.folds, self.num_folds = classes, sizes, list(folds), num_folds
        num_classes = 1 + max(max(each, default=-1) for each in classes)
        self.counts = np.zeros((num_classes + 1, num_folds), dtype=np.int64)
        """(classes + 1, folds): the samples of each class, and in the last row all samples."""
        for unit, fold in enumerate(self.folds):
            self.counts[:, fold] += self._column(unit)
        self._weights = 1 / np.maximum(1, self.counts.sum(axis=1, keepdims=True))

    def lost(self) -> list[int]:
        """The classes whose samples are all in one fold."""
        return np.flatnonzero((self.counts[:-1] > 0).sum(axis=1) == 1).tolist()

    def changes(self, label: int) -> Iterator[_Change]:
        """The changes that take a unit of a class out of its fold. Of units with the same classes, only one takes the place of another."""
        alike: dict[tuple[object, ...], int] = {}
        for unit, fold in enumerate(self.folds):
            alike.setdefault((fold, self.sizes[unit], *sorted(self.classes[unit].items())), unit)
        for unit, own in enumerate(self.folds):
            if label in self.classes[unit]:
                for fold in range(self.num_folds):
                    if fold != own:
                        yield _Change(unit, fold, -1)
                for other in alike.values():
                    if self.folds[other] != own:
                        yield _Change(unit, self.folds[other], other)

    def cost(self, change: _Change) -> tuple[int, float]:
        """The number of classes in a single fold, and how uneven the folds are, after a change."""
        own = self.folds[change.unit]
        self.carry_out(change)
        found = len(self.lost()), round(float(((self.counts * self._weights) ** 2).sum()), 12)
        self.carry_out(_Change(change.unit, own, change.other))
        return found

    def carry_out(self, change: _Change) -> None:
        """Move a unit, and the one that takes its place."""
        own = self.folds[change.unit]
        self._move(change.unit, change.fold)
        if change.other >= 0:
            self._move(change.other, own)

    def _move(self, unit: int, fold: int) -> None:
        column = self._column(unit)
        self.counts[:, self.folds[unit]] -= column
        self.counts[:, fold] += column
        self.folds[unit] = fold

    def _column(self, unit: int) -> NDArray[np.int64]:
        found = np.zeros(len(self.counts), dtype=np.int64)
        for label, count in self.classes[unit].items():
            found[label] = count
        found[-1] = self.sizes[unit]
        return found


def spread(classes: Sequence[Counter[int]], sizes: Sequence[int], folds: Sequence[int], num_folds: int) -> list[int] | None:
    """The fold of each unit, with the samples of each class in at least two folds; None if no such assignment is found.

    Units move to other folds, or two of them swap, one change after the other: the one that leaves the fewest classes in a single fold, of equal ones
    that with the most even folds. An assignment that needs no change is returned as it is.

    Args:
        classes: for each unit, the number of its samples of each class. Every class is in at least two units.
        sizes: number of samples of each unit.
        folds: the fold of each unit, from 0.
        num_folds: number of folds.

    >>> spread([Counter({0: 2}), Counter({0: 1, 1: 1}), Counter({1: 4}), Counter({0: 3})], [2, 2, 4, 3], [0, 1, 1, 0], 2)
    [0, 0, 1, 1]
    """
    units = _Units(classes, sizes, folds, num_folds)
    free_from: dict[tuple[int, int], int] = {}
    for step in range(_MAX_STEPS):
        lost = units.lost()
        if not lost:
            return units.folds
        allowed = [
            each for each in units.changes(lost[step % len(lost)]) if free_from.get((each.unit, each.fold), 0) <= step
        ]
        if not allowed:
            continue
        change = min(allowed, key=units.cost)
        free_from[change.unit, units.folds[change.unit]] = step + _WAITING_STEPS
        units.carry_out(change)
    return None
