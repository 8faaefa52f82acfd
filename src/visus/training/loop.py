"""The training loop: a generator of events that can be stopped at any step and goes on exactly.

This file knows the order of things in a training. It must not know how progress is shown, or where data comes from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from visus.data.batches import Batch, Batches, Part, Share, batches_in_order
from visus.errors import StorageError, TrainingError, VisusError
from visus.evaluation.predictions import predict_logits
from visus.networks.fast import is_sped_up, plain, slow_down, speed_up
from visus.networks.machine import Machine
from visus.networks.own_code import place_in_module
from visus.training.arithmetic import choices_for
from visus.training.checkpoints import Position, read_checkpoint, write_checkpoint
from visus.training.distribution import ALONE, Group, is_loss, lost
from visus.training.events import CheckpointWritten, EpochDone, Event, Finished, Started, StartScored, StepDone, Stopped
from visus.training.frozen import keep_statistics
from visus.training.gradients import averaging_gradients, seed_step
from visus.training.norms import whole_batch_norms
from visus.training.optimizers import Average, make_optimizer, quicken_norms, set_rates
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.training.schedules import rate_factor

EVALUATION_BATCH = 256
TAIL_HORIZONS = 3  # the average of the last steps begins so many times its horizon before the end
UNREAD_STEPS = 32  # losses that stay on another device until they are read together, so that it never waits
_SMOOTHING = 0.95


@dataclass(frozen=True)
class _Unread:
    """What a step came to, still on the device: the mean loss and how many items were right, of ``num_items``."""

    step: int
    num_items: int
    loss: torch.Tensor
    num_right: torch.Tensor


@dataclass
class Training:
    """Everything that one training needs; ``events`` carries it out.

    Args:
        module: the network, on the machine's device; it is trained in place.
        batches: the training split.
        validation: the split that chooses the best epoch; empty for none, the last epoch is then the best.
        recipe: every setting decided (``Recipe.settled``).
        machine: device and precision.
        folder: where weights, results and checkpoints go.
        identity: what a checkpoint must have been made with.
        class_weights: one weight for each class in the loss, or None.
        should_stop: asked after each step; True ends the training cleanly with a checkpoint.
        knows_answers: the network can answer before its first step: it is validated then, and kept where no epoch does as well.
        group: the processes that train it together; each has its slice of every batch, and the first one decides and writes.
    """

    module: nn.Module
    batches: Batches
    validation: Part
    recipe: Recipe
    machine: Machine
    folder: RunFolder
    identity: dict[str, str]
    class_weights: torch.Tensor | None = None
    should_stop: Callable[[], bool] = lambda: False
    knows_answers: bool = False
    group: Group = ALONE

    def __post_init__(self) -> None:
        self._network = averaging_gradients(self.module, self.group)
        shape = self.batches.preprocessing.input_shape
        self.optimizer = make_optimizer(self.module, self.recipe, input_shape=shape, precision=self.machine.precision)
        if self.recipe.optimizer == "muon":
            quicken_norms(self.module, self.recipe.batch_size or 1)
        is_averaged = bool(self.recipe.averaging or self.recipe.tail)
        self.average = Average(self.module) if is_averaged else None
        self.position = Position()
        self._since_checkpoint = 0.0
        self._unread: list[_Unread] = []
        self._num_classes = 2

    @property
    def num_epochs(self) -> int:
        """Epochs that the recipe asks for; a time limit may end the training before."""
        assert self.recipe.epochs is not None, "a settled recipe knows its epochs"
        return self.recipe.epochs

    @property
    def scored_module(self) -> nn.Module:
        """The network that is validated and kept: the averaged one, as soon as there is one."""
        is_begun = self.recipe.averaging or self.position.num_averaged
        return self.average.module if self.average and is_begun else self.module

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
        with whole_batch_norms(self.module, is_alone=self.group.is_alone):
            was_fast = is_sped_up(self.module)
            if self.recipe.convolutions == "auto":
                record = self.folder.path / "arithmetic.json"
                speed_up(self.module, choices_for(self.group, record, self.recipe.batch_size or 1))
            try:
                yield from self._events(resume)
            finally:
                self._network = self.module
                if not was_fast:
                    slow_down(self.module)

    def _events(self, resume: bool) -> Iterator[Event]:
        """``events``, once the network computes as it is to."""
        if resume:
            average = self.average.module if self.average else None
            self.position = read_checkpoint(
                self.folder.checkpoint, self.module, average, self.optimizer, self.identity, self.group.size
            )
        at = self.position
        yield Started(self.num_epochs, self.batches.num_steps, at.epoch, at.step, resume)
        if not resume:
            if self.knows_answers:
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

    def _reason_to_end(self) -> str:
        """Why no further epoch is begun; empty where one is. The same for a training that goes on after its end."""
        at = self.position
        if at.epoch >= self.num_epochs:
            return "all epochs"
        if at.step == 0 and self._progress() >= 1:
            return "time limit"
        if self.recipe.patience and len(self.validation) and at.epoch - 1 - at.improved_epoch >= self.recipe.patience:
            return "no better validation accuracy"
        return ""

    def _score_start(self) -> StartScored:
        """Validate and keep the network as it is before the first step."""
        at = self.position
        began = time.perf_counter()
        val_loss, val_accuracy = self.group.numbers(self._validate())
        if len(self.validation):
            at.best_accuracy, at.start_loss = val_accuracy, val_loss
        for name in ("best", "last"):
            self.folder.write_weights(name, self.scored_module)
        (at.elapsed_s,) = self.group.numbers([at.elapsed_s + time.perf_counter() - began])
        return StartScored(val_loss, val_accuracy)

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
        set_rates(self.optimizer, self._rate_factor(), self._progress())
        self.optimizer.zero_grad(
            set_to_none=True
        )  # before the forward pass, so that old gradients do not stand beside its maps
        with self.machine.autocast():
            logits = self._network(batch.inputs).float()
        loss = self._loss(logits, batch)
        num_right = (logits.detach().argmax(1) == batch.labels).sum()
        self._num_classes = logits.shape[1]
        self._unread.append(_Unread(self.position.step, batch.num_items, loss.detach(), num_right))
        if not self.is_far:
            self._read()  # before the weights move
        (loss * self.group.size).backward()  # type: ignore[no-untyped-call]  # gradients are averaged over the processes
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self._average()

    def _loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean loss of the batch; of a slice, what it adds to the mean of the whole batch."""
        weights, smoothing = self.class_weights, self.recipe.label_smoothing or 0.0
        if batch.all_labels is None:
            return F.cross_entropy(logits, batch.labels, weights, label_smoothing=smoothing)
        total = batch.num_items if weights is None else weights[batch.all_labels].sum()
        return F.cross_entropy(logits, batch.labels, weights, reduction="sum", label_smoothing=smoothing) / total

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
            at.loss_sum += loss * each.num_items
            at.num_right += int(num_right)
            at.num_seen += each.num_items

    def _average(self) -> None:
        """Draw the average towards the weights of the step that was just taken."""
        recipe, at = self.recipe, self.position
        if not self.average:
            return
        num_steps = at.num_steps + 1
        if recipe.tail:
            progress = self._progress(1)
            if progress < 1 - TAIL_HORIZONS * recipe.tail:
                return
            horizon = max(1.0, recipe.tail * num_steps / progress)
            keep = 1 - 1 / horizon if at.num_averaged else 0.0
        else:
            keep = min(recipe.averaging or 0.0, num_steps / (num_steps + 9))
        self.average.update(keep)
        at.num_averaged += 1

    def _finish_epoch(self) -> EpochDone:
        """Validate, keep the weights, write the row of the epoch."""
        self._read()
        at = self.position
        began = time.perf_counter()
        val_loss, val_accuracy = self._validate()
        seconds = at.elapsed_s + time.perf_counter() - began
        at.elapsed_s, val_loss, val_accuracy = self.group.numbers([seconds, val_loss, val_accuracy])
        if not math.isfinite(val_loss) and len(self.validation):
            raise self._diverged(f"the validation loss became {val_loss} after epoch {at.epoch + 1}", self._learning_rate())
        row = {
            "epoch": at.epoch + 1,
            "train_loss": at.loss_sum / max(1, at.num_seen),
            "train_accuracy": at.num_right / max(1, at.num_seen),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "learning_rate": self._learning_rate(),
            "seconds": at.elapsed_s,
            "pictures_per_second": at.num_seen / max(at.epoch_s, 1e-9),
        }
        # The latest epoch within one standard error of the highest accuracy is kept (Breiman et al. 1984, section 3.4.3): the learning rate
        # has fallen since, and a few validation items would else choose a lucky early epoch. The loss is no judge here, since label
        # smoothing keeps the best networks from being as sure as an unsmoothed loss would have them. Beside the start alone it is one.
        has_judge = len(self.validation) > 0
        is_worse = self._is_worse_than_start(val_loss, val_accuracy)
        if not has_judge or val_accuracy > at.best_accuracy:
            at.improved_epoch, at.best_accuracy = at.epoch, (val_accuracy if has_judge else -1.0)
        bound = at.best_accuracy - standard_error(at.best_accuracy, len(self.validation)) if has_judge else -1.0
        is_best = not has_judge or (val_accuracy >= bound and not is_worse)
        if is_best:
            at.best_epoch = at.epoch
            self.folder.write_weights("best", self.scored_module)
        self.folder.write_weights("last", self.scored_module)
        at.history.append(row)
        self.folder.write_results(at.history)
        at.epoch, at.step = at.epoch + 1, 0
        at.loss_sum, at.num_right, at.num_seen, at.epoch_s = 0.0, 0, 0, 0.0
        return EpochDone(at.epoch - 1, row, is_best)

    def _is_worse_than_start(self, val_loss: float, val_accuracy: float) -> bool:
        """Whether an epoch answers no more items right than the network did before the first step, still kept, and is clearly less sure of them.

        Clearly: by more than smoothed labels ask for, since the loss is measured without smoothing.
        """
        at, smoothing = self.position, self.recipe.label_smoothing or 0.0
        if at.best_epoch >= 0 or at.start_loss is None or val_accuracy > at.best_accuracy:
            return False
        asked_for = -math.log(1 - smoothing + smoothing / self._num_classes)
        return val_loss > at.start_loss + asked_for

    def _validate(self) -> tuple[float, float]:
        """Cross-entropy and accuracy on the validation split; not a number where it is empty."""
        if not len(self.validation):
            return math.nan, math.nan
        machine = self.machine
        num_items = len(self.validation)
        share = self.batches.share if num_items >= self.group.size else Share()
        inputs = batches_in_order(self.validation.slice(share.of(num_items)), self.batches.preprocessing, EVALUATION_BATCH)
        with plain(self.scored_module):  # answers are PyTorch's own, here as everywhere
            logits = predict_logits(
                self.scored_module,
                inputs,
                device=machine.device,
                precision=machine.precision,
                channels_last=machine.channels_last,
            )
        if share.count > 1:
            logits = self.group.joined(logits, share.of(num_items), num_items)
        self._num_classes = logits.shape[1]
        labels = torch.from_numpy(self.validation.labels)
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())

    def _progress(self, num_more: int = 0) -> float:
        """Share of the training that is done, after ``num_more`` steps: of the steps, or of the time where that is further."""
        at = self.position
        share = (at.epoch * self.batches.num_steps + at.step + num_more) / (self.num_epochs * self.batches.num_steps)
        return max(share, at.elapsed_s / self.recipe.time_limit_s) if self.recipe.time_limit_s else share

    def _side(self) -> float:
        """Part of the whole side at which the items of the next step are seen: equal shares of the training for each."""
        sides = self.recipe.sides
        return sides[min(int(self._progress() * len(sides)), len(sides) - 1)]

    def _learning_rate(self) -> float:
        """The rate of the next step: of all weights, or with muon of the filters that a norm follows."""
        return (self.recipe.learning_rate or 0.0) * self._rate_factor()

    def _rate_factor(self) -> float:
        """Share of the highest rate in the next step; the first step is already above zero and the last one too."""
        half_step = 0.5 / (self.num_epochs * self.batches.num_steps)
        return rate_factor(
            min(1.0, self._progress() + half_step),
            schedule=self.recipe.schedule,
            warmup=self.recipe.warmup or 0.0,
            floor=self.recipe.floor or 0.0,
        )

    def _step_done(self, batch: Batch) -> StepDone:
        at = self.position
        progress = self._progress()
        left = at.elapsed_s * (1 - progress) / max(progress, 1e-9)
        rate = at.num_seen / max(at.epoch_s, 1e-9)
        num_seen = max(1, at.num_seen)
        return StepDone(at.epoch, batch.step, at.loss_sum / num_seen, at.num_right / num_seen, progress, rate, left)

    def _refuse_divergence(self, loss: float, step: int) -> None:
        """Stop before steps that could only spoil the weights are taken, or kept."""
        at, rate, num_classes = self.position, self._learning_rate(), self._num_classes
        place = f"in epoch {at.epoch + 1}, step {step + 1}"
        if not math.isfinite(loss) and at.epoch == 0 and step == 0:
            raise TrainingError(
                f"the loss is {loss} at the first step, before any weights moved: what {type(self.module).__name__} gives for these items is not finite. "
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
        highest = self.recipe.learning_rate or rate
        return TrainingError(
            f"{what} (learning rate {rate:.3g}). The last good checkpoint is kept: {self.folder.checkpoint}, and the best weights "
            f"so far {self._best_so_far()}. "
            f"Train anew with a lower rate (--lr {highest / 4:.3g}), with --clip-norm 1, or with --precision float32."
        )

    def _best_so_far(self) -> str:
        """Whose weights are kept, after "the best weights so far"."""
        if self.position.best_epoch >= 0:
            return f"are those of epoch {self.position.best_epoch + 1}"
        return "are those that it began with" if self.knows_answers else "are none, since no epoch was finished"

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


def standard_error(share: float, num_items: int) -> float:
    """Standard error of a share of ``num_items``, with one success and one failure added so that it is never 0 (Laplace).

    >>> round(standard_error(0.9, 100), 4), round(standard_error(1.0, 100), 4)
    (0.031, 0.0099)
    """
    smoothed = (share * num_items + 1) / (num_items + 2)
    return math.sqrt(smoothed * (1 - smoothed) / num_items)
