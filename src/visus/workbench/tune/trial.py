"""One trial of a search as plain data: its settings and what was measured."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

FINISHED, PRUNED, FAILED = "finished", "ended early", "failed"
_MAX_LOSS: Final = 10.0


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        number: number of the trial; 0 is the default recipe.
        settings: the searched settings; empty for the default recipe.
        state: ``finished``, ``ended early`` or ``failed``.
        accuracy: validation accuracy of the weights that the training keeps, 0 to 1; of an unfinished training, of its last epoch. NaN without an epoch.
        loss: validation loss of the same weights.
        epochs: number of epochs trained.
        seconds: duration.
        num_validation: number of validation samples.
        reason: why it ended early or failed; else empty.
        course: (percentage of the training, validation accuracy) after each epoch.
    """

    number: int
    settings: dict[str, Any]
    state: str
    accuracy: float
    loss: float
    epochs: int
    seconds: float
    num_validation: int
    reason: str = ""
    course: tuple[tuple[int, float], ...] = ()

    @property
    def score(self) -> float:
        """What the search maximizes: the validation accuracy; of equal ones, the lower validation loss is better by less than one sample.

        >>> trials = [Trial(0, {}, "finished", 0.9, loss, 3, 1.0, 50) for loss in (0.5, 0.4)]
        >>> trials[0].score < trials[1].score < 0.9 + 1 / 50
        True
        """
        if not math.isfinite(self.accuracy):
            return math.nan
        loss = min(self.loss, _MAX_LOSS) if math.isfinite(self.loss) else _MAX_LOSS
        return self.accuracy - 0.5 / max(1, self.num_validation) * loss / _MAX_LOSS

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN is None."""
        facts = dataclasses.asdict(self)
        return facts | {name: None if math.isnan(facts[name]) else facts[name] for name in ("accuracy", "loss")}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Trial:
        """The inverse of ``to_json``."""
        numbers = {name: math.nan if facts[name] is None else facts[name] for name in ("accuracy", "loss")}
        course = tuple((int(percent), float(accuracy)) for percent, accuracy in facts["course"])
        return cls(**facts | numbers | {"course": course})
