"""Prints tables of networks on stdout in color: an account with its advice, and two accounts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from visus.cli.narrow_rows import Line, narrow_rows
from visus.cli.show import console, show_sentence, table_of
from visus.design.difference import RowPair, figures
from visus.design.table import cells, marks_in
from visus.units import write_count

if TYPE_CHECKING:
    from visus.design import Row
    from visus.design.advice.advise import Advice
    from visus.workbench.differences import Difference
    from visus.workbench.summaries import StepMemory, Summary

_STYLES = {"linear": "cyan", "unproductive": "cyan"}  # often meant to be so; anything else is yellow
_COLUMNS = ("path", "layer", "output", "parameters", "multiply-adds", "receptive field")
_UNLIMITED = 10_000  # columns, to measure what a table needs


def show_summary(found: Summary, training: StepMemory | None) -> None:
    """Print the rows, the totals, the meaning of the marks, the training memory if known, and the advice."""
    out = console()
    styles = _styles(found.advice)
    table = table_of(*_COLUMNS, right=(3, 4))
    for row in found.account.rows:
        table.add_row(*_cells(row), style=styles.get(row.path, ""))
    if found.error is not None and not found.account.rows:
        return  # the first layer fails: there is nothing to count
    _print_rows(out, table, [Line(row, style=styles.get(row.path, "")) for row in found.account.rows])
    for mark in marks_in(found.account.rows):
        show_sentence(out, mark)
    so_far = " up to here" if found.error is not None else ""
    show_sentence(
        out,
        f"{found.account.num_parameters:,} parameters, {write_count(found.account.macs)} multiply-adds for one sample{so_far}",
    )
    if training is not None:
        show_sentence(out, training.sentence)
    for advice in found.advice:
        show_sentence(out, advice.text, _STYLES.get(advice.kind, "yellow"))
    if found.fits:
        show_sentence(out, found.fits)


def _print_rows(out: Console, table: Table, lines: Sequence[Line]) -> None:
    """Print a table, or in a terminal that is too narrow for it the rows in short lines."""
    if out.is_terminal and Measurement.get(out, out.options.update(max_width=_UNLIMITED), table).maximum > out.width:
        for line in narrow_rows(lines, out.width):
            out.print(line, soft_wrap=True)
    else:
        out.print(table)


def show_difference(found: Difference) -> None:
    """Print the rows of two networks side by side, with differences marked and colored, then their totals."""
    out = console()
    table = table_of("", *_COLUMNS, right=(4, 5))
    lines: list[Line] = []
    for pair in found.rows:
        if pair.left is not None and not pair.differs:
            table.add_row("", *_cells(pair.left))
            lines.append(Line(pair.left, " "))
            continue
        for sign, style, row in (("<", "red", pair.left), (">", "green", pair.right)):
            if row is not None:
                table.add_row(sign, *_marked(row, pair, style))
                lines.append(Line(row, sign, style))
    _print_rows(out, table, lines)
    for sentence in found.sentences():
        show_sentence(out, sentence)


def _styles(advice: Sequence[Advice]) -> dict[str, str]:
    """The color of each row that is spoken of; the gravest advice wins."""
    styles: dict[str, str] = {}
    for each in advice:
        for path in each.paths:
            styles.setdefault(path, _STYLES.get(each.kind, "yellow"))
    return styles


def _cells(row: Row) -> list[Text]:
    path, layer, output, parameters, _, fields = cells(row)
    return [Text(cell) for cell in (path, layer, output, parameters, write_count(row.macs), fields)]


def _marked(row: Row, pair: RowPair, style: str) -> list[Text]:
    """The cells of a row, those that differ from the other row in color."""
    names = ("path", *figures(row))
    missing = pair.left is None or pair.right is None
    moved = missing or (pair.left is not None and pair.right is not None and pair.left.path != pair.right.path)
    differing = {*pair.differs, *(["path"] if moved else [])}
    return [
        Text(cell.plain, style=style if name in differing else "") for name, cell in zip(names, _cells(row), strict=True)
    ]
