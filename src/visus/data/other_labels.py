"""Other labels for the items of a data set: from another column of its table, or from a file that names every item.

This file knows item names and labels. It must not know classes, splits or pixels.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from visus.data.delimiters import find_delimiter
from visus.data.source_rules import Found, shown
from visus.errors import DataError, closest_name, joined
from visus.units import write_number_of

_ITEM_HEADS = ("path", "item")


def with_other_labels(found: Found, labels: str | Path) -> Found:
    """What a source found, under other labels.

    Args:
        found: the source.
        labels: the name of a column of the source's table; or a CSV file with the columns ``path`` (or ``item``) and ``label``, a row
            for each item, named as ``split.csv`` names it.

    Raises:
        DataError: no such column or file, an item without a label, or with two.
    """
    if str(labels) in found.columns:
        chosen = found.columns[str(labels)]
        without = [item for item, label in zip(found.items, chosen, strict=True) if not label]
        if without:
            raise DataError(
                f"the column {str(labels)!r} has no label for {write_number_of(len(without), 'item')}: {shown(without)}.",
                where=str(found.root),
            )
        note = f"labels: those of the column {str(labels)!r}."
        others = {name: cells for name, cells in found.columns.items() if name != str(labels)}
        return dataclasses.replace(found, labels=chosen, columns=others, declared=(), notes=(*found.notes, note))
    file = Path(labels)
    if not file.is_file():
        guess = closest_name(str(labels), sorted(found.columns))
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise DataError(
            f"{str(labels)!r} is no file, and no column of this data with other labels.{hint} Known columns: "
            f"{shown(found.columns) if found.columns else 'none'}.",
            where=str(found.root),
        )
    by_item = _read_labels(file, set(found.items))
    absent = [item for item in found.items if item not in by_item]
    unknown = sorted(by_item.keys() - set(found.items))
    mistakes = [
        f"{write_number_of(len(items), 'item')} {problem}: {shown(items)}."
        for items, problem in ((absent, "of the data without a label"), (unknown, "that the data does not have"))
        if items
    ]
    if mistakes:
        raise DataError(f"{joined(mistakes)} The file names items as split.csv of a run does.", where=str(file))
    chosen = [by_item[item] for item in found.items]
    return dataclasses.replace(found, labels=chosen, declared=(), notes=(*found.notes, f"labels: those of {file.name}."))


def _read_labels(file: Path, known: AbstractSet[str]) -> Mapping[str, str]:
    """Item name -> label; spaces around a name are part of it where the data has such an item."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            delimiter = find_delimiter(stream.readline(), (*_ITEM_HEADS, "label"))
            stream.seek(0)
            records = [record for record in csv.reader(stream, delimiter=delimiter) if record]
    except (OSError, csv.Error) as error:
        raise DataError(f"the labels cannot be read ({error}).", where=str(file)) from error
    heads = [head.strip().lower() for head in records[0]] if records else []
    item_head = next((head for head in _ITEM_HEADS if head in heads), None)
    if item_head is None or "label" not in heads:
        raise DataError(
            f"the header is {','.join(heads) or 'missing'}; the columns path and label are needed.", where=str(file)
        )
    item_place, label_place = heads.index(item_head), heads.index("label")
    by_item: dict[str, str] = {}
    for number, record in enumerate(records[1:], start=2):
        if len(record) <= max(item_place, label_place) or not record[label_place].strip():
            raise DataError(f"row {number} has no label.", where=str(file))
        item, label = record[item_place], record[label_place].strip()
        item = item if item in known else item.strip()
        if by_item.setdefault(item, label) != label:
            raise DataError(
                f"row {number}: {item} has two labels, {by_item[item]!r} and {label!r}. Keep one.", where=str(file)
            )
    return by_item
