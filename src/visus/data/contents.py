"""Hashes of the decoded values of samples.

Samples with equal hashes are equal to a network, whatever the names and formats of their files: a PNG and its lossless copy in
another format have the same hash.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from visus.data.batches import Part
from visus.data.preprocessing import Pixels

Hashes = npt.NDArray[np.uint64]

_CHUNK_BYTES = 2**26


def content_hashes(part: Part) -> Hashes:
    """A 64-bit hash of the stored values of each sample, before normalization; shape (num_samples,).

    >>> pixels = np.array([[[1, 2]], [[1, 2]], [[2, 1]]], np.uint8)
    >>> first, second, third = content_hashes(Part("train", pixels, np.arange(3), np.zeros(3, np.int64), ("a", "b", "c")))
    >>> bool(first == second), bool(first == third)
    (True, False)
    """
    row_bytes = max(1, part.pixels.dtype.itemsize * math.prod(part.pixels.shape[1:]))
    num_rows = max(1, _CHUNK_BYTES // row_bytes)
    chunks = range(0, len(part), num_rows)
    found = [hash_rows(part.pixels[part.indices[start : start + num_rows]]) for start in chunks]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def hash_rows(rows: Pixels | Iterable[Pixels]) -> Hashes:
    """A 64-bit BLAKE2b hash of the bytes of each row."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
