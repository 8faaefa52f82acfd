"""Rows of predictions as CSV or Parquet: the bytes of one part, and the table that joins all parts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from visus.errors import MissingExtraError, UsageError
from visus.files import csv_text

MAX_GROUP_BYTES: Final = 32 * 2**20
"""Parts of a Parquet table are joined to row groups of about this size, and to files of as much if the table is a folder."""
MAX_GROUP_ROWS: Final = 65_536


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        top: number of classes with their probabilities, the most probable first.
        classes: classes that have a column for their probability; none by default.
    """

    top: int = 1
    classes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The columns of labels."""
        return ["label", *(f"label_{rank}" for rank in range(2, self.top + 1))]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in order.

        >>> Columns(2, ("cat", "dog")).names
        ('file', 'label', 'probability', 'label_2', 'probability_2', 'probability:cat', 'probability:dog', 'error')
        """
        ranked = [name for label in self.labels for name in (label, label.replace("label", "probability"))]
        return ("file", *ranked, *(f"probability:{name}" for name in self.classes), "error")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a part.

    Args:
        files: name of each sample.
        labels: for each rank, the label of each sample; None without a prediction.
        shares: (N, top) probabilities of the labels; NaN without a prediction.
        probabilities: (N, classes) probabilities of the classes with a column.
        errors: why a sample has no prediction; None if it has one.
    """

    files: Sequence[str]
    labels: Sequence[Sequence[str | None]]
    shares: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    errors: Sequence[str | None]


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
    """CSV in UTF-8; probabilities have six decimals."""

    columns: Columns

    def part(self, rows: Rows) -> bytes:
        """Lines without a heading."""
        return _utf8(csv_text(self._cells(rows))).encode()

    def _cells(self, rows: Rows) -> Iterator[list[str]]:
        for place, (file, error) in enumerate(zip(rows.files, rows.errors, strict=True)):
            if error is not None:
                yield [file, *[""] * (len(self.columns.names) - 2), error]
                continue
            ranked = [
                cell
                for labels, share in zip(rows.labels, rows.shares[place].tolist(), strict=True)
                for cell in (str(labels[place]), _decimals(share))
            ]
            yield [file, *ranked, *(_decimals(share) for share in rows.probabilities[place].tolist()), ""]

    def join(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """A heading, then the parts."""
        yield _utf8(csv_text([self.columns.names])).encode()
        yield from parts


@dataclass(frozen=True)
class ParquetTable:
    """Parquet; probabilities are 32-bit floats, and what is missing is null."""

    columns: Columns

    def part(self, rows: Rows) -> bytes:
        """A small Parquet file."""
        arrow, parquet = _arrow()
        cells: list[Any] = [arrow.array(list(map(_utf8, rows.files)), arrow.string())]
        has_none = np.array([error is not None for error in rows.errors], dtype=np.bool_)
        for rank, labels in enumerate(rows.labels):
            cells.append(arrow.array([None if name is None else _utf8(name) for name in labels], arrow.string()))
            cells.append(arrow.array(rows.shares[:, rank], arrow.float32(), mask=has_none))
        cells += [arrow.array(shares, arrow.float32(), mask=has_none) for shares in rows.probabilities.T]
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
        names = self.columns.names
        texts = {"file", "error", *self.columns.labels}
        return arrow.schema([(_utf8(name), arrow.string() if name in texts else arrow.float32()) for name in names])


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


def _decimals(share: float) -> str:
    """A probability as ``visus predict`` prints it: float32 holds seven digits."""
    return f"{round(share, 7):.6f}"


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
