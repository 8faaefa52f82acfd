"""What follows from the progress of a training: the learning rate (warm-up, then linear or cosine decay) and the input size of the next step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from visus.training.checkpoints import Position
from visus.training.resolved_recipe import ResolvedRecipe


def rate_factor(progress: float, *, schedule: str, warmup: float, min_lr_ratio: float = 0.0) -> float:
    """The learning rate as a fraction of the highest: a linear warm-up from 0, then a decay to ``min_lr_ratio``.

    Args:
        progress: fraction of the training that is done, 0 to 1.
        schedule: shape of the decay, ``linear`` or ``cosine``.
        warmup: length of the warm-up as a fraction of the training, below 1.
        min_lr_ratio: final learning rate as a fraction of the highest.

    >>> [round(rate_factor(share, schedule="linear", warmup=0.2), 2) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return progress / warmup
    done = min(1.0, (progress - warmup) / (1 - warmup))
    decay = 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return min_lr_ratio + (1 - min_lr_ratio) * decay


@dataclass(frozen=True)
class Schedule:
    """Progress, learning rate and input size at any position of a training.

    Args:
        recipe: every setting.
        steps_per_epoch: number of steps of an epoch.
    """

    recipe: ResolvedRecipe
    steps_per_epoch: int

    def progress(self, at: Position, num_more: int = 0) -> float:
        """Fraction of the training that is done after ``num_more`` more steps: of the steps or of the time limit, whichever is larger."""
        if not self.recipe.epochs:
            return 1.0
        done = (at.epoch * self.steps_per_epoch + at.step + num_more) / (self.recipe.epochs * self.steps_per_epoch)
        return done if at.until_s is None else max(done, at.elapsed_s / at.until_s)

    def input_size(self, at: Position) -> float:
        """Input size of the next step, as a fraction of the full side; every size gets an equal part of the training."""
        sides = self.recipe.sides
        return sides[min(int(self.progress(at) * len(sides)), len(sides) - 1)]

    def learning_rate(self, at: Position) -> float:
        """Learning rate of the next step; with muon, that of filters before a norm."""
        return self.recipe.learning_rate * self.rate_factor(at) * at.lr_scale

    def rate_factor(self, at: Position) -> float:
        """Learning rate of the next step as a fraction of the highest; neither the first nor the last step has 0."""
        half_step = 0.5 / max(1, self.recipe.epochs * self.steps_per_epoch)
        return rate_factor(
            min(1.0, self.progress(at) + half_step),
            schedule=self.recipe.schedule,
            warmup=self.recipe.warmup,
            min_lr_ratio=self.recipe.min_lr_ratio,
        )
