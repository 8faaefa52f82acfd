"""What a tracker is: a run begins, an epoch has metrics, the run ends. It knows nothing of events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it.

    Args:
        name: name of the run.
        folder: folder of the files that trackers write; it exists.
        settings: every setting of the training and the facts of data and network, by name.
        id: the tracker's own name of the run, if it was tracked before; else empty.
        num_epochs: number of epochs that were tracked before.
    """

    name: str
    folder: Path
    settings: Mapping[str, object]
    id: str = ""
    num_epochs: int = 0


class Tracker(ABC):
    """One tracker of one run. Each method may raise anything: the training goes on without it."""

    @abstractmethod
    def begin(self, run: TrackedRun) -> str:
        """Begin to track a run, or go on with it; returns the tracker's own name of the run."""

    @abstractmethod
    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1. They are finite, and named as the columns of ``results.csv``."""

    @abstractmethod
    def score(self, scores: Mapping[str, float], report: Path) -> None:
        """Log the final scores, and the report where that is usual."""

    @abstractmethod
    def close(self, *, is_finished: bool) -> None:
        """Write everything to disk, and end the run or leave it open to go on."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, and how to look at it, as a phrase."""
