"""Opened data in other splits, without reading or decoding anything again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from visus.data.opened import Data


def in_splits(data: Data, splits: Sequence[str | None], notes: Sequence[str] = ()) -> Data:
    """The readable samples that have a split, in it.

    Args:
        data: opened data.
        splits: the split of each sample of ``data.table``; None or "" for samples that are left out.
        notes: sentences that are added to those of the data; with them, warnings about the former split are dropped.
    """
    named = np.array([split or "" for split in splits], dtype="<U5")
    table = dataclasses.replace(data.table, splits=named)
    rows = data.rows[named[data.rows] != ""]
    samples = table.select(rows)
    samples = dataclasses.replace(
        samples,
        notes=(*data.samples.notes, *notes),
        warnings=data.samples.warnings if not notes else samples.warnings,
    )
    return dataclasses.replace(data, table=table, samples=samples, rows=rows, is_whole=False)
