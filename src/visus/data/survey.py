"""Survey of the headers of image files before decoding, and the default size of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from visus.data.clues import header_clues
from visus.data.images import decode as images
from visus.data.images.fit import ResizeMode
from visus.data.ledger import Ledger
from visus.data.samples import Samples
from visus.errors import ImageError

NATIVE_SHORT_SIDE_PX = 64
DEFAULT_SHORT_SIDE_PX = 96
VARIED_SIZES = 8


@dataclass(frozen=True)
class Survey:
    """Facts about image files from their headers and splits.

    Args:
        num_training: number of training samples.
        sizes: (height, width) of every file with a readable header, in pixels.
        has_color: whether any of them is in color.
        wanted_size: the size that the user requested; None for the default.
        warnings: sentences about headers that predict the class.
    """

    num_training: int
    sizes: tuple[tuple[int, int], ...]
    has_color: bool
    wanted_size: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_varied(self) -> bool:
        """Whether the images have many different sizes."""
        return len(set(self.sizes)) >= VARIED_SIZES

    @property
    def short_side_px(self) -> int:
        """The median of the short sides, in pixels; 0 if no header could be read.

        >>> Survey(3, ((40, 30), (100, 200), (80, 60)), True).short_side_px
        60
        """
        shorts = sorted(min(size) for size in self.sizes)
        return shorts[len(shorts) // 2] if shorts else 0


@dataclass(frozen=True)
class InputSpec:
    """The input of a pretrained network: size, channels and normalization of images.

    Args:
        channels: 1 or 3.
        size: (height, width) in pixels.
        offset, divisor: one number per channel; a value v becomes ``(v - offset) / divisor``. Empty: measured on the training set.
        resize_mode: how images are resized; None as asked for.
    """

    channels: int
    size: tuple[int, int]
    offset: tuple[float, ...]
    divisor: tuple[float, ...]
    resize_mode: ResizeMode | None = None


InputChooser = Callable[[Survey], InputSpec | None]
"""A function that returns the input of a pretrained network for the surveyed images, or None for the defaults."""


def survey_images(samples: Samples, ledger: Ledger) -> Survey:
    """Read the headers of all image files, and note files of unusual size on the ledger. Decoding reports unreadable files."""
    sizes, names, has_color, headers = [], [], False, list[tuple[int, images.ImageHeader]]()
    for index, sample in enumerate(samples.names):
        try:
            header = images.probe_image(samples.reader.path(index), name=sample)
        except ImageError:
            continue  # decoding reports it
        sizes.append(header.size)
        names.append(sample)
        has_color = has_color or header.channels == 3
        if samples.task == "single-label":
            headers.append((int(samples.labels[index]), header))
    if sizes:
        areas = [height * width for height, width in sizes]
        median = sorted(areas)[len(areas) // 2]
        for name, area in zip(names, areas, strict=True):
            if area > 4 * median or 4 * area < median:
                ledger.note("outsized", name)
    warnings = tuple(header_clues(samples.classes, headers)) if headers else ()
    return Survey(int((samples.splits == "train").sum()), tuple(sizes), has_color, warnings=warnings)


def suitable_size(sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The default (height, width) for images of these sizes.

    Small images keep their size. Others get a short side of at most 96 px, rounded down to a multiple of 8. The aspect ratio is that of
    the most frequent size if at least half of the images have it; otherwise the images become square.

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
