"""What looks wrong about labels: classes named like leftovers, placeholders among the images, classes that a file's form gives away.

This file knows labels, equal contents, sizes and formats. It must not know folders or tables, nor change anything: it only warns.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from visus.data.folder_names import is_empty_word, is_unsure
from visus.data.samples import Samples
from visus.data.source_rules import shown
from visus.units import write_number_of

_FEWEST_COPIES = 5
_FEWEST_ACROSS = 3
_FEWEST_SAMPLES = 10
_NEARLY_ALL = 0.95
_TIMES_LARGER = 4.0


def label_warnings(samples: Samples) -> list[str]:
    """Warnings about class names and about images that are there many times."""
    return [*_leftovers(samples), *_alike(samples.classes), *_placeholders(samples)]


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


def _placeholders(samples: Samples) -> list[str]:
    """A warning where one and the same image is there many times under different names, as "image not found" is after a download."""
    if samples.reader.kind != "pictures":
        return []
    counts = np.bincount(samples.contents)
    usual = float(np.median(counts[counts > 0]))
    told = []
    for content in np.argsort(-counts, kind="stable").tolist():
        if counts[content] < _FEWEST_ACROSS or counts[content] < _FEWEST_ACROSS * usual:
            break
        where = np.flatnonzero(samples.contents == content)
        num_classes = len(set(samples.labels[where].tolist()))
        if counts[content] >= _FEWEST_COPIES or num_classes >= _FEWEST_ACROSS:
            told.append((where, num_classes))
    if not told or (len(told) > 0.05 * len(counts) and all(num_classes == 1 for _, num_classes in told)):
        return []  # whole classes were copied to even out their numbers
    where, num_classes = told[0]
    more = f"; {write_number_of(len(told) - 1, 'more image')} likewise" if len(told) > 1 else ""
    classes = f", in {num_classes} classes" if num_classes > 1 else ""
    return [
        f"one image is there {len(where):,} times under different names{classes} ({shown(samples.items[index] for index in where)}){more}. "
        "Look at it: where it is a placeholder, such as 'image not found', delete these files."
    ]


def form_warnings(
    samples: Samples, indices: Sequence[int], sizes: Sequence[tuple[int, int]], channels: Sequence[int]
) -> list[str]:
    """Warnings about classes whose files give them away: by colour, by file format, by orientation or by size.

    Args:
        samples: the table.
        indices: the samples whose headers could be read.
        sizes, channels: (height, width) in pixels, and 1 or 3, of each of these.
    """
    labels = samples.labels[np.array(indices, dtype=np.int64)]
    endings = [os.path.splitext(samples.items[index])[1].lower() for index in indices]
    formats = [
        {".jpeg": "JPEG", ".jpg": "JPEG", ".jpe": "JPEG", ".tif": "TIFF"}.get(end, end[1:].upper()) for end in endings
    ]
    kinds: Mapping[str, Sequence[str]] = {
        "colour": ["in grey" if number == 1 else "in colour" for number in channels],
        "format": [f"{name} files" for name in formats],
        "orientation": [_orientation(size) for size in sizes],
    }
    found = [told for values in kinds.values() if (told := _given_away(samples.classes, labels, np.array(values)))]
    areas = np.array([height * width for height, width in sizes], dtype=np.float64)
    found += [told for told in [_by_area(samples.classes, labels, areas)] if told]
    return [f"{told}. A network may learn that instead of what the images show." for told in found]


def _orientation(size: tuple[int, int]) -> str:
    height, width = size
    return "upright" if height > 1.2 * width else "wide" if width > 1.2 * height else "nearly square"


def _given_away(classes: Sequence[str], labels: NDArray[np.int64], values: NDArray[np.str_]) -> str:
    """A class of which nearly all images have a property that nearly no other image has; empty where there is none."""
    for label in np.unique(labels).tolist():
        own, rest = values[labels == label], values[labels != label]
        if min(len(own), len(rest)) < _FEWEST_SAMPLES:
            continue
        kinds, counts = np.unique(own, return_counts=True)
        kind = str(kinds[np.argmax(counts)])
        if counts.max() >= _NEARLY_ALL * len(own) and (rest == kind).mean() <= 1 - _NEARLY_ALL:
            others = {str(value) for value in np.unique(rest)} - {kind}
            return (
                f"nearly all images of {classes[label]} are {kind}, and those of other classes are {shown(sorted(others))}"
            )
    return ""


def _by_area(classes: Sequence[str], labels: NDArray[np.int64], areas: NDArray[np.float64]) -> str:
    for label in np.unique(labels).tolist():
        own, rest = areas[labels == label], areas[labels != label]
        if min(len(own), len(rest)) < _FEWEST_SAMPLES:
            continue
        for word, small, large in (("more", rest, own), ("fewer", own, rest)):
            if np.quantile(large, 1 - _NEARLY_ALL) >= _TIMES_LARGER * np.quantile(small, _NEARLY_ALL):
                return f"images of {classes[label]} have at least {_TIMES_LARGER:g} times {word} pixels than those of other classes"
    return ""
