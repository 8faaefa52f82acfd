"""Rows of predictions as CSV or Parquet: the bytes of one part, and the table that joins all parts."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from visus.errors import MissingExtraError, UsageError
from visus.files import csv_text
from visus.workbench.runs.bulk.rows import Cells, Columns, Kind, Rows

MAX_GROUP_BYTES: Final = 32 * 2**20
"""Parts of a Parquet table are joined to row groups of about this size, and to files of as much if the table is a folder."""
MAX_GROUP_ROWS: Final = 65_536


class TableFormat(Protocol):
    """A kind of table."""

    @property
    def columns(self) -> Columns:
        """Its columns."""

    def part(self, rows: Rows) -> bytes:
        """The bytes of one part."""

    def join(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """The bytes of the table from those of its parts, a piece at a time."""


@dataclass(frozen=True)
class CsvTable:
    """CSV in UTF-8; probabilities have six decimals, and numbers nine digits."""

    columns: Columns

    def part(self, rows: Rows) -> bytes:
        """Lines without a heading."""
        return _utf8(csv_text(self._cells(rows))).encode()

    def _cells(self, rows: Rows) -> Iterator[list[str]]:
        columns = [_texts(cells, kind) for cells, (_, kind) in zip(rows.cells, self.columns.answers, strict=True)]
        blank = [""] * len(columns)
        for file, error, *cells in zip(rows.files, rows.errors, *columns, strict=True):
            yield [file, *cells, ""] if error is None else [file, *blank, error]

    def join(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """A heading, then the parts."""
        yield _utf8(csv_text([self.columns.names])).encode()
        yield from parts


@dataclass(frozen=True)
class ParquetTable:
    """Parquet; probabilities are 32-bit floats, numbers 64-bit floats, and what is missing is null."""

    columns: Columns

    def part(self, rows: Rows) -> bytes:
        """A small Parquet file."""
        arrow, parquet = _arrow()
        has_none = np.array([error is not None for error in rows.errors], dtype=np.bool_)
        cells: list[Any] = [arrow.array(list(map(_utf8, rows.files)), arrow.string())]
        for column, (_, kind) in zip(rows.cells, self.columns.answers, strict=True):
            if kind == "text":
                cells.append(arrow.array([None if text is None else _utf8(str(text)) for text in column], arrow.string()))
            else:
                mask = has_none if kind == "share" else np.isnan(np.asarray(column))
                cells.append(arrow.array(column, _type(arrow, kind), mask=mask))
        cells.append(arrow.array([None if error is None else _utf8(error) for error in rows.errors], arrow.string()))
        content = io.BytesIO()
        parquet.write_table(arrow.Table.from_arrays(cells, schema=self._schema(arrow)), content)
        return content.getvalue()

    def join(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """One Parquet file with a row group for about ``MAX_GROUP_BYTES`` of the parts."""
        arrow, parquet = _arrow()
        sink = _Sink()
        with parquet.ParquetWriter(arrow.PythonFile(sink, mode="w"), self._schema(arrow)) as writer:
            for group in self._groups(parts):
                writer.write_table(group, row_group_size=group.num_rows)
                yield sink.take()
        yield sink.take()

    def files(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """As ``join``, with a whole Parquet file for each group."""
        arrow, parquet = _arrow()
        is_empty = True
        for group in self._groups(parts):
            content = io.BytesIO()
            parquet.write_table(group, content, row_group_size=group.num_rows)
            yield content.getvalue()
            is_empty = False
        if is_empty:
            content = io.BytesIO()
            parquet.write_table(self._schema(arrow).empty_table(), content)
            yield content.getvalue()

    def _groups(self, parts: Iterable[bytes]) -> Iterator[Any]:
        arrow, parquet = _arrow()
        held: list[Any] = []
        for part in parts:
            held.append(parquet.read_table(io.BytesIO(part)))
            if sum(each.nbytes for each in held) >= MAX_GROUP_BYTES or sum(each.num_rows for each in held) >= MAX_GROUP_ROWS:
                yield arrow.concat_tables(held)
                held = []
        if held:
            yield arrow.concat_tables(held)

    def _schema(self, arrow: Any) -> Any:
        kinds: list[tuple[str, Kind]] = [("file", "text"), *self.columns.answers, ("error", "text")]
        return arrow.schema([(_utf8(name), _type(arrow, kind)) for name, kind in kinds])


def table_format(out: Path, columns: Columns) -> TableFormat:
    """The kind of table that a path asks for: CSV, Parquet, or a folder of Parquet files.

    Raises:
        UsageError: the path has another suffix.
        MissingExtraError: pyarrow is not installed.
    """
    suffix = out.suffix.lower()
    if suffix == ".csv":
        return CsvTable(columns)
    if suffix not in ("", ".parquet"):
        raise UsageError(
            f"a table is a .parquet file, a .csv file, or a folder of Parquet files, and not {suffix}. Name one of these.",
            where=str(out),
        )
    _arrow()
    return ParquetTable(columns)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except Exception as error:
        raise MissingExtraError.because(error, "pyarrow", "table", "Parquet tables") from error
    return pyarrow, parquet


def _type(arrow: Any, kind: Kind) -> Any:
    return {"text": arrow.string, "share": arrow.float32, "number": arrow.float64}[kind]()


def _texts(cells: Cells, kind: Kind) -> list[str]:
    """The cells as ``visus predict`` prints them: float32 holds seven digits; a number has nine, and is empty if there is none."""
    if kind == "text":
        return [str(text) for text in cells]
    values = np.asarray(cells).tolist()
    if kind == "share":
        return [f"{round(share, 7):.6f}" for share in values]
    return ["" if math.isnan(value) else f"{value:.9g}" for value in values]


def _utf8(text: str) -> str:
    r"""The text with the bytes of file names that are not UTF-8 as escapes, such as ``\xff``: tables are UTF-8."""
    return text if text.isprintable() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Sink(io.RawIOBase):
    """A file whose bytes are taken while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, content: Any) -> int:
        data = bytes(content)
        self._held.append(data)
        self._place += len(data)
        return len(data)

    def take(self) -> bytes:
        """The bytes that were written since the last call."""
        data, self._held = b"".join(self._held), []
        return data
