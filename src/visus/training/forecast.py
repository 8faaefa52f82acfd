"""Forecast of a training's remaining time from the measured times of its steps and validations."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

MAX_STEPS = 64  # number of most recent steps of one size in the mean


@dataclass
class Forecast:
    """Forecast of the remaining time of a training with progressive resizing.

    Args:
        num_steps: number of steps of the whole training.
        num_epochs: number of epochs of the whole training.
        sizes: input sizes of equally long phases, as fractions of the full size.
        num_axes: number of spatial axes. The time at an unmeasured size is that at the nearest measured one, times the ratio of their areas.

    >>> forecast = Forecast(num_steps=100, num_epochs=10, sizes=(0.5, 1.0))
    >>> forecast.add_step(0.5, 0.1), forecast.add_validation(0.5, 0.2)
    (None, None)
    >>> round(forecast.seconds_left(0.0), 3)  # 50 steps of 0.1 s, 50 of 0.4 s, 5 validations of 0.2 s, 5 of 0.8 s
    30.0
    """

    num_steps: int
    num_epochs: int
    sizes: tuple[float, ...] = (1.0,)
    num_axes: int = 2
    _steps: dict[float, deque[float]] = field(default_factory=dict, repr=False)
    _validations: dict[float, float] = field(default_factory=dict, repr=False)

    def add_step(self, size: float, seconds: float) -> None:
        """Record the time of a step at ``size``."""
        self._steps.setdefault(size, deque(maxlen=MAX_STEPS)).append(seconds)

    def add_validation(self, size: float, seconds: float) -> None:
        """Record the time of a validation at ``size``."""
        self._validations[size] = seconds

    def drop_steps(self) -> None:
        """Drop all recorded step times, before the first real step."""
        for steps in self._steps.values():
            steps.clear()

    def seconds_left(self, progress: float) -> float:
        """Seconds until the end of the last validation; NaN without any recorded step.

        Args:
            progress: fraction of the training that is done, 0 to 1.
        """
        left = 0.0
        for place, size in enumerate(self.sizes):
            begin, end = place / len(self.sizes), (place + 1) / len(self.sizes)
            fraction = max(0.0, end - max(begin, progress))
            left += fraction * self._seconds_at(size)
        return left

    def epochs_within(self, seconds: float, progress: float) -> float:
        """Number of epochs that fit into ``seconds`` if the sizes change with the time; NaN without any recorded step."""
        num_epochs, left = 0.0, 1 - progress
        if left <= 0:
            return 0.0
        for place, size in enumerate(self.sizes):
            begin, end = place / len(self.sizes), (place + 1) / len(self.sizes)
            fraction = max(0.0, end - max(begin, progress))
            whole = self._seconds_at(size)
            num_epochs += seconds * fraction / left * self.num_epochs / whole if whole else 0.0
        return num_epochs

    def _seconds_at(self, size: float) -> float:
        """Seconds of the whole training if all of it ran at one size."""
        return self.num_steps * self._step_s(size) + self.num_epochs * self.validation_s(size)

    def _step_s(self, size: float) -> float:
        means = {known: fmean(steps) for known, steps in self._steps.items() if steps}
        return self._scaled(means, size)

    def validation_s(self, size: float) -> float:
        """Seconds of a validation at ``size``; 0 before any is recorded."""
        return self._scaled(self._validations, size) if self._validations else 0.0

    def _scaled(self, known: dict[float, float], size: float) -> float:
        """The value at the nearest known size, times the ratio of the areas."""
        if not known:
            return math.nan
        nearest = min(known, key=lambda each: abs(each - size))
        return known[nearest] * (size / nearest) ** self.num_axes
