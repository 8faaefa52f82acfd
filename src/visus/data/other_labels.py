"""Replacement labels for a dataset, from another column of its table or from a file with a row per sample."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from visus.data.delimiters import find_delimiter
from visus.data.listed_names import write_names
from visus.data.source_rules import FoundSamples
from visus.errors import DataError, closest_name, join_messages
from visus.units import write_number_of

_SAMPLE_HEADS = ("path", "sample")


def with_other_labels(found: FoundSamples, labels: str | Path) -> FoundSamples:
    """The same samples with other labels.

    Args:
        found: what the source found.
        labels: a column of the source's table; or a CSV file with the columns ``path`` (or ``sample``) and ``label`` and a row per
            sample, with the names of ``split.csv``.

    Raises:
        DataError: the column or file does not exist, or a sample has no label or two labels.
    """
    if str(labels) in found.columns:
        chosen = found.columns[str(labels)]
        unlabeled = [sample for sample, label in zip(found.names, chosen, strict=True) if not label]
        if unlabeled:
            raise DataError(
                f"the column {str(labels)!r} has no label for {write_number_of(len(unlabeled), 'sample')}: {write_names(unlabeled)}.",
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
            f"{str(labels)!r} is neither a file nor a column of this data.{hint} Known columns: "
            f"{write_names(found.columns) if found.columns else 'none'}.",
            where=str(found.root),
        )
    by_sample = _read_labels(file, set(found.names))
    absent = [sample for sample in found.names if sample not in by_sample]
    unknown = sorted(by_sample.keys() - set(found.names))
    mistakes = [
        f"{write_number_of(len(samples), 'sample')} {problem}: {write_names(samples)}."
        for samples, problem in ((absent, "of the data without a label"), (unknown, "of the file not in the data"))
        if samples
    ]
    if mistakes:
        raise DataError(f"{join_messages(mistakes)} Name the samples as split.csv of a run does.", where=str(file))
    chosen = [by_sample[sample] for sample in found.names]
    note = f"labels: those of {file.name}."
    return dataclasses.replace(found, labels=chosen, declared=(), notes=(*found.notes, note), label_file=file, rows=())


def _read_labels(file: Path, known: AbstractSet[str]) -> Mapping[str, str]:
    """Sample name -> label. Spaces around a name are kept if the data has a sample of that name."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            delimiter = find_delimiter(stream.readline(), (*_SAMPLE_HEADS, "label"))
            stream.seek(0)
            records = [record for record in csv.reader(stream, delimiter=delimiter) if record]
    except (OSError, csv.Error) as error:
        raise DataError(f"the labels cannot be read ({error}).", where=str(file)) from error
    heads = [head.strip().lower() for head in records[0]] if records else []
    sample_head = next((head for head in _SAMPLE_HEADS if head in heads), None)
    if sample_head is None or "label" not in heads:
        raise DataError(
            f"the header is {','.join(heads) or 'missing'}; the columns path and label are needed.", where=str(file)
        )
    sample_place, label_place = heads.index(sample_head), heads.index("label")
    by_sample: dict[str, str] = {}
    for number, record in enumerate(records[1:], start=2):
        if len(record) <= max(sample_place, label_place) or not record[label_place].strip():
            raise DataError(f"row {number} has no label.", where=str(file))
        sample, label = record[sample_place], record[label_place].strip()
        sample = sample if sample in known else sample.strip()
        if by_sample.setdefault(sample, label) != label:
            raise DataError(
                f"row {number}: {sample} has two labels, {by_sample[sample]!r} and {label!r}. Keep one.", where=str(file)
            )
    return by_sample
