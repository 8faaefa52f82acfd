"""Which samples a run was trained on, found by content: hashes of its training and validation samples, saved in its
folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from visus.data.batches import Part
from visus.data.contents import Hashes, content_hashes
from visus.data.opened import Data
from visus.errors import DataError
from visus.evaluation.tasks.evaluations.evaluation import Marks
from visus.training.runs import RunFolder

FILE: Final = "contents.npz"
_SPLITS: Final = ("train", "val")


@dataclass(frozen=True, eq=False)
class Known:
    """Hashes of the samples that a run has used.

    Attributes:
        train: hashes of the training samples.
        val: hashes of the validation samples, which selected its weights.
    """

    train: Hashes
    val: Hashes

    def marks(self, hashes: Hashes) -> Marks:
        """For each sample, whether it was a training sample, and whether it was only a validation sample."""
        learned = np.isin(hashes, self.train)
        return learned, np.isin(hashes, self.val) & ~learned


def known_of(data: Data) -> Known:
    """The hashes of the samples that a training on this data uses."""
    return Known(*(content_hashes(data.split(name)) for name in _SPLITS))


def write_known(folder: RunFolder, data: Data) -> None:
    """Save the hashes in the run."""
    if folder.is_ours:
        known = known_of(data)
        folder.write_arrays(FILE, train=known.train, val=known.val)


def read_known(folder: RunFolder) -> Known | None:
    """The saved hashes of a run; None for a run of an older version, which did not save them.

    Raises:
        RunError: the file is damaged.
    """
    found = folder.read_arrays(FILE, _SPLITS, "Remove it: the run's own data is then asked.")
    return None if found is None else Known(*found)


def known_samples(folder: RunFolder, part: Part, data: Data, open_own: Callable[[], Data]) -> tuple[Marks | None, list[str]]:
    """Marks for the samples of a split, and a note if nothing is known about them.

    Args:
        folder: the run folder.
        part: the samples.
        data: the data that contains them.
        open_own: opens the run's own data, for runs without saved hashes.
    """
    known = read_known(folder)
    if known is None:
        is_own = not data.is_whole and data.fingerprint == folder.read_json("data.json")["fingerprint"]
        try:
            known = known_of(data if is_own else open_own())
        except DataError as error:
            return None, [f"Whether these {data.noun}s were learned from is not known: {error}"]
    return known.marks(content_hashes(part)), []
