"""Prediction intervals of regression, by split conformal prediction: the errors on held-out samples bound those on new ones.

With n held-out samples, the interval is the prediction plus and minus the k-th smallest absolute error, k = ceil(0.9 (n + 1)). It holds the number of a new
sample of the same kind with a probability of at least 90 % (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173, theorem 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor

from visus.errors import RunError
from visus.evaluation.tasks.regression import Regression
from visus.tables import Brief
from visus.units import write_number_of

COVERAGE: Final = 0.9


@dataclass(frozen=True)
class Numbers:
    """Converts outputs to numbers in the units of the labels.

    Args:
        task: has the mean and the standard deviation of the targets.
    """

    task: Regression

    def __call__(self, outputs: Tensor) -> Tensor:
        """The numbers (samples, targets), float64."""
        return self.task.values(outputs)


@dataclass(frozen=True, repr=False)
class IntervalFit(Brief):
    """The half widths of the prediction intervals, from the errors on the validation set.

    Attributes:
        half_widths: for each target, in its units; empty if there are too few samples.
        reason: why there are none; empty if there are.
        num_samples: number of validation samples.
        targets: names of the targets.
        has_groups: whether the samples have groups, such as patients; then nothing is claimed for new groups.
    """

    half_widths: tuple[float, ...] = ()
    reason: str = ""
    num_samples: int = 0
    targets: tuple[str, ...] = ()
    has_groups: bool = False

    def _words(self) -> str:
        return self.sentence().rstrip(".")

    @property
    def is_used(self) -> bool:
        """Whether predictions have an interval."""
        return not self.reason

    def sentence(self, noun: str = "sample") -> str:
        """What the intervals are.

        >>> IntervalFit((2.5,), "", 90, ("age",)).sentence("image")
        'At least 90 % of new images lie within 2.5 of the prediction (age), by the errors on 90 images of the validation set.'
        >>> IntervalFit((2.5,), "", 90, ("age",), has_groups=True).sentence("scan").removesuffix("; of new groups, fewer may.")
        'At least 90 % of new scans of the same groups lie within 2.5 of the prediction (age), by the errors on 90 scans of the validation set'
        """
        if not self.is_used:
            return f"Predictions have no interval: {self.reason}."
        widths = ", ".join(
            f"{width:.4g} of the prediction ({name})" for name, width in zip(self.targets, self.half_widths, strict=True)
        )
        of, new = (" of the same groups", "; of new groups, fewer may") if self.has_groups else ("", "")
        return (
            f"At least {100 * COVERAGE:.0f} % of new {noun}s{of} lie within {widths}, by the errors on {write_number_of(self.num_samples, noun)} of the "
            f"validation set{new}."
        )

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> IntervalFit:
        """The fit from the data of ``to_json``.

        Raises:
            RunError: a field is missing, unknown or impossible.
        """
        try:
            found = cls(**{**facts, "half_widths": tuple(facts["half_widths"]), "targets": tuple(facts["targets"])})
            if not all(math.isfinite(each) and each >= 0 for each in found.half_widths):
                raise ValueError("a half width is negative or not finite")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"this calibration is not of this version of visus ({error}).") from error
        return found


def fit_intervals(task: Regression, outputs: Tensor, labels: Tensor, *, has_groups: bool = False) -> IntervalFit:
    """The half widths from held-out samples.

    Args:
        task: the task.
        outputs: (samples, targets), as in predictions.
        labels: (samples, targets).
        has_groups: whether the samples have groups.

    >>> import torch
    >>> task = Regression(("age",), mean=(0.0,), std=(1.0,))
    >>> fit_intervals(task, torch.zeros(99, 1), torch.arange(1.0, 100.0)[:, None]).half_widths
    (90.0,)
    """
    count = len(labels)
    place = math.ceil(round(COVERAGE * (count + 1), 9))
    if place > count:
        few = (
            f"{write_number_of(count, 'sample')} of the validation set are too few"
            if count
            else "there is no validation set"
        )
        return IntervalFit((), few, count, task.outputs, has_groups)
    errors = (task.values(outputs) - labels.double()).abs().sort(dim=0).values
    return IntervalFit(tuple(errors[place - 1].tolist()), "", count, task.outputs, has_groups)
