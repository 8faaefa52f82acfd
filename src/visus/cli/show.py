"""Prints results on stdout and notes on stderr: sentences and tables as wide as the terminal; sentences unbroken where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text as RichText

from visus.tables import Table
from visus.workbench.live_line import error_console, width_of
from visus.workbench.wrapping import wrapped, wrapped_command

WIDTH: Final = 160
"""Characters of a table where there is no terminal."""


def show(text: Iterable[str | Table]) -> None:
    """Print the text of a result."""
    out = console()
    for block in text:
        if isinstance(block, Table):
            table, notes = _fitted(block, out.width) if out.is_terminal else (block, [])
            _print_table(out, table)
            for note in notes:
                show_sentence(out, note)
        else:
            show_sentence(out, block)


def _print_table(out: Console, table: Table) -> None:
    """Print a table; without a terminal, no line ends with spaces."""
    if out.is_terminal:
        out.print(_rendered(table))
        return
    with out.capture() as printed:
        out.print(_rendered(table))
    for line in printed.get().splitlines():
        out.print(RichText(line.rstrip()), soft_wrap=True)


def show_sentence(out: Console, sentence: str, style: str = "") -> None:
    """Print a sentence: in a terminal in lines of whole words, with further lines indented."""
    wrap = wrapped_command if sentence.startswith("next: ") else wrapped
    out.print(RichText(wrap(sentence, width_of(out), 2), style=style), soft_wrap=True)


def warn(warnings: Sequence[str], word: str = "warning: ") -> None:
    """Print warnings on stderr."""
    out = error_console()
    for warning in warnings:
        show_sentence(out, f"{word}{warning}")


def console() -> Console:
    """A console for plain text on stdout, as wide as the terminal, or ``WIDTH`` if there is none."""
    found = Console(highlight=False, markup=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, width=WIDTH)


def table_of(*headings: str, right: Sequence[int] = ()) -> RichTable:
    """A table without rules. The columns ``right`` have right-aligned numbers; others wrap if too long and are never cut."""
    columns = [
        Column(RichText(heading), justify="right") if place in right else Column(RichText(heading), overflow="fold")
        for place, heading in enumerate(headings)
    ]
    return RichTable(*columns, box=None)


def _rendered(table: Table) -> RichTable:
    headings = table.headings or ("",) * table.num_columns
    made = table_of(*headings, right=table.numbers)
    made.show_header = bool(table.headings)
    for row in table.rows:
        made.add_row(*map(RichText, row))
    return made


# ---- narrow terminals ----


def _fitted(table: Table, width: int) -> tuple[Table, list[str]]:
    """A table for a terminal of ``width`` columns, and sentences with the texts that do not fit into it.

    Headings break into lines first. Then long texts leave the table, one column after the other, the longest first.
    """
    if _width(table) <= width or not table.headings:
        return table, []
    table = replace(table, headings=tuple(_broken(table, place) for place in range(table.num_columns)))
    notes: list[str] = []
    while _width(table) > width:
        texts = [place for place in range(1, table.num_columns) if place not in table.numbers]
        longest = max(texts, key=lambda place: _cell_width(table, place), default=None)
        if longest is None or _width(table) - _cell_width(table, longest) + _MIN_TEXT <= width:
            break
        if _cell_width(table, longest) < _MIN_TEXT:
            break
        notes += [f"{row[0]}: {row[longest]}" for row in table.rows if row[longest]]
        table = _without(table, longest)
    return table, notes


_MIN_TEXT: Final = 20  # columns; a narrower column of texts is hard to read
_GAP: Final = 2


def _without(table: Table, gone: int) -> Table:
    rows = tuple(tuple(cell for place, cell in enumerate(row) if place != gone) for row in table.rows)
    headings = tuple(heading for place, heading in enumerate(table.headings) if place != gone)
    return Table(rows, headings, tuple(place - (place > gone) for place in table.numbers))


def _cell_width(table: Table, place: int) -> int:
    """Columns of the widest cell, or of the widest line of the heading."""
    lines = table.headings[place].split("\n") if table.headings else [""]
    return max(map(cell_len, (*lines, *(row[place] for row in table.rows))))


def _width(table: Table) -> int:
    return sum(_cell_width(table, place) + _GAP for place in range(table.num_columns))


def _broken(table: Table, place: int) -> str:
    """A heading in lines that are no wider than the cells below, if its words are not."""
    cells = max((cell_len(row[place]) for row in table.rows), default=0)
    words = table.headings[place].replace("-", "- ").split(" ")
    lines = words[:1]
    for word in words[1:]:
        space = "" if lines[-1].endswith("-") else " "
        if cell_len(lines[-1] + space + word) <= cells:
            lines[-1] += space + word
        else:
            lines.append(word)
    return "\n".join(lines)
