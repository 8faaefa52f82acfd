"""How long a training will still take, from what its steps took so far."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

KEPT = 64  # steps of one size that are remembered


@dataclass
class Forecast:
    """Seconds that are left, for a training that sees its samples at several sizes.

    Args:
        num_steps: of the whole training.
        num_epochs: of the whole training.
        sizes: parts of the full input size, in equal shares of the training.
        num_axes: spatial axes; where a size was not met yet, a step takes as long as at the nearest one, times the ratio of the areas.

    >>> forecast = Forecast(num_steps=100, num_epochs=10, sizes=(0.5, 1.0))
    >>> forecast.step(0.5, 0.1), forecast.validated(0.5, 0.2)
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

    def step(self, size: float, seconds: float) -> None:
        """A step at ``size`` took so long."""
        self._steps.setdefault(size, deque(maxlen=KEPT)).append(seconds)

    def validated(self, size: float, seconds: float) -> None:
        """A validation at ``size`` took so long."""
        self._validations[size] = seconds

    def forget(self) -> None:
        """Drop the guesses, before the first real step."""
        for steps in self._steps.values():
            steps.clear()

    def seconds_left(self, progress: float) -> float:
        """Seconds until the last step is taken and validated; NaN before anything is known.

        Args:
            progress: share of the training that is done, 0 to 1.
        """
        left = 0.0
        for place, size in enumerate(self.sizes):
            begin, end = place / len(self.sizes), (place + 1) / len(self.sizes)
            share = max(0.0, end - max(begin, progress))
            left += share * self._of_all(size)
        return left

    def epochs_within(self, seconds: float, progress: float) -> float:
        """Epochs that fit into ``seconds`` where the sizes change with the time; NaN before anything is known."""
        found, left = 0.0, 1 - progress
        if left <= 0:
            return 0.0
        for place, size in enumerate(self.sizes):
            begin, end = place / len(self.sizes), (place + 1) / len(self.sizes)
            share = max(0.0, end - max(begin, progress))
            whole = self._of_all(size)
            found += seconds * share / left * self.num_epochs / whole if whole else 0.0
        return found

    def _of_all(self, size: float) -> float:
        """Seconds of the whole training, if all of it were at one size."""
        return self.num_steps * self._step_s(size) + self.num_epochs * self._validation_s(size)

    def _step_s(self, size: float) -> float:
        means = {known: fmean(steps) for known, steps in self._steps.items() if steps}
        return self._scaled(means, size)

    def _validation_s(self, size: float) -> float:
        return self._scaled(self._validations, size) if self._validations else 0.0

    def _scaled(self, known: dict[float, float], size: float) -> float:
        """A figure of the nearest known size, by the ratio of the areas."""
        if not known:
            return math.nan
        nearest = min(known, key=lambda each: abs(each - size))
        return known[nearest] * (size / nearest) ** self.num_axes
