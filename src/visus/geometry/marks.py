"""Sets of positions on one axis as whole numbers, whose bit ``i`` stands for position ``i``, and which of them a lens reads.

All positions are moved at once by shifts, so a million of them cost little more than one. This file knows marks and lenses on one
axis. It must not know layers, a second axis, networks or torch.
"""

from __future__ import annotations

from visus.geometry.enlarging import TransposedWindow, Upsampling
from visus.geometry.reads import Lens


def marks_read(lens: Lens, input_size: int, places: int) -> int:
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


def apart(marks: int, stride: int) -> int:
    """Mark ``i`` moved to ``i*stride``.

    >>> bin(apart(0b111, 3))
    '0b1001001'
    """
    return marks if stride == 1 or marks < 2 else int(("0" * (stride - 1)).join(f"{marks:b}"), 2)


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
