"""The events of a training: frozen values, one for each thing that happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from visus.progress import Progress


@dataclass(frozen=True)
class Pricing:
    """What a step of ``network`` costs on this machine is measured, once; it takes seconds."""

    network: str


@dataclass(frozen=True)
class Started:
    """The training begins, or goes on at ``epoch`` (counted from 0) and ``step`` where it was resumed.

    ``seconds_left`` is a forecast from two timed steps, NaN where they could not be taken; ``epochs_expected`` is less than ``num_epochs`` where a
    time limit will end the training before.
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
    """The head was fitted on features that stay as they are.

    ``accuracy`` is its share of right answers on ``num_samples`` that it was not fitted on (cross-validated, with the decay that this chose);
    ``keeps_own``: the network's own head was at least as good, and stays.
    """

    num_views: int
    decay: float
    accuracy: float
    num_samples: int
    seconds: float
    keeps_own: bool = False


@dataclass(frozen=True)
class StartScored:
    """The network was validated before its first step: it begins with weights that can already answer."""

    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class StepDone:
    """One step is done. ``progress`` is the share of the whole training, 0 to 1; ``loss`` and ``accuracy`` are running means."""

    epoch: int
    step: int
    loss: float
    accuracy: float
    progress: float
    samples_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """One epoch is done. ``row`` has the columns of ``results.csv``; ``is_best`` where its weights are the ones to keep so far.

    ``seconds_left`` is the forecast for the epochs that are left; 0 where this was the last one.
    """

    epoch: int
    row: dict[str, float]
    is_best: bool
    seconds_left: float = math.nan


@dataclass(frozen=True)
class CheckpointWritten:
    """Everything up to here is safe on disk."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """The training is over: ``reason`` is ``all epochs``, ``time limit`` or ``no better validation accuracy``.

    ``num_epochs`` were begun and validated; ``epochs_trained`` counts steps, so it has a part where the last epoch was cut by the time limit.
    """

    reason: str
    num_epochs: int
    best_epoch: int
    seconds: float
    epochs_trained: float


@dataclass(frozen=True)
class Stopped:
    """The training was asked to stop and did, after a checkpoint at ``path``; ``epoch`` and ``step`` are the next ones."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class ReconstructionEpochDone:
    """One epoch of a training that reconstructs its samples is done; ``epoch`` counts from 1.

    ``loss`` is the mean squared error; ``explained`` the share of the validation samples' variance that the reconstruction explains, None where
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
