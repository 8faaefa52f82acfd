"""Sentences and tables that results carry, and that the command line and pages render: plain text, without a width or a color."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of plain cells.

    Args:
        rows: its cells.
        headings: one for each column; none for a grid without a head.
        numbers: places of the columns of numbers, which are set to the right.

    >>> Table((("cat", "3"),), ("class", "samples"), numbers=(1,)).num_columns
    2
    """

    rows: tuple[tuple[str, ...], ...]
    headings: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def num_columns(self) -> int:
        """Of the heading, or of the longest row."""
        return len(self.headings) or max((len(row) for row in self.rows), default=0)


Text = tuple[str | Table, ...]
"""What a result says: sentences, one a line, and tables between them."""


def grid(cells: list[str], width: int) -> Table:
    """Numbers in rows of ``width`` columns, without a head.

    >>> grid(["1", "2", "3"], 2).rows
    (('1', '2'), ('3',))
    """
    rows = tuple(tuple(cells[start : start + width]) for start in range(0, len(cells), width))
    return Table(rows, numbers=tuple(range(min(width, len(cells)))))


def notes(sentences: tuple[str, ...] | list[str]) -> Text:
    """Notes, each in a line of its own.

    >>> notes(["it is small."])
    ('note: it is small.',)
    """
    return tuple(f"note: {sentence}" for sentence in sentences)
