"""Spurious clues: color, shape, size or file format of the images that predicts their class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visus.data.images.decode import ImageHeader
from visus.data.ledger import write_examples

CLUE_FRACTION = 0.9
CLUE_FACTOR = 1.5
MIN_CLUE_IMAGES = 10
_MAX_CLASSES_SHOWN = 4


def header_clues(classes: Sequence[str], headers: Sequence[tuple[int, ImageHeader]]) -> list[str]:
    """Warnings about classes that the file headers alone predict: by color, shape, size or format.

    A network may learn such a property instead of the content of the images. A property counts if at least 90 % of a class
    and at most 10 % of all other images have it, with at least ten images on either side.

    Args:
        classes: class names.
        headers: class index and header of each image.
    """
    labels = np.array([label for label, _ in headers], dtype=np.int64)
    sides = np.array([math.sqrt(math.prod(header.size)) for _, header in headers])
    warnings = []
    for name, values in (
        ("color", ["in color" if header.channels == 3 else "gray" for _, header in headers]),
        ("shape", [_aspect_word(header.size) for _, header in headers]),
        ("file format", [header.format for _, header in headers]),
    ):
        found = _value_clues(np.array(values), labels, len(classes))
        if found:
            warnings.append(_clue_warning(name, [f"{classes[label]} ({value})" for label, value in found]))
    sizes = _size_clues(sides, labels, len(classes))
    if sizes:
        warnings.append(_clue_warning("size", [f"{classes[label]} ({pixels:,.0f} px)" for label, pixels in sizes]))
    return warnings


def _value_clues(values: npt.NDArray[np.str_], labels: npt.NDArray[np.int64], num_classes: int) -> list[tuple[int, str]]:
    """Classes that one value separates from all others, each with that value."""
    found = []
    for label in range(num_classes):
        own, others = values[labels == label], values[labels != label]
        if min(len(own), len(others)) < MIN_CLUE_IMAGES:
            continue
        common, count = Counter(own.tolist()).most_common(1)[0]
        if count >= CLUE_FRACTION * len(own) and (others == common).mean() <= 1 - CLUE_FRACTION:
            found.append((label, common))
    return found


def _size_clues(sides: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], num_classes: int) -> list[tuple[int, float]]:
    """Classes whose images are nearly all larger, or nearly all smaller, than the others by a factor of 1.5; with their median side."""
    found = []
    for label in range(num_classes):
        own, others = sides[labels == label], sides[labels != label]
        if min(len(own), len(others)) < MIN_CLUE_IMAGES:
            continue
        low, high = np.quantile(own, (1 - CLUE_FRACTION, CLUE_FRACTION))
        other_low, other_high = np.quantile(others, (1 - CLUE_FRACTION, CLUE_FRACTION))
        if low >= CLUE_FACTOR * other_high or CLUE_FACTOR * high <= other_low:
            found.append((label, float(np.median(own))))
    return found


def _aspect_word(size: tuple[int, int]) -> str:
    height, width = size
    return "wide" if width > 1.1 * height else "tall" if height > 1.1 * width else "square"


def _clue_warning(name: str, classes: list[str]) -> str:
    return (
        f"the {name} of the files predicts the class: {write_examples(classes, shown=_MAX_CLASSES_SHOWN)}. A network can learn that instead of the "
        f"content of the images. Convert all classes to the same {name}, or test on images without this difference."
    )
