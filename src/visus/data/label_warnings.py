"""What looks wrong about labels: classes named like leftovers, placeholders among the images.

This file knows labels and equal contents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from visus.data.folder_names import is_empty_word, is_placeholder, is_unsure
from visus.data.samples import Samples
from visus.data.source_rules import shown
from visus.units import write_number_of

_MIN_COPIES = 5
_MIN_ACROSS = 3
_MAX_PLACEHOLDERS = 0.1  # of all samples; where more are named so, it is what they are called


def label_warnings(samples: Samples) -> list[str]:
    """Warnings about class names and about images that are there many times."""
    return [*_leftovers(samples), *_alike(samples.classes), *_named_placeholders(samples), *_placeholders(samples)]


def _leftovers(samples: Samples) -> list[str]:
    counts = dict(zip(samples.classes, samples.class_counts().tolist(), strict=True))
    warnings = []
    empty = [name for name in samples.classes if is_empty_word(name)]
    if empty:
        told = ", ".join(f"{name!r} ({write_number_of(counts[name], 'sample')})" for name in empty)
        warnings.append(
            f"classes named as programs write an empty cell: {told}. Take these samples out if they have no label."
        )
    unsure = [name for name in samples.classes if is_unsure(name)]
    if unsure:
        told = ", ".join(f"{name!r} ({write_number_of(counts[name], 'sample')})" for name in unsure)
        warnings.append(
            f"classes named like what was left over when images were sorted: {told}. Take them out if they are none."
        )
    return warnings


def _alike(classes: Sequence[str]) -> list[str]:
    """Classes that differ in capitals, spaces or marks between words only."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        same["".join(char for char in name.casefold() if char.isalnum()) or name].append(name)
    groups = [
        names
        for names in same.values()
        if len(names) > 1 and not all(name[:1] in "+-" or name.isdecimal() for name in names)
    ]
    return [
        f"the classes {shown(map(repr, names))} differ in capitals, spaces or punctuation only. Give them one name if they are one class."
        for names in groups
    ]


def _named_placeholders(samples: Samples) -> list[str]:
    """A warning where files are named as those that stand for an image that is not there, such as ``imageNotFound.gif``."""
    if samples.reader.kind != "images":
        return []
    found = [sample for sample in samples.names if is_placeholder(PurePosixPath(sample).stem)]
    if not found or len(found) > _MAX_PLACEHOLDERS * len(samples.names):
        return []
    is_one = len(found) == 1
    return [
        f"{write_number_of(len(found), 'image is', 'images are')} named like a placeholder ({shown(found)}). Look at {'it' if is_one else 'them'}, "
        f"and delete {'it if it shows' if is_one else 'them if they show'} none of the classes."
    ]


def _placeholders(samples: Samples) -> list[str]:
    """A warning where one and the same image is there many times under different names, as "image not found" is after a download."""
    if samples.reader.kind != "images":
        return []
    counts = np.bincount(samples.contents)
    usual = float(np.median(counts[counts > 0]))
    told = []
    for content in np.argsort(-counts, kind="stable").tolist():
        if counts[content] < _MIN_ACROSS or counts[content] < _MIN_ACROSS * usual:
            break
        where = np.flatnonzero(samples.contents == content)
        num_classes = len(set(samples.labels[where].tolist()))
        if counts[content] >= _MIN_COPIES or num_classes >= _MIN_ACROSS:
            told.append((where, num_classes))
    if not told or (len(told) > 0.05 * len(counts) and all(num_classes == 1 for _, num_classes in told)):
        return []  # whole classes were copied to even out their numbers
    where, num_classes = told[0]
    more = f"; {write_number_of(len(told) - 1, 'more image')} likewise" if len(told) > 1 else ""
    classes = f", in {num_classes} classes" if num_classes > 1 else ""
    return [
        f"one image is there {len(where):,} times under different names{classes} ({shown(samples.names[index] for index in where)}){more}. "
        "Look at it: where it is a placeholder, such as 'image not found', delete these files."
    ]
