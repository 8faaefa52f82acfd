"""Sets of positions on one axis, stored as integers: bit ``i`` stands for position ``i``. Also the positions that an axis
operation reads.

Shifts move all positions at once, so a million of them cost little more than one.
"""

from __future__ import annotations

from functools import lru_cache

from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.window import Window

Positions = tuple[int, int]
"""A set of positions: the first one, and a number whose bit ``i`` stands for position ``first + i``."""


@lru_cache(maxsize=4096)
def bits_read(axis_op: AxisOp, input_size: int, bits: int) -> int:
    """``positions_read`` for sets that begin at position 0.

    >>> from visus.geometry import Window
    >>> bin(bits_read(Window(2, dilation=2), 5, 0b001)), bin(bits_read(Window(1, stride=2), 5, 0b111))
    ('0b101', '0b10101')
    """
    first, read = positions_read(axis_op, input_size, (0, bits))
    return read << first


def positions_read(axis_op: AxisOp, input_size: int, positions: Positions) -> Positions:
    """The positions of an axis of ``input_size`` that an axis operation reads for a set of output positions.

    Zero padding adds no positions; a mirrored border adds the positions that it copies. Linear upsampling reads the two
    neighbors that torch multiplies, even if one of them has weight 0: its NaN reaches the output.

    >>> from visus.geometry import Window
    >>> first, bits = positions_read(Window(3, stride=2, padding=(1, 1)), 10**9, (10**8, 0b11))
    >>> first, bin(bits)
    (199999999, '0b11111')
    """
    first, bits = positions
    if isinstance(axis_op, TransposedWindow):  # q = x*stride - padding + j*dilation, solved for x
        lowest = first + axis_op.padding - (axis_op.kernel_size - 1) * axis_op.dilation
        origin = lowest // axis_op.stride
        reached = _or_shifted_up(bits, axis_op.kernel_size, axis_op.dilation) << lowest - origin * axis_op.stride
        read = origin, subsample_bits(reached, axis_op.stride)
    elif isinstance(axis_op, Upsampling):
        read = _read_by_upsampling(axis_op, first, bits)
    else:
        read = first * axis_op.stride - axis_op.padding[0], _read_by_window(axis_op, bits)
        if axis_op.reflect:
            return reflect(input_size, read)
    return clip(input_size, read)


def clip(size: int, positions: Positions) -> Positions:
    """The positions that lie on an axis of this size.

    >>> clip(3, (-2, 0b111111))
    (0, 7)
    """
    first, bits = positions
    if first < 0:
        first, bits = 0, bits >> -first
    if first + bits.bit_length() > size:
        bits &= (1 << max(0, size - first)) - 1
    return first, bits


def reflect(size: int, positions: Positions) -> Positions:
    """The positions, with those beyond the ends of an axis mirrored at its first and its last position.

    >>> reflect(4, (-2, 0b11)), reflect(4, (4, 0b11))
    ((0, 6), (1, 3))
    """
    first, bits = positions
    found = clip(size, positions)
    if first < 0 and (before := bits & (1 << -first) - 1):
        found = merge(found, clip(size, (1 - before.bit_length() - first, _reversed(before))))
    end = first + bits.bit_length()
    if end > size and (after := bits >> max(0, size - first)):
        found = merge(found, clip(size, (2 * (size - 1) - end + 1, _reversed(after))))
    return found


def merge(one: Positions, other: Positions) -> Positions:
    """The union of two sets.

    >>> merge((3, 0b1), (1, 0b11))
    (1, 7)
    """
    first = min(one[0], other[0])
    return first, one[1] << one[0] - first | other[1] << other[0] - first


def any_within(bits: int, num: int) -> int:
    """Bit ``i`` is set where any of the bits from ``i`` to ``i + num - 1`` is.

    >>> bin(any_within(0b10000, 3))
    '0b11100'
    """
    return _or_shifted_down(bits, num, 1)


def spread_bits(bits: int, stride: int) -> int:
    """Bit ``i`` moved to ``i*stride``.

    >>> bin(spread_bits(0b111, 3))
    '0b1001001'
    """
    if stride == 1 or bits < 2:
        return bits
    return int(("0" * (stride - 1)).join(f"{bits:b}"), 2)


def subsample_bits(bits: int, stride: int) -> int:
    """Bit ``i*stride`` moved to ``i``; those between are dropped.

    >>> bin(subsample_bits(0b1001001, 3))
    '0b111'
    """
    return bits if stride == 1 else int(f"{bits:b}"[::-1][::stride][::-1], 2)


def _read_by_window(window: Window, bits: int) -> int:
    """The positions that a window reads, counted from its first tap at output position 0."""
    if window.dilation == 1 and window.stride <= window.kernel_size and bits and not bits & (bits + 1):  # no gaps
        return (1 << (bits.bit_length() - 1) * window.stride + window.kernel_size) - 1
    return _or_shifted_up(spread_bits(bits, window.stride), window.kernel_size, window.dilation)


def _read_by_upsampling(upsampling: Upsampling, first: int, bits: int) -> Positions:
    scale = upsampling.scale_factor
    half = scale // 2 if upsampling.mode == "linear" else 0  # lines run from the middle of a position to that of the next
    origin = (first - half) // scale
    bits <<= first - half - origin * scale
    low = origin, subsample_bits(_or_shifted_down(bits, scale, 1), scale)
    if upsampling.mode == "nearest" or scale == 1:
        return low
    if origin < 0:  # before the middle of position 0 its own value is held
        low = merge((0, low[1] & 1), (origin + 1, low[1] >> 1))
    return low[0], low[1] | low[1] << 1


def _reversed(bits: int) -> int:
    return int(f"{bits:b}"[::-1], 2)


def _or_shifted_up(bits: int, num: int, step: int) -> int:
    """The union of ``num`` copies of the bits, each moved up by ``step`` more than the one before."""
    done = 1
    while done < num:
        more = min(done, num - done)
        bits, done = bits | bits << more * step, done + more
    return bits


def _or_shifted_down(bits: int, num: int, step: int) -> int:
    done = 1
    while done < num:
        more = min(done, num - done)
        bits, done = bits | bits >> more * step, done + more
    return bits
