"""The training loop: a generator of events that can stop after any step and resume exactly.

Decisions lie elsewhere: ``resolve`` decides the settings, ``Selection`` the epoch to keep, ``WeightAverage`` the weights to average. ``Forecast``
estimates the remaining time.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from visus.caller import resume_call
from visus.data.augment import shrink
from visus.data.batches import Batch, Batches, BatchShard, Part, batches_in_order
from visus.errors import StorageError, TrainingError, VisusError
from visus.evaluation.metrics import METRICS, Metric, jackknife_error
from visus.evaluation.predictions import predict_logits
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.networks import weights
from visus.networks.fast import is_sped_up, slow_down, speed_up, unoptimized
from visus.networks.fast.autotuner import TUNING_SHARE
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, freed_memory_kept
from visus.networks.own_code import place_in_module
from visus.progress import Progress
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
from visus.training.arithmetic import WITHOUT_KERNELS, make_autotuner, uses_kernels
from visus.training.checkpoints import Position, read_checkpoint, write_checkpoint
from visus.training.distribution import ALONE, Group, is_lost_process, process_lost_error
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
from visus.training.gradients import average_gradients, gradients_kept_apart, seed_step
from visus.training.inbox import Inbox
from visus.training.loss import Loss, OwnLoss
from visus.training.memory import MIN_SLICE, StateBefore, has_batch_norms, is_out_of_memory
from visus.training.norms import synchronize_batch_norms
from visus.training.optimizers import make_optimizer, raise_bn_momentum, set_rates
from visus.training.resolve import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.training.schedules import rate_factor
from visus.training.selection import Phase, SampleResults, Selection
from visus.training.weight_average import WeightAverage

EVALUATION_BATCH = 256
MAX_PENDING_STEPS = 32  # number of losses that stay on an asynchronous device before one transfer reads them
_SMOOTHING = 0.95


@dataclass(frozen=True)
class _PendingMetrics:
    """Mean loss and number of correct predictions of one step, still on the device."""

    step: int
    num_samples: int
    loss: torch.Tensor
    num_right: torch.Tensor


@dataclass
class Training:
    """One training; ``events`` runs it.

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
        self._network = average_gradients(self.module, self.group)
        shape = self.batches.preprocessing.input_shape
        self.optimizer = make_optimizer(self.module, self.recipe, input_shape=shape, precision=self.machine.precision)
        if self.recipe.optimizer == "muon":
            raise_bn_momentum(self.module, self.recipe.batch_size)
        is_averaged = bool(self.recipe.ema_decay or self.recipe.final_ema)
        self.average = WeightAverage(self.module, self.recipe.ema_decay, self.recipe.final_ema) if is_averaged else None
        self.loss = Loss(self.recipe.label_smoothing, self.class_weights, self.task, self.own_loss)
        self.position = Position(selection=Selection(self.recipe.patience, len(self.validation)))
        num_steps = self.recipe.epochs * self.batches.num_steps
        self.forecast = Forecast(num_steps, self.recipe.epochs, self.recipe.sides, len(shape) - 1)
        self._since_checkpoint = 0.0
        self._pending: list[_PendingMetrics] = []
        self._is_stopping = False
        self._sizes_done: set[float] = set()
        self._divided: StepDivided | None = None
        is_scaled = self.machine.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.machine.device.type, enabled=is_scaled)

    @property
    def scored_module(self) -> nn.Module:
        """The network that is validated and kept: the weight average once it is valid, else the trained network."""
        return self.average.module if self.average and self.average.is_valid else self.module

    @property
    def phase(self) -> Phase:
        """The phase of the epoch that ends now; only epochs of one phase are comparable."""
        return Phase(self.position.size, self.average is not None and self.average.is_valid)

    @property
    def is_async(self) -> bool:
        """Whether the device computes asynchronously, so that reading a loss would make it wait."""
        return self.machine.device.type != "cpu"

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
                self._network = self.module
                if not was_fast:
                    slow_down(self.module)

    def _events(self, resume: bool) -> Iterator[Event]:
        """``events``, after norms, kernels and precision are set up."""
        if resume:
            self._read_checkpoint()
        at = self.position
        began = time.perf_counter()
        if self.recipe.epochs:
            yield from self._measure_step_times(can_skip=not resume)
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
            self._seconds_left(),
            self._epochs_expected(),
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
            self._read_metrics()
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
            math.nan if start is None else self._score(start),
            scores[at.best_epoch] if at.best_epoch >= 0 else best(scores, default=math.nan),
            self.metric.name,
            at.num_skipped,
        )

    def _read_checkpoint(self) -> None:
        """Restore the state of the training from the checkpoint."""
        average = self.average.module if self.average else None
        patience = self.position.selection.patience
        self.position = read_checkpoint(
            self.folder.checkpoint, self.module, average, self.optimizer, self.identity, self.group.size
        )
        self.position.selection.patience = patience
        if self.position.loss_scale:
            self.scaler.load_state_dict(self.position.loss_scale)
        if self.average:
            self.average.num_steps = self.position.num_averaged

    def _reason_to_end(self) -> str:
        """Why the training is over; empty if another epoch follows. A finished training that is resumed has the same reason."""
        at = self.position
        if not self.recipe.epochs:
            return "the head alone"
        if at.epoch >= self.recipe.epochs:
            return "all epochs"
        if at.step == 0 and self._progress() >= 1:
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
        val_loss, predictions = self._validate(1.0)
        if len(self.validation):
            at.selection.start = predictions
        for name in ("best", "last"):
            self.folder.write_weights(name, self.scored_module)
        (at.elapsed_s,) = self.group.broadcast([at.elapsed_s + time.perf_counter() - began])
        return StartScored(val_loss, self._score(predictions), self.recipe.epochs, self.metric.name)

    def _train_epoch(self) -> Iterator[Event]:
        """Run the remaining steps of the current epoch."""
        at = self.position
        self.module.train()
        if self.recipe.norm_statistics == "stored":
            keep_statistics(self.module)
        began = time.perf_counter()
        for batch in self.batches.epoch(at.epoch, at.step, self._current_size):
            if self._progress() >= 1 or (at.is_finishing and at.step):
                break
            try:
                self._take_step(batch)
            except VisusError:
                raise
            except Exception as error:  # a person's own module may raise anything
                is_expected = isinstance(error, (RuntimeError, ValueError, MemoryError))
                if not is_expected and not place_in_module(error, self.module):
                    raise  # a bug in visus
                raise self._step_error(error) from error
            at.step += 1
            at.num_steps += 1
            if len(self._pending) >= MAX_PENDING_STEPS or at.step == self.batches.num_steps:
                self._read_metrics()
            seconds = time.perf_counter() - began
            self.forecast.add_step(at.size, seconds)
            at.elapsed_s += seconds
            at.epoch_s += seconds
            self._since_checkpoint += seconds
            if self._divided is not None:
                event, self._divided = self._divided, None
                self.folder.write_json("changes.json", at.changes)
                yield event
            yield self._step_done(batch)
            yield from self._take_answers(self._agreed_answers(is_step=True))
            if self._is_stopping:
                self._read_metrics()
                self.folder.write_weights("last", self.scored_module)
                yield self._write_checkpoint()
                return
            if self._since_checkpoint >= self.recipe.checkpoint_every_s and at.step < self.batches.num_steps:
                self._read_metrics()
                yield self._write_checkpoint()
            began = time.perf_counter()

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
                    Path(file).parent.mkdir(parents=True, exist_ok=True)
                    weights.save(self.scored_module, file, self.folder.metadata)
            event = Answered(answer, at.epoch, at.step, self._learning_rate())
            facts = {"what": answer.sentence, "place": self._place(), "learning_rate": event.learning_rate}
            facts |= {"answer": type(answer).__name__}
            at.changes.append(
                facts | {name: str(value) if isinstance(value, Path) else value for name, value in asdict(answer).items()}
            )
            yield event
        if is_written and any(isinstance(answer, CHANGING) for answer in answers):
            self._read_metrics()
            yield self._write_checkpoint()
        if answers:
            self.folder.write_json("changes.json", at.changes)

    def _take_step(self, batch: Batch) -> None:
        """Run one optimizer step. On an asynchronous device, its loss stays there until ``_read_metrics``."""
        at = self.position
        seed_step(self.group, self.recipe.seed, at.num_steps)
        at.size = self._current_size()
        set_rates(self.optimizer, self._rate_factor(), self._progress(), at.lr_scale)
        while (metrics := self._try_gradients(batch)) is None:
            self._divide_steps(batch)
        self._pending.append(metrics)
        if not self.is_async:
            self._read_metrics()  # before the weights change
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        at.num_skipped += self.scaler.get_scale() < scale
        self._update_average()

    def _place(self) -> str:
        """Where the training is, as a phrase."""
        return place_of(self.position.epoch, self.position.step)

    @property
    def num_slices(self) -> int:
        """Number of slices in which each step is computed."""
        return max(self.recipe.accumulate, self.position.num_slices)

    def _try_gradients(self, batch: Batch) -> _PendingMetrics | None:
        """The gradients of a batch; None if they do not fit into memory and smaller slices can be tried, from the state before."""
        is_first_of_size = self.position.size not in self._sizes_done
        before = StateBefore(self.module) if is_first_of_size and self.group.is_alone else None
        try:
            found = self._add_gradients(batch)
        except Exception as error:
            is_divisible = self.group.is_alone and len(batch.labels) >= 2 * MIN_SLICE * self.num_slices
            if not (is_out_of_memory(error) and is_divisible):
                raise
        else:
            self._sizes_done.add(self.position.size)
            return found
        if before is not None:  # after the error, which holds the tensors of the step
            before.restore()
        return None

    def _divide_steps(self, batch: Batch) -> None:
        """Compute this step and the following ones in twice as many slices."""
        at = self.position
        at.num_slices = 2 * self.num_slices
        event = StepDivided(at.num_slices, batch.num_samples, has_batch_norms(self.module), at.epoch, at.step)
        at.changes = [each for each in at.changes if (each.get("epoch"), each.get("step")) != (at.epoch, at.step)]
        at.changes.append(
            {"what": f"steps computed in {at.num_slices} slices, as memory needs", "place": self._place()} | asdict(event)
        )
        self._divided = event

    def _add_gradients(self, batch: Batch) -> _PendingMetrics:
        """Compute the gradients of a batch, slice by slice, and its metrics."""
        # Before the forward pass, so that old gradients and its maps share no peak.
        self.optimizer.zero_grad(set_to_none=True)
        num_samples = batch.num_samples
        slices = batch.slices(self.num_slices)
        losses, rights = [], []
        for number, batch in enumerate(slices, 1):
            with gradients_kept_apart(self._network, is_last=number == len(slices)):
                with self.machine.autocast():
                    logits = self._network(batch.inputs).float()
                loss = batch.mean_loss(partial(self._mean_loss, logits, batch))
                is_right = self.task.is_right(logits.detach(), batch.main_labels)
                rights.append(torch.zeros((), device=loss.device) if is_right is None else is_right.sum())
                losses.append(loss.detach())
                self.scaler.scale(loss * self.group.size).backward()  # type: ignore[no-untyped-call]  # averaged over the processes
        total, num_right = (torch.stack(each).sum() if len(each) > 1 else each[0] for each in (losses, rights))
        return _PendingMetrics(self.position.step, num_samples, total, num_right)

    def _mean_loss(
        self, outputs: torch.Tensor, batch: Batch, labels: torch.Tensor, share: torch.Tensor | None
    ) -> torch.Tensor:
        """The mean loss of a batch for some labels; ``share`` as for ``Loss.mean``."""
        return self.loss.mean(outputs, labels, batch.all_labels, share)

    def _read_metrics(self) -> None:
        """Add the pending losses and correct predictions to the epoch's sums; raise if a loss shows divergence."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        at = self.position
        own = torch.stack([torch.stack([step.loss for step in pending]), torch.stack([step.num_right for step in pending])])
        losses, rights = self.group.all_reduce(own).tolist()
        for step, loss, num_right in zip(pending, losses, rights, strict=True):
            self._check_divergence(loss, step.step)
            at.loss_sum += loss * step.num_samples
            at.num_right += int(num_right)
            at.num_seen += step.num_samples

    def _update_average(self) -> None:
        """Add the weights after the last step to the weight average."""
        at = self.position
        if self.average and self.average.add_step(at.num_steps + 1, self._progress(1)):
            at.num_averaged = self.average.num_steps

    def _finish_epoch(self) -> EpochDone:
        """Validate, keep the weights if they are the best so far, and write the epoch's row of ``results.csv``."""
        self._read_metrics()
        at = self.position
        phase = self.phase
        began = time.perf_counter()
        val_loss, predictions = self._validate(phase.size)
        validation_s = time.perf_counter() - began
        at.elapsed_s, validation_s = self.group.broadcast([at.elapsed_s + validation_s, validation_s])
        if not math.isfinite(val_loss) and len(self.validation):
            raise self._divergence_error(
                f"the validation loss became {val_loss} after epoch {at.epoch + 1}", self._learning_rate()
            )
        self.forecast.add_validation(phase.size, validation_s)
        share = at.step / self.batches.num_steps
        row = {
            "epoch": at.epoch + 1 if share == 1 else round(at.epoch + max(share, 0.01), 2),
            "img_size": round(phase.size * (self.batches.preprocessing.input_shape[1:] or (1,))[-1]),
            "train_loss": at.loss_sum / max(1, at.num_seen),
            "train_accuracy": at.num_right / max(1, at.num_seen) if self._has_accuracy else math.nan,
            "val_loss": val_loss,
            "val_accuracy": predictions.accuracy if self._has_accuracy else math.nan,
            "val_score": self._score(predictions),
            "learning_rate": self._learning_rate(),
            "elapsed_seconds": at.elapsed_s,
            "samples_per_second": at.num_seen / max(at.epoch_s, 1e-9),
        }
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
        return EpochDone(at.epoch - 1, row, is_kept, left, phase.is_averaged)

    def _validate(self, size: float) -> tuple[float, SampleResults]:
        """The training loss on the validation set, and the result of each sample; NaN and no results if the set is empty.

        Args:
            size: input size as a fraction of the full size.
        """
        if not len(self.validation):
            return math.nan, SampleResults((), ())
        machine = self.machine
        num_samples = len(self.validation)
        shard = self.batches.shard if num_samples >= self.group.size else BatchShard()
        inputs = batches_in_order(self.validation.slice(shard.of(num_samples)), self.batches.preprocessing, EVALUATION_BATCH)
        with unoptimized(self.scored_module):  # every evaluation uses PyTorch's own kernels
            logits = predict_logits(
                self.scored_module,
                (shrink(batch, size) if size < 1 else batch for batch in inputs),
                device=machine.device,
                precision=machine.precision,
                channels_last=machine.channels_last,
            )
        if shard.count > 1:
            logits = self.group.all_gather(logits, shard.of(num_samples), num_samples)
        labels = torch.from_numpy(self.validation.labels)
        return float(self.loss.mean(logits, labels)), self._results(logits, labels)

    def _results(self, outputs: torch.Tensor, labels: torch.Tensor) -> SampleResults:
        """The result of each validation sample, and the score that selects the epoch."""
        is_right = self.task.is_right(outputs, labels)
        found = () if is_right is None else tuple(is_right.tolist())
        losses = self.loss.per_sample(outputs, labels) if self.own_loss else self.task.fair_losses(outputs, labels)
        if self.metric.name == "accuracy":
            return SampleResults(found, tuple(losses.tolist()))
        value, error = (
            self.metric.compute(self.task, outputs, labels),
            jackknife_error(self.metric, self.task, outputs, labels),
        )
        return SampleResults(found, tuple(losses.tolist()), -value if self.metric.is_error else value, error)

    def _score(self, results: SampleResults) -> float:
        """The metric that selects the epoch, in its own direction."""
        return -results.selected if self.metric.is_error else results.selected

    @property
    def _has_accuracy(self) -> bool:
        """Whether an accuracy says how good the predictions are."""
        return self.task.name == "single-label"

    def _measure_step_times(self, *, can_skip: bool) -> Iterator[Progress]:
        """Time two steps at every size on a copy of the network, for a forecast before the first epoch.

        Args:
            can_skip: whether another setting would spare the timing of kernels; a resumed training keeps its settings.
        """
        sizes = sorted(set(self.recipe.sides))
        skipped_by = WITHOUT_KERNELS if can_skip and uses_kernels(self.machine, self.recipe.kernels) else ()
        for num_done, size in enumerate(sizes):
            yield Progress("timing the kernels and a step", num_done, len(sizes), skipped_by)
            try:
                step_s = self._time_step(size)
            except Exception:  # a person's own module may raise anything; the first real step will report it
                return
            self.forecast.add_step(size, step_s)
            self.forecast.add_validation(size, step_s / 3 * len(self.validation) / self.recipe.batch_size)

    def _time_step(self, size: float) -> float:
        """Seconds of one step without the optimizer, after one step of warm-up."""
        twin = copy.deepcopy(self.module).train()
        if self.recipe.norm_statistics == "stored":
            keep_statistics(twin)
        seconds = 0.0
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):
                began = time.perf_counter()
                batch = next(self.batches.epoch(0, 0, lambda: size))
                for part in batch.slices(self.num_slices):
                    with self.machine.autocast():
                        logits = twin(part.inputs).float()
                    self.loss.mean(logits, part.labels, part.all_labels).backward()  # type: ignore[no-untyped-call]
                self.machine.wait()
                seconds = time.perf_counter() - began
        return seconds

    def _seconds_left(self) -> float:
        """Forecast of the time until the last validation, in seconds; NaN before any measurement."""
        at = self.position
        left = self.forecast.seconds_left(self._progress())
        return left if at.until_s is None else min(left, max(0.0, at.until_s - at.elapsed_s))

    def _epochs_expected(self) -> float:
        """Forecast of the number of epochs: fewer than the recipe's if the time limit comes first."""
        at = self.position
        left = self.recipe.epochs - at.epoch - at.step / self.batches.num_steps
        if at.until_s is None:
            return float(self.recipe.epochs)
        fitting = self.forecast.epochs_within(max(0.0, at.until_s - at.elapsed_s), self._progress())
        return self.recipe.epochs - left + min(left, fitting)

    def _progress(self, num_more: int = 0) -> float:
        """Fraction of the training that is done after ``num_more`` more steps: of the steps or of the time limit, whichever is larger."""
        at = self.position
        if not self.recipe.epochs:
            return 1.0
        done = (at.epoch * self.batches.num_steps + at.step + num_more) / (self.recipe.epochs * self.batches.num_steps)
        return done if at.until_s is None else max(done, at.elapsed_s / at.until_s)

    def _current_size(self) -> float:
        """Input size of the next step, as a fraction of the full side; every size gets an equal part of the training."""
        sides = self.recipe.sides
        return sides[min(int(self._progress() * len(sides)), len(sides) - 1)]

    def _learning_rate(self) -> float:
        """Learning rate of the next step; with muon, that of filters before a norm."""
        return self.recipe.learning_rate * self._rate_factor() * self.position.lr_scale

    def _rate_factor(self) -> float:
        """Learning rate of the next step as a fraction of the highest; neither the first nor the last step has 0."""
        half_step = 0.5 / max(1, self.recipe.epochs * self.batches.num_steps)
        return rate_factor(
            min(1.0, self._progress() + half_step),
            schedule=self.recipe.schedule,
            warmup=self.recipe.warmup,
            min_lr_ratio=self.recipe.min_lr_ratio,
        )

    def _step_done(self, batch: Batch) -> StepDone:
        at = self.position
        progress = min(1.0, self._progress())
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

    def _check_divergence(self, loss: float, step: int) -> None:
        """Raise if the loss is infinite, NaN, or far above that of guessing, before such weights are kept."""
        at, rate, guess = self.position, self._learning_rate(), self.task.guess_loss
        place = f"in epoch {at.epoch + 1}, step {step + 1}"
        if not math.isfinite(loss) and at.epoch == 0 and step == 0:
            raise TrainingError(
                f"the loss is {loss} at the first step, before any weight changed: the output of {type(self.module).__name__} for these samples is not finite. "
                "Look for a division by zero, a square root or a logarithm in it, and for weights that are not finite."
            )
        if not math.isfinite(loss):
            raise self._divergence_error(f"the loss became {loss} {place}", rate)
        at.smooth_loss = loss if at.smooth_loss is None else _SMOOTHING * at.smooth_loss + (1 - _SMOOTHING) * loss
        if self.own_loss is None and at.num_steps >= 50 and at.smooth_loss > 3 * guess + 3:
            raise self._divergence_error(
                f"the loss diverged {place}: its running mean is {at.smooth_loss:.3g}, and guessing has {guess:.3g}",
                rate,
            )

    def _divergence_error(self, what: str, rate: float) -> TrainingError:
        highest = self.recipe.learning_rate
        return TrainingError(
            f"{what} (learning rate {rate:.3g}). The last good checkpoint is kept: {self.folder.checkpoint}. {self._best_so_far()} "
            f"Train again with a lower learning rate (--lr {highest / 4:.3g}), with --clip-norm 1, or with --precision float32."
        )

    def _best_so_far(self) -> str:
        """A sentence that names the epoch of the best weights so far."""
        if self.position.best_epoch >= 0:
            return f"The best weights so far are those of epoch {self.position.best_epoch + 1}."
        return (
            "The best weights so far are the starting weights."
            if self.has_trained_head
            else "There are no best weights yet, since no epoch was finished."
        )

    def _step_error(self, error: Exception) -> TrainingError:
        """The error for an exception of PyTorch or of a person's own module within a step, with a remedy."""
        if is_lost_process(error):
            return process_lost_error()
        text = " ".join(str(error).split())
        what = f"PyTorch stopped with: {text}."
        if place := place_in_module(error, self.module):
            what = f"the network stopped with {type(error).__name__}: {text.rstrip('.')}{place}."
        if is_out_of_memory(error):
            what = "it does not fit into memory. Use a smaller --batch-size, a smaller --img-size or a smaller network."
        elif "more than 1 value per channel" in text:
            what = (
                "a batch norm gets a single value per channel, which has no variance. "
                "Use a larger --batch-size, or layernorm in place of norm."
            )
        at = self.position
        return TrainingError(
            f"epoch {at.epoch + 1}, step {at.step + 1} with a batch of {self.recipe.batch_size} failed: {what} "
            f"{self._checkpoint_sentence()}"
        )

    def _checkpoint_sentence(self) -> str:
        """A sentence that names the checkpoint after an error. The folder of a run without a step is removed."""
        return (
            f"The last checkpoint is kept: {self.folder.checkpoint}." if self.position.num_steps else "No run was created."
        )

    def _write_checkpoint(self) -> CheckpointWritten:
        at = self.position
        average = self.average.module if self.average else None
        at.loss_scale = self.scaler.state_dict()
        try:
            if self.group.is_first and self.folder.is_ours:
                write_checkpoint(
                    self.folder.checkpoint, at, self.module, average, self.optimizer, self.identity, self.group.size
                )
        except StorageError as error:
            raise StorageError(
                f"{error.message} The previous checkpoint is intact; continue with: {resume_call(self.folder.path)}",
                where=error.where,
            ) from error
        self._since_checkpoint = 0.0
        return CheckpointWritten(self.folder.checkpoint, at.epoch, at.step)
