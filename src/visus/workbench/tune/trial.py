"""One trial of a search as plain data: its settings and what was measured."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

from visus.evaluation.metric_names import METRIC_NAMES, write_metric

FINISHED, PRUNED, FAILED = "finished", "ended early", "failed"
ACCURACY: Final = "accuracy"
_MAX_LOSS: Final = 10.0


def upward(metric: str, value: float) -> float:
    """The value of a metric, with a minus if it is an error, so that more is better.

    >>> upward("mae", 2.5), upward("auroc", 0.9)
    (-2.5, 0.9)
    """
    return -value if metric in METRIC_NAMES and METRIC_NAMES[metric].is_error else value


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        number: number of the trial; 0 is the default recipe.
        settings: the searched settings; empty for the default recipe.
        state: ``finished``, ``ended early`` or ``failed``.
        value: metric of the validation set for the weights that the training keeps; of an unfinished training, of its last epoch. NaN without an epoch.
        loss: validation loss of the same weights after calibration, without label smoothing and class weights, so that trials can be compared; or that of a
            person's own loss. NaN if the loss is searched.
        epochs: number of epochs trained.
        seconds: duration.
        num_validation: number of validation samples.
        reason: why it ended early or failed; else empty.
        course: (percentage of the training, ``upward`` of the metric) after each epoch.
        metric: the metric, that which selects the epoch; a name of ``visus.evaluation.metric_names``, or a person's own.
    """

    number: int
    settings: dict[str, Any]
    state: str
    value: float
    loss: float
    epochs: int
    seconds: float
    num_validation: int
    reason: str = ""
    course: tuple[tuple[int, float], ...] = ()
    metric: str = ACCURACY

    @property
    def accuracy(self) -> float:
        """The validation accuracy, 0 to 1; NaN where another metric selects the epoch.

        >>> Trial(0, {}, "finished", 2.5, 0.3, 3, 1.0, 50, metric="mae").accuracy
        nan
        """
        return self.value if self.metric == ACCURACY else math.nan

    def write(self) -> str:
        """The value of the metric as text.

        >>> Trial(0, {}, "finished", 2.5, 0.3, 3, 1.0, 50, metric="mae").write()
        '2.5'
        """
        return "-" if math.isnan(self.value) else write_metric(self.metric, self.value)

    @property
    def is_undefined(self) -> bool:
        """Whether the training finished, and its metric is NaN after every epoch.

        >>> Trial(0, {}, "finished", math.nan, 0.3, 3, 1.0, 50, metric="auroc").is_undefined
        True
        """
        return self.state == FINISHED and math.isnan(self.value)

    @property
    def score(self) -> float:
        """What the search maximizes: the metric, an error with a minus. Of equal accuracies, the lower validation loss is better by less than one sample.

        >>> trials = [Trial(0, {}, "finished", 0.9, loss, 3, 1.0, 50) for loss in (0.5, 0.4)]
        >>> trials[0].score < trials[1].score < 0.9 + 1 / 50
        True
        """
        if not math.isfinite(self.value):
            return math.nan
        if self.metric != ACCURACY:
            return upward(self.metric, self.value)
        loss = min(self.loss, _MAX_LOSS) if math.isfinite(self.loss) else _MAX_LOSS
        return self.value - 0.5 / max(1, self.num_validation) * loss / _MAX_LOSS

    def to_json(self) -> dict[str, Any]:
        """Plain data; NaN is None."""
        facts = dataclasses.asdict(self)
        return facts | {name: None if math.isnan(facts[name]) else facts[name] for name in ("value", "loss")}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Trial:
        """The inverse of ``to_json``."""
        numbers = {name: math.nan if facts[name] is None else facts[name] for name in ("value", "loss")}
        course = tuple((int(percent), float(value)) for percent, value in facts["course"])
        return cls(**facts | numbers | {"course": course})
