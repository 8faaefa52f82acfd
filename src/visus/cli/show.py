"""Prints results on stdout and notes on stderr: sentences and tables as wide as the terminal; sentences unbroken where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

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
            out.print(_rendered(block))
        else:
            show_sentence(out, block)


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
