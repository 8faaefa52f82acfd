"""Which input positions each output position of one axis reads: windows, transposed windows, padding, resizing, slices.

The taps of windows, transposed windows and upsampling come from ``visus.geometry``, as tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.window import Window

Indices = NDArray[np.int64]
Number = int | Fraction


class Taps:
    """The input positions that each output position reads, and the same rule beyond the border.

    Args:
        table: (output length, maximum taps) input positions; ``old_length`` means none.
        old_length: number of input positions.
        lowest, highest: range of the taps of output position 0 in theory, padding included.
        scale: input positions from one output position to the next.
        axis_op: the same as an operation of ``geometry``; None if it has none.

    ``unread`` is the number of input positions at the far edge that no window reaches.
    """

    __slots__ = (
        "all_read",
        "axis_op",
        "highest",
        "is_identity",
        "length",
        "lowest",
        "old_length",
        "scale",
        "table",
        "unread",
    )

    def __init__(
        self, table: Indices, old_length: int, lowest: Number, highest: Number, scale: Number, axis_op: AxisOp | None = None
    ) -> None:
        self.table = table
        self.length = len(table)
        self.old_length = old_length
        self.lowest, self.highest, self.scale, self.axis_op = lowest, highest, scale, axis_op
        self.is_identity = (
            scale == 1 and table.shape == (old_length, 1) and bool((table[:, 0] == np.arange(old_length)).all())
        )
        self.unread = 0
        self.all_read = bool((table != old_length).any(axis=1).all())


@lru_cache(4096)
def window(old_length: int, length: int, kernel_size: int, stride: int, before: int, dilation: int) -> Taps:
    """The taps of a sliding window; ``before`` is the padding before the axis, and may be negative."""
    axis_op = Window(kernel_size, stride, (max(before, 0), 0), dilation)
    table = _table(axis_op, length) - min(before, 0)
    taps = Taps(
        _inside(table, old_length),
        old_length,
        -before,
        axis_op.span - 1 - before,
        stride,
        axis_op if before >= 0 else None,
    )
    taps.unread = max(0, old_length - 1 - int(table.max(initial=-1)))
    return taps


@lru_cache(1024)
def transposed(old_length: int, length: int, kernel_size: int, stride: int, before: int, dilation: int) -> Taps:
    """The taps of a transposed window: input position ``i`` is written to ``i*stride - before + tap*dilation``."""
    axis_op = TransposedWindow(kernel_size, stride, before, 0, dilation)
    table = _inside(_table(axis_op, length), old_length)
    lowest = -(-(before - (kernel_size - 1) * dilation) // stride)
    return Taps(table, old_length, lowest, lowest + axis_op.span - 1, whole_or_fraction(axis_op.jump), axis_op)


def _table(axis_op: Window | TransposedWindow, length: int) -> Indices:
    """(length, most taps): the taps that ``geometry`` knows, which repeat themselves; places far outside stand for none."""
    period = axis_op.period(1)
    rows = [axis_op.taps(position) for position in range(period)]
    table = _ragged(rows, -(2**40))
    times, phases = np.divmod(np.arange(length), period)
    found: Indices = table[phases] + (times * int(period * axis_op.jump))[:, None]
    return found


@lru_cache(1024)
def adaptive(old_length: int, length: int) -> Taps:
    """The taps of an adaptive pooling."""
    starts = [index * old_length // length for index in range(length)]
    ends = [-(-(index + 1) * old_length // length) for index in range(length)]
    widest = max(end - start for start, end in zip(starts, ends, strict=True))
    table = np.array(starts)[:, None] + np.arange(widest)
    table[table >= np.array(ends)[:, None]] = old_length
    return Taps(table, old_length, 0, widest - 1, whole_or_fraction(Fraction(old_length, length)))


@lru_cache(1024)
def resized(old_length: int, length: int, mode: str, align_corners: bool, scale: float | None) -> Taps:
    """The taps of an interpolation: ``nearest``, ``nearest-exact``, ``linear`` or ``cubic``.

    ``scale`` is the ratio of output to input length as the caller set it, None if it follows from the lengths.
    """
    if old_length == length and not (mode == "cubic" and not align_corners and scale not in (None, 1.0)):
        return window(old_length, length, 1, 1, 0, 1)
    ratio = _ratio(old_length, length, align_corners, scale)
    axis_op = _enlarging(ratio, align_corners, mode)
    if axis_op is not None and length == axis_op.output_size(old_length):
        table = _ragged([axis_op.taps_inside(position, old_length) for position in range(length)], old_length)
        first = axis_op.taps(0)
        return Taps(table, old_length, first[0], first[-1], whole_or_fraction(ratio), axis_op)
    shift = Fraction(0) if mode == "nearest" or align_corners else Fraction(1, 2)
    sources = [ratio * (index + shift) - (shift if mode in ("linear", "cubic") else 0) for index in range(length)]
    if mode in ("nearest", "nearest-exact"):
        table = np.array([[min(math.floor(source), old_length - 1)] for source in sources])
        return Taps(table, old_length, 0, 0, whole_or_fraction(ratio))
    reach = (-1, 2) if mode == "cubic" else (0, 1)
    lows = [math.floor(max(source, Fraction(0)) if mode == "linear" else source) for source in sources]
    table = np.clip(np.array(lows)[:, None] + np.arange(reach[0], reach[1] + 1), 0, old_length - 1)
    lowest = math.floor(sources[0])
    return Taps(table, old_length, lowest + reach[0], lowest + reach[1], whole_or_fraction(ratio))


def _ratio(old_length: int, length: int, align_corners: bool, scale: float | None) -> Fraction:
    """Old positions from one new position to the next."""
    if align_corners:
        return Fraction(old_length - 1, length - 1) if length > 1 else Fraction(0)
    return 1 / Fraction(scale).limit_denominator(1 << 20) if scale and scale > 0 else Fraction(old_length, length)


def _enlarging(ratio: Fraction, align_corners: bool, mode: str) -> Upsampling | None:
    """The upsampling of ``geometry``; None if that has none."""
    if ratio.numerator != 1 or align_corners or mode == "cubic":
        return None
    return Upsampling(ratio.denominator, "linear" if mode == "linear" else "nearest")


@lru_cache(1024)
def antialiased(old_length: int, length: int, mode: str, align_corners: bool, scale: float | None) -> Taps:
    """The taps of an interpolation whose kernel widens with the stride, as for ``antialias=True``."""
    step = _ratio(old_length, length, align_corners, scale)
    support = Fraction(2 if mode == "cubic" else 1) * max(step, Fraction(1))
    rows = []
    for index in range(length):
        center = step * (index + Fraction(1, 2))
        low = max(int(center - support + Fraction(1, 2)), 0)
        high = min(int(center + support + Fraction(1, 2)), old_length)
        rows.append(range(low, high))
    start = math.floor(step / 2 - support + Fraction(1, 2))
    widest = max(len(row) for row in rows)
    return Taps(_ragged(rows, old_length), old_length, start, start + max(widest, 1) - 1, whole_or_fraction(step))


@lru_cache(1024)
def padded(old_length: int, before: int, after: int, mode: str) -> Taps:
    """Padding of one axis: ``constant`` (which reads nothing), ``reflect``, ``replicate`` or ``circular``; may be negative."""
    places = np.arange(-before, old_length + after)
    if mode == "reflect":
        places = np.abs(places)
        places = np.where(places >= old_length, 2 * (old_length - 1) - places, places)
    elif mode == "replicate":
        places = np.clip(places, 0, old_length - 1)
    elif mode == "circular":
        places = places % old_length
    axis_op = Window(1, 1, (before, 0)) if before >= 0 else None
    return Taps(_inside(places[:, None], old_length), old_length, -before, -before, 1, axis_op)


@lru_cache(1024)
def sliced(old_length: int, start: int, length: int, step: int) -> Taps:
    """Every ``step``-th position from ``start`` on; a negative step reverses the order."""
    return Taps((start + step * np.arange(length))[:, None], old_length, start, start, step)


@lru_cache(1024)
def rolled(old_length: int, shift: int) -> Taps:
    """Positions shifted cyclically by ``shift``."""
    return Taps(((np.arange(old_length) - shift) % old_length)[:, None], old_length, -shift, -shift, 1)


@lru_cache(1024)
def tiled(old_length: int, num_times: int) -> Taps:
    """The axis repeated end to end."""
    return Taps(np.tile(np.arange(old_length), num_times)[:, None], old_length, 0, 0, 1)


@lru_cache(1024)
def stretched(old_length: int, num_times: int) -> Taps:
    """Each position repeated in place, as in ``repeat_interleave``."""
    table = np.repeat(np.arange(old_length), num_times)[:, None]
    return Taps(table, old_length, 0, 0, whole_or_fraction(Fraction(1, num_times)), Upsampling(num_times))


def picked(old_length: int, places: Sequence[int]) -> Taps:
    """The positions of a list; those outside the axis read nothing."""
    table = np.asarray(places, dtype=np.int64).reshape(-1, 1)
    table = np.where((table < 0) & (table >= -old_length), table + old_length, table)
    first = int(table[0, 0]) if len(table) else 0
    step = int(table[1, 0]) - first if len(table) > 1 else 1
    return Taps(_inside(table, old_length), old_length, first, first, step or 1)


def _inside(table: Indices, old_length: int) -> Indices:
    """The table with ``old_length`` for every place outside the axis."""
    return np.where((table < 0) | (table >= old_length), old_length, table)


def _ragged(rows: Sequence[Sequence[int]], old_length: int) -> Indices:
    table = np.full((len(rows), max((len(row) for row in rows), default=1) or 1), old_length, dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


def whole_or_fraction(number: Fraction) -> Number:
    """A fraction, as an int if it is whole."""
    return number.numerator if number.denominator == 1 else number
