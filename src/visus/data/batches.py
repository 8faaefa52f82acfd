"""Batches of decoded samples in a seeded random order, which can start at any step.

The order and the augmentation of a step depend only on the seed, the epoch and the step, so a resumed training gets the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from visus.data.augment import Augmentation, BatchRandom, Pairs, UnitScale, shrink
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.rows_ahead import RowsAhead
from visus.tables import Brief, ShortFields
from visus.units import write_number_of

MIN_IN_ORDER, MAX_VALUES = 16, 2**23  # minimum samples and maximum input values of an evaluation batch
RESIDENT_FRACTION = 0.25  # maximum fraction of a device's free memory for keeping all training samples on it


@dataclass(frozen=True, eq=False, repr=False)
class Part(Brief):
    """The samples of one split.

    Args:
        name: ``train``, ``val`` or ``test``.
        pixels: the whole store, shape (N, C, *).
        indices: rows of the store that belong to this split.
        labels: label of each sample, in the array of the task (``visus.data.tasks``).
        names: name of each sample.

    >>> data.split("train")
    Part(train: 43 samples)
    """

    name: str
    pixels: Pixels
    indices: npt.NDArray[np.int64]
    labels: npt.NDArray[Any]
    names: tuple[str, ...]

    def _words(self) -> str:
        return f"{self.name}: {write_number_of(len(self), 'sample')}"

    def __len__(self) -> int:
        return len(self.indices)

    def slice(self, places: slice) -> Part:
        """A slice of the samples.

        >>> data.split("train").slice(slice(0, 4))
        Part(train: 4 samples)
        """
        return Part(self.name, self.pixels, self.indices[places], self.labels[places], self.names[places])

    def rows(self, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """Stored values of the samples at ``places`` of this split, copied; not normalized.

        >>> import numpy as np
        >>> data.split("train").rows(np.array([0, 1])).shape
        torch.Size([2, 3, 8, 8])
        """
        return torch.from_numpy(np.ascontiguousarray(self.pixels[self.indices[places]]))


@dataclass(frozen=True)
class BatchShard:
    """The slice of every batch for one of several training processes. Sizes differ by at most one sample.

    Args:
        index: number of the process, from 0.
        count: number of processes.

    >>> [BatchShard(index, 3).of(8) for index in range(3)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    index: int = 0
    count: int = 1

    def of(self, num_samples: int) -> slice:
        """The slice of a batch of ``num_samples``."""
        return slice(num_samples * self.index // self.count, num_samples * (self.index + 1) // self.count)


@dataclass(frozen=True, repr=False)
class Batch(ShortFields):
    """A batch on the device.

    Args:
        inputs: normalized inputs (N, C, *).
        labels: labels (N,) or (N, outputs), in the array of the task.
        step: number of the batch within the epoch, from 0.
        all_labels: labels of the whole batch if this is a shard of it, else None.
        other_labels: labels of the samples that these are mixed with, as ``labels``; None if samples are not mixed.
        share: (N,) share of each sample's own label, 0 to 1; that of the other label is the rest. None if samples are not mixed.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    step: int
    all_labels: torch.Tensor | None = None
    other_labels: torch.Tensor | None = None
    share: torch.Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Number of samples of the whole batch."""
        return len(self.labels if self.all_labels is None else self.all_labels)

    def slices(self, count: int) -> list[Batch]:
        """The batch in ``count`` slices of equal size, or one sample more, which know the labels of the whole batch.

        Every tensor with a value for each sample is sliced. There are at most as many slices as samples.

        >>> batch = Batch(torch.zeros(5, 1), torch.arange(5), 0)
        >>> [part.labels.tolist() for part in batch.slices(2)]
        [[0, 1], [2, 3, 4]]
        """
        num, count = len(self.labels), max(1, min(count, len(self.labels)))
        if count == 1:
            return [self]
        whole = self.labels if self.all_labels is None else self.all_labels
        found: dict[str, object] = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "all_labels"
        }
        parts = {name: value for name, value in found.items() if isinstance(value, torch.Tensor) and len(value) == num}
        shards = [BatchShard(number, count).of(num) for number in range(count)]
        return [
            replace(self, all_labels=whole, **{name: value[shard] for name, value in parts.items()})  # type: ignore[arg-type]
            for shard in shards
        ]

    @property
    def main_labels(self) -> torch.Tensor:
        """The label of each sample; of a mixed one, the label with the larger share."""
        if self.share is None or self.other_labels is None:
            return self.labels
        is_own = (self.share >= 0.5).reshape(-1, *[1] * (self.labels.ndim - 1))
        return torch.where(is_own, self.labels, self.other_labels)

    def mean_loss(self, loss: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]) -> torch.Tensor:
        """The loss of the batch: of the labels, or of both labels of mixed samples by their shares.

        Args:
            loss: function of labels and of the weight (N,) of each sample's loss, or None for equal weights, which returns the mean loss.
        """
        if self.share is None or self.other_labels is None:
            return loss(self.labels, None)
        return loss(self.labels, self.share) + loss(self.other_labels, 1 - self.share)


@dataclass(frozen=True, eq=False)
class Batches:
    """Training batches of one split, in a new order for each epoch, with each sample at most once per epoch.

    An incomplete last batch is dropped, unless it is the only one. Since the order changes, every sample is used in some epoch.

    Args:
        part: the training samples.
        preprocessing: normalization of the samples.
        batch_size: number of samples of a whole batch.
        seed: seed of order and augmentation.
        augmentation: random changes of the samples.
        device: device of the batches.
        channels_last: whether inputs are channels-last in memory.
        shard: the shard of this process. Its samples and their augmentation are the same as in the whole batch.
        is_balanced: whether each class is drawn equally often. Samples of a rare class then occur several times per epoch, and those of a
            common class only in some epochs.
    """

    part: Part
    preprocessing: Preprocessing
    batch_size: int
    seed: int
    augmentation: Augmentation
    device: torch.device
    channels_last: bool
    shard: BatchShard = BatchShard()
    is_balanced: bool = False

    @property
    def num_steps(self) -> int:
        """Number of batches per epoch; at least 1."""
        return max(1, len(self.part) // self.batch_size)

    def epoch(self, epoch: int, first_step: int = 0, side: Callable[[], float] = lambda: 1.0) -> Iterator[Batch]:
        """The batches of one epoch, from ``first_step`` on.

        Args:
            epoch: number of the epoch, from 0.
            first_step: number of the first batch.
            side: called before each batch; returns the side length of its samples as a fraction of the full side.
        """
        order = self._balanced_order(epoch) if self.is_balanced else self._order(epoch)
        of_step = [order[step * self.batch_size : (step + 1) * self.batch_size] for step in range(self.num_steps)]
        for step in range(first_step, self.num_steps):
            places = of_step[step]
            inputs, pairs = self._inputs(places, epoch, step, side())
            labels = torch.from_numpy(self.part.labels[places]).to(self.device)
            shard_slice, is_whole = self.shard.of(len(places)), self.shard.count == 1
            if step + 1 < self.num_steps and self._resident_samples is None:
                self._rows.start(of_step[step + 1][self.shard.of(len(of_step[step + 1]))])
            yield Batch(
                in_memory_format(inputs, self.channels_last),
                labels[shard_slice],
                step,
                None if is_whole else labels,
                None if pairs is None else labels[pairs.other.to(self.device)],
                None if pairs is None else pairs.share.to(self.device),
            )

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """A random order with every sample once."""
        return torch.randperm(len(self.part), generator=random_stream(self.seed, "order", epoch)).numpy()

    def _balanced_order(self, epoch: int) -> npt.NDArray[np.int64]:
        """A random order of the same length with every class equally often.

        Each class cycles through its samples in a random order, across epochs.
        """
        labels = self.part.labels
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        num_draws = -(-len(labels) // len(members))
        columns = []
        for number, places in enumerate(members):
            cycles = range(epoch * num_draws // len(places), ((epoch + 1) * num_draws - 1) // len(places) + 1)
            drawn = [
                places[torch.randperm(len(places), generator=random_stream(self.seed, "balanced", number, cycle)).numpy()]
                for cycle in cycles
            ]
            first = epoch * num_draws - cycles[0] * len(places)
            columns.append(np.concatenate(drawn)[first : first + num_draws])
        rows = np.stack(columns, 1)
        class_order = torch.rand(rows.shape, generator=random_stream(self.seed, "order", epoch)).argsort(1).numpy()
        return np.take_along_axis(rows, class_order, 1).flatten()[: len(labels)]

    def _inputs(
        self, places: npt.NDArray[np.int64], epoch: int, step: int, side: float
    ) -> tuple[torch.Tensor, Pairs | None]:
        """The samples of this process's shard: augmented, normalized, mixed and resized; and how they are mixed."""
        num_samples, augmentation = len(places), self.augmentation
        mixing = random_stream(self.seed, "mixing", epoch, step)
        pairs = augmentation.pairs(mixing, num_samples, self.preprocessing.size)
        own = torch.arange(num_samples)[self.shard.of(num_samples)]
        pairs = None if pairs is None else pairs.of(own)
        needed = own  # a process augments its shard, and the samples that this is mixed with
        if self.shard.count > 1 and augmentation.needs_whole_batch:
            needed = torch.arange(num_samples)
        elif self.shard.count > 1 and pairs is not None:
            needed = torch.from_numpy(np.union1d(own.numpy(), pairs.other.numpy()))
        inputs = self._augmented(places, needed, epoch, step)
        if len(needed) != len(own) or pairs is not None:
            place_of = torch.full((num_samples,), -1).scatter(0, needed, torch.arange(len(needed)))
            chosen = inputs if len(needed) == len(own) else inputs[place_of[own].to(self.device)]
            inputs = chosen if pairs is None else pairs.mix(chosen, inputs[place_of[pairs.other].to(self.device)])
        inputs = self.preprocessing.shuffled(inputs)  # last, so that augmentation applies to the unshuffled image
        return shrink(inputs, side) if side < 1 else inputs, pairs

    def _augmented(self, places: npt.NDArray[np.int64], needed: torch.Tensor, epoch: int, step: int) -> torch.Tensor:
        """The ``needed`` samples of a whole batch, augmented and normalized."""
        stream = BatchRandom(random_stream(self.seed, "augmentation", epoch, step), len(places), needed)
        places = places[needed.numpy()]
        mirrored = self._first_mirrored[places] ^ bool(epoch % 2) if self.augmentation.alternates else None
        resident = self._resident_samples
        rows = self._rows.get(places) if resident is None else resident[torch.from_numpy(places)]
        scale = self.preprocessing.scale_values
        return self.augmentation(rows, stream, scale=scale, mirrored=mirrored, unit=self._unit)

    @cached_property
    def _unit(self) -> UnitScale:
        """How normalized values become values from 0 to 1, for transforms of colors."""
        return unit_scale(self.preprocessing)

    @cached_property
    def _rows(self) -> RowsAhead:
        """Where rows come from if the split is not on the device."""
        return RowsAhead(self.part.rows, self.device)

    @cached_property
    def _resident_samples(self) -> torch.Tensor | None:
        """The stored values of the whole split on the device, if they fit into a fraction of its memory; else None."""
        stored = self.part.pixels
        num_bytes = stored.dtype.itemsize * math.prod(stored.shape[1:]) * len(self.part)
        if num_bytes > RESIDENT_FRACTION * free_bytes(self.device):
            return None
        return torch.from_numpy(np.ascontiguousarray(stored[self.part.indices])).to(self.device)

    @cached_property
    def _first_mirrored(self) -> torch.Tensor:
        """Which samples are mirrored in even epochs; the others are mirrored in odd epochs."""
        return torch.rand(len(self.part), generator=random_stream(self.seed, "mirrored")) < 0.5


def unit_scale(preprocessing: Preprocessing) -> UnitScale:
    """How the network's inputs become values from 0 (black) to 1 (white).

    8-bit samples are divided by 255. Others are from 0 to 1 with min-max normalization; with mean and deviation, two standard deviations below the mean
    are 0, and two above it are 1.
    """
    if preprocessing.dtype == "uint8":
        divisor, offset = (torch.tensor(values) / 255 for values in (preprocessing.divisor, preprocessing.offset))
        return UnitScale(divisor, offset)
    if preprocessing.normalize == "min-max":
        return UnitScale(torch.tensor(1.0), torch.tensor(0.0))
    return UnitScale(torch.tensor(0.25), torch.tensor(0.5))


def free_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device in bytes; 0 for other devices. The CPU needs no copy, since the store is memory-mapped."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def batches_in_order(part: Part, preprocessing: Preprocessing, batch_size: int) -> Iterator[torch.Tensor]:
    """All samples of a split once, in order, normalized and not augmented; the last batch may be smaller.

    Batches of large samples are smaller than ``batch_size``, to limit the memory of the network's activations.
    """
    batch_size = max(1, min(batch_size, max(MIN_IN_ORDER, MAX_VALUES // math.prod(preprocessing.input_shape))))
    for start in range(0, len(part), batch_size):
        yield preprocessing.scaled(part.rows(np.arange(start, min(start + batch_size, len(part)))))


def in_memory_format(batch: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The batch in contiguous memory, channels-last if requested and if it has 2 or 3 spatial axes."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if channels_last and batch.ndim in formats:
        return batch.contiguous(memory_format=formats[batch.ndim])
    return batch.contiguous()


def random_stream(seed: int, *purpose: str | int) -> torch.Generator:
    """An independent random generator for a purpose. The same seed and purpose always yield the same numbers."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
