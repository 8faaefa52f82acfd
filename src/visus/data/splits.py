"""Training, validation and test splits: seeded and stratified, with groups and copies kept together; and the file ``split.csv``.

The policy: splits that the source defines are never changed. If it defines neither test nor validation, 20 % of each class become the
test split. If it does not define validation, 10 % of training become it: at most 2,000 samples, and at least one of each class with 3
samples. A source with validation but no test split gets no test split.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data import tasks
from visus.data.absent_classes import AbsentClasses
from visus.data.listed_names import write_names
from visus.data.samples import SPLITS, UNASSIGNED, Samples
from visus.errors import DataError, UsageError, join_messages, unknown_name
from visus.files import csv_text, write_file
from visus.units import split_name, write_number_of, write_share

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1
MAX_VAL_SAMPLES = 2_000
_HEADER = ["sample", "label", "split", "group"]


class SplitRow(NamedTuple):
    """One row of ``split.csv``: the sample, its class name, its split ("" where it is left out), and its group ("" for none)."""

    sample: str
    label: str
    split: str
    group: str


class FoldRows(tuple[SplitRow, ...]):
    """The rows of a fold's ``split.csv``, which deviate from the split of the data on purpose."""

    __slots__ = ()


def split_samples(
    samples: Samples, seed: int, *, val_fraction: float | None = None, test_fraction: float | None = None
) -> Samples:
    """Assign every sample to a split.

    Args:
        samples: the table from ``read_source``.
        seed: seed of the splits.
        val_fraction: fraction of the training samples for validation, 0 for none; default: by the policy above.
        test_fraction: fraction of all samples for the test split, 0 for none; default: by the policy above.

    Raises:
        DataError: a class has only one sample, or all samples are of one group.
        UsageError: a fraction is not in [0, 1), or is for a split that the source defines.
    """
    _check_fractions(samples, val_fraction, test_fraction)
    if not samples.official and test_fraction != 0:
        _check_splittable(samples)
    splits = assign(
        strata(samples),
        seed=seed,
        official=samples.splits,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        groups=samples.groups,
        contents=samples.contents,
    )
    assigned = dataclasses.replace(samples, splits=splits)
    return dataclasses.replace(
        assigned,
        warnings=(*samples.warnings, *_absent_class_warnings(assigned, val_fraction, test_fraction)),
        notes=(*samples.notes, *_fraction_notes(val_fraction, test_fraction)),
    )


def strata(samples: Samples) -> NDArray[np.int64]:
    """A number for each sample; the split keeps the proportions of these numbers."""
    return tasks.strata(samples.labels)


def assign(
    labels: NDArray[np.int64],
    *,
    seed: int,
    official: Sequence[str] | NDArray[np.str_] | None = None,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    groups: Sequence[str] | None = None,
    contents: NDArray[np.int64] | None = None,
) -> NDArray[np.str_]:
    """The split of each sample, by the policy at the top of this file.

    Args:
        labels: class index of each sample.
        seed: seed of the splits.
        official: split of each sample in the source, "" for none; None if the source defines no splits.
        val_fraction: fraction of the training samples for validation, 0 for none; default: by the policy.
        test_fraction: fraction of all samples for the test split, 0 for none; default: by the policy.
        groups: group of each sample, "" for none; a group stays in one split.
        contents: samples with equal numbers stay in one split.

    >>> from collections import Counter
    >>> splits = assign(np.repeat([0, 1], 50), seed=0)
    >>> sorted(Counter(splits.tolist()).items())
    [('test', 20), ('train', 72), ('val', 8)]
    """
    splits = np.full(len(labels), UNASSIGNED, dtype="<U5") if official is None else np.array(official, dtype="<U5")
    official_splits = set(splits.tolist()) - {UNASSIGNED}
    random = np.random.Generator(np.random.PCG64(seed))
    units = _units(len(labels), groups, contents)
    free = np.flatnonzero(splits == UNASSIGNED)
    num_of_class = np.bincount(labels[np.flatnonzero((splits == UNASSIGNED) | (splits == "train"))], minlength=1)
    if not official_splits and test_fraction != 0:
        at_least = num_of_class >= 2
        target = round((TEST_FRACTION if test_fraction is None else test_fraction) * len(free))
        splits[_cut(free, labels, units, target, at_least, random)] = "test"
    splits[splits == UNASSIGNED] = "train"
    if "val" not in official_splits and val_fraction != 0:
        pool = np.flatnonzero(splits == "train")
        at_least = num_of_class >= 3
        target = (
            min(round(VAL_FRACTION * len(pool)), MAX_VAL_SAMPLES)
            if val_fraction is None
            else round(val_fraction * len(pool))
        )
        splits[_cut(pool, labels, units, target, at_least, random)] = "val"
    return splits


def _check_fractions(samples: Samples, val_fraction: float | None, test_fraction: float | None) -> None:
    """Check the fractions of a split.

    Raises:
        UsageError: one is not in [0, 1), or is for a split that the source defines.
    """
    for name, fraction in (("val", val_fraction), ("test", test_fraction)):
        if fraction is not None and not 0 <= fraction < 1:
            raise UsageError(f"{option(name, fraction)}: a fraction is at least 0 and below 1, such as {option(name, 0.2)}.")
        if fraction is not None and samples.official and (name in samples.official or name == "test"):
            own = ", ".join(split_name(each) for each in SPLITS if each in samples.official)
            raise UsageError(
                f"{option(name, fraction)}: this data defines its own split ({own}), which visus never changes. Leave it out.",
                where=samples.place,
            )


def _fraction_notes(val_fraction: float | None, test_fraction: float | None) -> list[str]:
    """A note on the fractions that were asked for; none where none was."""
    parts = []
    if test_fraction is not None:
        parts.append(f"{write_share(test_fraction)} of all samples are the test set" if test_fraction else "no test set")
    if val_fraction is not None:
        whole = "the training samples" if test_fraction is None else "the others"
        parts.append(
            f"{write_share(val_fraction)} of {whole} are the validation set" if val_fraction else "no validation set"
        )
    return [f"split as asked: {', and '.join(parts)}."] if parts else []


def _check_splittable(samples: Samples) -> None:
    """Check that the data can be split.

    Raises:
        DataError: a class has only one sample, or all samples are of one group.
    """
    if samples.task == "regression":
        single = []
    else:
        single = [samples.classes[index] for index, count in enumerate(samples.class_counts()) if count == 1]
    if single:
        subject = (
            f"the class {single[0]!r} has" if len(single) == 1 else f"{len(single)} classes ({write_names(single)}) have"
        )
        numbers = ""
        if samples.task == "single-label" and tasks.looks_numeric(samples.label_texts()):
            numbers = f" The labels look like numbers: {option('task', 'regression')} predicts them as numbers."
        raise DataError(
            f"{subject} 1 sample; at least 2 are needed, one for training and one for testing. "
            f"Add samples of that class, or remove the class.{numbers}",
            where=samples.place,
        )
    if samples.groups is not None and len(set(samples.groups)) == 1 and samples.groups[0]:
        raise DataError(
            f"all samples belong to one group, {samples.groups[0]!r}, which cannot be split. At least 2 groups are needed.",
            where=samples.place,
        )


def _absent_class_warnings(samples: Samples, val_fraction: float | None, test_fraction: float | None) -> list[AbsentClasses]:
    """Warnings about classes without samples in a split because all their samples must stay together."""
    warnings = []
    cuts = {"test": (test_fraction, 2), "val": (val_fraction, 3)}
    totals = samples.class_counts("train") + samples.class_counts("val") if samples.official else samples.class_counts()
    for split, (fraction, at_least) in cuts.items():
        if split in samples.official or fraction == 0 or (samples.official and split == "test"):
            continue
        counts = samples.class_counts(split)
        absent = [name for index, name in enumerate(samples.classes) if not counts[index] and totals[index] >= at_least]
        if absent:
            warnings.append(AbsentClasses(split, absent, "for lack of groups or distinct samples"))
    return warnings


def units_of(samples: Samples) -> NDArray[np.int64]:
    """The unit of each sample: samples that are copies or of one group, which belong into one split."""
    return _units(len(samples), samples.groups, samples.contents)


def _units(num_samples: int, groups: Sequence[str] | None, contents: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The unit of each sample: samples connected by groups or identical contents, directly or through others."""
    parent = list(range(num_samples))

    def root(sample: int) -> int:
        while parent[sample] != sample:
            parent[sample] = parent[parent[sample]]
            sample = parent[sample]
        return sample

    for keys in (contents.tolist() if contents is not None else [], [group or None for group in groups or ()]):
        first: dict[object, int] = {}
        for sample, key in enumerate(keys):
            if key is not None and first.setdefault(key, sample) != sample:
                one, other = sorted((root(first[key]), root(sample)))
                parent[other] = one
    return np.array([root(sample) for sample in range(num_samples)], dtype=np.int64)


def _cut(
    pool: NDArray[np.int64],
    labels: NDArray[np.int64],
    units: NDArray[np.int64],
    target: int,
    at_least: NDArray[np.bool_],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Samples of the pool for a new split: about ``target`` samples, stratified, in whole units, without emptying a class.

    Three passes over the units in random order take: units that fit entirely; units that add more needed samples than excess ones; and
    for each required class that is still absent, the smallest unit that leaves a sample of it in the pool.
    """
    available = np.bincount(labels[pool], minlength=len(at_least))
    needed = _stratify(available, target, at_least & (available >= 2)).tolist()
    remaining = available.tolist()
    members: dict[int, list[int]] = {}
    for sample in pool.tolist():
        members.setdefault(int(units[sample]), []).append(sample)
    in_order = list(members.values())
    order = [in_order[index] for index in random.permutation(len(in_order))]
    label_of = labels.tolist()
    contains = [
        Counter([label_of[sample] for sample in unit]) if len(unit) > 1 else {label_of[unit[0]]: 1} for unit in order
    ]
    taken: set[int] = set()

    def take(index: int) -> None:
        taken.add(index)
        for label, count in contains[index].items():
            needed[label] -= count
            remaining[label] -= count

    def leaves_samples(index: int) -> bool:
        return all(remaining[label] > count for label, count in contains[index].items())

    for index, counts in enumerate(contains):
        if all(needed[label] >= count for label, count in counts.items()):
            take(index)
    for index, counts in enumerate(contains):
        gain = sum(count - 2 * max(0, count - max(0, needed[label])) for label, count in counts.items())
        if index not in taken and gain > 0 and leaves_samples(index):
            take(index)
    for label in range(len(needed)):
        if needed[label] > 0 and remaining[label] == available[label]:
            having = [
                index
                for index in range(len(order))
                if index not in taken and label in contains[index] and leaves_samples(index)
            ]
            if having:
                take(min(having, key=lambda index: len(order[index])))
    return np.array(sorted(sample for index in taken for sample in order[index]), dtype=np.int64)


def _stratify(available: NDArray[np.int64], target: int, at_least: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of samples of each class: proportional by largest remainder, at least one if ``at_least``, never all of a class."""
    exact = available * (target / max(1, int(available.sum())))
    counts = np.floor(exact).astype(np.int64)
    remainders = exact - counts
    for label in np.argsort(-remainders, kind="stable")[: max(0, target - int(counts.sum()))]:
        counts[label] += 1
    counts = np.maximum(counts, at_least.astype(np.int64))
    capped: NDArray[np.int64] = np.minimum(counts, np.maximum(available - 1, 0))
    return capped


def write_split_csv(samples: Samples, file: Path) -> None:
    """Write ``sample,label,split,group`` for every sample, atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    groups = samples.groups if samples.groups is not None else [""] * len(samples)
    rows = list(zip(samples.names, samples.label_texts(), samples.splits.tolist(), groups, strict=True))
    write_file(file, csv_text([_HEADER, *rows]))


def read_split_csv(file: Path) -> tuple[SplitRow, ...]:
    """The rows of a ``split.csv``.

    Raises:
        DataError: the file cannot be read, the header is wrong, a split is unknown, or a sample occurs twice.
    """
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            records = list(csv.reader(stream))
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror}).", where=str(file)) from error
    if not records or records[0] != _HEADER:
        raise DataError(
            f"the header is {','.join(records[0]) if records else 'missing'}, not {','.join(_HEADER)}.", where=str(file)
        )
    rows: dict[str, SplitRow] = {}
    for number, record in enumerate(records[1:], start=2):
        if len(record) != len(_HEADER):
            raise DataError(f"row {number} has {len(record)} cells instead of {len(_HEADER)}.", where=str(file))
        row = SplitRow(*record)
        if row.split not in (*SPLITS, UNASSIGNED):
            raise DataError(f"row {number}: {unknown_name('split', row.split, SPLITS)}", where=str(file))
        if row.sample in rows:
            raise DataError(f"row {number}: {row.sample} occurs twice.", where=str(file))
        rows[row.sample] = row
    return tuple(rows.values())


def apply_split(samples: Samples, rows: Sequence[SplitRow], *, same_labels: bool = True) -> Samples:
    """Assign the splits of a ``split.csv``, which must list the same samples.

    Args:
        samples: the table.
        rows: rows of the file.
        same_labels: whether the labels in the file must be equal too.

    Raises:
        DataError: samples are missing in the table or in the file, or labels differ. The message counts them and names the first five.
    """
    by_sample = {row.sample: row for row in rows}
    known = set(samples.names)
    only_file = [row.sample for row in rows if row.sample not in known]
    only_data = [sample for sample in samples.names if sample not in by_sample]
    names = samples.label_texts()
    differ = [
        sample
        for sample, name in zip(samples.names, names, strict=True)
        if same_labels and sample in by_sample and by_sample[sample].label != name
    ]
    mistakes = [
        f"{write_number_of(len(names), 'sample')} {problem}: {write_names(names)}."
        for names, problem in (
            (only_file, "in split.csv but not in the data"),
            (only_data, "in the data but not in split.csv"),
            (differ, "with another label in split.csv"),
        )
        if names
    ]
    if mistakes:
        raise DataError(join_messages(mistakes), where=samples.place)
    splits = np.array([by_sample[sample].split for sample in samples.names], dtype="<U5")
    warnings = () if isinstance(rows, FoldRows) else split_warnings(samples, splits)
    return dataclasses.replace(samples, splits=splits, warnings=(*samples.warnings, *warnings))


def split_warnings(samples: Samples, splits: NDArray[np.str_]) -> list[str]:
    """Warnings about a ``split.csv`` that contradicts the splits of the source, or separates copies or groups."""
    warnings = []
    # Validation samples from the official training split are no contradiction.
    moved = (samples.splits != UNASSIGNED) & (samples.splits != splits) & ~((samples.splits == "train") & (splits == "val"))
    moved &= splits != UNASSIGNED
    if moved.any():
        names = [samples.names[index] for index in np.flatnonzero(moved)]
        warnings.append(
            f"{write_number_of(len(names), 'sample')} in another split in split.csv than in the data itself: {write_names(names)}."
        )
    units = units_of(samples)
    sides: dict[int, set[str]] = {}
    for unit, split in zip(units.tolist(), splits.tolist(), strict=True):
        sides.setdefault(unit, set()).add(split)
    separated = [index for index, unit in enumerate(units.tolist()) if len(sides[unit]) > 1]
    if separated and not samples.official:
        names = [samples.names[index] for index in separated]
        warnings.append(
            f"{write_number_of(len(names), 'sample')} that are copies or of one group are in different splits of split.csv, "
            f"so the scores are too high: {write_names(names)}."
        )
    return warnings
