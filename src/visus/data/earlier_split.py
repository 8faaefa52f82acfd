"""The split of an earlier training for data that has grown since: known samples keep their split, and new ones are split in addition."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visus.data.listed_names import write_names
from visus.data.samples import UNASSIGNED, Samples
from visus.data.splits import SplitRow, assign, split_warnings, strata, units_of
from visus.errors import DataError
from visus.files import csv_text
from visus.units import write_number_of

CONTENTS_FILE: Final = "contents.csv"
NUM_DIGITS: Final = 16  # of a SHA-256, kept for each sample
_SEED: Final = 0
_WORDS: Final = {"train": "training", "val": "validation", "test": "test"}


def contents_text(samples: Samples) -> str:
    """The text of ``contents.csv``: the first 16 digits of the SHA-256 of each sample's bytes."""
    return csv_text([("sample", "sha256"), *zip(samples.names, digits_of(samples), strict=False)])


def digits_of(samples: Samples) -> list[str]:
    """The first 16 digits of the SHA-256 of each sample's bytes; empty where the bytes of samples are unknown."""
    return [digest.hex()[:NUM_DIGITS] for digest in samples.digests]


def parse_contents(text: str) -> dict[str, str]:
    """Sample -> digits of a ``contents.csv``."""
    return {row[0]: row[1] for row in csv.reader(io.StringIO(text, newline="")) if len(row) == 2}


def read_contents(split_file: Path) -> dict[str, str]:
    """The contents that a run keeps beside its ``split.csv``; empty where there are none."""
    try:
        text = split_file.with_name(CONTENTS_FILE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    return parse_contents(text)


def known_splits(samples: Samples, rows: Sequence[SplitRow], contents: Mapping[str, str]) -> list[str | None]:
    """The split that each sample had in an earlier training, "" where that left it out; None for a new sample.

    A sample is found by its name where its bytes are those of the training, else by its bytes, else by its name.

    Args:
        samples: the samples as they are now.
        rows: rows of the earlier ``split.csv``.
        contents: sample -> digits of the earlier training; empty if they are unknown.
    """
    by_name = {row.sample: row.split for row in rows}
    by_content = {content: by_name[sample] for sample, content in contents.items() if sample in by_name}
    digits = digits_of(samples) or [""] * len(samples.names)

    def split_of(sample: str, content: str) -> str | None:
        if sample in by_name and contents.get(sample) == content:
            return by_name[sample]
        return by_content.get(content, by_name.get(sample))

    return [split_of(sample, content) for sample, content in zip(samples.names, digits, strict=True)]


def extend_split(samples: Samples, rows: Sequence[SplitRow], contents: Mapping[str, str], where: str) -> Samples:
    """Assign the splits of an earlier ``split.csv``; new samples are split by class, in the same proportions.

    New copies of a known sample and new members of its group go into its split. A split that the data itself defines holds for new samples.

    Args:
        samples: the table, with the splits that the data itself defines.
        rows: rows of the file.
        contents: sample -> digits of the earlier training; empty if they are unknown.
        where: the file, as the note names it.

    Raises:
        DataError: the file lists none of the samples.
    """
    known = known_splits(samples, rows, contents)
    if all(split is None for split in known):
        raise DataError(
            f"none of the {write_number_of(len(known), 'sample')} is in {where}, by name or by content. Give the split.csv of a run that "
            "was trained on this data, or omit it.",
            where=samples.place,
        )
    splits = np.array([split or UNASSIGNED for split in known], dtype="<U5")
    is_new = np.array([split is None for split in known])
    _join_units(splits, units_of(samples), is_new)
    is_new &= splits == UNASSIGNED
    splits[is_new] = _split_new(samples, is_new, rows)
    notes = _notes(samples, known, splits, rows, contents, where)
    warnings = split_warnings(samples, splits)
    return dataclasses.replace(
        samples, splits=splits, notes=(*samples.notes, *notes), warnings=(*samples.warnings, *warnings)
    )


def _join_units(splits: NDArray[np.str_], units: NDArray[np.int64], is_new: NDArray[np.bool_]) -> None:
    """Give new samples the split of a known sample that is a copy or of their group."""
    split_of_unit: dict[int, str] = {}
    for unit, split in zip(units.tolist(), splits.tolist(), strict=True):
        if split != UNASSIGNED:
            split_of_unit.setdefault(unit, split)
    for index in np.flatnonzero(is_new):
        splits[index] = split_of_unit.get(int(units[index]), UNASSIGNED)


def _split_new(samples: Samples, is_new: NDArray[np.bool_], rows: Sequence[SplitRow]) -> NDArray[np.str_]:
    """The splits of the new samples: those of the data itself, else in the proportions of the file."""
    chosen = np.flatnonzero(is_new)
    counts = Counter(row.split for row in rows)
    return assign(
        strata(samples)[chosen],
        seed=_SEED,
        official=samples.splits[chosen] if samples.official else None,
        test_fraction=counts["test"] / len(rows),
        val_fraction=counts["val"] / max(1, counts["train"] + counts["val"]),
        groups=None if samples.groups is None else [samples.groups[index] for index in chosen],
        contents=samples.contents[chosen],
    )


def _notes(
    samples: Samples,
    known: Sequence[str | None],
    splits: NDArray[np.str_],
    rows: Sequence[SplitRow],
    contents: Mapping[str, str],
    where: str,
) -> list[str]:
    """How many samples keep their split, are new or are gone; nothing if all are the same."""
    added = Counter(split for split, before in zip(splits.tolist(), known, strict=True) if before is None)
    here = set(samples.names)
    digits = set(digits_of(samples))
    gone = [row.sample for row in rows if row.sample not in here and contents.get(row.sample) not in digits]
    num_apart = sum(split == UNASSIGNED for split in known)
    if not added and not gone and not num_apart:
        return []
    num_new = sum(added.values())
    parts = [f"{write_number_of(len(known) - num_new - num_apart, 'sample')} as in {where}"]
    if num_apart:
        parts.append(f"{num_apart:,} left out as there")
    if num_new:
        into = ", ".join(f"{added[split]:,} {word}" for split, word in _WORDS.items() if added[split])
        parts.append(f"{num_new:,} new ({into})")
    if gone:
        parts.append(f"{len(gone):,} gone ({write_names(gone)})")
    return [f"split: {'; '.join(parts)}."]
