"""The numbers of regression: read from the texts of labels, with what is suspicious about them.

A comma may be the decimal mark (``38,5``) or group thousands (``2,077``). It is read as the decimal mark where nothing else is possible, and a note says
so; else the column is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visus.data.listed_names import write_names
from visus.data.tasks import SEPARATOR
from visus.errors import DataError
from visus.units import write_number_of

_NUMBER: Final = re.compile(r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?(?:\d*,(?!\d{3}(?:\D|$))\d+|0+,\d{3})(?:[eE][+-]?\d+)?")
"""A number whose comma can only be the decimal mark: no three digits follow it, or only zeros are before it."""
_MAX_DISTANCE: Final = 10.0
"""Interquartile ranges between a quartile and a number, beyond which the number is an outlier."""
_MIN_NUMBERS: Final = 8
_MAX_SAMPLES: Final = 5
"""Samples that an error lists."""
CORRECT_ROW: Final = "Correct or remove each such row."
"""The remedy for a label in a row of a table."""
CORRECT_SAMPLE: Final = "Correct or remove each such sample."
"""The remedy for a label in an array."""


def parse_numbers(
    cells: Sequence[str], samples: Sequence[str], where: str, remedy: str = CORRECT_ROW
) -> NDArray[np.float64]:
    """The numbers (n, targets) in label texts such as ``12.5`` or ``12.5|3.0``; a comma is read as a point (see ``comma_notes``).

    Args:
        cells: the texts.
        samples: the name of each sample, for errors.
        where: the file or folder, for errors.
        remedy: the sentence after the error about a cell that is no number.

    Raises:
        DataError: a cell is no finite number, or the cells have several lengths.
    """
    rows = [[_number(part) for part in cell.split(SEPARATOR)] for cell in cells]
    wrong = [place for place, numbers in enumerate(rows) if not all(map(math.isfinite, numbers))]
    if wrong:
        first, others = wrong[0], [samples[place] for place in wrong[1:]] if 2 * len(wrong) <= len(rows) else []
        part = next(part.strip() for part in cells[first].split(SEPARATOR) if not math.isfinite(_number(part)))
        listed = "; ".join([*others[:_MAX_SAMPLES], *(["..."] if len(others) > _MAX_SAMPLES else [])])
        more = f" {write_number_of(len(others), 'more sample has', 'more samples have')} none: {listed}." if others else ""
        raise DataError(
            f"the label of {samples[first]} is {part!r}, and regression needs a finite number for each sample.{more} {remedy}",
            where=where,
        )
    if len({len(row) for row in rows}) > 1:
        raise DataError("the labels have different numbers of values. Give each sample the same targets.", where=where)
    return np.array(rows, dtype=np.float64)


def _number(text: str) -> float:
    """The number in a text; NaN if there is none."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return math.nan


def comma_notes(cells: Sequence[str], samples: Sequence[str], where: str, targets: Sequence[str] = ()) -> tuple[str, ...]:
    """A note for each target whose numbers have a decimal comma.

    Args:
        cells: label texts, as for ``parse_numbers``.
        samples: the name of each sample, for errors.
        where: the file or folder, for errors.
        targets: names of the targets; default: ``label``.

    Raises:
        DataError: a comma may as well separate thousands, or another number of the target has a point.

    >>> comma_notes(["38,5", "40"], ["1.png", "2.png"], "table.csv")
    ("label: the comma is read as the decimal mark in 1 number: '38,5' is read as 38.5.",)
    """
    rows = [[part.strip() for part in cell.split(SEPARATOR)] for cell in cells]
    notes = []
    for place in range(max(map(len, rows), default=0)):
        name = targets[place] if place < len(targets) else "label"
        column = [
            (row[place], sample)
            for row, sample in zip(rows, samples, strict=True)
            if place < len(row) and _NUMBER.fullmatch(row[place])
        ]
        commas = [entry for entry in column if "," in entry[0]]
        unclear = [entry for entry in commas if not _DECIMAL_COMMA.fullmatch(entry[0])]
        points = [entry for entry in column if "." in entry[0] and "," not in entry[0]]
        if unclear or (commas and points):
            raise DataError(_refusal(name, unclear, commas, points), where=where)
        if commas:
            example = commas[0][0]
            notes.append(
                f"{name}: the comma is read as the decimal mark in {write_number_of(len(commas), 'number')}: {example!r} is read as "
                f"{float(example.replace(',', '.')):g}."
            )
    return tuple(notes)


_Entries = Sequence[tuple[str, str]]


def _refusal(name: str, unclear: _Entries, commas: _Entries, points: _Entries) -> str:
    """The message for a target in which a comma can be read in two ways."""
    if not unclear:
        found = f"has numbers with a comma ({_written(commas)}) and with a point ({_written(points)})"
    elif points:
        found = (
            f"has commas that may separate thousands ({_written(unclear)}) beside numbers with a point ({_written(points)})"
        )
    else:
        found = f"has commas that may separate thousands or decimals: {_written(unclear)}"
    return (
        f"the column {name!r} {found}. Write each number without separators of thousands and with a decimal point, such as 2077 or 38.5. A comma is "
        "read as the decimal mark only where no number of the column has a point or exactly three digits after its comma, as in 38,5."
    )


def _written(entries: _Entries) -> str:
    return write_names(f"{cell!r} ({sample})" for cell, sample in entries)


def number_warnings(
    numbers: NDArray[np.float64], samples: Sequence[str], targets: Sequence[str], is_training: Sequence[bool]
) -> list[str]:
    """Warnings about a target that is the same in all training samples, and about numbers far from all others.

    Args:
        numbers: (n, targets).
        samples: the name of each sample.
        targets: names of the targets.
        is_training: whether each sample may be in the training split.

    >>> number_warnings(np.array([[1.0], [2.0]]), ["1.png", "2.png"], ["age"], [True, True])
    []
    >>> number_warnings(np.array([[3.0], [3.0]]), ["1.png", "2.png"], ["age"], [True, True])
    ["the target 'age' is 3 in all training samples, so there is nothing to learn, and a training refuses it. Leave it out."]
    """
    warnings = []
    for name, column in zip(targets, numbers.T, strict=True):
        learned = column[np.asarray(is_training, dtype=bool)]
        if len(learned) and np.ptp(learned) == 0:
            warnings.append(
                f"the target {name!r} is {learned[0]:g} in all training samples, so there is nothing to learn, and a training refuses it. Leave it out."
            )
        elif len(column) >= _MIN_NUMBERS:
            warnings += _outliers(name, column, samples)
    return warnings


def _outliers(name: str, column: NDArray[np.float64], samples: Sequence[str]) -> list[str]:
    low, high = np.quantile(column, (0.25, 0.75))
    reach = _MAX_DISTANCE * (high - low)
    far = np.flatnonzero((column < low - reach) | (column > high + reach)) if reach > 0 else np.array([], dtype=np.int64)
    if not len(far):
        return []
    far = far[np.argsort(-np.abs(column[far] - (low + high) / 2), kind="stable")]
    is_one = len(far) == 1
    listed = write_names(f"{column[place]:g} ({samples[place]})" for place in far.tolist())
    return [
        f"{write_number_of(len(far), 'number')} of the target {name!r} {'is' if is_one else 'are'} far from the others, half of which are between "
        f"{low:g} and {high:g}: {listed}. Correct {'it if it is' if is_one else 'them if they are'} a mistake: the loss follows such numbers most."
    ]
