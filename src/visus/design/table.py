"""The account as a plain table: a line for each row, exact integers, and the totals in the last line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final, Protocol

from visus.geometry import Field
from visus.units import write_number_of, write_shape

HEADINGS: Final = ("path", "layer", "output", "parameters", "multiply-adds", "receptive field")
MARKS: Final = {
    "*": "every position also depends on positions beyond its window, as through a gate, a norm over the spatial axes or a running sum",
    "~": "not exact: an operation without a rule counts as reading everything",
    "!": "the paths joined here are not aligned",
}
"""What the marks after a receptive field mean."""

PAIRS: Final = "pairs of positions"
"""The note of a row without one field for each position: its values belong to two positions, as attention scores do."""

ITSELF = "(itself)"
"""The path of a module that is one layer."""


class TableLine(Protocol):
    """The fields of an account's row that the table needs."""

    @property
    def path(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def output_shape(self) -> tuple[int, ...]: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def aligned(self) -> bool: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


def without_bias(layer: str) -> str:
    """The text of a layer without its bias, which follows from the layer after it.

    >>> without_bias("conv(8, 3, padding=1, bias=False)")
    'conv(8, 3, padding=1)'
    """
    return _BIAS.sub("", layer)


_BIAS: Final = re.compile(r"(, )?bias=(True|False)")


def write_field(field: Field) -> str:
    """Size and stride of a field, with its marks; ``all`` if every position reads the same pixels, ``all before`` (or ``all after``) after a
    recurrent layer, if it reads everything up to its own place (or from there on).

    >>> write_field(Field(7, 2, -3)), write_field(Field(5, Fraction(1, 2), 0)), write_field(Field.whole(8))
    ('7/2', '5/(1/2)', 'all')
    """
    if field.stride == 0:
        return _write_whole(field) if field.is_exact else "all~"
    stride = Fraction(field.stride)
    text = f"{field.size}/{stride}" if stride.denominator == 1 else f"{field.size}/({stride})"
    return text + ("*" if field.is_whole else "") + ("" if field.is_exact else "~")


def _write_whole(field: Field) -> str:
    """Which part of everything the positions read."""
    if field.intervals is None or len(field.intervals) < 2:
        return "all"
    (first, last), (other_first, other_last) = (
        field.intervals.at(place) or (0, 0) for place in (0, len(field.intervals) - 1)
    )
    if (first, last) == (other_first, other_last):
        return "all"
    return "all before" if first == other_first else "all after" if last == other_last else "all"


def write_fields(row: TableLine) -> str:
    """The receptive fields of a row: one if all axes have the same, else one for each axis; then the notes of the row."""
    if PAIRS in row.notes:
        return " ".join(row.notes)
    texts = [write_field(field) for field in row.fields]
    fields = (texts[0] if len(set(texts)) == 1 else " x ".join(texts)) + ("" if row.aligned else "!")
    return " ".join([fields, *row.notes]).strip()


def marks_in(rows: Iterable[TableLine]) -> list[str]:
    """A sentence that explains each mark used in these rows."""
    written = {mark for row in rows for mark in write_fields(row) if mark in MARKS}
    return [f"{mark} {sentence}" for mark, sentence in MARKS.items() if mark in written]


def cells(row: TableLine) -> tuple[str, ...]:
    """The text of each column of one row; the numbers are exact."""
    return (
        row.path or ITSELF,
        row.layer,
        write_shape(row.output_shape),
        f"{row.num_parameters:,}",
        f"{row.macs:,}",
        write_fields(row),
    )


def write_table(rows: Sequence[TableLine]) -> str:
    """The whole table, with the totals in the last line; every column is as wide as its longest cell."""
    parameters, macs = (sum(getattr(row, name) for row in rows) for name in ("num_parameters", "macs"))
    total = (write_number_of(len(rows), "row"), "", "", f"{parameters:,}", f"{macs:,}", "")
    lines = [HEADINGS, *(cells(row) for row in rows), total]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    written = [
        "  ".join(
            cell.rjust(width) if HEADINGS[column] in ("parameters", "multiply-adds") else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*written, *marks_in(rows)])
