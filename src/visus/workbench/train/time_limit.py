"""The time limit of a command, and the time left for the training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from visus.training.recipe import Recipe
from visus.units import write_duration


@dataclass(frozen=True)
class TimeLimit:
    """The time limit of a whole command.

    Args:
        seconds: limit for the command; infinity for no limit.
        began: value of ``time.perf_counter`` at its start.
    """

    seconds: float
    began: float

    @classmethod
    def of(cls, recipe: Recipe | None, began: float) -> TimeLimit:
        """The limit set by a recipe."""
        asked = recipe.time_limit_s if recipe is not None else None
        return cls(math.inf if asked is None else asked, began)

    @property
    def end(self) -> float:
        """Value of ``time.perf_counter`` at which the limit is reached; infinity for no limit."""
        return self.began + self.seconds

    def warnings(self, ending_s: float) -> list[str]:
        """A sentence if no time is left for the training."""
        passed = time.perf_counter() - self.began
        if self.seconds - passed - ending_s >= 1:
            return []
        return [
            f"a limit of {write_duration(self.seconds)} leaves no time to train: {write_duration(passed)} have passed, and scoring and the report take about "
            f"{write_duration(ending_s)}. The training gets one second; give at least {write_duration(math.ceil(passed + ending_s + 1))}, and more to learn."
        ]

    def left(self, ending_s: float) -> float:
        """Seconds left for the training if scoring and report take ``ending_s``; at least one."""
        return max(1.0, self.seconds - (time.perf_counter() - self.began) - ending_s)
