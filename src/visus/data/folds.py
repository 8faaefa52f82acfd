"""Folds of a cross-validation: seeded and stratified, with groups and copies kept together; and the file ``folds.csv``."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.listed_names import write_names
from visus.data.opened import Data, normalized_by_training
from visus.data.resplit import in_splits
from visus.data.samples import UNASSIGNED, Samples
from visus.data.splits import assign, strata, units_of
from visus.data.spread_classes import spread
from visus.data.tasks import count_labels
from visus.errors import DataError, RunError, UsageError
from visus.files import csv_text, write_file
from visus.units import write_number_of

APART: Final = 0
"""The number of samples that are in no fold: those of the test set."""
_HEADER: Final = ["sample", "label", "fold", "group"]


class FoldRow(NamedTuple):
    """One row of ``folds.csv``: the sample, its label as text, its fold (0 for the test set), and its group ("" for none)."""

    sample: str
    label: str
    fold: int
    group: str


def assign_folds(samples: Samples, is_apart: NDArray[np.bool_], num_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each sample, from 1; 0 for samples apart.

    Groups and copies stay in one fold, and each class has samples outside of every fold. Without groups and copies, the numbers of samples of a class in two folds differ by at most one, and so do those of all
    samples.

    Args:
        samples: the table.
        is_apart: for each sample, whether it is in no fold, as those of a test set.
        num_folds: number of folds, at least 2.
        seed: seed of the folds.

    Raises:
        UsageError: there are fewer than 2 folds, or more than independent samples.
        DataError: a fold would have all samples of a class, as where they are in one group or copies of one, so none would be left for training.
    """
    if num_folds < 2:
        raise UsageError(f"{option('folds', num_folds)}: at least 2 folds are needed, and 5 or 10 are usual.")
    chosen = np.flatnonzero(~is_apart)
    units = units_of(samples)
    _check_units(samples, chosen, units, num_folds)
    labels = strata(samples)
    random = np.random.Generator(np.random.PCG64(seed))
    members: dict[int, list[int]] = {}
    for sample in chosen.tolist():
        members.setdefault(int(units[sample]), []).append(sample)
    in_order = list(members.values())
    shuffled = [in_order[place] for place in random.permutation(len(in_order))]
    # Stable: large units first, while every fold has room for them; then class by class, so that totals stay even too.
    shuffled.sort(key=lambda unit: (-len(unit), int(labels[unit[0]])))
    counts = np.zeros((int(labels.max()) + 1, num_folds), dtype=np.int64)
    totals = np.zeros(num_folds, dtype=np.int64)
    folds = np.full(len(samples), APART, dtype=np.int64)
    sizes = np.maximum(1, np.bincount(labels[chosen], minlength=len(counts)))
    for unit in shuffled:
        kinds, num_each = (
            np.unique(labels[unit], return_counts=True) if len(unit) > 1 else (labels[unit], np.ones(1, np.int64))
        )
        load = (counts[kinds] * (num_each / sizes[kinds])[:, None]).sum(axis=0)
        fold = int(np.lexsort((totals, load.round(12)))[0])
        counts[kinds, fold] += num_each
        totals[fold] += len(unit)
        folds[unit] = fold + 1
    return _spread_classes(samples, in_order, folds, num_folds)


def _spread_classes(
    samples: Samples, units: Sequence[Sequence[int]], folds: NDArray[np.int64], num_folds: int
) -> NDArray[np.int64]:
    """The folds, after some units changed places if all samples of a class were in one fold; else unchanged.

    Raises:
        DataError: no assignment is found in which every class has samples outside of each fold.
    """
    lost = _classes_in_one_fold(samples, folds, num_folds)
    if not lost:
        return folds
    found = spread(
        [Counter(label for sample in unit for label in _classes_of(samples, sample)) for unit in units],
        [len(unit) for unit in units],
        [int(folds[unit[0]]) - 1 for unit in units],
        num_folds,
    )
    if found is None:
        kinds = f"the class {lost[0]!r}" if len(lost) == 1 else f"{len(lost)} classes ({write_names(lost)})"
        raise DataError(
            f"no way was found to divide the groups and copies into {num_folds} folds so that each class has samples outside of every fold: one fold "
            f"has all samples of {kinds}. Choose another number of folds, add samples of other groups, or remove classes.",
            where=samples.place,
        )
    for unit, fold in zip(units, found, strict=True):
        folds[unit] = fold + 1
    return folds


def _classes_in_one_fold(samples: Samples, folds: NDArray[np.int64], num_folds: int) -> list[str]:
    """The classes whose samples are all in one fold; none of regression."""
    if samples.task == "regression":
        return []
    counts = [count_labels(samples.labels[folds == number + 1], len(samples.classes)) for number in range(num_folds)]
    return [samples.classes[label] for label in np.flatnonzero((np.array(counts) > 0).sum(axis=0) == 1)]


def _classes_of(samples: Samples, sample: int) -> list[int]:
    """The indices of the classes of a sample."""
    label = samples.labels[sample]
    found: list[int] = [int(label)] if samples.labels.ndim == 1 else np.flatnonzero(label > 0.5).tolist()
    return found


def _check_units(samples: Samples, chosen: NDArray[np.int64], units: NDArray[np.int64], num_folds: int) -> None:
    """Check that every fold has samples, and every class samples outside of each fold.

    Raises:
        UsageError: there are more folds than independent samples.
        DataError: all samples of a class stay together.
    """
    num_units = len(np.unique(units[chosen]))
    if num_folds > num_units:
        raise UsageError(
            f"{option('folds', num_folds)}: there are only {write_number_of(num_units, 'sample')} or groups of samples that can be in "
            "different folds. Take fewer folds.",
            where=samples.place,
        )
    if samples.task == "regression":
        return
    labels = samples.labels[chosen]
    of_class = [labels == number if labels.ndim == 1 else labels[:, number] > 0.5 for number in range(len(samples.classes))]
    single = [
        name
        for name, is_there in zip(samples.classes, of_class, strict=True)
        if is_there.any() and len(np.unique(units[chosen][is_there])) < 2
    ]
    if single:
        kinds = f"the class {single[0]!r}" if len(single) == 1 else f"{len(single)} classes ({write_names(single)})"
        raise DataError(
            f"all samples of {kinds} are in one group, or copies of one sample, so one fold would leave none for training. Add samples of "
            "other groups, or remove the class.",
            where=samples.place,
        )


def fold_data(data: Data, folds: NDArray[np.int64], number: int, seed: int) -> Data:
    """The data of one fold: its samples are the test set, and of the others a part is the validation set. Samples apart are left out.

    The validation set is cut as that of a usual run: stratified, with groups and copies together, ``data.val_fraction`` of the others. The
    normalization is measured on the fold's own training samples. Nothing is decoded again.

    Args:
        data: the opened data.
        folds: the fold of each sample of ``data.table``, as ``assign_folds`` returns them.
        number: the fold, from 1.
        seed: seed of the validation sets.
    """
    table = data.table
    fixed = np.where((folds == number) | (folds == APART), "test", "train").astype("<U5")
    splits = assign(
        strata(table),
        seed=seed,
        official=fixed,
        val_fraction=data.val_fraction,
        groups=table.groups,
        contents=table.contents,
    )
    splits[folds == APART] = UNASSIGNED
    _return_for_training(table, splits)
    num_folds = int(folds.max())
    found = dataclasses.replace(in_splits(data, splits.tolist()), split_seed=None, fold=(number, num_folds))
    counts = [len(found.split(name)) for name in ("test", "val")]
    apart = (
        f" {write_number_of(int((folds == APART).sum()), 'sample')} of the test set are left out."
        if (folds == APART).any()
        else ""
    )
    note = (
        f"fold {number} of {num_folds}: its {write_number_of(counts[0], 'sample')} are the test set of this run, and {counts[1]:,} of the others "
        f"the validation set.{apart}"
    )
    samples = dataclasses.replace(found.samples, notes=(*data.samples.notes, note), warnings=data.samples.warnings)
    return normalized_by_training(dataclasses.replace(found, samples=samples))


def _return_for_training(samples: Samples, splits: NDArray[np.str_]) -> None:
    """Return validation samples of sets of classes to the training set where it has none of a class, in whole units, in place.

    The cut is stratified by the rarest class of each set, so it may take all samples of another one.
    """
    if samples.task != "multi-label":
        return
    units = units_of(samples)
    for label in range(len(samples.classes)):
        has_class = samples.labels[:, label] > 0.5
        if not (has_class & (splits == "train")).any() and (held := units[has_class & (splits == "val")]).size:
            smallest = min(held.tolist(), key=lambda unit: int((units == unit).sum()))
            splits[units == smallest] = "train"


def write_folds_csv(samples: Samples, folds: NDArray[np.int64], file: Path) -> None:
    """Write ``sample,label,fold,group`` for every sample, atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    groups = samples.groups if samples.groups is not None else [""] * len(samples)
    columns = zip(samples.names, samples.label_texts(), folds.tolist(), groups, strict=True)
    rows = [(sample, label, "test" if fold == APART else fold, group) for sample, label, fold, group in columns]
    write_file(file, csv_text([_HEADER, *rows]))


def read_folds_csv(file: Path) -> tuple[FoldRow, ...]:
    """The rows of a ``folds.csv``.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            header, *records = list(csv.reader(stream))
        if header != _HEADER:
            raise ValueError("another header")
        return tuple(
            FoldRow(sample, label, APART if fold == "test" else int(fold), group) for sample, label, fold, group in records
        )
    except (OSError, ValueError) as error:
        raise RunError(
            f"{file.name} is missing or damaged. Put it back, or train the folds again.", where=str(file.parent)
        ) from error


def folds_of(samples: Samples, rows: Sequence[FoldRow]) -> NDArray[np.int64]:
    """The fold of each sample of a table, by the rows of ``folds.csv``, which list the same samples."""
    fold_of = {row.sample: row.fold for row in rows}
    return np.array([fold_of[name] for name in samples.names], dtype=np.int64)
