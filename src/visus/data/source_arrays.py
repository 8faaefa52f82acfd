"""Rows of arrays as samples: the meaning of each axis.

Layout letters: N samples, C channels, L length, D depth, H height, W width. Samples are returned as (C, *spatial).
The table gives the layout of an array that does not state its own. "Few" means 1 to 4. "Error" means that the user must state it:

=====  ===================================  ===================================================================
axes   arrays of images (IDX, MedMNIST)   plain arrays (x, y)
=====  ===================================  ===================================================================
2      NL                                   NL
3      NHW                                  NHW where both axes are equal and at least 5, or both are at least 16
                                            and neither is more than twice the other; else NCL or NLC where the
                                            longer axis, the length, is at least 8 times the shorter, or the shorter
                                            is 1; else an error
4      NHWC where the last axis is 1, 3     NHWC where the last axis is few and the second is not, NCHW where the
       or 4, else NDHW                      second is few and the last is not, else an error
5      NDHWC where the last axis is 1, 3    NDHWC or NCDHW in the same way, else an error
       or 4, else NCDHW
=====  ===================================  ===================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.samples import ArrayRows
from visus.data.source_rules import FoundSamples
from visus.data.tasks import TaskName
from visus.errors import DataError, unknown_name
from visus.units import write_number_of, write_shape

Style = Literal["images", "plain"]
ARRAY_LAYOUTS = ("NL", "NCL", "NLC", "NHW", "NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC")
_CHANNEL_COUNTS = (1, 3, 4)
_FEW = (1, 2, 3, 4)
_MIN_LENGTH_RATIO = 8  # of the length to the number of channels, to tell the two axes apart
_WORDS = {"N": "samples", "C": "channels", "L": "length", "D": "depth", "H": "height", "W": "width"}


class TrainedLayout(str):
    """The layout that a network was trained on. It applies to arrays with the same number of axes, unless their file states another."""


@dataclass(frozen=True)
class ArrayPart:
    """One array of samples: the prefix of its sample names, its split, its shape and type, and a function that loads it."""

    word: str
    split: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]


def layout_of(shape: Sequence[int], style: Style) -> str | None:
    """The layout letters by the table at the top of this file; None if no rule applies.

    >>> layout_of((100, 28, 28), "plain"), layout_of((100, 128, 9), "plain"), layout_of((100, 32, 32, 3), "plain")
    ('NHW', 'NLC', 'NHWC')
    >>> layout_of((100, 64, 64, 64), "images"), layout_of((100, 64, 64, 64), "plain")
    ('NDHW', None)
    """
    if style == "images":
        last_is_channels = shape[-1] in _CHANNEL_COUNTS
        return {
            2: "NL",
            3: "NHW",
            4: "NHWC" if last_is_channels else "NDHW",
            5: "NDHWC" if last_is_channels else "NCDHW",
        }.get(len(shape))
    match len(shape):
        case 2:
            return "NL"
        case 3:
            low, high = sorted(shape[1:])
            if (low == high >= 5) or (low >= 16 and high <= 2 * low):
                return "NHW"
            return (
                None if low == high or (low > 1 and high < _MIN_LENGTH_RATIO * low) else "NCL" if shape[1] == low else "NLC"
            )
        case 4 | 5:
            is_first, is_last = shape[1] in _FEW, shape[-1] in _FEW
            spatial = "HW" if len(shape) == 4 else "DHW"
            return None if is_first == is_last else f"NC{spatial}" if is_first else f"N{spatial}C"
    return None


def possible_layouts(num_axes: int) -> tuple[str, ...]:
    """The layouts with ``num_axes`` axes.

    >>> possible_layouts(3)
    ('NCL', 'NLC', 'NHW')
    """
    return tuple(layout for layout in ARRAY_LAYOUTS if len(layout) == num_axes)


def channels_first(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """The same values as (N, C, *spatial): a view with the channel axis moved or added; bool becomes uint8."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    return np.moveaxis(array, layout.index("C"), 1) if "C" in layout else array[:, np.newaxis]


def samples_in_arrays(
    root: Path,
    kind: str,
    name: str,
    parts: Sequence[ArrayPart],
    labels: Sequence[str | tuple[str, ...]],
    *,
    style: Style = "images",
    layout: str | None = None,
    declared: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
    task: TaskName = "single-label",
) -> FoundSamples:
    """The rows of all parts as samples, in the order of the parts. All parts have the layout of the first.

    Args:
        root: the file or folder.
        kind: ``Samples.kind``.
        name: name of the dataset.
        parts: the arrays.
        labels: the label of each row, through all parts.
        style: which column of the table at the top of this file applies.
        layout: layout letters; None follows the table.
        declared: class names in the published order.
        groups: group of each row.
        splits: split of each row; default: the splits of the parts.
        notes: further notes for the user.
        task: what a label is.

    Raises:
        DataError: a dtype or a number of axes is not supported, or the shapes of the parts differ.
    """
    letters, shape = _common_layout(root, parts, style, layout)
    dtype = np.dtype(np.uint8) if parts[0].dtype == np.bool_ else parts[0].dtype
    reader = ArrayRows([(part.shape[0], partial(_load, part.load, letters)) for part in parts], shape, dtype, layout=letters)
    if style == "plain":
        others = [other for other in possible_layouts(len(letters)) if other != letters]
        hint = f"; {option('layout')} selects another layout ({', '.join(others)})" if others and layout is None else ""
        notes = (f"an array of {write_shape(parts[0].shape)} is read as ({_axes(letters)}){hint}.", *notes)
    return FoundSamples(
        root=root,
        kind=kind,
        name=name,
        names=[f"{part.word}[{row}]" for part in parts for row in range(part.shape[0])],
        labels=labels,
        splits=splits if splits is not None else [part.split for part in parts for _ in range(part.shape[0])],
        reader=reader,
        groups=groups,
        declared=() if task == "regression" else declared,
        notes=notes,
        task=task,
        targets=declared if task == "regression" else (),
    )


def _common_layout(root: Path, parts: Sequence[ArrayPart], style: Style, layout: str | None) -> tuple[str, tuple[int, ...]]:
    first = parts[0]
    if isinstance(layout, TrainedLayout) and (len(layout) != len(first.shape) or style == "images"):
        layout = None
    if layout is not None and layout not in ARRAY_LAYOUTS:
        raise DataError(unknown_name("layout", layout, ARRAY_LAYOUTS), where=str(root))
    letters = layout or (layout_of(first.shape, style) if len(first.shape) > 1 else None)
    if letters is None and possible_layouts(len(first.shape)):
        ways = "; ".join(f"{other} is {_sizes(first.shape, other)}" for other in possible_layouts(len(first.shape)))
        raise DataError(
            f"the layout of the array {first.word}, shape {write_shape(first.shape)}, is ambiguous: {ways}. Choose one with "
            f"{option('layout')}, or store an array named layout in the file.",
            where=str(root),
        )
    if letters is None or len(letters) != len(first.shape):
        needed = f"the layout {layout} has {len(layout)} axes" if layout else "2 to 5 axes are needed, samples first"
        raise DataError(f"the array {first.word} has the shape {write_shape(first.shape)}; {needed}.", where=str(root))
    shapes = []
    for part in parts:
        if part.dtype.kind not in "buif" or part.dtype.itemsize > 8:
            raise DataError(
                f"the array {part.word} has the type {part.dtype}; integers or floating-point numbers of at most 64 bits are needed.",
                where=str(root),
            )
        if part.dtype != first.dtype:
            raise DataError(
                f"the array {first.word} has the type {first.dtype} but {part.word} has {part.dtype}. "
                "Save both with the same type.",
                where=str(root),
            )
        shapes.append(_sample_shape(part.shape, letters))
        if shapes[-1] != shapes[0]:
            raise DataError(
                f"samples of {first.word} are {write_shape(first.shape[1:])} but those of {part.word} are "
                f"{write_shape(part.shape[1:])}. Save them with the same shape.",
                where=str(root),
            )
    if 0 in shapes[0]:
        raise DataError(
            f"samples of {first.word} are empty: their shape is {write_shape(first.shape[1:])}.", where=str(root)
        )
    return letters, shapes[0]


def _axes(letters: str) -> str:
    return ", ".join(_WORDS[letter] for letter in letters)


def _sizes(shape: tuple[int, ...], letters: str) -> str:
    """Axes of a sample with their lengths, such as ``128 channels, length 9``."""
    pairs = zip(letters[1:], shape[1:], strict=True)
    return ", ".join(
        write_number_of(size, "channel") if letter == "C" else f"{_WORDS[letter]} {size:,}" for letter, size in pairs
    )


def _sample_shape(shape: tuple[int, ...], letters: str) -> tuple[int, ...]:
    if len(shape) != len(letters):
        return shape
    if "C" not in letters:
        return (1, *shape[1:])
    channels = letters.index("C")
    return (shape[channels], *(length for axis, length in enumerate(shape) if axis not in (0, channels)))


def _load(load: Callable[[], NDArray[Any]], layout: str) -> NDArray[Any]:
    return channels_first(load(), layout)
