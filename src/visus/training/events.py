"""Events of a training: one frozen value for everything that happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from visus.progress import Progress
from visus.training.answers import Answer


@dataclass(frozen=True)
class Pricing:
    """visus measures the time and memory of a step of ``network`` on this machine, which takes seconds."""

    network: str


@dataclass(frozen=True)
class Started:
    """The training starts, or resumes at ``epoch`` (from 0) and ``step``.

    ``seconds_left`` is a forecast from two timed steps; NaN if they failed. ``epochs_expected`` is less than ``num_epochs`` if the time limit will
    come first. ``is_over``: the training that is resumed had ended, and nothing is left to train.
    """

    num_epochs: int
    steps_per_epoch: int
    epoch: int
    step: int
    is_resumed: bool
    seconds_left: float = math.nan
    epochs_expected: float = math.nan
    is_over: bool = False


@dataclass(frozen=True)
class HeadFitted:
    """The head was fitted on fixed features.

    ``score`` is its cross-validated score on ``num_samples``, with ``decay`` chosen by the cross-validation: the accuracy, or the ``metric`` named. ``keeps_own``: the network's own
    head was at least as good, and stays. ``num_fitted`` training samples were used, fewer than ``num_training`` if the time limit required it.
    ``next_step`` says what follows.
    """

    num_views: int
    decay: float
    score: float
    num_samples: int
    seconds: float
    keeps_own: bool = False
    num_fitted: int = 0
    num_training: int = 0
    next_step: str = ""
    metric: str = "accuracy"


@dataclass(frozen=True)
class StartScored:
    """A pretrained network was validated before its first step; ``num_epochs`` follow. ``metric`` is the name of that of ``val_score``, and ``fair_loss`` as in ``EpochDone``."""

    val_loss: float
    val_score: float
    num_epochs: int = 1
    metric: str = "accuracy"
    fair_loss: float = math.nan


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

    ``seconds_left`` is a forecast for the remaining epochs; 0 after the last one. ``is_averaged``: the averaged weights were validated. ``fair_loss``: the validation loss
    after calibration, without label smoothing and class weights, which compares trainings that differ in these; or that of a person's own loss.
    """

    epoch: int
    row: dict[str, float]
    is_best: bool
    seconds_left: float = math.nan
    is_averaged: bool = False
    fair_loss: float = math.nan


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint at ``path`` holds the training up to here; ``epoch`` and ``step`` are the next ones."""

    path: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Finished:
    """The training is over: ``reason`` is ``all epochs``, ``time limit``, ``no better validation score`` or ``on request``.

    ``num_epochs`` is the number of validated epochs. ``epochs_trained`` counts steps, so it has a fraction if the time limit ended the last epoch.
    ``start_score`` is the validation score of the pretrained network before its first step, NaN for a new one; ``best_score`` is that of the
    kept epoch, or the best of any epoch if none is kept. ``metric`` is the name of the score. ``num_skipped`` steps were skipped because float16
    gradients were infinite. ``is_undefined``: the score was NaN after every epoch.
    """

    reason: str
    num_epochs: int
    best_epoch: int
    seconds: float
    epochs_trained: float
    start_score: float = math.nan
    best_score: float = math.nan
    metric: str = "accuracy"
    num_skipped: int = 0
    is_undefined: bool = False


def place_of(epoch: int, step: int) -> str:
    """Where a training is if ``epoch`` and ``step`` are the next ones, from 0, as a phrase.

    >>> place_of(2, 0), place_of(2, 7), place_of(0, 0)
    ('after epoch 2', 'in epoch 3 after step 7', 'before the first step')
    """
    if step:
        return f"in epoch {epoch + 1} after step {step}"
    return f"after epoch {epoch}" if epoch else "before the first step"


@dataclass(frozen=True)
class Answered:
    """The answer to an earlier event was carried out. ``epoch`` and ``step`` are the next ones, from 0; ``learning_rate`` is that of the next step."""

    answer: Answer
    epoch: int
    step: int
    learning_rate: float

    @property
    def place(self) -> str:
        """Where in the training it was, as a phrase."""
        return place_of(self.epoch, self.step)


@dataclass(frozen=True)
class StepDivided:
    """A step did not fit into memory. It was computed in ``num_slices`` slices, and so is each step from now on.

    ``has_batch_norms``: the network has batch norms, which use the statistics of a slice. ``epoch`` and ``step`` count from 0.
    """

    num_slices: int
    batch_size: int
    has_batch_norms: bool
    epoch: int
    step: int

    @property
    def sentence(self) -> str:
        """What happened, as a sentence.

        >>> StepDivided(2, 64, False, 0, 0).sentence
        'a step of 64 samples does not fit into memory, so each step is computed in 2 slices; the gradients are those of the whole batch'
        """
        norms = ", except that batch norms use the statistics of a slice" if self.has_batch_norms else ""
        return (
            f"a step of {self.batch_size} samples does not fit into memory, so each step is computed in {self.num_slices} slices; "
            f"the gradients are those of the whole batch{norms}"
        )


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
    | Answered
    | StepDivided
    | Finished
    | Stopped
    | ReconstructionEpochDone
)
