"""What gives a class away without a look at the image: color, shape, size or file format that goes with the label.

This file knows headers and labels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visus.data.images.decode import ImageHeader
from visus.data.ledger import listed

CLUE_SHARE = 0.9
CLUE_FACTOR = 1.5
MIN_CLUE_IMAGES = 10
_MAX_CLASSES_TOLD = 4


def header_clues(classes: Sequence[str], seen: Sequence[tuple[int, ImageHeader]]) -> list[str]:
    """Warnings where a class can be told by the headers of its files alone: by gray or color, by shape, by size or by format.

    A network then learns that instead of what the images show. A property counts where at least 90 % of a class have it and at most
    10 % of all others, with ten images or more on either side.

    Args:
        classes: names.
        seen: class number and header of each image.
    """
    labels = np.array([label for label, _ in seen], dtype=np.int64)
    sides = np.array([math.sqrt(math.prod(header.size)) for _, header in seen])
    told = []
    for what, words in (
        ("color", ["in color" if header.channels == 3 else "gray" for _, header in seen]),
        ("shape", [_shape_words(header.size) for _, header in seen]),
        ("file format", [header.format for _, header in seen]),
    ):
        found = _clue(np.array(words), labels, len(classes))
        if found:
            told.append(_told_clue(what, [f"{classes[label]} ({word})" for label, word in found]))
    sizes = _size_clue(sides, labels, len(classes))
    if sizes:
        told.append(_told_clue("size", [f"{classes[label]} ({pixels:,.0f} px)" for label, pixels in sizes]))
    return told


def _clue(words: npt.NDArray[np.str_], labels: npt.NDArray[np.int64], num_classes: int) -> list[tuple[int, str]]:
    """Classes that one word tells from all others, with the word."""
    found = []
    for label in range(num_classes):
        own, others = words[labels == label], words[labels != label]
        if min(len(own), len(others)) < MIN_CLUE_IMAGES:
            continue
        common, count = Counter(own.tolist()).most_common(1)[0]
        if count >= CLUE_SHARE * len(own) and (others == common).mean() <= 1 - CLUE_SHARE:
            found.append((label, common))
    return found


def _size_clue(sides: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], num_classes: int) -> list[tuple[int, float]]:
    """Classes whose images are nearly all larger, or nearly all smaller, than the others by half or more; with their middle side."""
    found = []
    for label in range(num_classes):
        own, others = sides[labels == label], sides[labels != label]
        if min(len(own), len(others)) < MIN_CLUE_IMAGES:
            continue
        low, high = np.quantile(own, (1 - CLUE_SHARE, CLUE_SHARE))
        other_low, other_high = np.quantile(others, (1 - CLUE_SHARE, CLUE_SHARE))
        if low >= CLUE_FACTOR * other_high or CLUE_FACTOR * high <= other_low:
            found.append((label, float(np.median(own))))
    return found


def _shape_words(size: tuple[int, int]) -> str:
    height, width = size
    return "wide" if width > 1.1 * height else "tall" if height > 1.1 * width else "square"


def _told_clue(what: str, classes: list[str]) -> str:
    named = listed(classes, shown=_MAX_CLASSES_TOLD)
    return (
        f"the {what} of the files gives the class away: {named}. A network can learn that instead of what the images show. Bring all classes "
        f"to the same {what}, or check on images where it says nothing."
    )
