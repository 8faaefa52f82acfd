"""The rows of a part: what a network answers for some samples, as columns of a table. One kind of table for each task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from visus.data.tasks import SEPARATOR
from visus.workbench.runs.prediction import Decision
from visus.workbench.runs.predictions import ranked

Kind = Literal["text", "share", "number"]
Cells = Sequence[str | None] | npt.NDArray[Any]
"""The cells of a column: texts, None where there is none; or numbers, NaN where there is none."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        top: number of classes with their probabilities, the most probable first; 1 for other tasks than single-label.
        classes: classes that have a column for their probability; of regression, the targets.
        task: what the network predicts.
    """

    top: int = 1
    classes: tuple[str, ...] = ()
    task: str = "single-label"

    @property
    def answers(self) -> tuple[tuple[str, Kind], ...]:
        """The columns between the file and the error, with what they hold.

        >>> Columns(1, ("age",), "regression").answers
        (('age', 'number'), ('age_low', 'number'), ('age_high', 'number'))
        """
        if self.task == "regression":
            return tuple((head, "number") for name in self.classes for head in (name, f"{name}_low", f"{name}_high"))
        shares: list[tuple[str, Kind]] = [(f"probability:{name}", "share") for name in self.classes]
        if self.task == "multi-label":
            return (("labels", "text"), *shares)
        ranks = ["", *(f"_{rank}" for rank in range(2, self.top + 1))]
        pairs: list[tuple[str, Kind]] = [
            pair for rank in ranks for pair in ((f"label{rank}", "text"), (f"probability{rank}", "share"))
        ]
        return (*pairs, *shares)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in order.

        >>> Columns(2, ("cat", "dog")).names
        ('file', 'label', 'probability', 'label_2', 'probability_2', 'probability:cat', 'probability:dog', 'error')
        >>> Columns(1, ("cat", "dog"), "multi-label").names
        ('file', 'labels', 'probability:cat', 'probability:dog', 'error')
        """
        return ("file", *(name for name, _ in self.answers), "error")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a part.

    Args:
        files: name of each sample.
        cells: of each column between the file and the error.
        errors: why a sample has no prediction; None if it has one.
        labels: number of rows of each label; of sets, a row counts for each of its classes, and of numbers nothing is counted.
    """

    files: Sequence[str]
    cells: Sequence[Cells]
    errors: Sequence[str | None]
    labels: Counter[str]

    @classmethod
    def joined(cls, rows: Sequence[Rows]) -> Rows:
        """Rows one after the other."""
        return cls(
            [file for each in rows for file in each.files],
            [_joined(column) for column in zip(*(each.cells for each in rows), strict=True)],
            [error for each in rows for error in each.errors],
            sum((each.labels for each in rows), Counter()),
        )


def rows_of(
    columns: Columns,
    decision: Decision,
    classes: Sequence[str],
    files: Sequence[str],
    outcomes: Sequence[int | str],
    answers: npt.NDArray[Any] | None,
) -> Rows:
    """The rows for some samples.

    Args:
        columns: those of the table.
        decision: how the answers become predictions.
        classes: the classes of the network; of regression, the targets.
        files: name of each sample.
        outcomes: for each sample its place in the answers, or why it has none.
        answers: probabilities or numbers (readable samples, K); None without any.

    >>> shares = np.array([[0.9, 0.6], [0.1, 0.2]])
    >>> decision = Decision("multi-label", (0.5, 0.5))
    >>> rows_of(Columns(1, ("cat", "dog"), "multi-label"), decision, ("cat", "dog"), ["a", "b"], [0, 1], shares).cells[0]
    ['cat|dog', '']
    """
    readable = [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
    errors = [outcome if isinstance(outcome, str) else None for outcome in outcomes]
    labels: Counter[str] = Counter()
    made: list[Cells | None] = [None] * len(columns.answers)
    if answers is not None:
        made = [*_cells(columns, decision, classes, answers, labels)]
    cells = [_spread(column, kind, readable, len(files)) for column, (_, kind) in zip(made, columns.answers, strict=True)]
    return Rows(files, cells, errors, labels)


def _cells(
    columns: Columns, decision: Decision, classes: Sequence[str], answers: npt.NDArray[Any], labels: Counter[str]
) -> Iterator[Cells]:
    """The cells of each column, for the samples that can be read; the labels are counted."""
    if columns.task == "regression":
        found = [decision.numbers_of("", row, classes).numbers for row in answers.tolist()]
        for target in range(len(classes)):
            for name in ("value", "low", "high"):
                yield np.array([_number(getattr(numbers[target], name)) for numbers in found])
        return
    if columns.task == "multi-label":
        sets = [decision.labels_of("", row, classes).labels for row in answers.tolist()]
        labels.update(name for each in sets for name in each)
        yield [SEPARATOR.join(each) for each in sets]
    else:
        places, shares = ranked(answers, columns.top)
        labels.update(classes[number] for number in places[:, 0].tolist())
        for rank in range(columns.top):
            yield [classes[number] for number in places[:, rank].tolist()]
            yield shares[:, rank]
    if columns.classes:
        yield from answers.T


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _spread(column: Cells | None, kind: Kind, places: Sequence[int], count: int) -> Cells:
    """A column for all samples, from the cells of those that can be read."""
    if kind == "text":
        texts: list[str | None] = [None] * count
        for place, text in zip(places, column if column is not None else (), strict=True):
            texts[place] = text
        return texts
    values = np.full(count, np.nan, dtype=np.float32 if kind == "share" else np.float64)
    if column is not None:
        values[list(places)] = np.asarray(column)
    return values


def _joined(column: Sequence[Cells]) -> Cells:
    if isinstance(column[0], np.ndarray):
        return np.concatenate([np.asarray(cells) for cells in column])
    return [text for cells in column for text in cells]
