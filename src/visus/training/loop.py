"""The training loop: a generator of events that can stop after any step and resume exactly.

What an epoch is made of lies elsewhere: ``TrainingSteps`` takes the steps, ``Validation`` validates. So do the decisions: ``resolve`` decides the
settings, ``Schedule`` the learning rates, ``Selection`` the epoch to keep. ``Forecast`` estimates the remaining time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from visus.caller import resume_call
from visus.data.batches import Batch, Batches, Part
from visus.errors import StorageError, VisusError
from visus.evaluation.metrics import METRICS, Metric
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.networks import weights
from visus.networks.fast import is_sped_up, slow_down, speed_up
from visus.networks.fast.autotuner import TUNING_SHARE
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, freed_memory_kept
from visus.networks.own_code import place_in_module
from visus.training.answers import (
    CHANGING,
    Answer,
    Finish,
    KeepWeights,
    SaveWeights,
    ScaleLearningRate,
    Stop,
    from_text,
    to_text,
)
from visus.training.arithmetic import make_autotuner
from visus.training.checkpoints import Position
from visus.training.distribution import ALONE, Group
from visus.training.events import (
    Answered,
    CheckpointWritten,
    EpochDone,
    Event,
    Finished,
    Started,
    StartScored,
    StepDivided,
    StepDone,
    Stopped,
    place_of,
)
from visus.training.forecast import Forecast
from visus.training.frozen import keep_statistics
from visus.training.inbox import Inbox
from visus.training.loss import Loss, OwnLoss
from visus.training.norms import synchronize_batch_norms
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.training.schedules import Schedule
from visus.training.selection import Phase, SampleResults, Selection
from visus.training.step_errors import StepErrors
from visus.training.step_metrics import PendingMetrics
from visus.training.step_times import measure_step_times
from visus.training.steps import TrainingSteps
from visus.training.validation import Validation


@dataclass
class TrainingLoop:
    """The loop of one training; ``events`` runs it.

    Args:
        module: the network, on the machine's device; trained in place.
        batches: training set.
        validation: validation set, which selects the best epoch; if it is empty, the last epoch is the best.
        recipe: every setting.
        machine: device and precision.
        folder: run folder for weights, results and checkpoints.
        identity: facts that a checkpoint must match to be resumed, by name.
        class_weights: (classes,) weights in the loss; None for equal weights.
        should_stop: called after each step; True ends the training cleanly with a checkpoint.
        has_trained_head: whether the network can predict before its first step. It is then validated first, and kept unless an epoch is
            significantly better.
        group: the processes of this training. Each gets its slice of every batch; the first one decides and writes.
        budget_s: time limit from now, in seconds; infinity for no limit, None for the limit in the checkpoint.
        task: the task, with its loss.
        metric: the metric that selects the epoch.
        own_loss: a person's own loss, in place of that of the task.
        inbox: answers to the events. Those of the first process hold for all.
    """

    module: nn.Module
    batches: Batches
    validation: Part
    recipe: ResolvedRecipe
    machine: Machine
    folder: RunFolder
    identity: dict[str, str]
    class_weights: torch.Tensor | None = None
    should_stop: Callable[[], bool] = lambda: False
    has_trained_head: bool = False
    group: Group = ALONE
    budget_s: float | None = math.inf
    task: Task = field(default_factory=lambda: SingleLabel(()))
    metric: Metric = METRICS["accuracy"]
    own_loss: OwnLoss | None = None
    inbox: Inbox = field(default_factory=Inbox)

    def __post_init__(self) -> None:
        preprocessing = self.batches.preprocessing
        shape = preprocessing.input_shape
        self.schedule = Schedule(self.recipe, self.batches.num_steps)
        self.loss = Loss(self.recipe.label_smoothing, self.class_weights, self.task, self.own_loss)
        self.errors = StepErrors(self.module, self.schedule, self.loss, self.folder.checkpoint, self.has_trained_head)
        self.metrics = PendingMetrics(self.group, self.errors)
        self.steps = TrainingSteps(self.module, shape, self.loss, self.schedule, self.machine, self.group, self.metrics)
        self.validator = Validation(
            self.validation, preprocessing, self.loss, self.metric, self.machine, self.group, self.batches.shard
        )
        self.position = Position(selection=Selection(self.recipe.patience, len(self.validation)))
        num_steps = self.recipe.epochs * self.batches.num_steps
        self.forecast = Forecast(num_steps, self.recipe.epochs, self.recipe.sides, len(shape) - 1)
        self._since_checkpoint = 0.0
        self._is_stopping = False

    @property
    def scored_module(self) -> nn.Module:
        """The network that is validated and kept: the weight average once it is valid, else the trained network."""
        averaged = self.steps.averaged_module  # a compiled module has no truth value
        return self.module if averaged is None else averaged

    @property
    def phase(self) -> Phase:
        """The phase of the epoch that ends now; only epochs of one phase are comparable."""
        return Phase(self.position.size, self.steps.averaged_module is not None)

    def events(self, *, resume: bool = False) -> Generator[Event, None, None]:
        """Train, and yield an event for everything that happens. Answers are carried out when the next event is asked for.

        If a single process leaves the events before their end, a checkpoint is written.

        Args:
            resume: whether to continue from the folder's checkpoint.

        Raises:
            TrainingError: the loss became infinite or NaN, or diverged; the message names the last good checkpoint.
            StorageError: the disk is full; the previous checkpoint is intact.
        """
        with freed_memory_kept(), synchronize_batch_norms(self.module, is_alone=self.group.is_alone):
            was_fast = is_sped_up(self.module)
            if self.recipe.kernels == "auto":
                record = self.folder.path / "arithmetic.json"
                until = time.perf_counter() + TUNING_SHARE * (math.inf if self.budget_s is None else self.budget_s)
                speed_up(self.module, make_autotuner(self.group, record, self.recipe.batch_size, until))
            try:
                with float32_where_needed(self.module, self.machine.precision):
                    yield from self._events(resume)
            except GeneratorExit:
                self._leave()
                raise
            finally:
                self.steps.leave_group()
                if not was_fast:
                    slow_down(self.module)

    def _events(self, resume: bool) -> Iterator[Event]:
        """``events``, after norms, kernels and precision are set up."""
        if resume:
            self._read_checkpoint()
        at = self.position
        began = time.perf_counter()
        reason = self._reason_to_end() if resume else ""
        is_over = bool(reason) and (self.budget_s is None or reason != "time limit")  # a new limit leaves time for more
        if self.recipe.epochs and not is_over:
            yield from measure_step_times(
                self.forecast,
                self.module,
                self.batches,
                self.loss,
                self.recipe,
                self.machine,
                num_validation=len(self.validation),
                num_slices=self.steps.num_slices(at),
                can_skip=not resume,
            )
        if self.budget_s is not None:
            (passed_s,) = self.group.broadcast([time.perf_counter() - began])
            at.until_s = None if math.isinf(self.budget_s) else at.elapsed_s + self._steps_budget_s(passed_s)
        if resume and not self._reason_to_end():
            at.num_resumed += 1
        yield Started(
            self.recipe.epochs,
            self.batches.num_steps,
            at.epoch,
            at.step,
            resume,
            0.0 if is_over else self._seconds_left(),
            self._epochs_expected(),
            is_over,
        )
        self.forecast.drop_steps()
        if not resume:
            if self.has_trained_head:
                yield self._score_start()
            yield self._write_checkpoint()
        yield from self._take_answers(self._agreed_answers())
        while not self._is_stopping and not self._reason_to_end():
            yield from self._train_epoch()
            if self._is_stopping:
                break
            yield self._finish_epoch()
            yield from self._take_answers(self._agreed_answers(), is_written=False)
            yield self._write_checkpoint()
        if self._is_stopping and not at.num_steps:
            self.folder.write_weights("last", self.scored_module)
        yield (
            Stopped(self.folder.checkpoint, at.epoch, at.step)
            if self._is_stopping
            else self._finished(self._reason_to_end())
        )

    def _leave(self) -> None:
        """Write a checkpoint where the events are left before their end; of several processes, others may be waiting, so the last one counts."""
        if self._since_checkpoint and self.group.is_alone:
            self.metrics.read(self.position)
            self.folder.write_weights("last", self.scored_module)
            self._write_checkpoint()

    def _steps_budget_s(self, passed_s: float) -> float:
        """Seconds for the steps: the time limit without what has passed and without the last validation; at least one."""
        assert self.budget_s is not None, "there is a limit"
        last_s = self.forecast.validation_s(self.recipe.sides[-1]) if len(self.validation) else 0.0
        return max(1.0, self.budget_s - passed_s - last_s)

    def _finished(self, reason: str) -> Finished:
        """The end of the training, with what was kept."""
        at = self.position
        start = at.selection.start
        scores = [row["val_score"] for row in at.history]
        best = min if self.metric.is_error else max
        return Finished(
            reason,
            at.epoch,
            at.best_epoch + 1,
            at.elapsed_s,
            at.num_steps / self.batches.num_steps,
            math.nan if start is None else self.validator.score(start),
            scores[at.best_epoch] if at.best_epoch >= 0 else best(scores, default=math.nan),
            self.metric.name,
            at.num_skipped,
            bool(scores) and bool(len(self.validation)) and all(math.isnan(score) for score in scores),
        )

    def _read_checkpoint(self) -> None:
        """Restore the state of the training from the checkpoint."""
        patience = self.position.selection.patience
        self.position = self.steps.restore(self.folder.checkpoint, self.identity)
        self.position.selection.patience = patience

    def _reason_to_end(self) -> str:
        """Why the training is over; empty if another epoch follows. A finished training that is resumed has the same reason."""
        at = self.position
        if not self.recipe.epochs:
            return "the head alone"
        if at.epoch >= self.recipe.epochs:
            return "all epochs"
        if at.step == 0 and self.schedule.progress(at) >= 1:
            return "time limit"
        if at.step == 0 and at.selection.is_over(at.epoch - 1):
            return "no better validation score"
        if at.step == 0 and at.is_finishing and (at.num_steps or self.has_trained_head):
            return "on request"
        return ""

    def _score_start(self) -> StartScored:
        """Validate the network before its first step, and keep its weights."""
        at = self.position
        began = time.perf_counter()
        val_loss, predictions = self.validator.validate(self.scored_module, 1.0)
        if len(self.validation):
            at.selection.start = predictions
        for name in ("best", "last"):
            self.folder.write_weights(name, self.scored_module)
        (at.elapsed_s,) = self.group.broadcast([at.elapsed_s + time.perf_counter() - began])
        score = self.validator.score(predictions)
        return StartScored(val_loss, score, self.recipe.epochs, self.metric.name, predictions.fair_loss)

    def _train_epoch(self) -> Iterator[Event]:
        """Run the remaining steps of the current epoch."""
        at = self.position
        self.module.train()
        if self.recipe.norm_statistics == "stored":
            keep_statistics(self.module)
        began = time.perf_counter()
        for batch in self.batches.epoch(at.epoch, at.step, lambda: self.schedule.input_size(at)):
            if self.schedule.progress(at) >= 1 or (at.is_finishing and at.step):
                break
            divided = self._take_step(batch)
            at.step += 1
            at.num_steps += 1
            if self.metrics.is_full or at.step == self.batches.num_steps:
                self.metrics.read(at)
            seconds = time.perf_counter() - began
            self.forecast.add_step(at.size, seconds)
            at.elapsed_s += seconds
            at.epoch_s += seconds
            self._since_checkpoint += seconds
            if divided is not None:
                self.folder.write_json("changes.json", at.changes)
                yield divided
            yield self._step_done(batch)
            yield from self._take_answers(self._agreed_answers(is_step=True))
            if self._is_stopping:
                self.metrics.read(at)
                self.folder.write_weights("last", self.scored_module)
                yield self._write_checkpoint()
                return
            if self._since_checkpoint >= self.recipe.checkpoint_every_s and at.step < self.batches.num_steps:
                self.metrics.read(at)
                yield self._write_checkpoint()
            began = time.perf_counter()

    def _take_step(self, batch: Batch) -> StepDivided | None:
        """Take one step; an error of the network becomes one that says what to do."""
        try:
            return self.steps.take(batch, self.position)
        except VisusError:
            raise
        except Exception as error:  # a person's own module may raise anything
            is_expected = isinstance(error, (RuntimeError, ValueError, MemoryError))
            if not is_expected and not place_in_module(error, self.module):
                raise  # a bug in visus
            raise self.errors.of_step(error, self.position) from error

    def _agreed_answers(self, *, is_step: bool = False) -> list[Answer]:
        """The answers to the last event. All processes adopt the first one's answers and clock, so that they never diverge.

        Args:
            is_step: whether this is the end of a step, where ``should_stop`` is asked too.
        """
        at = self.position
        own = [float(is_step and self.should_stop()), len(self.inbox), at.elapsed_s, at.epoch_s, self._since_checkpoint]
        stops, num, at.elapsed_s, at.epoch_s, self._since_checkpoint = self.group.broadcast(own)
        self._is_stopping |= bool(stops)
        answers = self.inbox.take()
        if self.group.is_alone:
            return answers
        return from_text(self.group.broadcast_text(to_text(answers))) if num else []

    def _take_answers(self, answers: list[Answer], *, is_written: bool = True) -> Iterator[Event]:
        """Carry the answers out. Those that change what follows are in a checkpoint at once, so that a resumed training knows them.

        Args:
            answers: the answers to the last event.
            is_written: whether to write that checkpoint.
        """
        at = self.position
        for answer in answers:
            match answer:
                case Stop():
                    self._is_stopping = True
                case Finish():
                    at.is_finishing = True
                    at.ended = self._reason_to_end()
                case ScaleLearningRate(factor):
                    at.lr_scale *= factor
                case KeepWeights():
                    at.selection.choose(at.epoch - 1)
                    self.folder.write_weights("best", self.scored_module)
                case SaveWeights(file) if self.group.is_first:
                    self._save_weights(Path(file))
            event = Answered(answer, at.epoch, at.step, self.schedule.learning_rate(at))
            facts = {"what": answer.sentence, "place": place_of(at.epoch, at.step), "learning_rate": event.learning_rate}
            facts |= {"answer": type(answer).__name__}
            at.changes.append(
                facts | {name: str(value) if isinstance(value, Path) else value for name, value in asdict(answer).items()}
            )
            yield event
        if is_written and any(isinstance(answer, CHANGING) for answer in answers):
            self.metrics.read(at)
            yield self._write_checkpoint()
        if answers:
            self.folder.write_json("changes.json", at.changes)

    def _save_weights(self, file: Path) -> None:
        """Write the weights of now to a file that an answer names."""
        try:
            weights.save(self.scored_module, file, self.folder.metadata)
        except StorageError as error:
            self._leave()
            raise StorageError(
                f"{error.message} The training stopped here; continue with: {resume_call(self.folder.path)}",
                where=error.where,
            ) from error

    def _finish_epoch(self) -> EpochDone:
        """Validate, keep the weights if they are the best so far, and write the epoch's row of ``results.csv``."""
        at = self.position
        self.metrics.read(at)
        phase = self.phase
        began = time.perf_counter()
        val_loss, predictions = self.validator.validate(self.scored_module, phase.size)
        validation_s = time.perf_counter() - began
        at.elapsed_s, validation_s = self.group.broadcast([at.elapsed_s + validation_s, validation_s])
        if not math.isfinite(val_loss) and len(self.validation):
            raise self.errors.divergence(f"the validation loss became {val_loss} after epoch {at.epoch + 1}", at)
        self.forecast.add_validation(phase.size, validation_s)
        row = self._epoch_row(phase, val_loss, predictions)
        is_kept = at.selection.judge(at.epoch, phase, predictions.selected, predictions, predictions.error)
        if is_kept:
            self.folder.write_weights("best", self.scored_module)
        self.folder.write_weights("last", self.scored_module)
        at.history.append(row)
        self.folder.write_results(at.history)
        at.epoch, at.step = at.epoch + 1, 0
        at.loss_sum, at.num_right, at.num_seen, at.epoch_s = 0.0, 0, 0, 0.0
        at.ended, at.epochs_trained = self._reason_to_end(), at.num_steps / self.batches.num_steps
        left = 0.0 if at.ended else self._seconds_left()
        return EpochDone(at.epoch - 1, row, is_kept, left, phase.is_averaged, predictions.fair_loss)

    def _epoch_row(self, phase: Phase, val_loss: float, predictions: SampleResults) -> dict[str, float]:
        """The row of ``results.csv`` for the epoch that ends now."""
        at = self.position
        share = at.step / self.batches.num_steps
        return {
            "epoch": at.epoch + 1 if share == 1 else round(at.epoch + max(share, 0.01), 2),
            "img_size": round(phase.size * (self.batches.preprocessing.input_shape[1:] or (1,))[-1]),
            "train_loss": at.loss_sum / max(1, at.num_seen),
            "train_accuracy": at.num_right / max(1, at.num_seen) if self._has_accuracy else math.nan,
            "val_loss": val_loss,
            "val_accuracy": predictions.accuracy if self._has_accuracy else math.nan,
            "val_score": self.validator.score(predictions),
            "learning_rate": self.schedule.learning_rate(at),
            "elapsed_seconds": at.elapsed_s,
            "samples_per_second": at.num_seen / max(at.epoch_s, 1e-9),
        }

    @property
    def _has_accuracy(self) -> bool:
        """Whether an accuracy says how good the predictions are."""
        return self.task.name == "single-label"

    def _seconds_left(self) -> float:
        """Forecast of the time until the last validation, in seconds; NaN before any measurement."""
        at = self.position
        left = self.forecast.seconds_left(self.schedule.progress(at))
        return left if at.until_s is None else min(left, max(0.0, at.until_s - at.elapsed_s))

    def _epochs_expected(self) -> float:
        """Forecast of the number of epochs: fewer than the recipe's if the time limit comes first."""
        at = self.position
        left = self.recipe.epochs - at.epoch - at.step / self.batches.num_steps
        if at.until_s is None:
            return float(self.recipe.epochs)
        fitting = self.forecast.epochs_within(max(0.0, at.until_s - at.elapsed_s), self.schedule.progress(at))
        return self.recipe.epochs - left + min(left, fitting)

    def _step_done(self, batch: Batch) -> StepDone:
        at = self.position
        progress = min(1.0, self.schedule.progress(at))
        samples_per_second = at.num_seen / max(at.epoch_s, 1e-9)
        num_seen = max(1, at.num_seen)
        return StepDone(
            at.epoch,
            batch.step,
            at.loss_sum / num_seen,
            at.num_right / num_seen if self._has_accuracy else math.nan,
            progress,
            samples_per_second,
            self._seconds_left(),
        )

    def _write_checkpoint(self) -> CheckpointWritten:
        at = self.position
        try:
            if self.group.is_first and self.folder.is_ours:
                self.steps.save(self.folder.checkpoint, at, self.identity)
        except StorageError as error:
            raise StorageError(
                f"{error.message} The previous checkpoint is intact; continue with: {resume_call(self.folder.path)}",
                where=error.where,
            ) from error
        self._since_checkpoint = 0.0
        return CheckpointWritten(self.folder.checkpoint, at.epoch, at.step)
