"""What the headers of image files say before any is decoded, and which size suits images that say nothing else.

This file knows sizes, color and formats, and whether they go with the classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from visus.data.clues import header_clues
from visus.data.images import decode as images
from visus.data.ledger import Ledger
from visus.data.samples import Samples
from visus.errors import ImageError

NATIVE_SHORT_SIDE_PX = 64
DEFAULT_SHORT_SIDE_PX = 96
VARIED_SIZES = 8


@dataclass(frozen=True)
class Survey:
    """What is known of image files from their headers and their split.

    Args:
        num_training: samples of the training split.
        sizes: (height, width) of every file with a readable header, in pixels.
        has_color: whether any of them is in color.
        wanted_size: the size that was asked for; None where it is open.
        warnings: sentences about what the headers alone give away of the classes.
    """

    num_training: int
    sizes: tuple[tuple[int, int], ...]
    has_color: bool
    wanted_size: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_varied(self) -> bool:
        """Whether there are many different sizes."""
        return len(set(self.sizes)) >= VARIED_SIZES

    @property
    def short_side_px(self) -> int:
        """The middle one of all short sides; 0 where no header could be read.

        >>> Survey(3, ((40, 30), (100, 200), (80, 60)), True).short_side_px
        60
        """
        shorts = sorted(min(size) for size in self.sizes)
        return shorts[len(shorts) // 2] if shorts else 0


@dataclass(frozen=True)
class InputSpec:
    """How images are read for a network that already knows some: its size, its channels and its own scaling.

    Args:
        channels: 1 or 3.
        size: (height, width) in pixels.
        offset, divisor: one number for each channel; a value v becomes ``(v - offset) / divisor``.
    """

    channels: int
    size: tuple[int, int]
    offset: tuple[float, ...]
    divisor: tuple[float, ...]


InputChooser = Callable[[Survey], InputSpec | None]
"""Asked with what the headers say; answers how the images are to be read, or None for what suits the data itself."""


def survey_images(samples: Samples, ledger: Ledger) -> Survey:
    """Read the headers of all image files; files of unusual size are noted, those that cannot be read are met again in decoding."""
    sizes, names, has_color, seen_by_class = [], [], False, list[tuple[int, images.ImageHeader]]()
    for index, sample in enumerate(samples.names):
        try:
            seen = images.probe(samples.reader.path(index), name=sample)
        except ImageError:
            continue  # decoding meets it again, and names it
        sizes.append(seen.size)
        names.append(sample)
        has_color = has_color or seen.channels == 3
        seen_by_class.append((int(samples.labels[index]), seen))
    if sizes:
        areas = [height * width for height, width in sizes]
        median = sorted(areas)[len(areas) // 2]
        for name, area in zip(names, areas, strict=True):
            if area > 4 * median or 4 * area < median:
                ledger.note("outsized", name)
    told = tuple(header_clues(samples.classes, seen_by_class))
    return Survey(int((samples.splits == "train").sum()), tuple(sizes), has_color, warnings=told)


def suitable_size(sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Small images keep their size; others get a short side of at most 96 px, rounded to a multiple of 8.

    Where most images have one size, its aspect is kept; a mixed set becomes square.

    >>> suitable_size(((28, 28),) * 3), suitable_size(((480, 640),) * 3), suitable_size(((480, 640), (300, 200), (90, 70)))
    ((28, 28), (96, 128), (96, 96))
    """
    if not sizes:
        return (DEFAULT_SHORT_SIDE_PX, DEFAULT_SHORT_SIDE_PX)
    commonest, count = Counter(sizes).most_common(1)[0]
    if count < 0.5 * len(sizes):
        median = sorted(min(size) for size in sizes)[len(sizes) // 2]
        side = min(DEFAULT_SHORT_SIDE_PX, max(8, median // 8 * 8))
        return (side, side)
    if min(commonest) <= NATIVE_SHORT_SIDE_PX and max(commonest) <= 2 * NATIVE_SHORT_SIDE_PX:
        return commonest
    factor = min(1.0, DEFAULT_SHORT_SIDE_PX / min(commonest))
    height, width = (max(8, math.floor(length * factor / 8 + 1e-9) * 8) for length in commonest)
    return (height, width)
