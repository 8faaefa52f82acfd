"""From the names that a source found to the frozen table of samples: class list, duplicates, fingerprint. The same for every source."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.absent_classes import AbsentClasses
from visus.data.label_numbers import CORRECT_ROW, CORRECT_SAMPLE, comma_notes, number_warnings, parse_numbers
from visus.data.label_sets import read_sets
from visus.data.ledger import Ledger
from visus.data.listed_names import write_names
from visus.data.samples import SPLITS, UNASSIGNED, Reader, Samples
from visus.data.tasks import TaskName, encode_sets, label_text, split_sets
from visus.errors import DataError, closest_name, join_messages
from visus.units import write_number_of

_READ_BYTES = 1 << 22


@dataclass(frozen=True)
class FoundSamples:
    """The names that a source found. Each list has one value per sample.

    Args:
        root: the folder or file.
        kind: ``Samples.kind``.
        name: name of the dataset.
        names: name of each sample.
        labels: label of each sample as text (``visus.data.tasks``): the class name of single labels; or, of sets in arrays, the tuple of its classes.
        splits: split of each sample, "" for none.
        reader: reads the pixels.
        groups: group of each sample, "" for none; None if the source has no groups.
        columns: other columns of a table, by name.
        declared: class names in the published order; empty for natural sorting.
        notes: sentences about how the source was read.
        warnings: sentences about possible mistakes in the data.
        task: what a label is.
        targets: names of the numbers of a label in regression; empty for ``label``, or ``label 1``, ``label 2``, ...
        label_file: the file in which the labels are written; None if they are in ``root`` itself.
        rows: number of the row of each label in that file; empty if it has none.
    """

    root: Path
    kind: str
    name: str
    names: Sequence[str]
    labels: Sequence[str | tuple[str, ...]]
    splits: Sequence[str]
    reader: Reader
    groups: Sequence[str] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    declared: Sequence[str] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    task: TaskName = "single-label"
    targets: Sequence[str] = ()
    label_file: Path | None = None
    rows: Sequence[int] = ()

    @property
    def samples(self) -> Sequence[str]:
        """The name of each sample, with the row of its label where it has one."""
        return [f"{name}, row {row}" for name, row in zip(self.names, self.rows, strict=True)] if self.rows else self.names

    @property
    def texts(self) -> list[str]:
        """The labels of a source of texts."""
        return [label for label in self.labels if isinstance(label, str)]


def parse_split(name: str) -> str | None:
    """The split that a word in a folder name or a table names; None if it names no split.

    >>> parse_split("Validation"), parse_split("TEST"), parse_split("cats")
    ('val', 'test', None)
    """
    word = name.strip().lower()
    return "val" if word in ("valid", "validation") else word if word in SPLITS else None


def natural_key(name: str) -> tuple[object, ...]:
    """Sort key for natural order: class 10 comes after class 9, and negative numbers are in order.

    >>> sorted(["10", "9", "-1", "b", "A2", "a10"], key=natural_key)
    ['-1', '9', '10', 'A2', 'a10', 'b']
    """
    if re.fullmatch(r"-?\d{1,18}", name):
        return (0, int(name), name)
    parts = re.split(r"(\d{1,18})", name.casefold())
    return (1, tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts), name)


def assemble_samples(found: FoundSamples, ledger: Ledger, classes: Sequence[str] | None) -> Samples:
    """Build the frozen table: class indices, duplicates, fingerprint.

    Args:
        found: what the source found.
        ledger: receives duplicates and contradicting labels.
        classes: the classes of a trained network, or its targets; default: the classes of the training split.

    Raises:
        DataError: there are no samples, there is only one class, or a class is not among those of training; or a label is no number.
    """
    file = found.label_file if found.kind == "table" else None
    place = str(file or found.root)
    if not found.names:
        raise DataError("no samples found.", where=place)
    found = _in_order(found)
    found = dataclasses.replace(found, declared=[unicodedata.normalize("NFC", name) for name in found.declared])
    splits, official, notes = _official_splits(found, classes)
    encoded = _encoded(found, splits, official, classes, str(found.label_file or place))
    class_names, warnings = encoded.classes, encoded.warnings
    labels = [label_text(label, found.task, class_names) for label in encoded.labels]
    digests = _digests(found.reader, place, found.names)
    contents = _numbered(digests)
    copies = _note_copies(found, labels, splits, contents, ledger)
    return Samples(
        root=found.root,
        kind=found.kind,
        name=found.name,
        names=tuple(found.names),
        labels=encoded.labels,
        classes=class_names,
        splits=np.array(splits, dtype="<U5"),
        groups=None if found.groups is None else tuple(found.groups),
        contents=contents,
        fingerprint=_fingerprint(found, labels, class_names, splits, digests),
        reader=found.reader,
        official=official,
        warnings=(*found.warnings, *_unread_columns(found), *warnings, *copies),
        notes=(*found.notes, *encoded.notes, *_unused(found), *notes),
        digests=tuple(digests),
        task=found.task,
        file=file,
    )


@dataclass(frozen=True, eq=False)
class _Encoded:
    """The label array of a task, the classes or targets, warnings, and notes about how the labels were read."""

    labels: NDArray[Any]
    classes: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _encoded(
    found: FoundSamples, splits: list[str], official: frozenset[str], classes: Sequence[str] | None, place: str
) -> _Encoded:
    """The labels of a task as an array; ``place`` is where they are written, for errors."""
    if found.task == "regression":
        notes = comma_notes(found.texts, found.samples, place, found.targets)
        remedy = CORRECT_ROW if found.label_file else CORRECT_SAMPLE if found.kind in ("npz", "npy") else _WRITE_TABLE
        numbers = parse_numbers(found.texts, found.samples, place, remedy)
        targets = _target_names(numbers.shape[1], found.targets)
        if classes is not None and len(classes) != len(targets):
            needed, given = write_number_of(len(classes), "number"), write_number_of(len(targets), "number")
            raise DataError(f"a label has {given}, and the network predicts {needed}: {write_names(classes)}.", where=place)
        if classes is not None:
            numbers = numbers[:, _places_of_targets(classes, targets, place)]
        is_training = [split == "train" or not official for split in splits]
        warnings = () if classes is not None else tuple(number_warnings(numbers, found.samples, targets, is_training))
        return _Encoded(numbers, tuple(classes or targets), warnings, notes)
    if found.task == "multi-label":
        read, notes, suspicions = read_sets(found.labels, found.samples, place)
        sets = [tuple(_clean_names(each, place)) for each in read]
        flat = [(name, split) for names, split in zip(sets, splits, strict=True) for name in names]
        if not flat:
            raise DataError("no sample has a label. Give at least two classes.", where=place)
        class_names, warnings = _class_list(
            found, [each for each, _ in flat], [each for _, each in flat], official, classes, place
        )
        return _Encoded(
            encode_sets(sets, class_names), class_names, (*warnings, *(suspicions if classes is None else ())), notes
        )
    labels = _clean_names(found.texts, place)
    class_names, warnings = _class_list(found, labels, splits, official, classes, place)
    number = {name: index for index, name in enumerate(class_names)}
    numbers = np.fromiter((number[name] for name in labels), dtype=np.int64, count=len(labels))
    return _Encoded(numbers, class_names, (*warnings, *_sets_warning(class_names, classes)))


_WRITE_TABLE: Final = (
    "The labels of this data are names of classes: write a table with the columns path and label, such as 1.jpg,12.5."
)


def _places_of_targets(known: Sequence[str], targets: Sequence[str], place: str) -> list[int]:
    """For each target of a network, the column of the labels with its number: by name, or in order where no column has the name of a target.

    Raises:
        DataError: some columns have the names of targets, and others have not.
    """
    if set(known) == set(targets):
        return [targets.index(name) for name in known]
    if all(name not in known for name in targets) or (len(known) == 1 and len(targets) == 1):
        return list(range(len(known)))
    raise DataError(
        f"the network predicts {write_names(known)}, and the labels are {write_names(targets)}. Name one column of labels for each target.",
        where=place,
    )


def _target_names(count: int, names: Sequence[str]) -> tuple[str, ...]:
    """The names of ``count`` targets: their own, or numbered where one column holds several."""
    if len(names) == count:
        return tuple(names)
    name = names[0] if names else "label"
    return (name,) if count == 1 else tuple(f"{name} {number}" for number in range(1, count + 1))


def _sets_warning(class_names: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """A warning where class names look like sets of classes."""
    sets = [names for names in split_sets(class_names) if len(names) > 1]
    alone = {name for names in split_sets(class_names) if len(names) == 1 for name in names}
    seen = Counter(name for names in sets for name in names)
    shared = [names for names in sets if all(name in alone or seen[name] > 1 for name in names)]
    if given is not None or not shared:
        return []
    example = next(name for name in class_names if split_sets([*class_names, name])[-1] == shared[0])
    return [
        f"class names such as {example!r} may be sets of classes. {option('task', 'multi-label')} reads them as sets, so that a sample can have several classes."
    ]


def _unused(found: FoundSamples) -> tuple[str, ...]:
    """A note that lists unused columns of a table."""
    if not found.columns:
        return ()
    asked = [] if any(found.splits) else [name for name in found.columns if name.lower() in _VALIDATION_COLUMNS]
    hint = (
        f" visus does not read {asked[0]!r} as the split: for that, write a column named split, with train, val or test in each row."
        if asked
        else ""
    )
    return (f"unused columns: {write_names(found.columns)}.{hint}",)


def _unread_columns(found: FoundSamples) -> list[str]:
    """Warnings about unused columns whose name resembles ``split`` or ``group``, where the table has none."""
    absent = [name for name, values in (("split", found.splits), ("group", found.groups or ())) if not any(values)]
    guesses = {name: closest_name(name, list(found.columns)) for name in absent}
    return [
        f"the column {guess!r} is not read. Did you mean {name!r}? Then rename it."
        for name, guess in guesses.items()
        if guess
    ]


_VALIDATION_COLUMNS: Final = ("is_valid", "is_val", "valid", "is_test", "fold", "set", "subset", "partition")
"""Columns that name the split in other libraries and in published tables."""


def _in_order(found: FoundSamples) -> FoundSamples:
    """Image files in natural order of their names. The fingerprint then does not depend on the order of a table."""
    if found.reader.kind != "images":
        return found
    order = np.array(sorted(range(len(found.names)), key=lambda index: natural_key(found.names[index])), dtype=np.int64)
    return dataclasses.replace(
        found,
        names=[found.names[index] for index in order],
        labels=[found.labels[index] for index in order],
        splits=[found.splits[index] for index in order],
        groups=None if found.groups is None else [found.groups[index] for index in order],
        reader=found.reader.select(order),
        rows=[found.rows[index] for index in order] if found.rows else (),
    )


def _clean_names(labels: Sequence[str], place: str) -> list[str]:
    """Class names in Unicode's composed form (NFC), so that names typed on different systems are equal.

    Raises:
        DataError: a class name is empty, contains a control character, or is not UTF-8.
    """
    clean: dict[str, str] = {}
    for name in dict.fromkeys(labels):
        clean[name] = unicodedata.normalize("NFC", name)
        if not name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise DataError(
                f"the class name {name!r} is empty, holds a control character or is not UTF-8. Rename that class.",
                where=place,
            )
    return [clean[name] for name in labels]


def _official_splits(
    found: FoundSamples, classes: Sequence[str] | None
) -> tuple[list[str], frozenset[str], tuple[str, ...]]:
    """The split of each sample, the official splits, and notes.

    A source with a single split has no official splits, so visus splits it; unless ``classes`` are given, to score a network on it.
    """
    splits = list(found.splits)
    official = frozenset(splits) - {UNASSIGNED}
    if not official or ("train" in official and len(official) > 1) or classes is not None:
        return splits, official, ()
    if len(official) > 1:
        raise DataError(
            "there are val and test samples but no train samples. Add train samples, or remove the split.",
            where=str(found.root),
        )
    note = f"only a {min(official)} part is there, so visus splits it into train, val and test."
    return [UNASSIGNED] * len(splits), frozenset(), (note,)


def _class_list(
    found: FoundSamples,
    labels: list[str],
    splits: list[str],
    official: frozenset[str],
    classes: Sequence[str] | None,
    place: str,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class list and warnings. The list is ``classes``, or that of the training split.

    Raises:
        DataError: a sample has another class, or there is only one class.
    """
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for name, split in zip(labels, splits, strict=True):
        by_split[split][name] += 1
    if classes is not None:
        class_names, owner = tuple(classes), "the network"
    else:
        train = by_split["train"] if official else by_split[UNASSIGNED]
        rank = {name: index for index, name in enumerate(found.declared)}
        class_names = tuple(sorted(train, key=lambda name: (rank.get(name, len(rank)), natural_key(name))))
        owner = "train"
    known = set(class_names)
    problems = [
        _unknown_class(name, count, split, owner, class_names)
        for split in (*SPLITS, UNASSIGNED)
        for name, count in sorted(by_split[split].items(), key=lambda pair: natural_key(pair[0]))
        if name not in known
    ]
    if problems and len(class_names) == 1 and found.kind == "split folders":
        other = next(split for split in (*SPLITS, UNASSIGNED) if by_split[split].keys() - known)
        problems.append(
            f"train has one class only, as in datasets for anomaly detection. To train on the classes of {other}, give the path of its folder."
        )
    if problems:
        raise DataError(join_messages(problems), where=place)
    if classes is None and len(class_names) < 2:
        remedy = "Add samples of another class." if found.reader.kind == "array" else ADD_FOLDER
        raise single_class_error(class_names[0], len(labels), place, found.warnings, remedy)
    return class_names, _absences(found, class_names, by_split, official, classes is not None)


EMPTY_FOLDER: Final = "holds no images, so it is not a class."
"""The end of the warning about an empty class folder."""


ADD_FOLDER: Final = "Add a folder, or rows, of another class."


def single_class_error(
    name: str, num_samples: int, where: str, warnings: Sequence[str] = (), remedy: str = ADD_FOLDER
) -> DataError:
    """The error for data with a single class; of the warnings, it repeats those about empty class folders."""
    empty = "".join(f" {each[0].upper()}{each[1:]}" for each in warnings if each.endswith(EMPTY_FOLDER))
    return DataError(
        f"there is one class only, {name!r} with {write_number_of(num_samples, 'sample')}; a classifier needs at least two classes.{empty} {remedy}",
        where=where,
    )


def absent_classes_warning(names: Sequence[str]) -> str:
    """The warning about names of a class list that no sample has.

    >>> absent_classes_warning(["cat"])
    'classes without a sample, which the class list leaves out: cat.'
    """
    return f"classes without a sample, which the class list leaves out: {write_names(names)}."


def _absences(
    found: FoundSamples, class_names: Sequence[str], by_split: dict[str, Counter[str]], official: frozenset[str], given: bool
) -> tuple[str, ...]:
    """Warnings about classes without samples. The indices of the other classes do not change."""
    warnings: list[str] = []
    unused = [name for name in found.declared if name not in set(class_names)]
    if unused and not given:
        warnings.append(absent_classes_warning(unused))
    for split in sorted(official - {"train"}) or ([UNASSIGNED] if given else []):
        absent = [name for name in class_names if not by_split[split][name]]
        if absent:
            warnings.append(AbsentClasses(split, absent))
    return tuple(warnings)


def _unknown_class(name: str, count: int, split: str, owner: str, class_names: Sequence[str]) -> str:
    guess = closest_name(name, class_names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    where = f"{split} has" if split else "there is" if count == 1 else "there are"
    found = f"{where} {write_number_of(count, 'sample')} of the class {name!r}, which {owner} does not have."
    return f"{found}{hint} {owner.replace('the ', 'The ', 1)} has: {write_names(class_names)}."


def _digests(reader: Reader, place: str, samples: Sequence[str]) -> list[bytes]:
    """SHA-256 of each sample's bytes. An unreadable file gets a unique digest; decoding reports it later.

    Raises:
        DataError: array samples hold NaN or infinite values.
    """
    if reader.kind == "images":
        with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 2)) as pool:
            return list(
                pool.map(lambda index: _file_digest(reader.path(index), samples[index]), range(len(samples)), chunksize=16)
            )
    assert reader.shape is not None
    assert reader.dtype is not None
    row_bytes = max(1, reader.dtype.itemsize * int(np.prod(reader.shape)))
    digests: list[bytes] = []
    broken = 0
    first = ""
    for start in range(0, len(samples), max(1, _READ_BYTES // row_bytes)):
        rows = reader.read(slice(start, start + max(1, _READ_BYTES // row_bytes)))
        broken_here, first_here = count_not_finite(rows)
        if broken_here:
            broken += broken_here
            first = first or samples[start + first_here]
        flat = rows.reshape(len(rows), -1).view(np.uint8)
        digests += [hashlib.sha256(row.data).digest() for row in flat]
    if broken:
        raise not_finite_error(broken, len(samples), first, place)
    return digests


def count_not_finite(rows: NDArray[Any]) -> tuple[int, int]:
    """The number of samples (N, *) with NaN or infinite values, and the place of the first.

    >>> count_not_finite(np.array([[1.0], [np.nan], [np.inf]])), count_not_finite(np.array([[1], [2]]))
    ((2, 1), (0, 0))
    """
    if rows.dtype.kind != "f" or not rows.size:
        return 0, 0
    finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
    return int((~finite).sum()), int(np.argmin(finite))


def not_finite_error(num_broken: int, num_samples: int, first: str, where: str = "") -> DataError:
    """The error for samples with NaN or infinite values.

    Args:
        num_broken: number of these samples.
        num_samples: number of all.
        first: name of the first of them.
        where: the file or folder; empty for arrays in memory.
    """
    return DataError(
        f"{write_number_of(num_broken, 'sample')} of {num_samples:,} {'holds' if num_broken == 1 else 'hold'} NaN or infinite values; the first is {first}. Repair or remove them.",
        where=where,
    )


def _file_digest(path: Path, sample: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("a pipe, a socket or a device: opening it could block forever")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return hashlib.sha256(b"unreadable\0" + sample.encode("utf-8", "surrogateescape")).digest()


def _numbered(digests: Sequence[bytes]) -> NDArray[np.int64]:
    """A number for each digest, in order of first appearance; equal digests have equal numbers."""
    numbers: dict[bytes, int] = {}
    return np.fromiter((numbers.setdefault(digest, len(numbers)) for digest in digests), dtype=np.int64, count=len(digests))


def _note_copies(
    found: FoundSamples,
    labels: Sequence[str],
    splits: Sequence[str],
    contents: NDArray[np.int64],
    ledger: Ledger,
) -> list[str]:
    """Note exact copies on the ledger. Return warnings about copies with different labels, and copies or groups across official splits."""
    crossing: list[str] = []
    conflicts: list[str] = []
    first_of: dict[int, int] = {}
    sides_of: dict[int, set[str]] = defaultdict(set)
    for index in _repeated(contents):
        sample, sides = found.names[index], sides_of[int(contents[index])]
        first = first_of.setdefault(int(contents[index]), index)
        crosses = first != index and splits[index] not in sides
        sides.add(splits[index])
        if crosses:
            crossing.append(sample)
        if labels[first] != labels[index]:
            conflicts.append(sample)
            reason = f"{labels[first]!r} as {found.names[first]}, {labels[index]!r} here"
            ledger.note("conflict", sample, reason)
        elif first != index and not crosses:
            ledger.note("duplicate", sample, f"same bytes as {found.names[first]}")
    warnings = []
    if conflicts:
        warnings.append(
            f"{write_number_of(len(conflicts), 'sample has', 'samples have')} the same bytes as another sample but another {'class' if found.task == 'single-label' else 'label'}: "
            f"{write_names(conflicts)}."
        )
    if crossing:
        warnings.append(
            f"{write_number_of(len(crossing), 'sample')} with the same bytes as a sample of another official split, "
            f"so the scores on that split are too high: {write_names(crossing)}."
        )
    return warnings + _crossing_groups(found, splits)


def _repeated(contents: NDArray[np.int64]) -> list[int]:
    """Indices of samples whose content occurs more than once, ascending."""
    counts = np.bincount(contents)
    return [int(index) for index in np.flatnonzero(counts[contents] > 1)]


def _crossing_groups(found: FoundSamples, splits: Sequence[str]) -> list[str]:
    if found.groups is None:
        return []
    sides: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(found.groups, splits, strict=True):
        if group:
            sides[group].add(split)
    crossing = sorted((group for group, where in sides.items() if len(where) > 1), key=natural_key)
    if not crossing:
        return []
    return [
        f"{write_number_of(len(crossing), 'group')} with samples in more than one official split, "
        f"so the scores on these splits are too high: {write_names(crossing)}."
    ]


def _fingerprint(
    found: FoundSamples, labels: Sequence[str], classes: Sequence[str], splits: Sequence[str], digests: Sequence[bytes]
) -> str:
    """SHA-256 of the class list, the shape and dtype of rows, and one line per sample in the order of the table."""
    total = hashlib.sha256()
    groups = found.groups if found.groups is not None else [""] * len(digests)
    head = (found.reader.kind, str(found.reader.shape), str(found.reader.dtype), *classes)
    total.update("\0".join(head).encode() + b"\n")
    lines = [
        "\0".join((sample, label, split, group)).encode("utf-8", "surrogateescape") + b"\0" + digest
        for sample, label, split, group, digest in zip(found.names, labels, splits, groups, digests, strict=True)
    ]
    for line in lines:
        total.update(len(line).to_bytes(4, "big") + line)
    return total.hexdigest()
