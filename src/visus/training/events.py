"""Events of a training: one frozen value for everything that happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from visus.progress import Progress


@dataclass(frozen=True)
class Pricing:
    """visus measures the time and memory of a step of ``network`` on this machine, which takes seconds."""

    network: str


@dataclass(frozen=True)
class Started:
    """The training starts, or resumes at ``epoch`` (from 0) and ``step``.

    ``seconds_left`` is a forecast from two timed steps; NaN if they failed. ``epochs_expected`` is less than ``num_epochs`` if the time limit will
    come first.
    """

    num_epochs: int
    steps_per_epoch: int
    epoch: int
    step: int
    is_resumed: bool
    seconds_left: float = math.nan
    epochs_expected: float = math.nan


@dataclass(frozen=True)
class HeadFitted:
    """The head was fitted on fixed features.

    ``accuracy`` is its cross-validated accuracy on ``num_samples``, with ``decay`` chosen by the cross-validation. ``keeps_own``: the network's own
    head was at least as good, and stays. ``num_fitted`` training samples were used, fewer than ``num_training`` if the time limit required it.
    ``next_step`` says what follows.
    """

    num_views: int
    decay: float
    accuracy: float
    num_samples: int
    seconds: float
    keeps_own: bool = False
    num_fitted: int = 0
    num_training: int = 0
    next_step: str = ""


@dataclass(frozen=True)
class StartScored:
    """A pretrained network was validated before its first step; ``num_epochs`` follow. ``metric`` is the name of that of ``val_score``."""

    val_loss: float
    val_score: float
    num_epochs: int = 1
    metric: str = "accuracy"


@dataclass(frozen=True)
class StepDone:
    """One step is done. ``progress`` is the fraction of the whole training, 0 to 1; ``loss`` and ``accuracy`` are running means; the accuracy is NaN for a task without one."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    progress: float
    samples_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch is done. ``row`` has the columns of ``results.csv``; ``is_best`` says whether its weights are now kept. The ``epoch`` of the row
    has a fraction if the time limit ended it early.

    ``seconds_left`` is a forecast for the remaining epochs; 0 after the last one. ``is_averaged``: the averaged weights were validated.
    """

    epoch: int
    row: dict[str, float]
    is_best: bool
    seconds_left: float = math.nan
    is_averaged: bool = False


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint at ``path`` holds the training up to here; ``epoch`` and ``step`` are the next ones."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """The training is over: ``reason`` is ``all epochs``, ``time limit`` or ``no better validation score``.

    ``num_epochs`` is the number of validated epochs. ``epochs_trained`` counts steps, so it has a fraction if the time limit ended the last epoch.
    ``start_score`` is the validation score of the pretrained network before its first step, NaN for a new one; ``best_score`` is that of the
    kept epoch, or the best of any epoch if none is kept. ``metric`` is the name of the score.
    """

    reason: str
    num_epochs: int
    best_epoch: int
    seconds: float
    epochs_trained: float
    start_score: float = math.nan
    best_score: float = math.nan
    metric: str = "accuracy"


@dataclass(frozen=True)
class Stopped:
    """The training stopped on request, after it wrote a checkpoint to ``path``; ``epoch`` and ``step`` are the next ones."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class ReconstructionEpochDone:
    """One epoch of a training that reconstructs its samples is done; ``epoch`` counts from 1.

    ``loss`` is the mean squared error; ``explained`` the share of the validation samples' variance that the reconstruction explains, None if
    there are too few samples.
    """

    epoch: int
    num_epochs: int
    loss: float
    explained: float | None


Event = (
    Pricing
    | Progress
    | HeadFitted
    | Started
    | StartScored
    | StepDone
    | EpochDone
    | CheckpointWritten
    | Finished
    | Stopped
    | ReconstructionEpochDone
)
