"""The errors of a training's steps: divergence, memory, and whatever a network raises; each says what is kept and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from visus.caller import for_caller, option
from visus.errors import TrainingError
from visus.networks.own_code import place_in_module
from visus.training.checkpoints import Position
from visus.training.distribution import is_lost_process, process_lost_error
from visus.training.loss import Loss
from visus.training.memory import is_out_of_memory
from visus.training.schedules import Schedule

_SMOOTHING = 0.95  # of the running mean of the loss


@dataclass(frozen=True, eq=False)
class StepErrors:
    """Finds divergence, and words the errors of a training.

    Args:
        module: the trained network.
        schedule: the learning rates, with the recipe.
        loss: the training loss.
        checkpoint: the checkpoint file, which the messages name.
        has_trained_head: whether the starting weights are kept until an epoch is better.
    """

    module: nn.Module
    schedule: Schedule
    loss: Loss
    checkpoint: Path
    has_trained_head: bool

    def check_loss(self, loss: float, step: int, at: Position) -> None:
        """Raise if the loss is infinite, NaN, or far above that of guessing, before such weights are kept.

        Args:
            loss: mean loss of a step.
            step: number of that step in its epoch, from 0.
            at: where the training is; its running mean of the loss is updated.
        """
        guess = self.loss.task.guess_loss
        place = f"in epoch {at.epoch + 1}, step {step + 1}"
        if not math.isfinite(loss) and at.epoch == 0 and step == 0 and self.loss.own is not None:
            raise TrainingError(
                f"the loss is {loss} at the first step, before any weight changed. It is that of your own function: look for a division by zero, a square "
                f"root or a logarithm in it, and in {type(self.module).__name__}, whose outputs it gets."
            )
        if not math.isfinite(loss) and at.epoch == 0 and step == 0:
            raise TrainingError(
                f"the loss is {loss} at the first step, before any weight changed: the output of {type(self.module).__name__} for these samples is not finite. "
                "Look for a division by zero, a square root or a logarithm in it, and for weights that are not finite."
            )
        if not math.isfinite(loss):
            raise self.divergence(f"the loss became {loss} {place}", at)
        at.smooth_loss = loss if at.smooth_loss is None else _SMOOTHING * at.smooth_loss + (1 - _SMOOTHING) * loss
        if self.loss.own is None and at.num_steps >= 50 and at.smooth_loss > 3 * guess + 3:
            raise self.divergence(
                f"the loss diverged {place}: its running mean is {at.smooth_loss:.3g}, and guessing has {guess:.3g}", at
            )

    def divergence(self, what: str, at: Position) -> TrainingError:
        """The error for a training that diverged, with the settings that may help.

        Args:
            what: what was found, and where.
            at: where the training is.
        """
        lower = f"{self.schedule.recipe.learning_rate / 4:.3g}"
        remedy = for_caller(
            f"a lower learning rate (--lr {lower}), with --clip-norm 1, or with --precision float32",
            f'a lower learning rate, Recipe(learning_rate={lower}), with Recipe(clip_norm=1), or with Recipe(precision="float32")',
        )
        return TrainingError(
            f"{what} (learning rate {self.schedule.learning_rate(at):.3g}). The last good checkpoint is kept: {self.checkpoint}. {self._best_so_far(at)} "
            f"Train again with {remedy}."
        )

    def of_step(self, error: Exception, at: Position) -> TrainingError:
        """The error for an exception of PyTorch or of a person's own module within a step, with a remedy."""
        if is_lost_process(error):
            return process_lost_error()
        text = " ".join(str(error).split())
        what = f"PyTorch stopped with: {text}."
        if place := place_in_module(error, self.module):
            what = f"the network stopped with {type(error).__name__}: {text.rstrip('.')}{place}."
        if is_out_of_memory(error):
            what = f"it does not fit into memory. Use a smaller {option('batch_size')}, a smaller {option('img_size')} or a smaller network."
        elif "more than 1 value per channel" in text:
            what = (
                "a batch norm gets a single value per channel, which has no variance. "
                f"Use a larger {option('batch_size')}, or layernorm in place of norm."
            )
        # The folder of a run without a step is removed.
        kept = f"The last checkpoint is kept: {self.checkpoint}." if at.num_steps else "No run was created."
        return TrainingError(
            f"epoch {at.epoch + 1}, step {at.step + 1} with a batch of {self.schedule.recipe.batch_size} failed: {what} {kept}"
        )

    def _best_so_far(self, at: Position) -> str:
        """A sentence that names the epoch of the best weights so far."""
        if at.best_epoch >= 0:
            return f"The best weights so far are those of epoch {at.best_epoch + 1}."
        return (
            "The best weights so far are the starting weights."
            if self.has_trained_head
            else "There are no best weights yet, since no epoch was finished."
        )
