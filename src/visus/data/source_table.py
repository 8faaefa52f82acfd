"""A table of pictures: ``path,label[,split][,group]``, one row for each picture.

This file knows the table and its mistakes. It must not know what is inside the files that the rows name.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from visus.data.ledger import Ledger
from visus.data.samples import UNASSIGNED, PictureFiles
from visus.data.source_rules import Found, shown, split_of
from visus.errors import DataError, closest_name, joined
from visus.units import write_number_of

TABLE_SUFFIXES = (".csv", ".tsv")
_NEEDED = ("path", "label")
_COLUMNS = (*_NEEDED, "split", "group")
_DELIMITERS = (",", ";", "\t")
_DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t"}


@dataclass(frozen=True)
class _Row:
    number: int
    path: str
    label: str
    split: str
    group: str
    others: dict[str, str]


def is_table(file: Path) -> bool:
    """Whether the first row of a ``.csv`` or ``.tsv`` file names the columns path and label."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            line = text.readline(1 << 16)
    except (OSError, UnicodeDecodeError):
        return False
    return set(_NEEDED) <= set(_heads(line, _delimiter(line)))


def read_table(file: Path, ledger: Ledger, name: str, delimiter: str | None = None) -> Found:
    """The pictures that a table names.

    Paths are relative to the folder of the table; absolute paths, and paths that lead outside with ``..``, are allowed, for
    the table is its owner's own. Rows are numbered as a spreadsheet numbers them: the header is row 1. A row that repeats a
    path with the same label, split and group is left out and noted on the ledger.

    Args:
        file: the table, UTF-8 with or without a byte order mark.
        ledger: what was left out is noted here.
        name: what people call the data set.
        delimiter: "comma", "semicolon" or "tab", or the character itself; None finds it in the header.

    Raises:
        DataError: every mistake in the header, else every mistake in the rows, together.
    """
    heads, records = _records(file, _character(delimiter, file))
    rows, mistakes = _rows(heads, records)
    kept, contradictions = _without_duplicates(rows, file, ledger)
    mistakes += contradictions + _missing(kept, file)
    if mistakes:
        raise DataError(joined(mistakes), where=str(file))
    if not kept:
        raise DataError("the table has no rows below its header. Add a row for each picture.", where=str(file))
    items = [row.path for row in kept]
    return Found(
        root=file.parent,
        kind="table",
        name=name,
        items=items,
        labels=[row.label for row in kept],
        splits=[row.split for row in kept],
        reader=PictureFiles(file.parent, tuple(items)),
        groups=[row.group for row in kept] if "group" in heads else None,
        columns={head: [row.others[head] for row in kept] for head in heads if head not in _COLUMNS},
    )


def _character(delimiter: str | None, file: Path) -> str | None:
    if delimiter is None or delimiter in _DELIMITERS:
        return delimiter
    if delimiter in _DELIMITER_NAMES:
        return _DELIMITER_NAMES[delimiter]
    raise DataError(f"{delimiter!r} is not a delimiter. Use comma, semicolon or tab.", where=str(file))


def _records(file: Path, delimiter: str | None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and numbered records without the empty ones."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"the table cannot be read ({error.strerror}).", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"the table is not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start:,}. Save it as UTF-8.",
            where=str(file),
        ) from error
    first = text.lstrip("\r\n").partition("\n")[0]
    try:
        records = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter or _delimiter(first), strict=True))
    except csv.Error as error:
        raise DataError(f"the table cannot be taken apart: {error}. Check its quotes.", where=str(file)) from error
    numbered = [(number, record) for number, record in enumerate(records, start=1) if any(cell.strip() for cell in record)]
    if not numbered:
        raise DataError("the table is empty. It needs the columns path,label and a row for each picture.", where=str(file))
    heads = [head.strip().lower() for head in numbered[0][1]]
    _check_heads(heads, file)
    return heads, numbered[1:]


def _delimiter(line: str) -> str:
    """The delimiter that finds the most known columns in the header, then the most columns."""
    return max(_DELIMITERS, key=lambda mark: (len(set(_heads(line, mark)) & set(_COLUMNS)), line.count(mark)))


def _heads(line: str, delimiter: str) -> list[str]:
    try:
        return [head.strip().lower() for head in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _check_heads(heads: list[str], file: Path) -> None:
    """Refuse a header that cannot be meant.

    Raises:
        DataError: a needed column is not there, a column is there twice, or one is a slip of a known name.
    """
    mistakes = []
    others = [head for head in heads if head not in _COLUMNS]
    absent = [column for column in _COLUMNS if column not in heads]
    for column in _NEEDED:
        if column in absent:
            guess = closest_name(column, others)
            hint = f" Did you mean {column!r} where it says {guess!r}?" if guess else ""
            mistakes.append(
                f"no column {column!r}.{hint} The header is {','.join(heads)}; it needs path,label[,split][,group]."
            )
    for column in absent:
        guess = closest_name(column, others) if column not in _NEEDED else None
        if guess:
            mistakes.append(f"unknown column {guess!r}. Did you mean {column!r}?")
    mistakes += [f"the column {column!r} is there twice. Keep one." for column in _COLUMNS if heads.count(column) > 1]
    if mistakes:
        raise DataError(joined(mistakes), where=str(file))


def _rows(heads: list[str], records: list[tuple[int, list[str]]]) -> tuple[list[_Row], list[str]]:
    """The rows that can be read, and what is wrong with the others, one sentence for each kind of mistake."""
    rows: list[_Row] = []
    wrong: dict[str, list[int]] = {}
    for number, record in records:
        cells = {head: cell.strip() for head, cell in zip(heads, record, strict=False)}
        if len(record) != len(heads):
            wrong.setdefault(f"{len(record)} cells where the header has {len(heads)}", []).append(number)
            continue
        split = split_of(cells["split"]) if cells.get("split") else UNASSIGNED
        empty = [column for column in _NEEDED if not cells[column]]
        for column in empty:
            wrong.setdefault(f"no {column}", []).append(number)
        if split is None:
            wrong.setdefault(f"unknown split {cells['split']!r} (known: train, val, valid, validation, test)", []).append(
                number
            )
        if not empty and split is not None:
            others = {head: cell for head, cell in cells.items() if head not in _COLUMNS}
            rows.append(_Row(number, cells["path"], cells["label"], split, cells.get("group", ""), others))
    without = [row.number for row in rows if not row.split]
    if without and len(without) < len(rows):
        wrong["no split although other rows have one"] = without
    return rows, [f"{_row_numbers(numbers)}: {problem}." for problem, numbers in wrong.items()]


def _without_duplicates(rows: list[_Row], file: Path, ledger: Ledger) -> tuple[list[_Row], list[str]]:
    """The rows with every file once, and contradictions between rows that name the same file."""
    first_of: dict[str, _Row] = {}
    contradictions = []
    for row in rows:
        place = os.path.normpath(file.parent / row.path)
        first = first_of.setdefault(place, row)
        if first is row:
            continue
        for column in ("label", "split", "group"):
            one, other = getattr(first, column), getattr(row, column)
            if one != other:
                contradictions.append(
                    f"rows {first.number} and {row.number} name the same file {row.path} with two {column}s, "
                    f"{one!r} and {other!r}. Keep the right row."
                )
                break
        else:
            ledger.note("duplicate row left out", row.path, f"row {row.number} repeats row {first.number}")
    if len(contradictions) > 5:
        contradictions[5:] = [f"{len(contradictions) - 5} more pairs of rows that contradict each other."]
    return list(first_of.values()), contradictions


def _missing(rows: list[_Row], file: Path) -> list[str]:
    missing = [row for row in rows if not (file.parent / row.path).is_file()]
    if not missing:
        return []
    named = shown(f"{row.path} (row {row.number})" for row in missing)
    return [
        f"{write_number_of(len(missing), 'row names a file that does', 'rows name files that do')} not exist: {named}. "
        "Paths are relative to the folder of the table."
    ]


def _row_numbers(numbers: list[int]) -> str:
    return f"{'row' if len(numbers) == 1 else 'rows'} {shown(str(number) for number in numbers)}"
