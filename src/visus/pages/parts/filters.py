"""Filters as images: the one renderer of kernels, for the report, the look page and the comparison of tasks.

Every filter is drawn on its own scale, so that weak patterns are visible too. The number below it is its largest weight. Dead filters are
gray: on their own scale, their rounding errors would look like a pattern.
Shape letters:
F filters, C input channels, * the spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
import numpy.typing as npt

from visus.data.images.drawing import Pixels, as_image, block_means, png
from visus.examine.layer_calls import Array
from visus.pages.parts.charts import curve
from visus.pages.parts.document import image
from visus.pages.parts.images import enlarge, make_grid, signed_colors
from visus.pages.parts.samples import MAX_SLICES, pixel_image
from visus.units import write_number_of, write_shape

Flags = npt.NDArray[np.bool_]

MAX_FILTERS: Final = 64
MAX_CHANNELS: Final = 4
FILTER_PX: Final = 48
DEAD: Final = 1e-3
"""A filter is dead if its largest weight is at most this share of the largest of the layer."""

CONSTANT: Final = 1e-2
"""A filter is constant if the weights of each channel differ by at most this share of its largest weight."""

_CURVE_PX: Final = (120, 60)
_GRAY: Final = 160


def filter_figures(kernels: Array, path: str, layer: str, noun: str, num_filters: int | None = None) -> str:
    """The first filters of a layer, each with its number and its largest weight, and how to read them.

    Args:
        kernels: (F, C, *).
        path: the layer's path.
        layer: the layer's definition.
        noun: word for one of them, ``filter`` or ``unit``.
        num_filters: filters of the layer, where ``kernels`` holds only the first ones.
    """
    shown = kernels[:MAX_FILTERS]
    dead, constant = dead_filters(shown), constant_filters(shown)
    drawn = []
    for index, kernel in enumerate(shown):
        kind = "Dead " if dead[index] else "Constant " if constant[index] else ""
        named = f"{noun} {index} of {path}"
        drawing = filter_image(
            kernel, f"{kind}{named}" if kind else f"{named[0].upper()}{named[1:]}", is_dead=bool(dead[index])
        )
        caption = f"{index}: {'dead' if dead[index] else f'{float(np.abs(kernel).max()):.2g}'}"
        drawn.append(f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>")
    total = len(kernels) if num_filters is None else num_filters
    some = f"The first {len(drawn)} are drawn. " if len(drawn) < total else ""
    words = (
        f"<b>{escape(path or 'the module')}</b>, {escape(layer)}: {write_number_of(total, noun)} of {write_shape(kernels.shape[1:])} weights (channels first). {some}Each {noun} is scaled by its own "
        f"largest weight, which stands below it beside its number. {' '.join([scale_sentence(kernels.shape[1:]), *_odd_sentences(dead, constant, noun)])}"
    )
    return f'<p>{words}</p><div class="maps">{"".join(drawn)}</div>'


def dead_filters(kernels: Array) -> Flags:
    """Which filters have no weight above ``DEAD`` of the largest of the layer; all if every weight is 0.

    Args:
        kernels: (F, C, *).

    >>> dead_filters(np.array([[[1.0, -2.0]], [[1e-9, -1e-9]]])).tolist()
    [False, True]
    """
    largest = np.abs(kernels).reshape(len(kernels), -1).max(axis=1)
    found: Flags = largest <= DEAD * largest.max()
    return found


def constant_filters(kernels: Array) -> Flags:
    """Which filters have the same weight everywhere in the window, so that each measures a mean; none of one position.

    Args:
        kernels: (F, C, *).

    >>> constant_filters(np.array([[[0.5, 0.5]], [[0.5, -0.5]]])).tolist()
    [True, False]
    """
    windows = kernels.reshape(*kernels.shape[:2], -1)
    if windows.shape[2] == 1:
        return np.zeros(len(kernels), dtype=bool)
    spread = (windows.max(axis=2) - windows.min(axis=2)).max(axis=1)
    found: Flags = spread <= CONSTANT * np.abs(windows).reshape(len(windows), -1).max(axis=1)
    return found


def _odd_sentences(dead: Flags, constant: Flags, noun: str) -> list[str]:
    """How many filters are dead and how many constant, in words."""
    num_dead, num_constant, found = int(dead.sum()), int((constant & ~dead).sum()), []
    all_of = write_number_of(len(dead), noun)
    if num_dead:
        found.append(
            f"{num_dead} of {all_of} {'is' if num_dead == 1 else 'are'} dead, with weights of nearly 0, and drawn in gray."
        )
    if num_constant:
        found.append(f"{num_constant} of {all_of} {'is' if num_constant == 1 else 'are'} constant.")
    return found


def scale_sentence(shape: Sequence[int]) -> str:
    """How to read the colors of a kernel of this shape, (C, *).

    >>> scale_sentence((3, 5, 5))
    'Gray is 0; red, green and blue are the weights of the three input channels.'
    """
    channels, rank = shape[0], len(shape) - 1
    if rank == 1:
        words = "The line is 0; each curve is an input channel."
    elif rank == 2 and channels == 3:
        words = "Gray is 0; red, green and blue are the weights of the three input channels."
    elif rank == 3:
        words = "White is 0, red positive, blue negative; the slices along the depth stand side by side."
        return f"{words} Only the first of {channels} input channels is drawn." if channels > 1 else words
    else:
        words = "White is 0, red positive, blue negative."
        words += " The input channels stand side by side." if channels > 1 else ""
    is_cut = channels > MAX_CHANNELS
    return f"{words} Only the first {MAX_CHANNELS} of {channels} input channels are drawn." if is_cut else words


def filter_image(kernel: Array, label: str, side: int = FILTER_PX, *, is_dead: bool = False) -> str:
    """One kernel, (C, *), as page text: a curve for signals, else pixels, each input channel about ``side`` wide; a dead one flat or gray."""
    if kernel.ndim == 2:
        kernel = np.zeros_like(kernel) if is_dead else kernel
        top = float(np.abs(kernel).max()) or 1.0
        lines = [("val", line) for line in kernel[:MAX_CHANNELS]]
        return curve(label, lines, lowest=-top, highest=top, size=_CURVE_PX)
    pixels = _drawn_pixels(kernel, is_dead)
    return pixel_image(pixels, label, _longer_side(pixels, side))


def filter_grid(kernels: Array, label: str, *, columns: int = 8, side: int = FILTER_PX) -> str:
    """Kernels in rows as one image, without numbers: for networks beside each other."""
    images = []
    for kernel, is_dead in zip(kernels, dead_filters(kernels), strict=True):
        pixels = _drawn_pixels(kernel, is_dead)
        longer = _longer_side(pixels, side)
        images.append(enlarge(block_means(pixels, longer), longer))
    return image(png(make_grid(images, columns, gap=4)), label, style="pixels")


def kernel_pixels(kernel: Array) -> Pixels:
    """One kernel as pixels, scaled by its largest weight: three input channels in color, gray for 0; else channels or slices side by side.

    Args:
        kernel: (C, *); a kernel of one spatial axis, or of none, is one pixel high.

    >>> kernel_pixels(np.array([[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, -1.0]]])).tolist()
    [[[128, 128, 128], [255, 128, 0]]]
    """
    high = float(np.abs(kernel).max()) or 1.0
    if kernel.ndim == 3 and len(kernel) == 3:
        return as_image(kernel, -high, high)
    if kernel.ndim == 4:
        planes = kernel[0][:MAX_SLICES]
    elif kernel.ndim == 3:
        planes = kernel[:MAX_CHANNELS]
    else:
        planes = kernel.reshape(1, -1, kernel.shape[-1])[:, :MAX_CHANNELS]  # channels as rows
    return make_grid([signed_colors(plane, high) for plane in planes], columns=len(planes), gap=1)


def _drawn_pixels(kernel: Array, is_dead: bool) -> Pixels:
    """The pixels of a kernel, all gray for a dead one."""
    pixels = kernel_pixels(kernel)
    return np.full_like(pixels, _GRAY) if is_dead else pixels


def _longer_side(pixels: Pixels, side: int) -> int:
    """Length of the longer side of a kernel whose channels or slices, side by side, are each ``side`` wide."""
    return side * int(max(1, round(pixels.shape[1] / pixels.shape[0])))
