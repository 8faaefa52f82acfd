"""Tables of images: ``path,label[,split][,group]``, one row per image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from visus.caller import option
from visus.data.delimiters import SNIFFED_DELIMITERS
from visus.data.images.decode import IMAGE_SUFFIXES
from visus.data.ledger import Ledger
from visus.data.listed_names import write_names
from visus.data.reading import DEFAULT_READING, Reading
from visus.data.samples import UNASSIGNED, ImageFiles
from visus.data.source_rules import FoundSamples, natural_key, parse_split
from visus.data.table_paths import ImageNames, describe_difference, is_absolute, is_url, list_images, resolve_cells
from visus.data.table_text import TEXT_SUFFIXES, are_predictions, lenient_text, rows_of, strict_text
from visus.data.tasks import SEPARATOR, check_task
from visus.errors import DataError, closest_name, join_messages
from visus.units import write_number_of

TABLE_SUFFIXES = TEXT_SUFFIXES
MISSING_ROW = "row left out: no such file"
_NEEDED = ("path", "label")
_COLUMNS = (*_NEEDED, "split", "group")
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
    """Whether a ``.csv`` or ``.tsv`` file has a header with the columns path and label."""
    text = lenient_text(file)
    lines = text.splitlines(keepends=True) if text else []
    for num_lines in (12, 1):
        try:
            rows = rows_of("".join(lines[:num_lines]), file, wanted=_NEEDED)
        except DataError:
            continue  # reading the table reports unbalanced quotes below the header
        return rows is not None and set(_NEEDED) <= {head.lower() for head in rows.heads}
    return False


def has_predictions(file: Path) -> bool:
    """Whether a table has predictions that visus wrote."""
    try:
        rows = rows_of(lenient_text(file) or "", file)
    except DataError:
        return False
    return rows is not None and are_predictions(rows.heads)


def read_table(
    file: Path, ledger: Ledger, name: str, delimiter: str | None = None, reading: Reading = DEFAULT_READING
) -> FoundSamples:
    r"""Read the images that a table names.

    Paths are relative to the folder of the table. Absolute paths, and paths that lead outside with ``..``, are allowed. A path that
    does not exist is searched below that folder, in any case, with backslashes, or without extension or folders. If it matches one
    image, that image is used, and a note says so. If the user names the path column, paths of another machine
    (``C:\data\cat\1.jpg``, ``/data/upload/cat/1.jpg``) are searched in the same way. Rows are numbered as in a spreadsheet: the header
    is row 1. A row that repeats a path with the same label, split and group is left out and noted on the ledger.

    Args:
        file: the table, UTF-8 with or without a byte order mark: CSV, TSV, or the records of a JSON, JSON Lines or XML file.
        ledger: receives the rows that are left out.
        name: name of the dataset.
        delimiter: "comma", "semicolon" or "tab", or the character itself; default: detected from the header.
        reading: the columns of the image and the class, and whether to skip rows without a file.

    Raises:
        DataError: the header has mistakes, or else the rows have; the message lists all of them.
    """
    heads, records = _records(file, _character(delimiter, file), reading)
    rows, mistakes = _parse_rows(heads, records, reading.task)
    rows, notes, unclear = _resolve_paths(rows, file, is_foreign=reading.path_column is not None)
    kept, contradictions = _without_duplicates(rows, file, ledger)
    mistakes += unclear + contradictions
    used = (*_COLUMNS, *(name.lower() for name in _label_columns(reading, heads)))
    others = [head for head in heads if head not in used]
    warnings: tuple[str, ...] = ()
    missing = [row for row in kept if not (file.parent / row.path).is_file()]
    if missing and reading.skip_missing:
        for row in missing:
            ledger.note(MISSING_ROW, row.path, f"row {row.number}")
        warnings = (f"{write_number_of(len(missing), 'row')} of {len(kept):,} left out: their files do not exist.",)
        skipped = {row.number for row in missing}
        kept = [row for row in kept if row.number not in skipped]
        if not kept:
            mistakes.append(
                f"none of the {write_number_of(len(missing), 'row')} names a file that exists.{_missing_hint(missing, file)}"
            )
    else:
        mistakes += _missing_files(missing, file)
    if mistakes:
        raise DataError(join_messages(mistakes), where=str(file))
    if not kept:
        raise DataError("the table has no rows below its header. Add a row for each image.", where=str(file))
    samples = [row.path for row in kept]
    return FoundSamples(
        root=file.parent,
        kind="table",
        name=name,
        names=samples,
        labels=[row.label for row in kept],
        splits=[row.split for row in kept],
        reader=ImageFiles(file.parent, tuple(samples)),
        groups=[row.group for row in kept] if "group" in heads else None,
        columns={head or "(without a name)": [row.others[head] for row in kept] for head in others},
        declared=_declared(reading, heads),
        notes=notes,
        warnings=warnings,
        task=check_task(reading.task or "single-label"),
        targets=_label_columns(reading, heads) if reading.task == "regression" else (),
        label_file=file,
        rows=[row.number for row in kept],
    )


def _declared(reading: Reading, heads: Sequence[str]) -> list[str]:
    """The classes of a table with a column of 0 and 1 for each: its columns, in natural order; empty for other tables."""
    columns = _label_columns(reading, heads) if reading.task == "multi-label" else ()
    return sorted(columns, key=natural_key) if len(columns) > 1 else []


def _character(delimiter: str | None, file: Path) -> str | None:
    if delimiter is None or delimiter in SNIFFED_DELIMITERS:
        return delimiter
    if delimiter in _DELIMITER_NAMES:
        return _DELIMITER_NAMES[delimiter]
    raise DataError(f"{delimiter!r} is not a delimiter. Use comma, semicolon or tab.", where=str(file))


def _records(file: Path, delimiter: str | None, reading: Reading) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names in lower case, with ``path`` and ``label`` for the chosen columns, and numbered records."""
    wanted = [
        (chosen or column).strip().lower()
        for chosen, column in zip((reading.path_column, reading.label_column), _NEEDED, strict=True)
    ]
    rows = rows_of(strict_text(file), file, delimiter, wanted)
    if rows is None:
        raise DataError("the table is empty. It needs the columns path,label and one row per image.", where=str(file))
    written, heads = rows.heads, [head.lower() for head in rows.heads]
    if len(columns := _label_columns(reading, heads)) > 1:
        for name in columns:
            _check_chosen(name.lower(), heads, "label", written, file)
        if repeated := [name for name, count in Counter(name.lower() for name in columns).items() if count > 1]:
            raise DataError(
                f"{option('label_column')} names the column {repeated[0]!r} twice. Name each column once.", where=str(file)
            )
        heads, records = _joined_labels(heads, rows.records, columns, reading.task, file)
        rows = replace(rows, heads=[*rows.heads, "label"], records=records)
        wanted[1] = "label"
    if are_predictions(heads) and reading.label_column is None:
        raise DataError(
            "this table has predictions of visus, not labels: a network would be trained on its own answers. Give the folder of the images, "
            "or a table with the columns path,label.",
            where=str(file),
        )
    for column, name in zip(_NEEDED, wanted, strict=True):
        if name != column:
            _check_chosen(name, heads, column, written, file)
            heads = [f"{head} (as written)" if head == column else head for head in heads]
            heads[heads.index(name)] = column
    _check_heads(heads, file, written, rows.records)
    return _distinct(heads), rows.records


def refuse_lone_indicator(found: FoundSamples, reading: Reading) -> None:
    """Raise an error for sets of classes in a column of 0 and 1, which says of one class alone whether it applies.

    Raises:
        DataError: these are its cells.
    """
    if found.kind == "table" and reading.task == "multi-label" and not found.declared and set(found.labels) == {"0", "1"}:
        column = reading.label_column or "label"
        raise DataError(
            f"the column {column!r} has 0 and 1 alone, so it is that of one class, and multi-label needs several. Name the columns of all classes, as in "
            f"{option('label_column', f'{column},other')}; or leave out {option('task', 'multi-label')} for the two classes 0 and 1.",
            where=str(found.label_file or found.root),
        )


def _distinct(heads: list[str]) -> list[str]:
    """The column names, each with its number where several columns have the same.

    >>> _distinct(["path", "label", "age", "age"])
    ['path', 'label', 'age (column 3)', 'age (column 4)']
    """
    counts = Counter(heads)
    return [f"{head} (column {place})" if head and counts[head] > 1 else head for place, head in enumerate(heads, start=1)]


def _label_columns(reading: Reading, heads: Sequence[str]) -> tuple[str, ...]:
    """The columns of the labels: one, or those of a list such as ``cat,dog``."""
    chosen = (reading.label_column or "label").strip()
    if reading.task in (None, "single-label") or "," not in chosen or chosen.lower() in heads:
        return (chosen,)
    return tuple(name.strip() for name in chosen.split(","))


_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def _joined_labels(
    heads: list[str], records: list[tuple[int, list[str]]], columns: Sequence[str], task: str | None, file: Path
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The table with a column ``label`` made of several: the classes with a 1, or the numbers.

    Raises:
        DataError: a cell is empty or neither 0 nor 1, for sets of classes.
    """
    places = [heads.index(name.lower()) for name in columns]
    joined = []
    empty: list[str] = []
    for number, record in records:
        cells = [record[place].strip() if place < len(record) else "" for place in places]
        if task == "multi-label":
            odd = next((cell for cell in cells if cell and cell.lower() not in (*_YES, *_NO)), None)
            if odd is not None:
                raise DataError(f"row {number} has {odd!r} in a column of a class; 0 or 1 is needed.", where=str(file))
            blank = [name for name, cell in zip(columns, cells, strict=True) if not cell]
            if blank and len(record) == len(heads):
                empty.append(f"{number} ({', '.join(blank)})")
            cells = [name for name, cell in zip(columns, cells, strict=True) if cell.lower() in _YES]
        joined.append((number, [*record, SEPARATOR.join(cells)]))
    if empty:
        raise DataError(
            f"{write_number_of(len(empty), 'row has', 'rows have')} an empty cell in a column of a class: {'row' if len(empty) == 1 else 'rows'} "
            f"{write_names(empty)}. Write 1 where the class applies, and 0 where it does not.",
            where=str(file),
        )
    old = [f"{head} (as written)" if head == "label" else head for head in heads]
    return [*old, "label"], joined


def _check_chosen(name: str, heads: list[str], column: str, written: list[str], file: Path) -> None:
    """Check that a column chosen by an option exists.

    Raises:
        DataError: the column does not exist, or occurs twice.
    """
    if heads.count(name) > 1:
        raise DataError(f"the column {name!r} occurs twice. Keep one.", where=str(file))
    if name not in heads:
        guess = closest_name(name, heads)
        hint = f" Did you mean {guess!r}?" if guess else ""
        if "," in name and {part.strip() for part in name.split(",")} <= set(heads):
            hint = (
                f" To read these columns as one label, write {option('task', 'multi-label')} (0 and 1 for each class) or "
                f"{option('task', 'regression')} (numbers) too."
            )
        raise DataError(
            f"there is no column {name!r} (--{column}-column).{hint} The columns are {_shortened(written)}.",
            where=str(file),
        )


def _check_heads(heads: list[str], file: Path, written: list[str], records: list[tuple[int, list[str]]]) -> None:
    """Check the header of a table.

    Raises:
        DataError: a required column is missing, or a column occurs twice.
    """
    mistakes = []
    others = [head for head in heads if head not in _COLUMNS]
    absent = [column for column in _COLUMNS if column not in heads]
    if set(_NEEDED) & set(absent) and any(os.path.splitext(head)[1].lower() in IMAGE_SUFFIXES for head in written):
        raise DataError(
            f"the first row, {','.join(written)}, names a file: the table has no header. Write one above it, such as path,label.",
            where=str(file),
        )
    if "path" in absent and (num_values := _num_value_columns(heads, records)) >= _MIN_VALUES:
        raise DataError(
            f"this table holds values, {num_values} columns of numbers, and names no image files. Signals go into an NPZ file: "
            "numpy.savez('signals.npz', x=values, y=labels), with one row of values and one label for each sample.",
            where=str(file),
        )
    for column, other in (_NEEDED, _NEEDED[::-1]):
        if column in absent and column in (name.strip().lower() for name in written):
            mistakes.append(
                f"the column {column!r} is chosen as the {other}, so none is left for the {column}. The header is {_shortened(written)}. Choose another "
                f"column, as in {option(f'{other}_column', _likely_column(other, heads, written, records))}"
            )
        elif column in absent:
            guess = closest_name(column, others)
            own = written[heads.index(guess)] if guess else ""
            hint = f" Did you mean {column!r} instead of {own!r}?" if guess else ""
            chosen = own or _likely_column(column, heads, written, records)
            mistakes.append(
                f"no column {column!r}.{hint} The header is {_shortened(written)}; it needs path,label[,split][,group]. Rename a column, or choose it: "
                f"{option(f'{column}_column', chosen)}"
            )
    mistakes += [f"the column {column!r} occurs twice. Keep one." for column in _COLUMNS if heads.count(column) > 1]
    if mistakes:
        raise DataError(join_messages(mistakes), where=str(file))


_MAX_HEADS = 20
"""Columns that a message lists; of more, it lists the first ones."""
_MIN_VALUES = 12
"""Columns of numbers from which a table without paths holds signals: other tables have fewer measurements."""


def _shortened(heads: list[str]) -> str:
    """The header; of a long one, the first columns and the number of all."""
    if len(heads) <= _MAX_HEADS:
        return ",".join(heads)
    return f"{','.join(heads[:5])},... ({len(heads):,} columns)"


def _num_value_columns(heads: list[str], records: list[tuple[int, list[str]]]) -> int:
    """The number of columns that hold a number in each of the first rows; 0 if these are not most of the columns."""
    rows = [record for _, record in records[:100]]
    found = sum(all(place < len(row) and _is_value(row[place]) for row in rows) for place in range(len(heads)))
    return found if rows and found > 0.8 * len(heads) else 0


def _is_value(cell: str) -> bool:
    """Whether a cell is a number in any notation, such as ``-1.5e-03``; NaN too."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _likely_column(column: str, heads: list[str], written: list[str], records: list[tuple[int, list[str]]]) -> str:
    """The only column whose cells fit ``column``, else ``NAME``."""
    cells = {
        head: [record[place] for _, record in records[:1000] if place < len(record)]
        for place, head in enumerate(written)
        if heads[place] not in _COLUMNS and head
    }
    if column == "path":
        fitting = [
            head
            for head, values in cells.items()
            if values
            and sum(os.path.splitext(value.strip())[1].lower() in IMAGE_SUFFIXES for value in values) > 0.5 * len(values)
        ]
    else:
        fitting = label_columns(cells)
    return fitting[0] if len(fitting) == 1 else "NAME"


_MAX_NUMBERS = 10
_LABEL_WORDS = frozenset(
    [
        "label",
        "labels",
        "class",
        "classes",
        "category",
        "categories",
        "target",
        "targets",
        "dx",
        "diagnosis",
        "species",
        "breed",
        "tag",
        "tags",
        "choice",
        "annotation",
        "y",
        "kind",
        "type",
        "klasse",
        "kategorie",
        "classe",
        "etiqueta",
        "etichetta",
        "breed_name",
        "class_name",
        "classname",
        "label_name",
    ]
)


def _is_number(cell: str) -> bool:
    return cell.replace(",", ".", 1).replace(".", "", 1).lstrip("-+").isdecimal()


def label_columns(cells: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns that may name classes: by their name, else by cells with few distinct values.

    >>> label_columns({"age": ["31", "44", "52", "63"], "dx": ["nv", "mel", "nv", "mel"], "note": ["", "", "", ""]})
    ['dx']
    """
    candidates = {}
    for head, values in cells.items():
        filled = [value.strip() for value in values if value.strip()]
        kinds = Counter(filled)
        if len(kinds) >= 2 and len(filled) >= 0.5 * len(values):
            is_measured = len(kinds) > _MAX_NUMBERS and all(map(_is_number, kinds))
            candidates[head] = len(kinds) <= max(2, 0.5 * len(filled)) and not is_measured
    by_name = [
        head
        for head in candidates
        if head.strip().lower() in _LABEL_WORDS or head.rpartition(".")[2].lower() in _LABEL_WORDS
    ]
    return by_name or [head for head, has_few in candidates.items() if has_few and not head.lower().endswith("id")]


def _parse_rows(heads: list[str], records: list[tuple[int, list[str]]], task: str | None) -> tuple[list[_Row], list[str]]:
    """The valid rows, and one sentence for each kind of mistake in the others."""
    rows: list[_Row] = []
    wrong: dict[str, list[int]] = {}
    for number, record in records:
        cells = {head: cell.strip() for head, cell in zip(heads, record, strict=False)}
        if len(record) != len(heads):
            wrong.setdefault(f"{len(record)} cells where the header has {len(heads)}", []).append(number)
            continue
        split = parse_split(cells["split"]) if cells.get("split") else UNASSIGNED
        empty = [column for column in _NEEDED if not cells[column] and not (column == "label" and task == "multi-label")]
        for column in empty:
            has_hint = column == "label" and task in (None, "single-label")
            hint = f" (where it means that no class applies: {option('task', 'multi-label')})" if has_hint else ""
            wrong.setdefault(f"no {column}{hint}. Write it, or remove the row", []).append(number)
        if split is None:
            wrong.setdefault(f"unknown split {cells['split']!r} (known: train, val, valid, validation, test)", []).append(
                number
            )
        if not empty and split is not None:
            others = {head: cell for head, cell in cells.items() if head not in _COLUMNS}
            rows.append(_Row(number, cells["path"], cells["label"], split, cells.get("group", ""), others))
    unsplit = [row.number for row in rows if not row.split]
    if unsplit and len(unsplit) < len(rows):
        wrong["no split although other rows have one"] = unsplit
    return rows, [f"{_row_numbers(numbers)}: {problem}." for problem, numbers in wrong.items()]


def _without_duplicates(rows: list[_Row], file: Path, ledger: Ledger) -> tuple[list[_Row], list[str]]:
    """The first row of each file, and contradictions between rows of the same file."""
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


def _resolve_paths(rows: list[_Row], file: Path, *, is_foreign: bool) -> tuple[list[_Row], tuple[str, ...], list[str]]:
    """The rows with the paths of their images, notes about paths that are written differently, and mistakes in the other rows."""
    found, several = resolve_cells([row.path for row in rows], file, is_foreign=is_foreign)
    kinds: dict[str, list[str]] = {}
    for cell, sample in found.items():
        kinds.setdefault(describe_difference(cell, sample), []).append(cell)
    notes = tuple(
        f"{write_number_of(len(cells), 'path')} of the table written {kind}: {cells[0]!r} is read as {found[cells[0]]!r}."
        for kind, cells in kinds.items()
    )
    unclear = [row for row in rows if row.path in several]
    mistakes = []
    if unclear:
        first = unclear[0]
        mistakes.append(
            f"{write_number_of(len(unclear), 'row matches', 'rows match')} several files: {first.path} (row {first.number}) "
            f"may be {write_names(several[first.path])}. Write the path relative to the folder of the table."
        )
    rows = [replace(row, path=found.get(row.path, row.path)) for row in rows if row.path not in several]
    return rows, notes, mistakes


def _missing_files(missing: list[_Row], file: Path) -> list[str]:
    if not missing:
        return []
    files = write_names(f"{row.path} (row {row.number})" for row in missing)
    return [
        f"{write_number_of(len(missing), 'row names a file that does', 'rows name files that do')} not exist: {files}. "
        f"Paths are relative to the folder of the table.{_missing_hint(missing, file)} {option('skip_missing', True)} skips such rows."
    ]


def _missing_hint(missing: list[_Row], file: Path) -> str:
    """The likely reason why files do not exist, with the remedy; "" if it is unknown."""
    first = missing[0].path
    if is_url(first):
        return " They are URLs: download the files, and write their paths instead."
    if is_absolute(first):
        here = ImageNames(list_images(file.parent)).match_end(first)
        if len(here) == 1 and (stem := first.replace("\\", "/").casefold()).endswith(here[0].casefold()):
            return f" {here[0]} exists there: remove {first[: len(stem) - len(here[0])]!r} from the paths, or use --path-column to find files by name."
        if here:
            return f" {write_names(here)} exists there: write paths relative to that folder, or use --path-column to find files by name."
    return ""


def _row_numbers(numbers: list[int]) -> str:
    return f"{'row' if len(numbers) == 1 else 'rows'} {write_names(str(number) for number in numbers)}"
