"""Damage check for LZW-compressed data: the number of values, computed without decompression.

A code stands for a string of values. Each code adds a string to the table: its own string plus one value. So the codes alone determine
the length of every string. Damaged codes nearly always change these lengths, and so the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_BITS: Final = 12
MIN_BYTES_PER_CLEAR: Final = 512
"""Minimum average number of bytes between two clear codes. Data with more clear codes is not checked, since each takes as long as thousands of
codes."""
_FREE_CLEARS: Final = 64


@dataclass(frozen=True)
class Dialect:
    """Variant of the LZW format.

    Args:
        literal_bits: bits of one value. ``2 ** literal_bits`` is the clear code, and the next code ends the data.
        highest_first: whether codes start at the highest bit of a byte; otherwise at the lowest.
        grows_early: whether the code width increases one entry before the table needs it.
    """

    literal_bits: int = 8
    highest_first: bool = False
    grows_early: bool = False


TIFF: Final = Dialect(highest_first=True, grows_early=True)


def has_num_values(packed: bytes, dialect: Dialect, num_values: int) -> bool | None:
    """Whether the data decompresses to exactly ``num_values`` values; None if it has too many clear codes to check.

    After these values, only the end code, the end of the data, or zero padding may follow.

    >>> packed = bytes.fromhex("8c2d99872a1cdc33a00275ec95faa8de608c04914c01")
    >>> has_num_values(packed, Dialect(literal_bits=2), 100), has_num_values(packed, Dialect(literal_bits=2), 99)
    (True, False)
    """
    data, num_bits = np.frombuffer(packed + bytes(3), np.uint8), 8 * len(packed)
    clear, growing = 1 << dialect.literal_bits, _template(dialect)
    length = place = num_clears = 0
    full: npt.NDArray[np.int64] | None = None  # lengths of the strings of a full table
    while True:
        widths, starts = growing if full is None else _FIXED
        is_there = place + starts + widths <= num_bits
        widths, starts = widths[is_there], place + starts[is_there]
        codes = _read(data, starts, widths, highest_first=dialect.highest_first)
        stops = np.flatnonzero((codes == clear) | (codes == clear + 1))
        count = int(stops[0]) if len(stops) else len(codes)
        found = _lengths(codes[:count], clear + 2) if full is None else _full_lengths(codes[:count], full, clear + 2)
        sums = length + np.cumsum(found)
        at = int(np.searchsorted(sums, num_values))
        if at < len(sums):
            is_at_stop = at + 1 == count
            return bool(sums[at] == num_values) and (
                is_at_stop or _is_zero(data, int(starts[at] + widths[at]), highest_first=dialect.highest_first)
            )
        if (
            len(found) < count
            or (count == len(codes) and not is_there.all())
            or (count < len(codes) and codes[count] > clear)
        ):
            return False
        length += int(found.sum())
        if count < len(codes):
            full, num_clears = None, num_clears + 1
            if num_clears > _FREE_CLEARS + len(packed) // MIN_BYTES_PER_CLEAR:
                return None
        elif full is None:
            full = found + 1
        last = min(count, len(codes) - 1)
        place = int(starts[last] + widths[last])


def _is_zero(data: npt.NDArray[np.uint8], place: int, *, highest_first: bool) -> bool:
    """Whether all bits from ``place`` on are zero."""
    first, bit = place >> 3, place & 7
    head = int(data[first]) & (0xFF >> bit) if highest_first else int(data[first]) >> bit
    return head == 0 and not data[first + 1 :].any()


@cache
def _template(dialect: Dialect) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Width and start of each code in bits, from the clear code up to the code that fills the table."""
    first = (1 << dialect.literal_bits) + 2
    in_table = range(first - 1, 1 << MAX_BITS)
    bits = [min(max((entry + dialect.grows_early).bit_length(), dialect.literal_bits + 1), MAX_BITS) for entry in in_table]
    widths = np.array([dialect.literal_bits + 1, *bits[1:]])
    return widths, np.cumsum(widths) - widths


_FIXED: Final = np.full(1 << MAX_BITS, MAX_BITS), MAX_BITS * np.arange(1 << MAX_BITS)
"""Widths and starts of the codes of a full table, in bits."""


def _read(
    data: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], widths: npt.NDArray[np.int64], *, highest_first: bool
) -> npt.NDArray[np.int64]:
    """The codes that start at these bits."""
    byte, bit = at >> 3, at & 7
    first, second, third = (data[byte + offset].astype(np.int64) for offset in range(3))
    if highest_first:
        window = ((first << 16) | (second << 8) | third) >> (24 - bit - widths)
    else:
        window = (first | (second << 8) | (third << 16)) >> bit
    codes: npt.NDArray[np.int64] = window & ((1 << widths) - 1)
    return codes


def _lengths(codes: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.int64]:
    """String length of each code since the clear code, up to the first code that is not in the table yet.

    The k-th code adds the entry ``first + k``, which is one value longer than the code's own string.
    """
    parents = codes - first
    absent = np.flatnonzero(parents >= np.arange(len(codes)))
    parents = np.maximum(parents[: absent[0]] if len(absent) else parents, -1)
    lengths = np.ones(len(parents), np.int64)
    while (deep := np.flatnonzero(parents >= 0)).size:  # pointer doubling
        above = parents[deep]
        lengths[deep] += lengths[above]
        parents[deep] = parents[above]
    return lengths


def _full_lengths(codes: npt.NDArray[np.int64], full: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.int64]:
    """String length of each code after the table is full, up to the first code that is not in it."""
    entries = codes - first
    absent = np.flatnonzero(entries >= len(full))
    entries = entries[: absent[0]] if len(absent) else entries
    return np.where(entries < 0, 1, full[np.maximum(entries, 0)])
