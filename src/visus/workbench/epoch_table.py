"""The table of a training: a row for each epoch, whose numbers compare with those of the rows above, or a line that says that they do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from visus.evaluation.metric_names import metric_words, write_metric
from visus.training.events import EpochDone
from visus.units import write_duration, write_share

_MARK: Final = "*"


@dataclass(frozen=True)
class _Column:
    """A column: its heading, its width, the text of a cell, and its turn to go where the terminal is narrow (0: never)."""

    heading: str
    width: int
    cell: Callable[[EpochDone], str]
    turn: int = 0


class EpochTable:
    """Writes the rows of a training as they come.

    Args:
        num_epochs: epochs of the training.
        noun: image, signal or volume.
        unit: unit of lengths along its axes.
        is_augmented: whether training samples are changed at random.
        width: columns of the terminal; None for a log.
        metric: name of the metric that selects the epoch.
        num_targets: of regression, the number of targets.
    """

    def __init__(
        self,
        num_epochs: int,
        noun: str,
        unit: str,
        *,
        is_augmented: bool,
        width: int | None,
        metric: str = "accuracy",
        num_targets: int = 1,
    ) -> None:
        self._num_epochs, self._noun, self._unit, self._is_augmented = num_epochs, noun, unit, is_augmented
        self._width, self._metric, self._num_targets = width, metric, num_targets
        self._columns: tuple[_Column, ...] = ()
        self._size: float | None = None
        self._is_averaged = False

    def lines(self, event: EpochDone) -> list[str]:
        """The row of an epoch; before it the heading, or a line where the numbers stop to be comparable."""
        lines = self._break(event) if self._columns else self._heading(event)
        self._size, self._is_averaged = event.row["img_size"], event.is_averaged
        cells = "".join(f"{column.cell(event):>{column.width}}" for column in self._columns)
        epoch = event.row["epoch"]  # 3.4 where the time limit ended it early
        name = f"{f'{epoch:.0f}' if epoch == round(epoch) else f'{epoch:.1f}'}/{self._num_epochs}"
        return [*lines, f"{name:<8}{cells}{f' {_MARK}' if event.is_best else ''}"]

    def legend(self, *, has_validation: bool) -> str:
        """What the columns are measured on."""
        of = f"augmented {self._noun}s" if self._is_augmented else f"{self._noun}s"
        validation = f"validation: plain {self._noun}s after the epoch; " if has_validation else ""
        if has_validation and self._metric != "accuracy":
            validation = (
                f"validation: {metric_words(self._metric, self._num_targets)} of plain {self._noun}s after the epoch; "
            )
        return f"{validation}training: {of} during it; {_MARK}: kept so far"

    def _score(self, event: EpochDone) -> str:
        return write_metric(self._metric, event.row["val_score"])

    def _heading(self, event: EpochDone) -> list[str]:
        has_validation = not math.isnan(event.row["val_loss"])
        self._columns = self._fitting(has_validation=has_validation)
        return ["epoch   " + "".join(f"{column.heading:>{column.width}}" for column in self._columns)]

    def _break(self, event: EpochDone) -> list[str]:
        """A line above a row whose validation does not compare with the rows before it."""
        changes = []
        if event.row["img_size"] != self._size:
            changes.append(f"at {event.row['img_size']:.0f} {self._unit}")
        if event.is_averaged and not self._is_averaged:
            changes.append("averaged weights")
        return [f"-- from here {' and '.join(changes)}: compare only rows below --"] if changes else []

    def _fitting(self, *, has_validation: bool) -> tuple[_Column, ...]:
        """The columns that fit."""
        columns = [
            _Column("validation", 11, self._score, 5),
            _Column("loss", 8, _loss("val_loss"), 4),
            *([_Column("training", 10, _share("train_accuracy"), 3)] if self._metric == "accuracy" else []),
            _Column("loss", 8, _loss("train_loss"), 2),
            _Column(f"{self._noun}s/s", max(10, len(self._noun) + 5), _rate, 1),
            _Column("left", 12, _left),
        ]
        if not has_validation:
            columns = [each for each in columns if each.heading != "validation"][1:]
        while self._width is not None and 8 + sum(each.width for each in columns) + 2 > self._width:
            going = min((each for each in columns if each.turn), key=lambda each: each.turn, default=None)
            if going is None:
                break
            columns.remove(going)
        return tuple(columns)


def _share(name: str) -> Callable[[EpochDone], str]:
    return lambda event: write_share(event.row[name])


def _loss(name: str) -> Callable[[EpochDone], str]:
    return lambda event: _short(event.row[name], 7)


def _short(value: float, length: int) -> str:
    """A number with four decimals, and fewer digits where it is too long.

    >>> _short(1.23456, 7), _short(4846.50891, 7), _short(123456.7, 7), _short(12345678.9, 7)
    ('1.2346', '4846.51', '123457', '1.2e+07')
    """
    texts = [f"{value:{form}}" for form in (".4f", ".2f", ".0f", ".1e")]
    return next((text for text in texts if len(text) <= length), texts[-1])


def _rate(event: EpochDone) -> str:
    return f"{event.row['samples_per_second']:,.0f}"


def _left(event: EpochDone) -> str:
    return write_duration(event.seconds_left) if event.seconds_left > 0 else "-"
