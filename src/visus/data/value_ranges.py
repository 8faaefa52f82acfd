"""A warning if the values of one split have another scale than those of another, such as 0 to 1 beside 0 to 255.

The scale of a sample is the standard deviation of its values around the mean of each channel. A split that was scaled differently has another scale in every
sample, so the medians over samples are compared, and the middle halves must lie apart too: loud signals among quiet ones, or a few bright images, are no reason.

Shape letters: N samples, C channels, * the spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from visus.data.batches import Part
from visus.data.preprocessing import Pixels
from visus.units import write_split

MIN_FACTOR: Final = 50.0
"""Factor between the scales of two splits from which they are warned of; 255 for 8-bit values of which one split was divided."""
_MIN_APART: Final = 5.0
"""Factor between the middle halves of the scales, at least."""
_MIN_SAMPLES: Final = 3
_MAX_SAMPLES: Final = 64
_MAX_BYTES: Final = 2**27


def some_values(part: Part) -> Pixels:
    """Stored values of some samples of a split, evenly spread: 64, or fewer of large ones."""
    sample_bytes = max(1, int(np.prod(part.pixels.shape[1:])) * part.pixels.dtype.itemsize)
    count = min(len(part), max(_MIN_SAMPLES, min(_MAX_SAMPLES, _MAX_BYTES // sample_bytes)))
    places = np.linspace(0, len(part) - 1, count).round().astype(np.int64) if count else np.zeros(0, np.int64)
    return np.asarray(part.pixels[part.indices[places]])


def split_warnings(parts: Sequence[Part]) -> list[str]:
    """A warning for each split of floating-point values whose scale is not that of the first one.

    Args:
        parts: the splits, the training set first.
    """
    known, *others = parts
    if known.pixels.dtype.kind != "f":
        return []
    values = some_values(known)
    usual = _scales(values)
    found = []
    for part in others:
        theirs = some_values(part)
        if factor := _factor(usual, _scales(theirs)):
            compared = f"{factor:,.0f} times those" if factor > 1 else f"1/{1 / factor:,.0f} of those"
            found.append(
                f"the values of {write_split(part.name)} ({_range(theirs)}) spread over {compared} of {write_split(known.name)} ({_range(values)}), so a network "
                "that learns from one does not know the other. Scale the samples of all splits in the same way."
            )
    return found


def _scales(values: Pixels) -> npt.NDArray[np.float64]:
    """The scale of each sample that is not constant, sorted."""
    if not len(values):
        return np.zeros(0)
    wide = values.astype(np.float64).reshape(*values.shape[:2], -1)
    with np.errstate(all="ignore"):
        scales = np.sqrt(np.square(wide - wide.mean(axis=2, keepdims=True)).mean(axis=(1, 2)))
    return np.sort(scales[np.isfinite(scales) & (scales > 0)])


def _factor(usual: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> float:
    """How many times as large the second scales are; 0 if that is no reason for a warning."""
    if min(len(usual), len(theirs)) < _MIN_SAMPLES:
        return 0.0
    factor = float(np.median(theirs) / np.median(usual))
    small, large = (usual, theirs) if factor > 1 else (theirs, usual)
    is_apart = np.quantile(large, 0.25) > _MIN_APART * np.quantile(small, 0.75)
    return factor if is_apart and max(factor, 1 / factor) >= MIN_FACTOR else 0.0


def _range(values: Pixels) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
