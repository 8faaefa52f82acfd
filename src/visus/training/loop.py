"""The training loop: a generator of events that can be stopped at any step and goes on exactly.

What is decided is decided elsewhere: ``resolve`` says what is done, ``Selection`` which epoch is kept, ``WeightAverage`` which weights are averaged,
``Forecast`` how long it takes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from visus.data.augment import shrink
from visus.data.batches import Batch, Batches, BatchShard, Part, batches_in_order
from visus.errors import StorageError, TrainingError, VisusError
from visus.evaluation.predictions import predict_logits
from visus.networks.fast import is_sped_up, plain, slow_down, speed_up
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, freed_memory_kept
from visus.networks.own_code import place_in_module
from visus.training.arithmetic import choices_for
from visus.training.checkpoints import Position, read_checkpoint, write_checkpoint
from visus.training.distribution import ALONE, Group, is_loss, lost
from visus.training.events import CheckpointWritten, EpochDone, Event, Finished, Started, StartScored, StepDone, Stopped
from visus.training.forecast import Forecast
from visus.training.frozen import keep_statistics
from visus.training.gradients import averaging_gradients, seed_step
from visus.training.loss import Loss, calibrated_losses
from visus.training.norms import whole_batch_norms
from visus.training.optimizers import make_optimizer, raise_bn_momentum, set_rates
from visus.training.resolve import ResolvedRecipe
from visus.training.runs import RunFolder
from visus.training.schedules import rate_factor
from visus.training.selection import Answers, Phase, Selection
from visus.training.weight_average import WeightAverage

EVALUATION_BATCH = 256
UNREAD_STEPS = 32  # losses that stay on another device until they are read together, so that it never waits
_SMOOTHING = 0.95


@dataclass(frozen=True)
class _PendingMetrics:
    """What a step came to, still on the device: the mean loss and how many samples were right, of ``num_samples``."""

    step: int
    num_samples: int
    loss: torch.Tensor
    num_right: torch.Tensor


@dataclass
class Training:
    """Everything that one training needs; ``events`` carries it out.

    Args:
        module: the network, on the machine's device; it is trained in place.
        batches: the training split.
        validation: the split that chooses the best epoch; empty for none, the last epoch is then the best.
        recipe: what is done.
        machine: device and precision.
        folder: where weights, results and checkpoints go.
        identity: what a checkpoint must have been made with.
        class_weights: one weight for each class in the loss, or None.
        should_stop: asked after each step; True ends the training cleanly with a checkpoint.
        knows_answers: the network can answer before its first step: it is validated then, and kept unless an epoch is better beyond chance.
        group: the processes that train it together; each has its slice of every batch, and the first one decides and writes.
        budget_s: seconds of training from here on after which to be done; infinity for no limit, None for the one that the training had before.
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

    def __post_init__(self) -> None:
        self._network = averaging_gradients(self.module, self.group)
        shape = self.batches.preprocessing.input_shape
        self.optimizer = make_optimizer(self.module, self.recipe, input_shape=shape, precision=self.machine.precision)
        if self.recipe.optimizer == "muon":
            raise_bn_momentum(self.module, self.recipe.batch_size)
        is_averaged = bool(self.recipe.ema_decay or self.recipe.final_ema)
        self.average = WeightAverage(self.module, self.recipe.ema_decay, self.recipe.final_ema) if is_averaged else None
        self.loss = Loss(self.recipe.label_smoothing, self.class_weights)
        self.position = Position(selection=Selection(self.recipe.patience, len(self.validation)))
        num_steps = self.recipe.epochs * self.batches.num_steps
        self.forecast = Forecast(num_steps, self.recipe.epochs, self.recipe.sides, len(shape) - 1)
        self._since_checkpoint = 0.0
        self._unread: list[_PendingMetrics] = []
        self._num_classes = 2

    @property
    def scored_module(self) -> nn.Module:
        """The network that is validated and kept: the averaged one, as soon as the average is valid."""
        return self.average.module if self.average and self.average.is_valid else self.module

    @property
    def phase(self) -> Phase:
        """What the epoch that ends now is comparable with."""
        return Phase(self.position.size, self.average is not None and self.average.is_valid)

    @property
    def is_far(self) -> bool:
        """Whether the network is on another device, which works on while this process waits for none of its numbers."""
        return self.machine.device.type != "cpu"

    def events(self, *, resume: bool = False) -> Iterator[Event]:
        """Train, telling what happens.

        Raises:
            TrainingError: the loss became infinite or not a number, or ran away; the last good checkpoint is kept and named.
            StorageError: the disk is full; the checkpoint before is untouched.
        """
        with freed_memory_kept(), whole_batch_norms(self.module, is_alone=self.group.is_alone):
            was_fast = is_sped_up(self.module)
            if self.recipe.kernels == "auto":
                record = self.folder.path / "arithmetic.json"
                speed_up(self.module, choices_for(self.group, record, self.recipe.batch_size))
            try:
                with float32_where_needed(self.module, self.machine.precision):
                    yield from self._events(resume)
            finally:
                self._network = self.module
                if not was_fast:
                    slow_down(self.module)

    def _events(self, resume: bool) -> Iterator[Event]:
        """``events``, once the network computes as it is to."""
        if resume:
            self._read_checkpoint()
        at = self.position
        if self.budget_s is not None:
            at.until_s = None if math.isinf(self.budget_s) else at.elapsed_s + self.budget_s
        if self.recipe.epochs:
            self._guess_times()
        yield Started(
            self.recipe.epochs,
            self.batches.num_steps,
            at.epoch,
            at.step,
            resume,
            self._seconds_left(),
            self._epochs_expected(),
        )
        self.forecast.forget()
        if not resume:
            if self.has_trained_head:
                yield self._score_start()
            yield self._write_checkpoint()
        while not (reason := self._reason_to_end()):
            for event in self._train_epoch():
                yield event
                if isinstance(event, Stopped):
                    return
            yield self._finish_epoch()
            yield self._write_checkpoint()
        yield Finished(reason, at.epoch, at.best_epoch + 1, at.elapsed_s, at.num_steps / self.batches.num_steps)

    def _read_checkpoint(self) -> None:
        """Go on from where the training was."""
        average = self.average.module if self.average else None
        patience = self.position.selection.patience
        self.position = read_checkpoint(
            self.folder.checkpoint, self.module, average, self.optimizer, self.identity, self.group.size
        )
        self.position.selection.patience = patience
        if self.average:
            self.average.num_steps = self.position.num_averaged

    def _reason_to_end(self) -> str:
        """Why no further epoch is begun; empty where one is. The same for a training that goes on after its end."""
        at = self.position
        if not self.recipe.epochs:
            return "the head alone"
        if at.epoch >= self.recipe.epochs:
            return "all epochs"
        if at.step == 0 and self._progress() >= 1:
            return "time limit"
        if at.step == 0 and at.selection.is_over(at.epoch - 1):
            return "no better validation accuracy"
        return ""

    def _score_start(self) -> StartScored:
        """Validate and keep the network as it is before the first step."""
        at = self.position
        began = time.perf_counter()
        val_loss, answers = self._validate(1.0)
        if len(self.validation):
            at.selection.start = answers
        for name in ("best", "last"):
            self.folder.write_weights(name, self.scored_module)
        (at.elapsed_s,) = self.group.numbers([at.elapsed_s + time.perf_counter() - began])
        return StartScored(val_loss, answers.accuracy)

    def _train_epoch(self) -> Iterator[Event]:
        """The steps of one epoch, from where the training is."""
        at = self.position
        self.module.train()
        if self.recipe.norm_statistics == "stored":
            keep_statistics(self.module)
        began = time.perf_counter()
        for batch in self.batches.epoch(at.epoch, at.step, self._side):
            if self._progress() >= 1:
                break
            try:
                self._take_step(batch)
            except VisusError:
                raise
            except Exception as error:  # whatever a person's own module raises
                is_ours = not isinstance(error, (RuntimeError, ValueError, MemoryError))
                if is_ours and not place_in_module(error, self.module):
                    raise  # a mistake of visus
                raise self._failed(error) from error
            at.step += 1
            at.num_steps += 1
            if len(self._unread) >= UNREAD_STEPS or at.step == self.batches.num_steps:
                self._read()
            seconds = time.perf_counter() - began
            self.forecast.step(at.size, seconds)
            at.elapsed_s += seconds
            at.epoch_s += seconds
            self._since_checkpoint += seconds
            yield self._step_done(batch)
            if self._is_to_stop():
                self._read()
                self.folder.write_weights("last", self.scored_module)
                written = self._write_checkpoint()
                yield written
                yield Stopped(written.path, at.epoch, at.step)
                return
            if self._since_checkpoint >= self.recipe.checkpoint_every_s and at.step < self.batches.num_steps:
                self._read()
                yield self._write_checkpoint()
            began = time.perf_counter()

    def _is_to_stop(self) -> bool:
        """Whether to end after this step. The first process's answer and clock are everybody's, so that all go the same way."""
        at = self.position
        own = [float(self.should_stop()), at.elapsed_s, at.epoch_s, self._since_checkpoint]
        stops, at.elapsed_s, at.epoch_s, self._since_checkpoint = self.group.numbers(own)
        return bool(stops)

    def _take_step(self, batch: Batch) -> None:
        """One step of the optimizer; what it came to is left unread where reading would make another device wait."""
        seed_step(self.group, self.recipe.seed, self.position.num_steps)
        self.position.size = self._side()
        set_rates(self.optimizer, self._rate_factor(), self._progress())
        self.optimizer.zero_grad(
            set_to_none=True
        )  # before the forward pass, so that old gradients do not stand beside its maps
        with self.machine.autocast():
            logits = self._network(batch.inputs).float()
        loss = self.loss.mean(logits, batch.labels, batch.all_labels)
        num_right = (logits.detach().argmax(1) == batch.labels).sum()
        self._num_classes = logits.shape[1]
        self._unread.append(_PendingMetrics(self.position.step, batch.num_samples, loss.detach(), num_right))
        if not self.is_far:
            self._read()  # before the weights move
        (loss * self.group.size).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over the processes
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self._average()

    def _read(self) -> None:
        """Add what the steps came to since the last reading; refuse to go on where one of them shows that the training diverges."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        at = self.position
        own = torch.stack([torch.stack([each.loss for each in unread]), torch.stack([each.num_right for each in unread])])
        losses, rights = self.group.summed(own).tolist()
        for each, loss, num_right in zip(unread, losses, rights, strict=True):
            self._refuse_divergence(loss, each.step)
            at.loss_sum += loss * each.num_samples
            at.num_right += int(num_right)
            at.num_seen += each.num_samples

    def _average(self) -> None:
        """Take the step that was just made into the average."""
        at = self.position
        if self.average and self.average.follow(at.num_steps + 1, self._progress(1)):
            at.num_averaged = self.average.num_steps

    def _finish_epoch(self) -> EpochDone:
        """Validate, keep the weights where they are the best so far, write the row of the epoch."""
        self._read()
        at = self.position
        phase = self.phase
        began = time.perf_counter()
        val_loss, answers = self._validate(phase.size)
        validation_s = time.perf_counter() - began
        at.elapsed_s, validation_s = self.group.numbers([at.elapsed_s + validation_s, validation_s])
        if not math.isfinite(val_loss) and len(self.validation):
            raise self._diverged(f"the validation loss became {val_loss} after epoch {at.epoch + 1}", self._learning_rate())
        self.forecast.validated(phase.size, validation_s)
        row = {
            "epoch": at.epoch + 1,
            "img_size": round(phase.size * (self.batches.preprocessing.input_shape[1:] or (1,))[-1]),
            "train_loss": at.loss_sum / max(1, at.num_seen),
            "train_accuracy": at.num_right / max(1, at.num_seen),
            "val_loss": val_loss,
            "val_accuracy": answers.accuracy,
            "learning_rate": self._learning_rate(),
            "seconds": at.elapsed_s,
            "samples_per_second": at.num_seen / max(at.epoch_s, 1e-9),
        }
        is_kept = at.selection.judge(at.epoch, phase, answers.accuracy, answers)
        if is_kept:
            self.folder.write_weights("best", self.scored_module)
        self.folder.write_weights("last", self.scored_module)
        at.history.append(row)
        self.folder.write_results(at.history)
        at.epoch, at.step = at.epoch + 1, 0
        at.loss_sum, at.num_right, at.num_seen, at.epoch_s = 0.0, 0, 0, 0.0
        return EpochDone(at.epoch - 1, row, is_kept, 0.0 if self._reason_to_end() else self._seconds_left())

    def _validate(self, size: float) -> tuple[float, Answers]:
        """The training's own loss on the validation set, and the answers; NaN and none where it is empty.

        Args:
            size: part of the full input size at which the samples are seen.
        """
        if not len(self.validation):
            return math.nan, Answers((), ())
        machine = self.machine
        num_samples = len(self.validation)
        share = self.batches.shard if num_samples >= self.group.size else BatchShard()
        inputs = batches_in_order(self.validation.slice(share.of(num_samples)), self.batches.preprocessing, EVALUATION_BATCH)
        with plain(self.scored_module):  # answers are PyTorch's own, here as everywhere
            logits = predict_logits(
                self.scored_module,
                (shrink(batch, size) if size < 1 else batch for batch in inputs),
                device=machine.device,
                precision=machine.precision,
                channels_last=machine.channels_last,
            )
        if share.count > 1:
            logits = self.group.joined(logits, share.of(num_samples), num_samples)
        self._num_classes = logits.shape[1]
        labels = torch.from_numpy(self.validation.labels)
        right = logits.argmax(1) == labels
        return float(self.loss.mean(logits, labels)), Answers(
            tuple(right.tolist()), tuple(calibrated_losses(logits, labels).tolist())
        )

    def _guess_times(self) -> None:
        """Time two steps at every size on a copy of the network, so that the first epoch has a forecast."""
        for size in sorted(set(self.recipe.sides)):
            try:
                step_s = self._time_step(size)
            except Exception:  # whatever a person's own module raises: the first real step tells it
                return
            self.forecast.step(size, step_s)
            self.forecast.validated(size, step_s / 3 * len(self.validation) / self.recipe.batch_size)

    def _time_step(self, size: float) -> float:
        """Seconds of a step without the optimizer, the second one of two."""
        twin = copy.deepcopy(self.module).train()
        if self.recipe.norm_statistics == "stored":
            keep_statistics(twin)
        seconds = 0.0
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):
                began = time.perf_counter()
                batch = next(self.batches.epoch(0, 0, lambda: size))
                with self.machine.autocast():
                    logits = twin(batch.inputs).float()
                self.loss.mean(logits, batch.labels, batch.all_labels).backward()  # type: ignore[no-untyped-call]
                self.machine.wait()
                seconds = time.perf_counter() - began
        return seconds

    def _seconds_left(self) -> float:
        """Forecast until the last epoch is validated; NaN where nothing is known."""
        at = self.position
        left = self.forecast.seconds_left(self._progress())
        return left if at.until_s is None else min(left, max(0.0, at.until_s - at.elapsed_s))

    def _epochs_expected(self) -> float:
        """Epochs that the whole training will have, as far as can be told now."""
        at = self.position
        left = self.recipe.epochs - at.epoch - at.step / self.batches.num_steps
        if at.until_s is None:
            return float(self.recipe.epochs)
        fitting = self.forecast.epochs_within(max(0.0, at.until_s - at.elapsed_s), self._progress())
        return self.recipe.epochs - left + min(left, fitting)

    def _progress(self, num_more: int = 0) -> float:
        """Share of the training that is done, after ``num_more`` steps: of the steps, or of the time where that is further."""
        at = self.position
        if not self.recipe.epochs:
            return 1.0
        share = (at.epoch * self.batches.num_steps + at.step + num_more) / (self.recipe.epochs * self.batches.num_steps)
        return share if at.until_s is None else max(share, at.elapsed_s / at.until_s)

    def _side(self) -> float:
        """Part of the whole side at which the samples of the next step are seen: equal shares of the training for each."""
        sides = self.recipe.sides
        return sides[min(int(self._progress() * len(sides)), len(sides) - 1)]

    def _learning_rate(self) -> float:
        """The rate of the next step: of all weights, or with muon of the filters that a norm follows."""
        return self.recipe.learning_rate * self._rate_factor()

    def _rate_factor(self) -> float:
        """Share of the highest rate in the next step; the first step is already above zero and the last one too."""
        half_step = 0.5 / max(1, self.recipe.epochs * self.batches.num_steps)
        return rate_factor(
            min(1.0, self._progress() + half_step),
            schedule=self.recipe.schedule,
            warmup=self.recipe.warmup,
            min_lr_ratio=self.recipe.min_lr_ratio,
        )

    def _step_done(self, batch: Batch) -> StepDone:
        at = self.position
        progress = self._progress()
        rate = at.num_seen / max(at.epoch_s, 1e-9)
        num_seen = max(1, at.num_seen)
        return StepDone(
            at.epoch, batch.step, at.loss_sum / num_seen, at.num_right / num_seen, progress, rate, self._seconds_left()
        )

    def _refuse_divergence(self, loss: float, step: int) -> None:
        """Stop before steps that could only spoil the weights are taken, or kept."""
        at, rate, num_classes = self.position, self._learning_rate(), self._num_classes
        place = f"in epoch {at.epoch + 1}, step {step + 1}"
        if not math.isfinite(loss) and at.epoch == 0 and step == 0:
            raise TrainingError(
                f"the loss is {loss} at the first step, before any weights moved: what {type(self.module).__name__} gives for these samples is not finite. "
                "Look for a division by zero, a root or a logarithm in it, and for weights that are not finite."
            )
        if not math.isfinite(loss):
            raise self._diverged(f"the loss became {loss} {place}", rate)
        at.smooth_loss = loss if at.smooth_loss is None else _SMOOTHING * at.smooth_loss + (1 - _SMOOTHING) * loss
        bound = 3 * math.log(max(2, num_classes)) + 3
        if at.num_steps >= 50 and at.smooth_loss > bound:
            raise self._diverged(
                f"the loss ran away {place}: its running mean is {at.smooth_loss:.3g}, where guessing gives {math.log(num_classes):.3g}",
                rate,
            )

    def _diverged(self, what: str, rate: float) -> TrainingError:
        highest = self.recipe.learning_rate
        return TrainingError(
            f"{what} (learning rate {rate:.3g}). The last good checkpoint is kept: {self.folder.checkpoint}, and the best weights "
            f"so far {self._best_so_far()}. "
            f"Train anew with a lower rate (--lr {highest / 4:.3g}), with --clip-norm 1, or with --precision float32."
        )

    def _best_so_far(self) -> str:
        """Whose weights are kept, after "the best weights so far"."""
        if self.position.best_epoch >= 0:
            return f"are those of epoch {self.position.best_epoch + 1}"
        return "are those that it began with" if self.has_trained_head else "are none, since no epoch was finished"

    def _failed(self, error: Exception) -> TrainingError:
        """What PyTorch, or a person's own module, said in the middle of a step, with what to do."""
        if is_loss(error):
            return lost()
        said = " ".join(str(error).split())
        what = f"PyTorch stopped with: {said}."
        if place := place_in_module(error, self.module):
            what = f"the network stopped with {type(error).__name__}: {said.rstrip('.')}{place}."
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in said:
            what = "it does not fit into memory. Use a smaller --batch-size, a smaller --img-size or a smaller network."
        elif "more than 1 value per channel" in said:
            what = (
                "a norm over the batch gets one value for each channel, which has no deviation. "
                "Use a larger --batch-size, or layernorm in place of norm."
            )
        at = self.position
        return TrainingError(
            f"epoch {at.epoch + 1}, step {at.step + 1} with a batch of {self.recipe.batch_size} could not be taken: {what} "
            f"{self._kept()}"
        )

    def _kept(self) -> str:
        """What is there to go on from after an error; the folder of a run without any step is removed."""
        return f"The last checkpoint is kept: {self.folder.checkpoint}." if self.position.num_steps else "No run was begun."

    def _write_checkpoint(self) -> CheckpointWritten:
        at = self.position
        average = self.average.module if self.average else None
        try:
            if self.group.is_first:
                write_checkpoint(
                    self.folder.checkpoint, at, self.module, average, self.optimizer, self.identity, self.group.size
                )
        except StorageError as error:
            raise StorageError(
                f"{error.message} The checkpoint before it is whole; go on with: visus train --resume {self.folder.path}",
                where=error.where,
            ) from error
        self._since_checkpoint = 0.0
        return CheckpointWritten(self.folder.checkpoint, at.epoch, at.step)
