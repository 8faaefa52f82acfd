"""Detection of the delimiter of a table: comma, semicolon or tab."""

from __future__ import annotations

import csv
from collections.abc import Iterable

DELIMITERS = (",", ";", "\t")
SNIFFED_DELIMITERS = (*DELIMITERS, "|")


def find_delimiter(header: str, known: Iterable[str]) -> str:
    """The delimiter that yields the most known column names in the first line of a table, then the most columns.

    Args:
        header: the first line.
        known: known column names, in lower case.

    >>> find_delimiter("path;label", ("path", "label")), find_delimiter("a\\tb,c", ())
    (';', ',')
    """
    names = set(known)

    def found(mark: str) -> tuple[int, int]:
        try:
            heads = {head.strip().lower() for head in next(csv.reader([header], delimiter=mark), [])}
        except csv.Error:
            heads = set()
        return len(heads & names), header.count(mark)

    return max(DELIMITERS, key=found)
