"""Datasets that a program holds, of PyTorch or Hugging Face: which they are, their parts, and their samples with labels and groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from visus.data.array_labels import refuse_repeated_names
from visus.data.given_arrays import is_missing
from visus.errors import DataError, UsageError
from visus.workbench.hugging_face import Columns, find_columns

_SPLITS: Final = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}


def is_table(value: object) -> bool:
    """Whether a value is a table of pandas."""
    return hasattr(value, "to_csv") and hasattr(value, "columns")


def is_dataset(value: object) -> bool:
    """Whether a value is a dataset of PyTorch or Hugging Face, a list of pairs (sample, label), or a mapping of splits to them."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_dataset, value.values()))
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, tuple) and len(each) == 2 for each in value)
    is_plain = (
        isinstance(value, (str, bytes, os.PathLike, Sequence, np.ndarray)) or hasattr(value, "detach") or is_table(value)
    )
    return not is_plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def refuse_streams(value: object) -> None:
    """Raise an error for a stream of samples, which has no length, and for a mapping of parts with one.

    Raises:
        UsageError: it is one.
    """
    found = list(value.values()) if isinstance(value, Mapping) else [value]
    streams = [each for each in found if hasattr(each, "__iter__") and not hasattr(each, "__len__") and not is_table(each)]
    if any(hasattr(each, "features") for each in streams):
        raise UsageError(
            "this is a streaming dataset, which has no length. Load it without streaming: datasets.load_dataset(name), without streaming=True."
        )
    if streams:
        raise UsageError(
            f"a {type(streams[0]).__name__} has no length. Give a list of its pairs (sample, label): visus.open_data(list(dataset))."
        )


@dataclass(frozen=True)
class Row:
    """A sample of a dataset, with its label.

    Args:
        name: such as ``row 4 of the dataset``, for errors.
        sample: an image of Pillow, an array or a tensor.
        label: as the dataset has it; of several columns, a list or vector.
        group: its group; None without groups.
    """

    name: str
    sample: Any
    label: Any
    group: int | str | None = None


@dataclass(frozen=True)
class Part:
    """One dataset, which is a split or all.

    Args:
        dataset: has a length, and returns a sample with its label for a place.
        name: as the user wrote it; empty for data without parts.
        names: class names in the order of the labels; empty where labels are names.
        columns: the columns of a dataset that returns mappings; None for one of pairs.
    """

    dataset: Any
    name: str = ""
    names: tuple[str, ...] = ()
    columns: Columns | None = None

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``; empty for data without parts."""
        return _SPLITS.get(self.name, "")

    def rows(self, task: str | None) -> Iterator[Row]:
        """The samples with their labels.

        Raises:
            UsageError: the dataset returns something else.
            DataError: a sample is missing or cannot be read, or its label is missing or no 0 or 1 of a class.
        """
        of_part = f" of the part {self.name!r}" if self.name else ""
        for place in range(len(self.dataset)):
            name = f"sample {place}{of_part}" if self.columns is None else f"row {place}{of_part or ' of the dataset'}"
            try:
                row = self._row(place, name)
                if isinstance(row.sample, Image.Image):
                    row.sample.load()
            except OSError as error:  # of Pillow
                reason = "it is no image file" if isinstance(error, UnidentifiedImageError) else error
                raise DataError(f"{name} cannot be read ({reason}). Leave it out.") from error
            self._refuse_missing(row, task)
            if self.columns is not None and self.columns.are_classes:
                row = replace(row, label=_vector(row.name, self.columns.labels, row.label))
            yield row

    def _row(self, place: int, name: str) -> Row:
        found = self.dataset[place]
        if self.columns is None:
            try:
                if isinstance(found, Mapping):
                    raise TypeError
                sample, label = found
            except (TypeError, ValueError):
                raise UsageError(
                    f"item {place} of the dataset is no pair of a sample and its label, but a {type(found).__name__}. Return (sample, label)."
                ) from None
            if isinstance(sample, (str, Path)):
                raise UsageError(
                    f"{name} is the text {str(sample)!r}, and a dataset returns the sample itself: an image of Pillow, an array or a tensor. For files, give a "
                    "table with the columns path and label."
                )
            return Row(name, sample, label)
        absent = [each for each in self.columns.all if each not in found]
        if absent:
            raise UsageError(
                f"{name} has no {absent[0]!r}, which the features of the dataset name; it has {', '.join(found) or 'nothing'}. A transform or a format "
                f"changes its rows. Remove it: {self._code}.with_format(None)."
            )
        labels = [found[each] for each in self.columns.labels]
        return Row(name, found[self.columns.image], labels[0] if len(labels) == 1 else labels, self._group(name, found))

    def _group(self, name: str, found: Mapping[str, Any]) -> int | str | None:
        if self.columns is None or self.columns.group is None:
            return None
        value = found[self.columns.group]
        group = value.item() if hasattr(value, "item") else value
        if isinstance(group, float) and group.is_integer():
            return int(group)
        if not isinstance(group, (int, str)):
            raise UsageError(f"the group of {name} is {value}. A group is a whole number or a text.")
        return group

    @property
    def _code(self) -> str:
        """The dataset, as code of the user's."""
        return f"dataset[{self.name!r}]" if self.name else "dataset"

    def _refuse_missing(self, row: Row, task: str | None) -> None:
        """Raise an error for a sample or label that is None, for the label -1 of a class list, and for a number that is not finite.

        Raises:
            DataError: it is one.
        """
        if row.sample is None:
            raise self._missing(row, "image", self.columns.image if self.columns else "", None)
        columns = self.columns.labels if self.columns else ("",)
        labels = row.label if len(columns) > 1 else [row.label]
        for column, label in zip(columns, labels, strict=True):
            is_number = isinstance(label, (int, float)) or getattr(label, "ndim", 1) == 0
            is_absent = label is None or (is_missing(label) and task != "regression")
            is_unnamed = not is_absent and bool(self.names) and task != "regression" and is_number and int(label) == -1
            is_infinite = task == "regression" and label is not None and not _is_finite(label)
            if is_absent or is_unnamed or is_infinite:
                raise self._missing(row, "finite number" if is_infinite else "label", column, label)

    def _missing(self, row: Row, what: str, column: str, value: Any) -> DataError:
        if not column:
            part = " If the whole part has no labels, leave the part out." if self.name and what == "label" else ""
            named = "it" if what == "image" else "its label"
            return DataError(f"{row.name} has no {what}: {named} is {value}. Leave such samples out.{part}")
        kept = {"image": "is not None", "finite number": ""}.get(
            what, "is not None" if value is None else f"== row[{column!r}]" if is_missing(value) else f"!= {value}"
        )
        test = f"row[{column!r}] {kept}" if kept else f"np.isfinite(row[{column!r}])"
        part = (
            " If the whole part has no labels, as test sets of competitions, leave the part out."
            if self.name and what == "label"
            else ""
        )
        return DataError(
            f"{row.name} has no {what}: {column!r} is {value}. Leave such rows out: {self._code}.filter(lambda row: {test}).{part}"
        )


def _vector(name: str, columns: Sequence[str], labels: Sequence[Any]) -> NDArray[np.uint8]:
    """The 0 and 1 of columns that are classes.

    Raises:
        DataError: a value is neither.
    """
    for column, label in zip(columns, labels, strict=True):
        if isinstance(label, str) or label not in (0, 1):
            raise DataError(f"{name} has {label!r} in the column {column!r}, and a column of a class holds 0 or 1.")
    return np.array([int(each) for each in labels], dtype=np.uint8)


def _is_finite(label: Any) -> bool:
    """Whether a label of regression is finite; what is no number is refused elsewhere."""
    values = label.detach().cpu().tolist() if hasattr(label, "detach") else label
    try:
        return bool(np.isfinite(np.asarray(values, dtype=np.float64)).all())
    except (TypeError, ValueError):
        return True


def parts_of(
    dataset: Any,
    task: str | None,
    label_column: str | None = None,
    group_column: str | None = None,
    names: Sequence[str] = (),
) -> list[Part]:
    """The parts of a dataset.

    Args:
        dataset: a dataset, or a mapping of ``train``, ``validation`` and ``test`` to datasets.
        task: what a label is; None for the default.
        label_column: the columns of the labels of Hugging Face, separated by commas; default: found by the features.
        group_column: the column of the groups.
        names: class names for a part that has none.

    Raises:
        UsageError: a part is no split, or has not the columns that are needed.
    """
    if not isinstance(dataset, Mapping):
        return [_part(dataset, "", task, label_column, group_column, names)]
    for name in dataset:
        if name not in _SPLITS:
            raise UsageError(
                f"the dataset has a part {name!r}, and a split is train, validation or test. Rename the part, or leave it out."
            )
    return [_part(each, name, task, label_column, group_column, names) for name, each in dataset.items()]


def _part(
    dataset: Any, name: str, task: str | None, label_column: str | None, group_column: str | None, names: Sequence[str]
) -> Part:
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        columns = find_columns(features, task, label_column, group_column)
        return replace(_named(Part(dataset, name), columns.names or names), columns=columns)
    if group_column is not None:
        raise UsageError(
            f"groups={group_column!r} is a column of a dataset of Hugging Face, and this dataset has no columns. Give x, y and groups, one value for each "
            "sample."
        )
    return _named(Part(dataset, name), _class_list(dataset, name) or names)


def _class_list(dataset: Any, name: str = "") -> Sequence[Any]:
    """The classes of a dataset of PyTorch; those of the datasets that a ``Subset`` or a ``ConcatDataset`` is made of. Empty for none.

    Raises:
        UsageError: it is made of datasets with several class lists.
    """
    own = getattr(dataset, "classes", None)
    if isinstance(own, (list, tuple)):
        return own
    inner = getattr(dataset, "datasets", None)
    inner = (
        list(inner)
        if isinstance(inner, (list, tuple))
        else [each for each in [getattr(dataset, "dataset", None)] if each is not None]
    )
    lists = [_class_list(each) for each in inner]
    if any(list(each) != list(lists[0]) for each in lists):
        of_part = f" of the part {name!r}" if name else ""
        raise UsageError(f"the datasets{of_part} that are joined have several class lists. Return class names as labels.")
    return lists[0] if lists else ()


def _named(part: Part, names: Sequence[Any]) -> Part:
    texts = tuple(map(str, names))
    refuse_repeated_names(texts, "the classes of the dataset")
    return replace(part, names=texts)
