"""The samples with the largest errors of a network that predicts sets of classes or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from visus.data.batches import Part
from visus.data.tasks import label_text
from visus.errors import UsageError
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.task import Task
from visus.tables import Described, Table, Text
from visus.units import write_number_of

MAX_POINTS: Final = 1_000
"""Pairs of true and predicted numbers that are kept for a chart."""


@dataclass(frozen=True)
class SampleError:
    """A sample with a large error.

    Args:
        place: index of the sample in the split.
        sample: its name.
        label: its label, as text.
        answer: its prediction, as text.
        error: of numbers, the absolute error of the first target, in its units; of sets, the number of wrong classes.
    """

    place: int
    sample: str
    label: str
    answer: str
    error: float


@dataclass(frozen=True, repr=False)
class LargestErrors(Described):
    """The samples with the largest errors.

    Attributes:
        task: ``multi-label`` or ``regression``.
        split: the split of the samples.
        num_samples: number of its samples.
        num_wrong: of sets, the number of samples with a wrong class; of numbers 0.
        errors: the samples, the largest error first.
        points: of numbers, pairs of true and predicted values of the first target, at most 1,000; of sets empty.

    >>> largest_errors.errors[0].sample
    'a.png'
    """

    task: str
    split: str
    num_samples: int
    num_wrong: int
    errors: tuple[SampleError, ...]
    points: tuple[tuple[float, float], ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("largest", f"{each.sample}: {each.label}, predicted as {each.answer}") for each in self.errors[:1]]
        return f"Largest errors of {write_number_of(self.num_samples, 'sample')}, {self.split}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("largest errors", self.table()),) if self.errors else ()

    def table(self) -> Table:
        """A row for each sample.

        >>> largest_errors.table().headings
        ('sample', 'label', 'prediction', 'error')
        """
        rows = tuple((each.sample, each.label, each.answer, f"{each.error:.4g}") for each in self.errors)
        return Table(rows, ("sample", "label", "prediction", "error"), (3,))

    def text(self) -> Text:
        """How many samples have errors, and the largest ones.

        >>> largest_errors.text()[0]
        'the largest errors, by absolute error'
        """
        what = "number of wrong classes" if self.task == "multi-label" else "absolute error"
        first = f"{self.num_wrong:,} of {write_number_of(self.num_samples, 'sample')} ({self.split}) have a wrong class"
        head = () if self.task == "regression" else (first,)
        return Text((*head, f"the largest errors, by {what}", self.table()) if self.errors else (*head, "no errors"))

    def to_json(self) -> dict[str, Any]:
        """The samples as plain data, without the points.

        >>> largest_errors.to_json()["num_samples"]
        3
        """
        return {name: value for name, value in asdict(self).items() if name != "points"}


def find_largest_errors(
    task: Task, part: Part, answers: NDArray[Any], thresholds: Sequence[float] = (), *, limit: int
) -> LargestErrors:
    """The samples of a split with the largest errors.

    Args:
        task: multi-label or regression.
        part: the samples.
        answers: (samples, outputs): probabilities of classes, or numbers in the units of the labels.
        thresholds: of sets, the probability of each class from which on a sample has it.
        limit: maximum number of samples.

    Raises:
        UsageError: ``limit`` is below 1.
    """
    if limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}.")
    if isinstance(task, Regression):
        errors = np.abs(answers - part.labels)
        rank = (errors / np.asarray(task.std)).mean(axis=1)
        shown = np.argsort(-rank, kind="stable")[:limit]
        texts = [_numbers(row, task.outputs) for row in answers[shown]]
        kept = np.unique(np.linspace(0, len(part) - 1, min(len(part), MAX_POINTS)).round().astype(int))
        points = tuple((float(part.labels[place, 0]), float(answers[place, 0])) for place in kept if len(part))
        sizes, labels, num_wrong = errors[:, 0], [_numbers(row, task.outputs) for row in part.labels[shown]], 0
    else:
        predicted = answers >= np.asarray(thresholds)
        wrong = (predicted != (part.labels > 0.5)).sum(axis=1)
        logs = torch.from_numpy(np.clip(answers, 1e-7, 1 - 1e-7))
        loss = torch.nn.functional.binary_cross_entropy(
            logs.double(), torch.from_numpy(part.labels).double(), reduction="none"
        )
        order = np.lexsort((-loss.mean(1).numpy(), -wrong))
        shown = order[wrong[order] > 0][:limit]
        texts = [_set(predicted[place], task.outputs) for place in shown]
        labels = [_set(part.labels[place] > 0.5, task.outputs) for place in shown]
        points, sizes, num_wrong = (), wrong.astype(float), int((wrong > 0).sum())
    found = tuple(
        SampleError(int(place), part.names[place], label, text, float(sizes[place]))
        for place, label, text in zip(shown.tolist(), labels, texts, strict=True)
    )
    return LargestErrors(task.name, part.name, len(part), num_wrong, found, points)


def _numbers(row: NDArray[Any], targets: Sequence[str]) -> str:
    if len(targets) == 1:
        return f"{float(row[0]):.4g}"
    return ", ".join(f"{name} {float(value):.4g}" for name, value in zip(targets, row, strict=True))


def _set(row: NDArray[Any], classes: Sequence[str]) -> str:
    return label_text(row, "multi-label", classes, separator=", ") or "none"
