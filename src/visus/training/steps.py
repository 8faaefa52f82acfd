"""The optimizer steps of a training: gradients of a whole batch or of its slices, loss scaling, clipping, weight average."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from visus.data.batches import Batch
from visus.networks.machine import Machine
from visus.training.checkpoints import Position, read_checkpoint, write_checkpoint
from visus.training.distribution import Group
from visus.training.events import StepDivided, place_of
from visus.training.gradients import average_gradients, gradients_kept_apart, seed_step
from visus.training.loss import Loss
from visus.training.memory import MIN_SLICE, StateBefore, has_batch_norms, is_out_of_memory
from visus.training.optimizers import make_optimizer, raise_bn_momentum, set_rates
from visus.training.schedules import Schedule
from visus.training.step_metrics import PendingMetrics, StepMetrics
from visus.training.weight_average import WeightAverage


@dataclass(eq=False)
class TrainingSteps:
    """Takes the steps of one training, and holds what they change: network, optimizer, loss scale and weight average.

    Args:
        module: the network, on the machine's device; trained in place.
        input_shape: (channels, *spatial) of a sample.
        loss: the training loss.
        schedule: learning rates and input sizes, with the recipe.
        machine: device and precision.
        group: the processes of the training; their gradients are averaged.
        metrics: receives the loss of each step.
    """

    module: nn.Module
    input_shape: tuple[int, ...]
    loss: Loss
    schedule: Schedule
    machine: Machine
    group: Group
    metrics: PendingMetrics

    def __post_init__(self) -> None:
        recipe, self.recipe = self.schedule.recipe, self.schedule.recipe
        self._network = average_gradients(self.module, self.group)
        precision = self.machine.precision
        self.optimizer = make_optimizer(self.module, recipe, input_shape=self.input_shape, precision=precision)
        if recipe.optimizer == "muon":
            raise_bn_momentum(self.module, recipe.batch_size)
        is_averaged = bool(recipe.ema_decay or recipe.final_ema)
        self.average = WeightAverage(self.module, recipe.ema_decay, recipe.final_ema) if is_averaged else None
        self.scaler = torch.amp.GradScaler(self.machine.device.type, enabled=precision == "float16")
        self._sizes_done: set[float] = set()

    @property
    def is_async(self) -> bool:
        """Whether the device computes asynchronously, so that reading a loss would make it wait."""
        return self.machine.device.type != "cpu"

    @property
    def averaged_module(self) -> nn.Module | None:
        """The network with the averaged weights; None before there is a valid average."""
        return self.average.module if self.average and self.average.is_valid else None

    def num_slices(self, at: Position) -> int:
        """Number of slices in which each step is computed."""
        return max(self.recipe.accumulate, at.num_slices)

    def save(self, checkpoint: Path, at: Position, identity: dict[str, str]) -> None:
        """Write a checkpoint of what the steps changed; the arguments are those of ``write_checkpoint``.

        Raises:
            StorageError: the file cannot be written; the previous one is intact.
        """
        at.loss_scale = self.scaler.state_dict()
        average = self.average.module if self.average else None
        write_checkpoint(checkpoint, at, self.module, average, self.optimizer, identity, self.group.size)

    def restore(self, checkpoint: Path, identity: dict[str, str]) -> Position:
        """Read a checkpoint back, in place; returns where the training was.

        Raises:
            RunError: there is no checkpoint.
            WeightsError: the file is damaged, or belongs to another training.
        """
        average = self.average.module if self.average else None
        at = read_checkpoint(checkpoint, self.module, average, self.optimizer, identity, self.group.size)
        if at.loss_scale:
            self.scaler.load_state_dict(at.loss_scale)
        if self.average:
            self.average.num_steps = at.num_averaged
        return at

    def leave_group(self) -> None:
        """Drop what averages gradients over the processes; the training is over."""
        self._network = self.module

    def take(self, batch: Batch, at: Position) -> StepDivided | None:
        """Take one step. On an asynchronous device, its loss stays there until the metrics are read.

        Args:
            batch: this process's samples.
            at: where the training is; the caller counts the step.

        Returns:
            The event of a step that was divided because it did not fit into memory; else None.

        Raises:
            TrainingError: the loss is infinite or NaN, or diverged.
        """
        seed_step(self.group, self.recipe.seed, at.num_steps)
        at.size = self.schedule.input_size(at)
        set_rates(self.optimizer, self.schedule.rate_factor(at), self.schedule.progress(at), at.lr_scale)
        divided = None
        while (metrics := self._try_gradients(batch, at)) is None:
            divided = self._divide_steps(batch, at)
        self.metrics.add(metrics)
        if not self.is_async:
            self.metrics.read(at)  # before the weights change
        self._update_weights(at)
        self._update_average(at)
        return divided

    def _update_weights(self, at: Position) -> None:
        """One step of the optimizer; in float16, a step with infinite gradients is skipped and counted."""
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        at.num_skipped += self.scaler.get_scale() < scale

    def _update_average(self, at: Position) -> None:
        """Add the weights after the last step to the weight average."""
        if self.average and self.average.add_step(at.num_steps + 1, self.schedule.progress(at, 1)):
            at.num_averaged = self.average.num_steps

    def _try_gradients(self, batch: Batch, at: Position) -> StepMetrics | None:
        """The gradients of a batch; None if they do not fit into memory and smaller slices can be tried, from the state before."""
        is_first_of_size = at.size not in self._sizes_done
        before = StateBefore(self.module) if is_first_of_size and self.group.is_alone else None
        try:
            found = self._add_gradients(batch, at)
        except Exception as error:
            is_divisible = self.group.is_alone and len(batch.labels) >= 2 * MIN_SLICE * self.num_slices(at)
            if not (is_out_of_memory(error) and is_divisible):
                raise
        else:
            self._sizes_done.add(at.size)
            return found
        if before is not None:  # after the error, which holds the tensors of the step
            before.restore()
        return None

    def _divide_steps(self, batch: Batch, at: Position) -> StepDivided:
        """Compute this step and the following ones in twice as many slices."""
        at.num_slices = 2 * self.num_slices(at)
        event = StepDivided(at.num_slices, batch.num_samples, has_batch_norms(self.module), at.epoch, at.step)
        at.changes = [each for each in at.changes if (each.get("epoch"), each.get("step")) != (at.epoch, at.step)]
        what = f"steps computed in {at.num_slices} slices, as memory needs"
        at.changes.append({"what": what, "place": place_of(at.epoch, at.step)} | asdict(event))
        return event

    def _add_gradients(self, batch: Batch, at: Position) -> StepMetrics:
        """Compute the gradients of a batch, slice by slice, and its metrics."""
        # Before the forward pass, so that old gradients and its maps share no peak.
        self.optimizer.zero_grad(set_to_none=True)
        num_samples = batch.num_samples
        slices = batch.slices(self.num_slices(at))
        losses, rights = [], []
        for number, batch in enumerate(slices, 1):
            with gradients_kept_apart(self._network, is_last=number == len(slices)):
                with self.machine.autocast():
                    logits = self._network(batch.inputs).float()
                loss = batch.mean_loss(partial(self._mean_loss, logits, batch))
                is_right = self.loss.task.is_right(logits.detach(), batch.main_labels)
                rights.append(torch.zeros((), device=loss.device) if is_right is None else is_right.sum())
                losses.append(loss.detach())
                self.scaler.scale(loss * self.group.size).backward()  # type: ignore[no-untyped-call]  # averaged over the processes
        total, num_right = (torch.stack(each).sum() if len(each) > 1 else each[0] for each in (losses, rights))
        return StepMetrics(at.step, num_samples, total, num_right)

    def _mean_loss(
        self, outputs: torch.Tensor, batch: Batch, labels: torch.Tensor, share: torch.Tensor | None
    ) -> torch.Tensor:
        """The mean loss of a batch for some labels; ``share`` as for ``Loss.mean``."""
        return self.loss.mean(outputs, labels, batch.all_labels, share)
