"""Batches as slices of the decoded array, in a seeded order that can be entered at any place.

This file knows rows, order and batches. Order and augmentation of a step depend on the seed, the epoch and the step alone, so a
training that was stopped anywhere goes on with the numbers that it would have had.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from visus.data.augment import Augmentation, BatchRandom, shrink
from visus.data.preprocessing import Pixels, Preprocessing

MIN_IN_ORDER, MAX_VALUES = 16, 2**23  # samples, and input values, of a batch that is only looked at
RESIDENT_SHARE = 0.25  # of a device's free memory, that the samples of a training may take so that no step waits for them


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one split.

    Args:
        name: ``train``, ``val`` or ``test``.
        pixels: the whole store, shape (N, C, *).
        indices: rows of the store that belong to this split.
        labels: class index of each of these rows.
        names: of its samples.
    """

    name: str
    pixels: Pixels
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def slice(self, places: slice) -> Part:
        """Some of the samples that follow each other."""
        return Part(self.name, self.pixels, self.indices[places], self.labels[places], self.names[places])

    def rows(self, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """Unscaled numbers of the samples at ``places`` of this split, copied out of the store."""
        return torch.from_numpy(np.ascontiguousarray(self.pixels[self.indices[places]]))


@dataclass(frozen=True)
class BatchShard:
    """Which slice of every batch is this process's, where several train together: number ``index`` of ``count``, equal but for one sample.

    >>> [BatchShard(index, 3).of(8) for index in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    index: int = 0
    count: int = 1

    def of(self, num_samples: int) -> slice:
        """The places among ``num_samples``."""
        return slice(num_samples * self.index // self.count, num_samples * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Batch:
    """Scaled inputs (N, C, *) and class indices (N,), on the device; ``step`` counts within the epoch.

    ``all_labels`` are those of the whole batch where this is a slice of it, else None.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    step: int
    all_labels: torch.Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Samples of the whole batch."""
        return len(self.labels if self.all_labels is None else self.all_labels)


@dataclass(frozen=True, eq=False)
class Batches:
    """Training batches of one split, each epoch in its own order, each sample at most once an epoch.

    With a ``share``, each is a slice of the batch that there would be without: the same samples in the same places, changed by the same numbers.
    With ``is_balanced`` each class is drawn equally often instead: the samples of a rare class come several times in an epoch, those of a common one in turn.
    The last batch is left out where it would be smaller than the others, unless it is the only one; the order changes, so every sample has its turn.
    """

    part: Part
    preprocessing: Preprocessing
    batch_size: int
    seed: int
    augmentation: Augmentation
    device: torch.device
    channels_last: bool
    share: BatchShard = BatchShard()
    is_balanced: bool = False

    @property
    def num_steps(self) -> int:
        """Batches in one epoch; at least 1."""
        return max(1, len(self.part) // self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0, side: Callable[[], float] = lambda: 1.0) -> Iterator[Batch]:
        """The batches of one epoch, from ``first_step`` on.

        Args:
            epoch: which epoch, from 0.
            first_step: where to begin.
            side: asked before each batch: the part of the whole side at which its samples are given.
        """
        order = self._balanced_order(epoch) if self.is_balanced else self._order(epoch)
        for step in range(first_step, self.num_steps):
            places = order[step * self.batch_size : (step + 1) * self.batch_size]
            inputs = self._inputs(places, epoch, step, side())
            labels = torch.from_numpy(self.part.labels[places]).to(self.device)
            mine, is_whole = self.share.of(len(places)), self.share.count == 1
            yield Batch(in_memory_format(inputs, self.channels_last), labels[mine], step, None if is_whole else labels)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Every sample once."""
        return torch.randperm(len(self.part), generator=random_stream(self.seed, "order", epoch)).numpy()

    def _balanced_order(self, epoch: int) -> npt.NDArray[np.int64]:
        """As many draws as there are samples, the classes in turn; within a class its samples in a random order, again and again, over the epochs."""
        labels = self.part.labels
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        num_draws = -(-len(labels) // len(members))
        columns = []
        for number, places in enumerate(members):
            rounds = range(epoch * num_draws // len(places), ((epoch + 1) * num_draws - 1) // len(places) + 1)
            drawn = [
                places[torch.randperm(len(places), generator=random_stream(self.seed, "balanced", number, each)).numpy()]
                for each in rounds
            ]
            first = epoch * num_draws - rounds[0] * len(places)
            columns.append(np.concatenate(drawn)[first : first + num_draws])
        rows = np.stack(columns, 1)
        turned = torch.rand(rows.shape, generator=random_stream(self.seed, "order", epoch)).argsort(1).numpy()
        return np.take_along_axis(rows, turned, 1).flatten()[: len(labels)]

    def _inputs(self, places: npt.NDArray[np.int64], epoch: int, step: int, side: float) -> torch.Tensor:
        """This process's samples among those of the whole batch, changed, scaled and made smaller."""
        mine = self.share.of(len(places))
        stream = BatchRandom(random_stream(self.seed, "augmentation", epoch, step), len(places), mine)
        places = places[mine]
        mirrored = self._first_mirrored[places] ^ bool(epoch % 2) if self.augmentation.flip == "alternating" else None
        rows = self.part.rows(places).to(self.device) if self._there is None else self._there[torch.from_numpy(places)]
        inputs = self.augmentation(rows, stream, scale=self.preprocessing.scale_values, mirrored=mirrored)
        inputs = self.preprocessing.shuffled(inputs)  # last, so that the changes are those of the true image
        return shrink(inputs, side) if side < 1 else inputs

    @cached_property
    def _there(self) -> torch.Tensor | None:
        """The stored numbers of the split on the device, where they take little of its memory; None where batches come from the store one by one."""
        stored = self.part.pixels
        num_bytes = stored.dtype.itemsize * math.prod(stored.shape[1:]) * len(self.part)
        if num_bytes > RESIDENT_SHARE * free_bytes(self.device):
            return None
        return torch.from_numpy(np.ascontiguousarray(stored[self.part.indices])).to(self.device)

    @cached_property
    def _first_mirrored(self) -> torch.Tensor:
        """Which samples are mirrored in the first epoch, and every second one after it."""
        return torch.rand(len(self.part), generator=random_stream(self.seed, "mirrored")) < 0.5


def free_bytes(device: torch.device) -> int:
    """Memory of a device of its own that is free; 0 for the processor, which has the store mapped into its memory, and where it cannot be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def batches_in_order(part: Part, preprocessing: Preprocessing, batch_size: int) -> Iterator[torch.Tensor]:
    """All samples of a split once, in their order, scaled and unaugmented; the last batch may be smaller.

    Batches of large samples are smaller than ``batch_size``, so that what a network makes of them fits into little memory.
    """
    batch_size = max(1, min(batch_size, max(MIN_IN_ORDER, MAX_VALUES // math.prod(preprocessing.input_shape))))
    for start in range(0, len(part), batch_size):
        yield preprocessing.scaled(part.rows(np.arange(start, min(start + batch_size, len(part)))))


def in_memory_format(batch: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The batch laid out channels last where that is asked for and exists (2-D and 3-D)."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if channels_last and batch.ndim in formats:
        return batch.contiguous(memory_format=formats[batch.ndim])
    return batch.contiguous()


def random_stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator of its own for each purpose: the same words, the same numbers, whatever was drawn elsewhere."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
