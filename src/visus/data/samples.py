"""The frozen table of a dataset (sample, label, split, group), and readers for image files and rows of arrays.

Shape letters: n samples, C channels; ``spatial`` is (length,), (height, width) or (depth, height, width).
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from visus.data.tasks import TaskName, count_labels, label_text
from visus.tables import Brief
from visus.units import write_number_of

SPLITS = ("train", "val", "test")
UNASSIGNED = ""


class Reader(Protocol):
    """Access to the pixels of the samples in a table.

    ``kind`` is ``"images"`` for files to be decoded (use ``path``), or ``"array"`` for rows of arrays (use ``read``).
    ``shape`` is (channels, *spatial) of every row, and ``dtype`` its type; both are None for image files.
    """

    @property
    def kind(self) -> Literal["images", "array"]: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> np.dtype[Any] | None: ...
    def __len__(self) -> int: ...
    def read(self, index: int | slice | NDArray[np.int64]) -> NDArray[Any]: ...
    def path(self, index: int) -> Path: ...
    def select(self, indices: NDArray[np.int64]) -> Reader: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class ImageFiles:
    """Samples that are image files under ``root``; a sample may be an absolute path or lead outside with ``..``."""

    root: Path
    names: tuple[str, ...]

    @property
    def kind(self) -> Literal["images", "array"]:
        """Always ``"images"``."""
        return "images"

    @property
    def shape(self) -> None:
        """Unknown until each file is decoded."""

    @property
    def dtype(self) -> None:
        """Unknown until each file is decoded."""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Path of the file of sample ``index``."""
        return self.root / self.names[index]

    def read(self, index: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        """Not supported: ``visus.data.images.decode`` decodes image files."""
        raise TypeError("samples are image files: decode the file at path(index)")

    def select(self, indices: NDArray[np.int64]) -> ImageFiles:
        """The files of these samples, in this order."""
        return ImageFiles(self.root, tuple(self.names[index] for index in indices))

    def release(self) -> None:
        """Does nothing: no memory is held."""


class ArrayRows:
    """Samples that are rows of one or more arrays, one array per published part, as (n, channels, *spatial).

    An array is loaded when one of its rows is first read, and kept until ``release``. Values keep their dtype, in the byte order
    of this machine.

    Args:
        parts: for each part, its number of rows and a function that loads it as (n, channels, *spatial).
        shape: (channels, *spatial) of every row.
        dtype: type of the values.
        order: row of each sample, counted through all parts; None for all rows in order.
        layout: axes of the stored arrays in letters, such as ``NLC``.
    """

    kind: Literal["array"] = "array"

    def __init__(
        self,
        parts: Sequence[tuple[int, Callable[[], NDArray[Any]]]],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        order: NDArray[np.int64] | None = None,
        layout: str | None = None,
    ) -> None:
        self.shape = shape
        self.layout = layout
        self.dtype = dtype.newbyteorder("=")
        self._parts = tuple(parts)
        self._ends = [int(end) for end in np.cumsum([num_rows for num_rows, _ in self._parts])]
        self._order = order
        self._loaded: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._order is None else len(self._order)

    def read(self, index: int | slice | NDArray[np.int64]) -> NDArray[Any]:
        """The rows of these samples as a contiguous array. Do not write to it: it may be a view.

        Args:
            index: one sample, a slice of samples, or an array of sample indices (any order, repeats allowed).

        Returns:
            (channels, *spatial) for one sample, else (n, channels, *spatial).
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._rows(np.arange(start, stop, step, dtype=np.int64))
        if isinstance(index, np.ndarray):
            return self._rows(index.astype(np.int64))
        row: NDArray[Any] = self._rows(np.array([index], dtype=np.int64))[0]
        return row

    def path(self, index: int) -> Path:
        """Not supported: a row of an array has no file."""
        raise TypeError("samples are rows of arrays, not files: use read(index)")

    def select(self, indices: NDArray[np.int64]) -> ArrayRows:
        """The rows of these samples, in this order."""
        order = np.asarray(indices, dtype=np.int64)
        chosen = order if self._order is None else self._order[order]
        return ArrayRows(self._parts, self.shape, self.dtype, chosen, self.layout)

    def release(self) -> None:
        """Free the loaded arrays; they are loaded again when needed."""
        self._loaded.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}}

    def _rows(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        if len(samples) and (samples.min() < -len(self) or samples.max() >= len(self)):
            raise IndexError(f"sample {int(samples.max())} of {len(self)}")
        samples = np.where(samples < 0, samples + len(self), samples)
        rows = samples if self._order is None else self._order[samples]
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            part = bisect.bisect_right(self._ends, int(rows[0]))
            if rows[-1] < self._ends[part]:  # consecutive rows of one part need no copy
                first = int(rows[0]) - (self._ends[part] - self._parts[part][0])
                return np.ascontiguousarray(self._part(part)[first : first + len(rows)], dtype=self.dtype)
        result = np.empty((len(rows), *self.shape), dtype=self.dtype)
        which = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(which):
            chosen = which == part
            result[chosen] = self._part(int(part))[rows[chosen] - (self._ends[part] - self._parts[part][0])]
        return result

    def _part(self, part: int) -> NDArray[Any]:
        if part not in self._loaded:
            self._loaded[part] = self._parts[part][1]()
        return self._loaded[part]


@dataclass(frozen=True, eq=False, repr=False)
class Samples(Brief):
    """A dataset as one table. Entry ``i`` of every field belongs to sample ``i``.

    Attributes:
        root: the folder or file of the dataset.
        kind: "folder", "split folders", "table", "idx", "cifar", "npz" or "npy".
        name: name of the dataset.
        names: path relative to ``root`` (or to the table), in natural order; or ``train[17]`` for a row of an array file.
        labels: the array of the task (``visus.data.tasks``): of single labels int64, index into ``classes``.
        classes: class names, from the training split alone; of regression, the names of the targets.
        splits: "train", "val" or "test"; "" if the source does not say (``visus.data.splits.split_samples`` decides then).
        groups: samples that must stay in the same split, such as a patient or a speaker; None if the source has no groups.
        contents: int64; equal for samples with identical bytes.
        fingerprint: 64 hexadecimal digits that change with any sample, content, label, class, group or official split.
        reader: reads the pixels.
        official: the splits that the source itself defines.
        warnings: sentences about possible mistakes in the data.
        notes: sentences about how the source was read.
        digests: SHA-256 of each sample's bytes.
        task: what a label is, one of ``visus.data.tasks.TASKS``.
        file: the table; None for other sources.
    """

    root: Path
    kind: str
    name: str
    names: tuple[str, ...]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: tuple[str, ...] | None
    contents: NDArray[np.int64]
    fingerprint: str
    reader: Reader
    official: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = ()
    task: TaskName = "single-label"
    file: Path | None = None

    def _words(self) -> str:
        return f"{self.name}: {write_number_of(len(self.names), 'sample')} of {write_number_of(len(self.classes), 'class', 'classes')}"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def place(self) -> str:
        """The folder or file of the dataset in messages: of a table its file, while ``root`` is the folder of its paths."""
        return str(self.file or self.root)

    @property
    def num_samples(self) -> int:
        """Number of samples in all splits."""
        return len(self.names)

    def indices(self, split: str) -> NDArray[np.int64]:
        """The indices of the samples of a split, ascending."""
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def class_counts(self, split: str | None = None) -> NDArray[np.int64]:
        """Number of samples of each class, in one split or in all splits; of regression, the number of samples for each target."""
        labels = self.labels if split is None else self.labels[self.splits == split]
        return count_labels(labels, len(self.classes))

    def label_texts(self) -> list[str]:
        """The text of each label."""
        return [label_text(label, self.task, self.classes) for label in self.labels]

    def select(self, indices: NDArray[np.int64]) -> Samples:
        """The table of these samples only. Classes and fingerprint remain those of the whole dataset."""
        return dataclasses.replace(
            self,
            names=tuple(self.names[index] for index in indices),
            labels=self.labels[indices],
            splits=self.splits[indices],
            groups=None if self.groups is None else tuple(self.groups[index] for index in indices),
            contents=self.contents[indices],
            reader=self.reader.select(indices),
            digests=tuple(self.digests[index] for index in indices) if self.digests else (),
        )
