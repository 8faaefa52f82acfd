"""Sets of positions on one axis as whole numbers, whose bit ``i`` stands for position ``i``, and which of them a lens reads.

All positions are moved at once by shifts, so a million of them cost little more than one. This file knows marks and lenses on
one axis.
"""

from __future__ import annotations

from visus.geometry.enlarging import AxisOp, TransposedWindow, Upsampling
from visus.geometry.window import Window

Places = tuple[int, int]
"""A set of positions: the first one, and a number whose bit ``i`` stands for position ``first + i``."""


def marks_read(lens: AxisOp, input_size: int, places: int) -> int:
    """The positions of an axis of ``input_size`` that these places of a lens read; those of a mirrored border are left out.

    >>> from visus.geometry import Window
    >>> bin(marks_read(Window(2, dilation=2), 5, 0b001)), bin(marks_read(Window(1, stride=2), 5, 0b111))
    ('0b101', '0b10101')
    """
    if isinstance(lens, TransposedWindow):  # q = x*stride - padding + j*dilation, solved for x
        read = every(_shifted_down(places << lens.padding, lens.kernel_size, lens.dilation), lens.stride)
    elif isinstance(lens, Upsampling):
        read = _enlarged_from(lens, places)
    else:
        read = _shifted_up(apart(places, lens.stride), lens.kernel_size, lens.dilation) >> lens.padding[0]
    return read & ((1 << input_size) - 1)


def places_read(lens: AxisOp, input_size: int, places: Places) -> Places:
    """The positions of an axis of ``input_size`` that these places of a lens read, a mirrored border counted as what it shows.

    Unlike ``marks_read``, what torch multiplies by 0 at the far side of a linear upsampling counts too: NaN there is NaN here.

    >>> from visus.geometry import Window
    >>> first, marks = places_read(Window(3, stride=2, padding=(1, 1)), 10**9, (10**8, 0b11))
    >>> first, bin(marks)
    (199999999, '0b11111')
    """
    first, marks = places
    if isinstance(lens, TransposedWindow):  # q = x*stride - padding + j*dilation, solved for x
        back = first + lens.padding - (lens.kernel_size - 1) * lens.dilation
        origin = back // lens.stride
        reached = _shifted_up(marks, lens.kernel_size, lens.dilation) << back - origin * lens.stride
        found = origin, every(reached, lens.stride)
    elif isinstance(lens, Upsampling):
        found = _places_enlarged(lens, first, marks)
    else:
        found = first * lens.stride - lens.padding[0], _under_windows(lens, marks)
        if lens.reflect:
            return mirrored_places(input_size, found)
    return inside(input_size, found)


def inside(size: int, places: Places) -> Places:
    """The places that lie on an axis of this size.

    >>> inside(3, (-2, 0b111111))
    (0, 7)
    """
    first, marks = places
    if first < 0:
        first, marks = 0, marks >> -first
    if first + marks.bit_length() > size:
        marks &= (1 << max(0, size - first)) - 1
    return first, marks


def mirrored_places(size: int, places: Places) -> Places:
    """The places, those beyond the ends of an axis replaced by what a mirror at its first and its last pixel shows.

    >>> mirrored_places(4, (-2, 0b11)), mirrored_places(4, (4, 0b11))
    ((0, 6), (1, 3))
    """
    first, marks = places
    found = inside(size, places)
    if first < 0 and (before := marks & (1 << -first) - 1):
        found = merged(found, inside(size, (1 - before.bit_length() - first, _reversed(before))))
    end = first + marks.bit_length()
    if end > size and (after := marks >> max(0, size - first)):
        found = merged(found, inside(size, (2 * (size - 1) - end + 1, _reversed(after))))
    return found


def merged(one: Places, other: Places) -> Places:
    """The places of both.

    >>> merged((3, 0b1), (1, 0b11))
    (1, 7)
    """
    first = min(one[0], other[0])
    return first, one[1] << one[0] - first | other[1] << other[0] - first


def _under_windows(lens: Window, marks: int) -> int:
    """What the windows at these places read, counted from the first tap of place 0."""
    if lens.dilation == 1 and lens.stride <= lens.kernel_size and marks and not marks & (marks + 1):  # side by side
        return (1 << (marks.bit_length() - 1) * lens.stride + lens.kernel_size) - 1
    return _shifted_up(apart(marks, lens.stride), lens.kernel_size, lens.dilation)


def _places_enlarged(lens: Upsampling, first: int, marks: int) -> Places:
    scale = lens.scale_factor
    half = scale // 2 if lens.mode == "linear" else 0  # a line is drawn from the middle of a position to that of the next
    origin = (first - half) // scale
    marks <<= first - half - origin * scale
    low = origin, every(_shifted_down(marks, scale, 1), scale)
    if lens.mode == "nearest" or scale == 1:
        return low
    if origin < 0:  # before the middle of position 0 its own value is held
        low = merged((0, low[1] & 1), (origin + 1, low[1] >> 1))
    return low[0], low[1] | low[1] << 1


def any_of(marks: int, each: int) -> int:
    """Mark ``i`` set where any of the marks from ``i`` to ``i + each - 1`` is.

    >>> bin(any_of(0b10000, 3))
    '0b11100'
    """
    return _shifted_down(marks, each, 1)


def _reversed(marks: int) -> int:
    return int(f"{marks:b}"[::-1], 2)


def apart(marks: int, stride: int) -> int:
    """Mark ``i`` moved to ``i*stride``.

    >>> bin(apart(0b111, 3))
    '0b1001001'
    """
    if stride == 1 or marks < 2:
        return marks
    return int(("0" * (stride - 1)).join(f"{marks:b}"), 2)


def every(marks: int, stride: int) -> int:
    """Mark ``i*stride`` moved to ``i``; those between are left out.

    >>> bin(every(0b1001001, 3))
    '0b111'
    """
    return marks if stride == 1 else int(f"{marks:b}"[::-1][::stride][::-1], 2)


def _enlarged_from(lens: Upsampling, places: int) -> int:
    """What an upsampling reads: each position has ``scale_factor`` places, which a straight line draws from it to the next one."""
    scale = lens.scale_factor
    if lens.mode == "nearest" or scale == 1:
        return every(_shifted_down(places, scale, 1), scale)
    half, is_odd = scale // 2, scale % 2  # the first of an odd number of places lies right on the position
    moved = places >> half
    nearer = every(_shifted_down(moved, scale, 1), scale)
    further = every(_shifted_down(moved >> is_odd, scale - is_odd, 1), scale)
    return nearer | further << 1 | (places & ((1 << half) - 1) != 0)


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
