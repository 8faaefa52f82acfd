"""Parsing of tables in CSV, TSV, TXT, JSON, JSON Lines and XML into column names and rows."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from visus.data.delimiters import SNIFFED_DELIMITERS
from visus.errors import DataError

TEXT_SUFFIXES = (".csv", ".tsv")
RECORD_SUFFIXES = (".json", ".jsonl", ".ndjson", ".xml")
_PREDICTION_HEADS = {"file", "label", "probability"}
_MAX_LINES_ABOVE = 10
_MAX_BYTES = 1 << 23
_MAX_RECORD_BYTES = 1 << 26


@dataclass(frozen=True)
class Rows:
    """A parsed table.

    Args:
        heads: column names as written.
        records: (row number, cells) of each row that has text. Numbers are those of a spreadsheet.
        line: the header as written.
    """

    heads: list[str]
    records: list[tuple[int, list[str]]]
    line: str


def are_predictions(heads: Sequence[str]) -> bool:
    """Whether column names are those of the predictions that visus writes: ``visus predict``, with ``--top`` or ``--json`` too.

    >>> are_predictions(["file", "label", "probability", "error"]), are_predictions(["file", "label"])
    (True, False)
    """
    names = {head.strip().lower() for head in heads}
    return names >= _PREDICTION_HEADS and all(
        re.fullmatch(r"error|top|(label|probability)_\d+", name) for name in names - _PREDICTION_HEADS
    )


def strict_text(file: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: the file cannot be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"the table cannot be read ({error.strerror}).", where=str(file)) from error
    if _is_utf16(data):
        raise DataError(
            "the table is UTF-16, as Excel's 'Unicode Text' is. Save it as UTF-8; Excel calls that 'CSV UTF-8'.",
            where=str(file),
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the table is not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start:,}. Save it as UTF-8; Excel "
            "calls that 'CSV UTF-8'.",
            where=str(file),
        ) from error


def lenient_text(file: Path) -> str | None:
    """The text of a file in its apparent encoding, for inspection only, never for training; None if it cannot be read.

    Of a long table only the first 8 MiB are read, in whole lines. JSON and XML files above 64 MiB are not read.
    """
    max_bytes = _MAX_RECORD_BYTES if file.suffix.lower() in RECORD_SUFFIXES else _MAX_BYTES
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError:
        return None
    if len(data) > max_bytes:
        if max_bytes == _MAX_RECORD_BYTES:
            return None
        data = data[: data.rfind(b"\n") + 1]
    if _is_utf16(data):
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _is_utf16(data: bytes) -> bool:
    head = data[:200]
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(head) > 3 and head[1::2].count(0) > 0.6 * len(head[1::2]))


def rows_of(text: str, file: Path, delimiter: str | None = None, wanted: Sequence[str] = ()) -> Rows | None:
    """Parse a table in any of the formats; None if it has no rows.

    Args:
        text: text of the whole file.
        file: path of the file; its extension determines the format.
        delimiter: delimiter of a CSV file; default: detected.
        wanted: expected column names in lower case, to find a header below other lines.

    Raises:
        DataError: a CSV file has unbalanced quotes.
    """
    suffix = file.suffix.lower()
    if suffix in RECORD_SUFFIXES:
        return _from_records(_xml_records(text) if suffix == ".xml" else _json_records(text))
    return _from_lines(text, file, delimiter, wanted, has_spaces=suffix == ".txt")


def _from_lines(text: str, file: Path, delimiter: str | None, wanted: Sequence[str], *, has_spaces: bool) -> Rows | None:
    lines = text.splitlines(keepends=True)
    start = 0
    for line in lines[:_MAX_LINES_ABOVE]:
        declared = re.fullmatch(r"\"?sep=(.)\"?", line.strip(), re.IGNORECASE) if line.strip() != "sep=" else None
        if declared or line.strip() == "sep=":
            delimiter = delimiter or (declared[1] if declared else "\t")
        elif line.strip() and not line.lstrip().startswith("#"):
            break
        start += 1
    first = next((line for line in lines[start:] if line.strip()), "")
    mark = delimiter or _delimiter(lines[start : start + _MAX_LINES_ABOVE], wanted, has_spaces=has_spaces)
    if mark == " ":
        records = [line.split() for line in lines[start:]]
    else:
        try:
            records = list(csv.reader(lines[start:], delimiter=mark, strict=True))
        except csv.Error as error:
            raise DataError(f"the table cannot be parsed: {error}. Check its quotes.", where=str(file)) from error
    numbered = [(number, record) for number, record in enumerate(records, start + 1) if any(cell.strip() for cell in record)]
    if not numbered:
        return None
    place = _header_place([record for _, record in numbered[:_MAX_LINES_ABOVE]], wanted)
    heads = [head.strip() for head in numbered[place][1]]
    below = numbered[place + 1 :]
    while (
        len(heads) > 1
        and not heads[-1]
        and not any(cell.strip() for _, record in below for cell in record[len(heads) - 1 :])
    ):
        heads = heads[:-1]
    width = len(heads)
    below = [
        (number, record[:width] if not any(cell.strip() for cell in record[width:]) else record) for number, record in below
    ]
    return Rows(heads, below, first.strip() if place == 0 else mark.join(heads))


def _delimiter(lines: Sequence[str], wanted: Sequence[str], *, has_spaces: bool) -> str:
    """The delimiter that yields the most wanted columns in a line, then the most columns in the first line."""
    marks = (*SNIFFED_DELIMITERS, " ") if has_spaces else SNIFFED_DELIMITERS
    first = next((line for line in lines if line.strip()), "")

    def known(mark: str) -> int:
        return max((len({cell.strip().lower() for cell in _cells(line, mark)} & set(wanted)) for line in lines), default=0)

    best = max(SNIFFED_DELIMITERS, key=lambda mark: (known(mark), first.count(mark)))
    return " " if has_spaces and not first.count(best) and " " in first.strip() and marks[-1] == " " else best


def _cells(line: str, mark: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=mark), [])
    except csv.Error:
        return []


def _header_place(records: Sequence[Sequence[str]], wanted: Sequence[str]) -> int:
    """Index of the header among the first rows: the first with all wanted columns, else the first after titles of a single cell."""
    for place, record in enumerate(records):
        if wanted and set(wanted) <= {cell.strip().lower() for cell in record}:
            return place
    filled = [sum(bool(cell.strip()) for cell in record) for record in records]
    place = 0
    while place + 1 < len(records) and filled[place] == 1 and filled[place + 1] > 1:
        place += 1
    return place


# ---- JSON and XML: the longest list of records, each flattened


def _from_records(records: Sequence[dict[str, str]]) -> Rows | None:
    heads = list(dict.fromkeys(head for record in records for head in record))
    if not heads:
        return None
    rows = [(number, [record.get(head, "") for head in heads]) for number, record in enumerate(records, start=1)]
    return Rows(heads, rows, ",".join(heads))


def _json_records(text: str) -> list[dict[str, str]]:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return []
    lists = [[dict(_flat(record)) for record in records] for records in _lists(found)]
    return max(lists, key=lambda records: (_names_files(records), len(records)), default=[])


def _names_files(records: Sequence[dict[str, str]]) -> bool:
    """Whether a value of the first record ends with a file extension."""
    return any(re.search(r"[^.]\.[A-Za-z]{3,4}$", value) for value in records[0].values())


def _lists(found: Any, depth: int = 0) -> Iterator[list[Any]]:
    """Every list of records, the outer ones first."""
    if isinstance(found, list) and found and all(isinstance(record, dict) for record in found):
        yield found
    elif isinstance(found, dict) and depth < 3:
        for value in found.values():
            yield from _lists(value, depth + 1)


def _flat(found: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The values of a nested record with their paths, such as ``data.image`` or ``annotations.0.result``."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(found, list):
        for key, value in enumerate(found[:20]):
            yield from _flat(value, f"{name}.{key}")
    elif found is not None:
        yield name, str(found)


def _xml_records(text: str) -> list[dict[str, str]]:
    if "<!ENTITY" in text:
        return []
    try:
        root = ElementTree.fromstring(
            text.lstrip("\ufeff").encode("utf-8") if "encoding=" not in text[:200] else _without_head(text)
        )
    except (ElementTree.ParseError, ValueError):
        return []
    tags = Counter(child.tag for child in root)
    if not tags:
        return []
    tag, _ = tags.most_common(1)[0]
    return [dict(_flat_xml(child)) for child in root if child.tag == tag]


def _without_head(text: str) -> bytes:
    return re.sub(r"^\s*<\?xml.*?\?>", "", text.lstrip("\ufeff"), flags=re.DOTALL).encode("utf-8")


def _flat_xml(element: ElementTree.Element, name: str = "") -> Iterator[tuple[str, str]]:
    start = f"{name}." if name else ""
    for key, value in element.attrib.items():
        yield f"{start}{key}", value
    if element.text and element.text.strip() and name:
        yield name, element.text.strip()
    for child in element:
        yield from _flat_xml(child, f"{start}{child.tag}")
