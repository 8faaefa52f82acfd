"""Sets of positions on one axis as whole numbers, whose bit ``i`` stands for position ``i``, and which of them an axis operation reads.

All positions are moved at once by shifts, so a million of them cost little more than one. This file knows marks and axis operations on
one axis.
"""

from __future__ import annotations

from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.window import Window

Positions = tuple[int, int]
"""A set of positions: the first one, and a number whose bit ``i`` stands for position ``first + i``."""


def bits_read(axis_op: AxisOp, input_size: int, positions: int) -> int:
    """The positions of an axis of ``input_size`` that these places of an axis operation read; those of a mirrored border are left out.

    >>> from visus.geometry import Window
    >>> bin(bits_read(Window(2, dilation=2), 5, 0b001)), bin(bits_read(Window(1, stride=2), 5, 0b111))
    ('0b101', '0b10101')
    """
    if isinstance(axis_op, TransposedWindow):  # q = x*stride - padding + j*dilation, solved for x
        read = subsample_bits(
            _shifted_down(positions << axis_op.padding, axis_op.kernel_size, axis_op.dilation), axis_op.stride
        )
    elif isinstance(axis_op, Upsampling):
        read = _enlarged_from(axis_op, positions)
    else:
        read = (
            _shifted_up(spread_bits(positions, axis_op.stride), axis_op.kernel_size, axis_op.dilation) >> axis_op.padding[0]
        )
    return read & ((1 << input_size) - 1)


def positions_of_op(axis_op: AxisOp, input_size: int, positions: Positions) -> Positions:
    """The positions of an axis of ``input_size`` that these places of an axis operation read, a mirrored border counted as what it shows.

    Unlike ``bits_read``, what torch multiplies by 0 at the far side of a linear upsampling counts too: NaN there is NaN here.

    >>> from visus.geometry import Window
    >>> first, marks = positions_of_op(Window(3, stride=2, padding=(1, 1)), 10**9, (10**8, 0b11))
    >>> first, bin(marks)
    (199999999, '0b11111')
    """
    first, marks = positions
    if isinstance(axis_op, TransposedWindow):  # q = x*stride - padding + j*dilation, solved for x
        back = first + axis_op.padding - (axis_op.kernel_size - 1) * axis_op.dilation
        origin = back // axis_op.stride
        reached = _shifted_up(marks, axis_op.kernel_size, axis_op.dilation) << back - origin * axis_op.stride
        found = origin, subsample_bits(reached, axis_op.stride)
    elif isinstance(axis_op, Upsampling):
        found = _places_enlarged(axis_op, first, marks)
    else:
        found = first * axis_op.stride - axis_op.padding[0], _under_windows(axis_op, marks)
        if axis_op.reflect:
            return mirrored_positions(input_size, found)
    return inside(input_size, found)


def inside(size: int, positions: Positions) -> Positions:
    """The places that lie on an axis of this size.

    >>> inside(3, (-2, 0b111111))
    (0, 7)
    """
    first, marks = positions
    if first < 0:
        first, marks = 0, marks >> -first
    if first + marks.bit_length() > size:
        marks &= (1 << max(0, size - first)) - 1
    return first, marks


def mirrored_positions(size: int, positions: Positions) -> Positions:
    """The places, those beyond the ends of an axis replaced by what a mirror at its first and its last pixel shows.

    >>> mirrored_positions(4, (-2, 0b11)), mirrored_positions(4, (4, 0b11))
    ((0, 6), (1, 3))
    """
    first, marks = positions
    found = inside(size, positions)
    if first < 0 and (before := marks & (1 << -first) - 1):
        found = merged(found, inside(size, (1 - before.bit_length() - first, _reversed(before))))
    end = first + marks.bit_length()
    if end > size and (after := marks >> max(0, size - first)):
        found = merged(found, inside(size, (2 * (size - 1) - end + 1, _reversed(after))))
    return found


def merged(one: Positions, other: Positions) -> Positions:
    """The places of both.

    >>> merged((3, 0b1), (1, 0b11))
    (1, 7)
    """
    first = min(one[0], other[0])
    return first, one[1] << one[0] - first | other[1] << other[0] - first


def _under_windows(axis_op: Window, marks: int) -> int:
    """What the windows at these places read, counted from the first tap of place 0."""
    if axis_op.dilation == 1 and axis_op.stride <= axis_op.kernel_size and marks and not marks & (marks + 1):  # side by side
        return (1 << (marks.bit_length() - 1) * axis_op.stride + axis_op.kernel_size) - 1
    return _shifted_up(spread_bits(marks, axis_op.stride), axis_op.kernel_size, axis_op.dilation)


def _places_enlarged(axis_op: Upsampling, first: int, marks: int) -> Positions:
    scale = axis_op.scale_factor
    half = scale // 2 if axis_op.mode == "linear" else 0  # a line is drawn from the middle of a position to that of the next
    origin = (first - half) // scale
    marks <<= first - half - origin * scale
    low = origin, subsample_bits(_shifted_down(marks, scale, 1), scale)
    if axis_op.mode == "nearest" or scale == 1:
        return low
    if origin < 0:  # before the middle of position 0 its own value is held
        low = merged((0, low[1] & 1), (origin + 1, low[1] >> 1))
    return low[0], low[1] | low[1] << 1


def any_within(marks: int, each: int) -> int:
    """Mark ``i`` set where any of the marks from ``i`` to ``i + each - 1`` is.

    >>> bin(any_within(0b10000, 3))
    '0b11100'
    """
    return _shifted_down(marks, each, 1)


def _reversed(marks: int) -> int:
    return int(f"{marks:b}"[::-1], 2)


def spread_bits(marks: int, stride: int) -> int:
    """Mark ``i`` moved to ``i*stride``.

    >>> bin(spread_bits(0b111, 3))
    '0b1001001'
    """
    if stride == 1 or marks < 2:
        return marks
    return int(("0" * (stride - 1)).join(f"{marks:b}"), 2)


def subsample_bits(marks: int, stride: int) -> int:
    """Mark ``i*stride`` moved to ``i``; those between are left out.

    >>> bin(subsample_bits(0b1001001, 3))
    '0b111'
    """
    return marks if stride == 1 else int(f"{marks:b}"[::-1][::stride][::-1], 2)


def _enlarged_from(axis_op: Upsampling, positions: int) -> int:
    """What an upsampling reads: each position has ``scale_factor`` places, which a straight line draws from it to the next one."""
    scale = axis_op.scale_factor
    if axis_op.mode == "nearest" or scale == 1:
        return subsample_bits(_shifted_down(positions, scale, 1), scale)
    half, is_odd = scale // 2, scale % 2  # the first of an odd number of places lies right on the position
    moved = positions >> half
    nearer = subsample_bits(_shifted_down(moved, scale, 1), scale)
    further = subsample_bits(_shifted_down(moved >> is_odd, scale - is_odd, 1), scale)
    return nearer | further << 1 | (positions & ((1 << half) - 1) != 0)


def _shifted_up(marks: int, times: int, by: int) -> int:
    """The marks, and the same moved up by ``by``, by twice as much, ..., ``times`` sets in all."""
    done = 1
    while done < times:
        more = min(done, times - done)
        marks, done = marks | marks << more * by, done + more
    return marks


def _shifted_down(marks: int, times: int, by: int) -> int:
    done = 1
    while done < times:
        more = min(done, times - done)
        marks, done = marks | marks >> more * by, done + more
    return marks
