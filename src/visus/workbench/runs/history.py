"""The epochs of a training as a table: the metrics of ``results.csv``, by column and by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from visus.errors import UsageError, unknown_name
from visus.tables import Described, Table
from visus.training.runs import RESULT_COLUMNS, RunFolder
from visus.units import write_number_of, write_share

_SHARES = ("train_accuracy", "val_accuracy")
MAX_ROWS = 200
"""Epochs that a notebook shows at most; of a longer training it shows the last ones."""


@dataclass(frozen=True, repr=False)
class History(Described):
    """The finished epochs of a training. ``len(history)`` is their number, and iterating yields one row after the other.

    Args:
        rows: one dictionary for each epoch, column name to value; NaN where there is no validation set.

    >>> len(run.history), run.history.columns[:3]
    (6, ('epoch', 'img_size', 'train_loss'))
    >>> run.history["epoch"]
    (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    """

    rows: tuple[dict[str, float], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns: epoch, img_size, losses, accuracies, learning rate, training time
        since the start, and samples per second.

        >>> run.history.columns[-2:]
        ('elapsed_seconds', 'samples_per_second')
        """
        return RESULT_COLUMNS

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> tuple[float, ...]:
        """The values of a column, one for each epoch.

        Raises:
            UsageError: no column has this name; the message has the closest one. Or a number is given: ``rows`` has the epochs.
        """
        if not isinstance(column, str):
            raise UsageError(f"a history has its columns by name, and its epochs in .rows. Write history.rows[{column!r}].")
        if column not in self.columns:
            raise UsageError(unknown_name("column", column, self.columns))
        return tuple(row[column] for row in self.rows)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = f"History of {write_number_of(len(self), 'epoch')}"
        if not self.rows:
            return title, [("columns", ", ".join(self.columns))]
        first, last = self.rows[0], self.rows[-1]
        rows = [
            (name, f"{_written(name, first)} to {_written(name, last)}")
            for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_score")
            if not (name == "val_score" and last["val_score"] == last["val_accuracy"]) and not math.isnan(last[name])
        ]
        others = [name for name in self.columns if name not in dict(rows)]
        return title, [*rows, ("also", f'{", ".join(others)}; history["epoch"] is a column, .rows has all')]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        shown = self.rows[-MAX_ROWS:]
        cells = tuple(tuple(_written(name, row) for name in self.columns) for row in shown)
        caption = "epochs" if len(shown) == len(self) else f"the last {len(shown)} epochs"
        return ((caption, Table(cells, self.columns, tuple(range(len(self.columns))))),)


def read_history(folder: RunFolder) -> History:
    """The history of a run.

    Raises:
        RunError: ``results.csv`` is missing or damaged.
    """
    return History(folder.read_results())


def _written(column: str, row: dict[str, float]) -> str:
    value = row[column]
    if math.isnan(value):
        return "-"
    if column in _SHARES:
        return write_share(value)
    return f"{value:,.0f}" if value == round(value) or column == "samples_per_second" else f"{value:.4g}"
