"""Tables found next to folders of images: whether they name the images, and whether their labels agree with the folders."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.listed_names import write_names
from visus.data.reading import Reading, check_call
from visus.data.source_rules import natural_key
from visus.data.source_table import label_columns
from visus.data.system_files import reason_to_ignore
from visus.data.table_paths import ImageNames
from visus.data.table_text import RECORD_SUFFIXES, TEXT_SUFFIXES, Rows, are_predictions, lenient_text, rows_of, strict_text
from visus.errors import DataError
from visus.units import write_number_of

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
FOLDERS = "folders"
_MAX_ROWS = 20_000
_MAX_FILES = 40
_MAX_BYTES = 1 << 25


@dataclass(frozen=True)
class FoundTable:
    """A table found next to images.

    Args:
        file: path of the table.
        line: its first line.
        num_rows: number of rows, at most 20,000.
        num_named: number of rows with a cell that names an image.
        path_column: the column whose cells name images; None if there is none.
        labels: the columns that may name classes.
        one_hot: the columns of 0 and 1 with a single 1 in each row.
        agrees: whether a column gives every image the class of its folder.
        unnamed: the cells of its first line, if it has no header.
        has_predictions: whether visus wrote it: it has predictions, not labels.
    """

    file: Path
    line: str
    num_rows: int
    num_named: int = 0
    path_column: str | None = None
    labels: tuple[str, ...] = ()
    one_hot: tuple[str, ...] = ()
    agrees: bool = False
    unnamed: tuple[str, ...] = ()
    has_predictions: bool = False

    @property
    def is_records(self) -> bool:
        """Whether it is JSON, JSON Lines or XML."""
        return self.file.suffix.lower() in RECORD_SUFFIXES

    @property
    def is_about_images(self) -> bool:
        """Whether at least half of its rows name images."""
        return self.num_named >= max(2, 0.5 * self.num_rows)


def find_tables(places: Sequence[Path], samples: Sequence[str], labels: Mapping[str, str]) -> list[FoundTable]:
    """Find the tables in some folders. The table that names the most images comes first.

    Args:
        places: folders to search, without their subfolders.
        samples: paths of all images, with ``/``.
        labels: image -> class by its folder; empty if the folders are not classes.
    """
    names = ImageNames(samples)
    files = [file for place in dict.fromkeys(places) for file in _table_files(place)]
    found = [table for file in files if (table := _inspect(file, names, labels)) is not None]
    return sorted(found, key=lambda table: (-table.num_named, not table.labels))


def _table_files(place: Path) -> list[Path]:
    try:
        files = [file for file in place.iterdir() if file.is_file() and reason_to_ignore(file.name) is None]
    except OSError:
        return []
    suffixes = (*TEXT_SUFFIXES, *RECORD_SUFFIXES, *WORKBOOKS, ".txt")
    chosen = sorted((file for file in files if file.suffix.lower() in suffixes), key=lambda file: natural_key(file.name))
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for file in chosen:
        by_kind[file.suffix.lower()].append(file)
    return [
        file for kind in by_kind.values() if len(kind) <= _MAX_FILES for file in kind
    ]  # one text file per image is an annotation, not a table


def _inspect(file: Path, names: ImageNames, labels: Mapping[str, str]) -> FoundTable | None:
    """Inspect a table; None if it cannot be read, or is a text file that names no images."""
    if file.suffix.lower() in WORKBOOKS:
        return _inspect_workbook(file, names)
    text = lenient_text(file)
    if text is None:
        return None
    rows = _rows(text, file)
    if rows is None:
        return (
            None if file.suffix.lower() not in TEXT_SUFFIXES else FoundTable(file, text.strip().partition("\n")[0][:200], 0)
        )
    if are_predictions(rows.heads):
        return FoundTable(file, rows.line[:200], len(rows.records), has_predictions=True)
    columns, num_rows = _columns(rows)
    table = _match_columns(file, rows.line[:200], columns, num_rows, names, labels)
    if _has_no_header(rows.heads, names):
        columns = {head: [head, *cells] for head, cells in columns.items()}
        table = replace(
            _match_columns(file, rows.line[:200], columns, num_rows + 1, names, labels), unnamed=tuple(rows.heads)
        )
    is_plain = file.suffix.lower() in TEXT_SUFFIXES
    if not is_plain and (not table.is_about_images or (file.suffix.lower() == ".txt" and not table.labels)):
        return None
    return table


def _rows(text: str, file: Path) -> Rows | None:
    """The rows of a table; None if the text is not a table."""
    try:
        return rows_of(text, file)
    except DataError:
        return None


def _columns(rows: Rows) -> tuple[dict[str, list[str]], int]:
    """Column name or number -> cells, and the number of rows read."""
    records = [record for _, record in rows.records[:_MAX_ROWS]]
    columns = {
        head or str(place + 1): [record[place].strip() if place < len(record) else "" for record in records]
        for place, head in enumerate(rows.heads)
    }
    return columns, len(records)


def _has_no_header(heads: Sequence[str], names: ImageNames) -> bool:
    return any("." in head and names.match_end(head) for head in heads)


def _match_columns(
    file: Path, line: str, columns: dict[str, list[str]], num_rows: int, names: ImageNames, labels: Mapping[str, str]
) -> FoundTable:
    best: dict[int, list[str]] = {}
    path_column = None
    for head, cells in columns.items():
        named = {row: found for row, cell in enumerate(cells) if cell and (found := names.match_end(cell))}
        num_images = len({sample for found in named.values() for sample in found})
        if (
            len(named) > len(best)
            and num_images >= min(2, names.num_samples)
            and len({cells[row] for row in named}) >= 0.5 * len(named)
        ):
            best, path_column = named, head
    if path_column is None:
        return FoundTable(file, line, num_rows)
    others = {head: cells for head, cells in columns.items() if head != path_column}
    return FoundTable(
        file,
        line,
        num_rows,
        len(best),
        path_column,
        tuple(label_columns(others)),
        _one_hot(others),
        bool(labels) and _agrees(best, others, labels),
    )


def _one_hot(columns: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    kinds = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
    binary = {
        head: [kinds[cell.lower()] for cell in cells]
        for head, cells in columns.items()
        if cells and all(cell.lower() in kinds for cell in cells)
    }
    if len(binary) < 2 or any(sum(row) != 1 for row in zip(*binary.values(), strict=True)):
        return ()
    return tuple(binary)


def _agrees(named: Mapping[int, list[str]], columns: Mapping[str, Sequence[str]], labels: Mapping[str, str]) -> bool:
    """Whether a column corresponds to the folders: each value to one folder, and each folder to one value."""
    known = {
        row: found for row, samples in named.items() if len(found := {labels.get(sample, "") for sample in samples}) == 1
    }
    if not known:
        return False
    for cells in columns.values():
        pairs = {(cells[row].strip().casefold(), next(iter(found))) for row, found in known.items() if cells[row].strip()}
        values, folders = {value for value, _ in pairs}, {folder for _, folder in pairs}
        if len(folders) > 1 and len(pairs) == len(values) == len(folders):
            return True
    return False


def _inspect_workbook(file: Path, names: ImageNames) -> FoundTable:
    """Inspect a workbook by the texts in its ZIP archive of XML files."""
    texts: list[str] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for part in archive.infolist():
                if part.filename.endswith(("sharedStrings.xml", "content.xml")) and part.file_size <= _MAX_BYTES:
                    texts += re.findall(r">([^<>]+)</(?:\w+:)?[tp]>", archive.read(part).decode("utf-8", "replace"))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        texts = []
    if are_predictions(texts[:4]):
        return FoundTable(file, ", ".join(texts[:4])[:200], 0, has_predictions=True)
    named = {text for text in texts if "." in text and names.match_end(text)}
    return FoundTable(file, ", ".join(texts[:4])[:200], len(named), len(named), None)


def missing_images_message(places: Sequence[Path]) -> str:
    """The message for a table that names image files although there are no images; "" if there is no such table.

    Args:
        places: folders to search, without their subfolders.
    """
    for file in (file for place in dict.fromkeys(places) for file in _table_files(place)):
        text = lenient_text(file) if file.suffix.lower() not in WORKBOOKS else None
        rows = _rows(text, file) if text is not None else None
        if rows is not None and are_predictions(rows.heads):
            continue
        columns, num_rows = _columns(rows) if rows is not None else ({}, 0)
        for cells in columns.values():
            named = list(dict.fromkeys(cell for cell in cells if cell.lower().endswith(tuple(IMAGE_SUFFIXES))))
            if len(named) >= max(2, 0.5 * num_rows):
                return (
                    f"The table {file.name!r} names {write_number_of(len(named), 'image')} that are not here, such as {named[0]}. "
                    "Download them, and put them into this folder."
                )
    return ""


# ---- messages


def unused_table_message(table: FoundTable, given: Path, folders: Sequence[str]) -> str:
    """The message for a table that names images but is not used, with the commands for using it or the folders.

    Args:
        table: the table.
        given: the folder that the user gave.
        folders: the classes by folder; empty if the folders are not classes.
    """
    unused = f"the table {table.file.name!r} names images that lie here ({write_number_of(table.num_named, 'row')}), but is not used: "
    problem, command = _problem_and_command(table)
    commands = [f"to train by the table: {command}"] if command else []
    if folders:
        commands.append(
            f"to train by the names of the folders ({write_names(folders)}): {check_call(given, labels=FOLDERS)}"
        )
    return unused + problem + "".join(f"\n  - {command}" for command in commands)


def _problem_and_command(table: FoundTable) -> tuple[str, str]:
    """Why a table cannot be used, and the command that uses it if options suffice, else ""."""
    suffix = table.file.suffix.lower()
    if suffix in WORKBOOKS:
        return "visus does not read workbooks. Save it as 'CSV UTF-8' with the columns path,label, and give that file.", ""
    if suffix == ".txt":
        return (
            f"it is not a CSV file. Its first line is {table.line!r}. Save it as CSV with the columns path,label, and give that file.",
            "",
        )
    try:
        strict_text(table.file)
    except DataError as error:
        return error.message, ""
    if table.one_hot:
        return (
            f"the columns {write_names(table.one_hot)} are one-hot labels, one column per class. Write one column label with the class names, or "
            "export the dataset as class folders (Roboflow: 'Folder Structure').",
            "",
        )
    if table.path_column in table.unnamed:
        return (
            f"it has no header: its first line is {table.line!r}. Write the line path,label above it, with a name for each column.",
            "",
        )
    label = table.labels[0] if len(table.labels) == 1 else "NAME"
    words = check_call(table.file, Reading(table.path_column or "NAME", label))
    choice = (
        ""
        if label != "NAME"
        else f", where NAME is {f'one of {write_names(table.labels)}' if table.labels else 'the column of the classes'}"
    )
    return f"its columns are {table.line}.", f"{words}{choice}"


def predictions_note(table: FoundTable) -> str:
    """The note on a table of predictions."""
    return f"the table {table.file.name!r} is not used: it has predictions of visus, not labels."


def unused_table_warning(table: FoundTable) -> str:
    """The warning about a table that is not used."""
    reason = "no row names an image here" if not table.is_about_images else "it names no class"
    first_line = f" Its first line: {table.line}" if table.line else ""
    return f"the table {table.file.name!r} is not used: {reason}.{first_line}"
