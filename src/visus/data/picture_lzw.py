"""How long LZW-compressed data is when it is unpacked, without unpacking it.

This file knows the codes of GIF and of TIFF. It must not know files, pixels or errors.

A code stands for a string of values, and each code that is read adds a string to the table: its own with one value more. So the
length of every string follows from the codes alone. Codes that were changed stand for strings of other lengths, and the sum shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

MAX_BITS = 12


@dataclass(frozen=True)
class Dialect:
    """How codes are written.

    Args:
        literal_bits: bits of one value; ``2 ** literal_bits`` is the code that empties the table, and the next one ends the data.
        is_tiff: codes begin at the highest bit, and grow one entry early; otherwise they begin at the lowest, as in a GIF.
    """

    literal_bits: int = 8
    is_tiff: bool = False


TIFF = Dialect(is_tiff=True)


def unpacked_length(packed: bytes, dialect: Dialect) -> int | None:
    """Number of values that LZW data unpacks to; None where a code stands for nothing.

    >>> unpacked_length(bytes.fromhex("8c2d99872a1cdc33a00275ec95faa8de608c04914c01"), Dialect(literal_bits=2))
    100
    """
    data, num_bits = np.frombuffer(packed + bytes(3), np.uint8).astype(np.uint32), 8 * len(packed)
    clear = 1 << dialect.literal_bits
    growing = _template(dialect)
    length = place = 0
    full: npt.NDArray[np.int64] | None = None  # lengths of the strings of a table that takes no more
    while True:
        widths, starts = growing if full is None else _FIXED
        is_there = place + starts + widths <= num_bits
        widths, starts = widths[is_there], place + starts[is_there]
        codes = _read(data, starts, widths, is_tiff=dialect.is_tiff)
        stops = np.flatnonzero((codes == clear) | (codes == clear + 1))
        count = int(stops[0]) if len(stops) else len(codes)
        found = _lengths(codes[:count], clear + 2) if full is None else _looked_up(codes[:count], full, clear + 2)
        if found is None:
            return None
        length += int(found.sum())
        if count < len(codes):
            if codes[count] == clear + 1:
                return length
            full = None
        elif not is_there.all():
            return length
        elif full is None:
            full = found + 1
        last = min(count, len(codes) - 1)
        place = int(starts[last] + widths[last])


@cache
def _template(dialect: Dialect) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Bits of each code since the table was emptied, and where it begins, up to the code that fills the table."""
    first = (1 << dialect.literal_bits) + 2
    in_table = range(first - 1, 1 << MAX_BITS)
    bits = [min(max((each + dialect.is_tiff).bit_length(), dialect.literal_bits + 1), MAX_BITS) for each in in_table]
    widths = np.array([dialect.literal_bits + 1, *bits[1:]])
    return widths, np.cumsum(widths) - widths


_FIXED = np.full(1 << MAX_BITS, MAX_BITS), MAX_BITS * np.arange(1 << MAX_BITS)
"""Bits of the codes of a full table, and where they begin."""


def _read(
    data: npt.NDArray[np.uint32], at: npt.NDArray[np.int64], widths: npt.NDArray[np.int64], *, is_tiff: bool
) -> npt.NDArray[np.int64]:
    """The codes that begin at these bits."""
    byte, bit = at >> 3, at & 7
    first, second, third = data[byte], data[byte + 1], data[byte + 2]
    if is_tiff:
        window = ((first << 16) | (second << 8) | third).astype(np.int64) >> (24 - bit - widths)
    else:
        window = (first | (second << 8) | (third << 16)).astype(np.int64) >> bit
    codes: npt.NDArray[np.int64] = window & ((1 << widths) - 1)
    return codes


def _lengths(codes: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.int64] | None:
    """Length of the string of each code since the table was emptied; None where one is not in the table yet.

    The code of number k makes the entry ``first + k``, which is one value longer than the code's own string.
    """
    parents = codes - first
    if np.any(parents >= np.arange(len(codes))):
        return None
    lengths, parents = np.ones(len(codes), np.int64), np.maximum(parents, -1)
    while (deep := np.flatnonzero(parents >= 0)).size:  # jump twice as far each time
        above = parents[deep]
        lengths[deep] += lengths[above]
        parents[deep] = parents[above]
    return lengths


def _looked_up(codes: npt.NDArray[np.int64], full: npt.NDArray[np.int64], first: int) -> npt.NDArray[np.int64] | None:
    """Lengths of the strings of codes whose table takes no more."""
    entries = codes - first
    if np.any(entries >= len(full)):
        return None
    return np.where(entries < 0, 1, full[np.maximum(entries, 0)])
