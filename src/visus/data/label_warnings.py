"""Warnings about suspicious labels: leftover classes, almost equal class names, and placeholder images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from visus.data.folder_names import is_empty_value, is_leftover_class, is_placeholder
from visus.data.listed_names import write_names
from visus.data.samples import Samples
from visus.data.tasks import same_kind
from visus.units import write_number_of

_REST = frozenset(("other", "others"))
"""Names of a class that is meant: images that belong to no other class."""
_MIN_COPIES = 5
_MIN_CLASSES_WITH_COPY = 3
_MAX_PLACEHOLDERS = 0.1  # fraction of all samples; if more files have such names, they are ordinary names


def label_warnings(samples: Samples) -> list[str]:
    """Warnings about suspicious class names, and about placeholder images."""
    names = [] if samples.task == "regression" else [*_leftover_classes(samples), *_similar_names(samples.classes)]
    return [
        *names,
        *_placeholder_names(samples),
        *_repeated_images(samples),
    ]


def _leftover_classes(samples: Samples) -> list[str]:
    counts = dict(zip(samples.classes, samples.class_counts().tolist(), strict=True))
    warnings = []
    empty = [name for name in samples.classes if is_empty_value(name)]
    if empty:
        names = ", ".join(f"{name!r} ({write_number_of(counts[name], 'sample')})" for name in empty)
        warnings.append(
            f"class names that may stand for a missing label: {names}. Remove these samples if they have no label."
        )
    unsure = [name for name in samples.classes if is_leftover_class(name) and name.strip().casefold() not in _REST]
    if unsure:
        names = ", ".join(f"{name!r} ({write_number_of(counts[name], 'sample')})" for name in unsure)
        warnings.append(
            f"class names that may stand for unsorted images: {names}. Remove these samples if they are not a class."
        )
    return warnings


def _similar_names(classes: Sequence[str]) -> list[str]:
    """Warnings about class names that differ only in capitals, spaces or punctuation."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        same["".join(char for char in name.casefold() if char.isalnum()) or name].append(name)
    groups = [
        names
        for names in same.values()
        if len(names) > 1 and not all(name[:1] in "+-" or name.isdecimal() for name in names)
    ]
    return [
        f"the classes {write_names(map(repr, names))} differ only in capitals, spaces or punctuation. Give them one name if they are one class."
        for names in groups
    ]


def _placeholder_names(samples: Samples) -> list[str]:
    """A warning about file names of placeholder images, such as ``imageNotFound.gif``."""
    if samples.reader.kind != "images":
        return []
    found = [sample for sample in samples.names if is_placeholder(PurePosixPath(sample).stem)]
    if not found or len(found) > _MAX_PLACEHOLDERS * len(samples.names):
        return []
    is_one = len(found) == 1
    return [
        f"{write_number_of(len(found), 'image is', 'images are')} named like a placeholder ({write_names(found)}). Look at {'it' if is_one else 'them'}, "
        f"and delete {'it if it shows' if is_one else 'those that show'} none of the classes."
    ]


def _repeated_images(samples: Samples) -> list[str]:
    """A warning about an image that occurs many times under different names, as "image not found" does after a download."""
    if samples.reader.kind != "images":
        return []
    counts, kinds = np.bincount(samples.contents), same_kind(samples.labels)
    median = float(np.median(counts[counts > 0]))
    repeated = []
    for content in np.argsort(-counts, kind="stable").tolist():
        if counts[content] < _MIN_CLASSES_WITH_COPY or counts[content] < _MIN_CLASSES_WITH_COPY * median:
            break
        copies = np.flatnonzero(samples.contents == content)
        num_classes = len(set(kinds[copies].tolist()))
        if counts[content] >= _MIN_COPIES or num_classes >= _MIN_CLASSES_WITH_COPY:
            repeated.append((copies, num_classes))
    if not repeated or (len(repeated) > 0.05 * len(counts) and all(num_classes == 1 for _, num_classes in repeated)):
        return []  # whole classes were copied to balance their sizes
    copies, num_classes = repeated[0]
    more = f"; so do {write_number_of(len(repeated) - 1, 'more image')}" if len(repeated) > 1 else ""
    classes = f" in {num_classes} classes" if num_classes > 1 and samples.task == "single-label" else ""
    return [
        f"one image occurs {len(copies):,} times under different names{classes} ({write_names(samples.names[index] for index in copies)}){more}. "
        "If it is a placeholder, such as 'image not found', delete these files."
    ]
