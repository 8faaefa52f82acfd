"""Tables that lie beside images and are not used: what they say about the images, and whether the folders agree.

This file knows tables and names of images.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.reading import check_command
from visus.data.source_rules import natural_key, write_names
from visus.data.source_table import label_columns
from visus.data.system_files import reason_to_ignore
from visus.data.table_paths import ImageNames
from visus.data.table_text import RECORD_SUFFIXES, TEXT_SUFFIXES, Rows, lenient_text, rows_of, strict_text
from visus.errors import DataError
from visus.units import write_number_of

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
FOLDERS = "folders"
_MAX_ROWS = 20_000
_MAX_FILES = 40
_MAX_BYTES = 1 << 25


@dataclass(frozen=True)
class Beside:
    """A table beside images.

    Args:
        file: the table.
        line: its first line.
        num_rows: its rows, at most 20,000 of them.
        num_named: rows of which a cell names an image.
        path_column: the column whose cells name images; None where none does.
        labels: the columns that may name classes.
        one_hot: columns of 0 and 1, of which each row has a single 1.
        agrees: whether one of its columns says for every image what its folder says.
        unnamed: its columns where it has no header, as its first line names them.
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

    @property
    def is_records(self) -> bool:
        """Whether it is JSON, JSON Lines or XML."""
        return self.file.suffix.lower() in RECORD_SUFFIXES

    @property
    def is_about_images(self) -> bool:
        """Whether its rows name the images here."""
        return self.num_named >= max(2, 0.5 * self.num_rows)


def tables_beside(places: Sequence[Path], samples: Sequence[str], labels: Mapping[str, str]) -> list[Beside]:
    """The tables in some folders, those that name most images first.

    Args:
        places: folders to look in.
        samples: all images, with ``/``.
        labels: the class of each image as the folders say it; empty where they say none.
    """
    names = ImageNames(samples)
    files = [file for place in dict.fromkeys(places) for file in _candidates(place)]
    found = [seen for file in files if (seen := _look(file, names, labels)) is not None]
    return sorted(found, key=lambda seen: (-seen.num_named, not seen.labels))


def _candidates(place: Path) -> list[Path]:
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
    ]  # one file for each image is no table


def _look(file: Path, names: ImageNames, labels: Mapping[str, str]) -> Beside | None:
    """What a table says; None for a text that names no image, and for what cannot be read."""
    if file.suffix.lower() in WORKBOOKS:
        return _look_at_workbook(file, names)
    text = lenient_text(file)
    if text is None:
        return None
    rows = _rows(text, file)
    if rows is None:
        return None if file.suffix.lower() not in TEXT_SUFFIXES else Beside(file, text.strip().partition("\n")[0][:200], 0)
    columns, num_rows = _columns(rows)
    seen = _judged(file, rows.line[:200], columns, num_rows, names, labels)
    if _without_header(rows.heads, names):
        columns = {head: [head, *cells] for head, cells in columns.items()}
        seen = replace(_judged(file, rows.line[:200], columns, num_rows + 1, names, labels), unnamed=tuple(rows.heads))
    is_plain = file.suffix.lower() in TEXT_SUFFIXES
    if not is_plain and (not seen.is_about_images or (file.suffix.lower() == ".txt" and not seen.labels)):
        return None
    return seen


def _rows(text: str, file: Path) -> Rows | None:
    """The rows of a table; None where it cannot be read as one."""
    try:
        return rows_of(text, file)
    except DataError:
        return None


def _columns(rows: Rows) -> tuple[dict[str, list[str]], int]:
    """The cells of each column, by its name or number, and how many rows were looked at."""
    records = [record for _, record in rows.records[:_MAX_ROWS]]
    columns = {
        head or str(place + 1): [record[place].strip() if place < len(record) else "" for record in records]
        for place, head in enumerate(rows.heads)
    }
    return columns, len(records)


def _without_header(heads: Sequence[str], names: ImageNames) -> bool:
    return any("." in head and names.named(head) for head in heads)


def _judged(
    file: Path, line: str, columns: dict[str, list[str]], num_rows: int, names: ImageNames, labels: Mapping[str, str]
) -> Beside:
    best: dict[int, list[str]] = {}
    path_column = None
    for head, cells in columns.items():
        named = {row: found for row, cell in enumerate(cells) if cell and (found := names.named(cell))}
        many = len({sample for found in named.values() for sample in found})
        if (
            len(named) > len(best)
            and many >= min(2, names.num_samples)
            and len({cells[row] for row in named}) >= 0.5 * len(named)
        ):
            best, path_column = named, head
    if path_column is None:
        return Beside(file, line, num_rows)
    others = {head: cells for head, cells in columns.items() if head != path_column}
    return Beside(
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
    """Whether a column stands for the folders: each value for one folder, and each folder for one value."""
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


def _look_at_workbook(file: Path, names: ImageNames) -> Beside:
    """A workbook by the texts in it; those of Excel are XML in a ZIP archive."""
    texts: list[str] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for part in archive.infolist():
                if part.filename.endswith(("sharedStrings.xml", "content.xml")) and part.file_size <= _MAX_BYTES:
                    texts += re.findall(r">([^<>]+)</(?:\w+:)?[tp]>", archive.read(part).decode("utf-8", "replace"))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        texts = []
    named = {text for text in texts if "." in text and names.named(text)}
    return Beside(file, ", ".join(texts[:4])[:200], len(named), len(named), None)


def absent_images(places: Sequence[Path]) -> str:
    """The sentence for a table whose cells name image files, where there are no images at all; empty where there is no such table.

    Args:
        places: folders to look in.
    """
    for file in (file for place in dict.fromkeys(places) for file in _candidates(place)):
        text = lenient_text(file) if file.suffix.lower() not in WORKBOOKS else None
        rows = _rows(text, file) if text is not None else None
        columns, num_rows = _columns(rows) if rows is not None else ({}, 0)
        for cells in columns.values():
            named = list(dict.fromkeys(cell for cell in cells if cell.lower().endswith(tuple(IMAGE_SUFFIXES))))
            if len(named) >= max(2, 0.5 * num_rows):
                return (
                    f"The table {file.name!r} names {write_number_of(len(named), 'image')} that are not here, such as {named[0]}: "
                    "download them, and put them into this folder."
                )
    return ""


# ---- what is said


def question(seen: Beside, given: Path, folders: Sequence[str]) -> str:
    """The sentence for a table that names the images here and is not used; what to type for either reading.

    Args:
        seen: the table.
        given: the folder that a person named.
        folders: the classes that the folders would give; empty where they give none.
    """
    told = f"the table {seen.file.name!r} names images that lie here ({write_number_of(seen.num_named, 'row')}), and is not used: "
    problem, way = _what_to_do(seen)
    ways = [f"to train by the table: {way}"] if way else []
    if folders:
        ways.append(
            f"to train by the names of the folders ({write_names(folders)}): {check_command(given, '--labels', FOLDERS)}"
        )
    return told + problem + "".join(f"\n  - {way}" for way in ways)


def _what_to_do(seen: Beside) -> tuple[str, str]:
    """Why a table cannot be read as it is; and what to type to have it read, where options suffice."""
    suffix = seen.file.suffix.lower()
    if suffix in WORKBOOKS:
        return "visus does not read workbooks. Save it as 'CSV UTF-8' with the columns path,label, and give that file.", ""
    if suffix == ".txt":
        return (
            f"it is no CSV. Its first line is {seen.line!r}. Save it as CSV with the columns path,label, and give that file.",
            "",
        )
    try:
        strict_text(seen.file)
    except DataError as error:
        return error.message, ""
    if seen.one_hot:
        return (
            f"the columns {write_names(seen.one_hot)} hold 0 and 1, one column for each class. Write one column label that names the class, or "
            "export the dataset as class folders (Roboflow: 'Folder Structure').",
            "",
        )
    if seen.path_column in seen.unnamed:
        return (
            f"it has no header, its first line is {seen.line!r}. Write the line path,label above it, with a word for each column.",
            "",
        )
    label = seen.labels[0] if len(seen.labels) == 1 else "NAME"
    words = check_command(seen.file, "--path-column", seen.path_column or "NAME", "--label-column", label)
    choice = (
        ""
        if label != "NAME"
        else f", where NAME is {f'one of {write_names(seen.labels)}' if seen.labels else 'the column of the classes'}"
    )
    return f"its columns are {seen.line}.", f"{words}{choice}"


def unused(seen: Beside) -> str:
    """The warning for a table that is not used."""
    why = "no row names an image here" if not seen.is_about_images else "it names no class"
    first = f" Its first line: {seen.line}" if seen.line else ""
    return f"the table {seen.file.name!r} is not used: {why}.{first}"
