"""What a training tells while it runs: plain values, one for each thing that happened.

This file knows facts. It must not know how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """The training begins, or goes on at ``epoch`` (counted from 0) and ``step`` where it was resumed."""

    num_epochs: int
    steps_per_epoch: int
    epoch: int
    step: int
    is_resumed: bool


@dataclass(frozen=True)
class StepDone:
    """One step is done. ``progress`` is the share of the whole training, 0 to 1; ``loss`` and ``accuracy`` are running means."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    progress: float
    items_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch is done. ``row`` has the columns of ``results.csv``; ``is_best`` where its weights are the best so far."""

    epoch: int
    row: dict[str, float]
    is_best: bool


@dataclass(frozen=True)
class CheckpointWritten:
    """Everything up to here is safe on disk."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """The training is over: ``reason`` is ``all epochs``, ``time limit`` or ``no better validation accuracy``."""

    reason: str
    num_epochs: int
    best_epoch: int
    seconds: float


@dataclass(frozen=True)
class Stopped:
    """The training was asked to stop and did, after a checkpoint at ``path``; ``epoch`` and ``step`` are the next ones."""

    path: Path
    epoch: int
    step: int


Event = Started | StepDone | EpochDone | CheckpointWritten | Finished | Stopped
