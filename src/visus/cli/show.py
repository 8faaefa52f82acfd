"""Prints results on stdout: sentences without line breaks, and tables as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text as RichText

from visus.tables import Table, Text

WIDTH: Final = 160
"""Characters of a table where there is no terminal."""


def show(text: Text) -> None:
    """Print the text of a result."""
    out = console()
    for block in text:
        if isinstance(block, Table):
            out.print(_rendered(block))
        else:
            out.print(RichText(block), soft_wrap=True)


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
