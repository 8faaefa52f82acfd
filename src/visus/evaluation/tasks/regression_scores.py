"""Metrics of predicted numbers: mean absolute error, root mean squared error and R2, with intervals and the errors of a mean predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visus.errors import DataError, RunError, TrainingError
from visus.evaluation.cluster_bootstrap import count_groups, each_alone, group_notes, known_interval, metric_interval
from visus.evaluation.intervals import write_range
from visus.evaluation.tasks.multi_label_scores import learned_sentence
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.task import Headline
from visus.tables import Described, Table, Text, notes
from visus.units import write_number_of, write_share


@dataclass(frozen=True)
class TargetScore:
    """Metrics of one target, in its units.

    Args:
        name: the target.
        mae, mae_low, mae_high: mean absolute error with its 95 % bootstrap interval; None where all samples are of one group.
        rmse: root mean squared error.
        r2, r2_low, r2_high: R2 with its interval: 1 minus the squared errors divided by the squared deviations from the mean of these samples; None if
            all samples have the same number, the interval also where they are of one group.
        baseline: mean absolute error of always predicting the mean of the training set.
        mean_error: mean of prediction minus number.
        covered: share of the samples within the prediction interval; None without intervals.
    """

    name: str
    mae: float
    mae_low: float | None
    mae_high: float | None
    rmse: float
    r2: float | None
    r2_low: float | None
    r2_high: float | None
    baseline: float
    mean_error: float
    covered: float | None


@dataclass(frozen=True, repr=False)
class RegressionScores(Described):
    """Metrics of the predicted numbers for a set of samples.

    Attributes:
        split: name of the split, such as ``test``; may be empty.
        num_samples: number of samples.
        targets: metrics of each target.
        loss: mean Huber loss of the standardized targets.
        notes: remarks for the reader.
        num_groups: number of groups that the intervals draw as a whole; None if the data has none.
        num_learned: number of samples that equal a training sample; None if unknown.
        num_chose: number of further samples that equal a validation sample; None if unknown.

    >>> number_scores.targets[0].mae, number_scores.targets[0].covered
    (1.0, 1.0)
    """

    split: str
    num_samples: int
    targets: tuple[TargetScore, ...]
    loss: float
    notes: tuple[str, ...] = ()
    num_groups: int | None = None
    num_learned: int | None = None
    num_chose: int | None = None

    @property
    def headline(self) -> Headline:
        """The mean absolute error of the first target.

        >>> number_scores.headline.metric
        'mean absolute error'
        """
        first = self.targets[0]
        name = "mean absolute error" if len(self.targets) == 1 else f"mean absolute error of {first.name}"
        words, interval = "always predicting the training mean", (first.mae_low, first.mae_high)
        return Headline(name, first.mae, *interval, first.baseline, words, is_error=True, num_groups=self.num_groups)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the targets.

        >>> number_scores.classes
        ('age',)
        """
        return tuple(row.name for row in self.targets)

    def sentence(self, noun: str = "sample") -> str:
        """The main metric, its interval and the baseline in one sentence.

        >>> number_scores.sentence('image').endswith(' on 3 images; always predicting the training mean has 7')
        True
        """
        return self.headline.sentence(write_number_of(self.num_samples, noun))

    def learned_sentence(self, noun: str = "sample") -> str:
        """Number of samples from the training; empty if none is.

        >>> number_scores.learned_sentence()
        ''
        """
        return learned_sentence(self.num_learned, self.num_chose, self.num_samples, self.split, noun)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        found = self.headline
        rows = [(found.metric, found.phrase()), ("baseline", f"{found.write(found.baseline)}, {found.baseline_words}")]
        if (r2 := self.targets[0].r2) is not None:
            rows.append(("R2", f"{r2:.3f}"))
        of = f" of the {self.split} set" if self.split else ""
        return (
            f"Scores on {write_number_of(self.num_samples, 'sample')}{of}, {write_number_of(len(self.targets), 'target')}",
            rows,
        )

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("targets", self.target_table()),)

    def target_table(self) -> Table:
        """A row for each target.

        >>> number_scores.target_table().rows[0][:2]
        ('age', '1')
        """

        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:.4g}"

        def interval(low: float | None, high: float | None) -> str:
            return "-" if low is None or high is None else write_range(low, high, number)

        rows = tuple(
            (
                row.name,
                number(row.mae),
                interval(row.mae_low, row.mae_high),
                number(row.baseline),
                number(row.rmse),
                number(row.r2),
                interval(row.r2_low, row.r2_high),
                "-" if row.covered is None else write_share(row.covered),
            )
            for row in self.targets
        )
        headings = ("target", "MAE", "95 % interval", "mean predictor", "RMSE", "R2", "95 % interval", "in interval")
        return Table(rows, headings, tuple(range(1, 8)))

    def text(self) -> Text:
        """The main metric, and every target.

        >>> number_scores.text()[1]
        'baseline, always predicting the training mean: 7'
        """
        head = (
            f"{self.headline.metric} on {self.num_samples:,} samples{f' ({self.split})' if self.split else ''}: {self.headline.phrase()}",
            f"baseline, {self.headline.baseline_words}: {self.headline.write(self.headline.baseline)}",
            self.target_table(),
        )
        learned = self.learned_sentence()
        return Text((*([learned] if learned else []), *head, *notes(self.notes)))

    def to_json(self) -> dict[str, Any]:
        """JSON data that ``from_json`` reads back to an equal value.

        >>> number_scores.to_json()["task"]
        'regression'
        """
        return {"task": "regression", **asdict(self)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> RegressionScores:
        """The scores from the data of ``to_json``.

        Raises:
            RunError: a field is missing or unknown.

        >>> RegressionScores.from_json(number_scores.to_json()) == number_scores
        True
        """
        try:
            parts = {name: value for name, value in facts.items() if name != "task"}
            parts["targets"] = tuple(TargetScore(**row) for row in parts["targets"])
            return cls(**parts | {"notes": tuple(parts["notes"])})
        except (KeyError, TypeError) as error:
            raise RunError(f"these scores are not of this version of visus ({error}). Evaluate the run again.") from error


def score_numbers(
    task: Regression,
    outputs: Tensor,
    labels: Tensor,
    fit: IntervalFit,
    *,
    split: str = "",
    notes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> RegressionScores:
    """Score the outputs of a network that predicts numbers.

    Args:
        task: the task.
        outputs: (samples, targets), standardized.
        labels: (samples, targets).
        fit: the prediction intervals.
        split: name of the split.
        notes: remarks for the reader.
        groups: group of each sample, for the intervals.

    Raises:
        DataError: there is no sample.
        TrainingError: an output is NaN or infinite.

    >>> task = Regression(("age",), mean=(1.0,), std=(2.0,))
    >>> score_numbers(task, torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [4.0]]), IntervalFit()).targets[0].mae
    0.5
    """
    if not len(labels):
        raise DataError("there is nothing to score: no samples were given.")
    if not torch.isfinite(outputs).all():
        raise TrainingError(
            "the network's outputs are NaN or infinite: its training diverged. Train again with a smaller learning rate."
        )
    predicted, truth = task.values(outputs).numpy(), labels.double().numpy()
    rows = tuple(
        _target_score(name, predicted[:, place], truth[:, place], task.mean[place], _half_width(fit, place), groups)
        for place, name in enumerate(task.outputs)
    )
    loss = float(task.losses(outputs, labels).double().mean())
    num_groups = count_groups(groups)
    return RegressionScores(split, len(labels), rows, loss, (*notes, *group_notes(num_groups)), num_groups)


def _half_width(fit: IntervalFit, place: int) -> float | None:
    return fit.half_widths[place] if fit.half_widths else None


def _target_score(
    name: str,
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    mean: float,
    half_width: float | None,
    groups: Sequence[str] | None,
) -> TargetScore:
    errors = predicted - truth
    absolute, squares = np.abs(errors), errors**2

    def mae(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ absolute / weights.sum(1)
        return found

    def r2(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(1)
        middle = truth.mean()  # subtracted first, so that large numbers keep their digits
        spread = weights @ (truth - middle) ** 2 - (weights @ (truth - middle)) ** 2 / total
        with np.errstate(invalid="ignore", divide="ignore"):
            found: NDArray[np.float64] = np.where(spread > 0, 1 - weights @ squares / spread, np.nan)
        return found

    own = float(r2(np.ones((1, len(truth))))[0])
    has_r2 = bool(np.isfinite(own))
    own_groups = each_alone(groups, len(truth))
    r2_low, r2_high = known_interval(metric_interval(r2, own_groups)) if has_r2 else (None, None)
    low, high = known_interval(metric_interval(mae, own_groups))
    return TargetScore(
        name,
        float(absolute.mean()),
        low,
        high,
        float(np.sqrt(squares.mean())),
        own if has_r2 else None,
        r2_low,
        r2_high,
        float(np.abs(truth - mean).mean()),
        float(errors.mean()),
        None if half_width is None else float((absolute <= half_width).mean()),
    )
