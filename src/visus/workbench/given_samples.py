"""Samples that a program holds: arrays, and datasets of PyTorch or Hugging Face.

They are saved as files, unchanged, so that every later step reads them again by the rules for files: a resumed training, an evaluation, an export.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from visus.caller import option
from visus.data.array_labels import class_values, refuse_repeated_names
from visus.data.given_arrays import given_array
from visus.data.given_labels import DatasetLabels, check_label, read_dataset_labels, read_given_labels
from visus.data.source_rules import count_not_finite, not_finite_error
from visus.errors import StorageError, UsageError, VisusError, unknown_name
from visus.progress import Monitor
from visus.units import write_shape

_SPLITS: Final = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_SAMPLES: Final = ("x", "x_train", "x_val", "x_test")
_NUMBER_TYPES: Final = ("float", "int", "uint")
_PNG_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")


@dataclass(frozen=True)
class Saved:
    """Samples that were saved as files.

    Args:
        path: the folder or table to read.
        task: what a label is; None for the default.
        made: the folder that this call made; None if an earlier call had saved the same samples.
        label_column: the column of the labels in the path; None for the default.
        note: how the labels were read; may be empty.
    """

    path: Any
    task: str | None = None
    made: Path | None = None
    label_column: str | None = None
    note: str = ""

    def discard(self, error: VisusError) -> None:
        """Remove what this call saved, and take its folder, which is there no longer, out of the error's place."""
        if self.made is None:
            return
        shutil.rmtree(self.made, ignore_errors=True)
        place = Path(error.where)
        if error.where and place.is_relative_to(self.made):
            error.where = "" if place == self.made else str(place.relative_to(self.made))


def save_arrays(arrays: Mapping[str, Any], folder: Path, task: str | None = None) -> Saved:
    """Save arrays as a folder of NPY files that is named by their content. Equal arrays are saved once.

    Args:
        arrays: name -> array, tensor or list; the names are those of ``visus.data.source_npz``. None is left out.
        folder: in which the folder is made.
        task: what a label is; default: decided by all labels (``visus.data.given_labels``).

    Raises:
        UsageError: an array holds objects, such as samples of several shapes; or there are no labels.
        DataError: samples hold NaN or infinite values, labels fit no task, or the class names do not fit the labels. Nothing is saved then.
        StorageError: it cannot be written.
    """
    present = {name: value for name, value in arrays.items() if value is not None}
    read, task = read_given_labels(present, task)
    values = read | {name: given_array(value, name) for name, value in present.items() if name not in read}
    for samples, labels in (("x", "y"), ("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")):
        for given, missing in ((samples, labels), (labels, samples)):
            if given in values and missing not in values:
                raise UsageError(f"{given} is given without {missing}. Give both.")
        if samples in values and len(values[samples]) != len(values[labels]):
            raise UsageError(
                f"{samples} has {len(values[samples]):,} samples, and {labels} has {len(values[labels]):,} labels. Give one label for each sample."
            )
    _refuse_unusable(values)
    content = hashlib.sha256()
    for name, value in sorted(values.items()):
        content.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        content.update(
            np.ascontiguousarray(value).tobytes() if value.dtype.kind == "U" else np.ascontiguousarray(value).data
        )

    def write(part: Path) -> str:
        for name, value in values.items():
            np.save(part / f"{name}.npy", value, allow_pickle=False)
        return content.hexdigest()

    return _saved(folder, "arrays", write, task)


def _refuse_unusable(values: Mapping[str, NDArray[Any]]) -> None:
    """Raise an error for samples and groups that could not be read from their files either, before anything is written.

    Raises:
        DataError: there are some.
    """
    for name in (name for name in _SAMPLES if name in values):
        num_broken, first = count_not_finite(values[name])
        if num_broken:
            raise not_finite_error(num_broken, len(values[name]), f"{name}[{first}]")
    if "groups" in values:
        class_values(values["groups"], "groups", "group")


def is_table(value: object) -> bool:
    """Whether a value is a table of pandas."""
    return hasattr(value, "to_csv") and hasattr(value, "columns")


def save_table(table: Any, folder: Path, path_column: str, task: str | None = None) -> Saved:
    """Save a table of pandas as a CSV file in a folder that is named by its content; relative paths of images become absolute ones.

    Args:
        table: a ``DataFrame`` with a row for each image.
        folder: in which the folder is made.
        path_column: the column of the paths, relative to the current folder.
        task: what a label is; None for the default.

    Raises:
        StorageError: it cannot be written.
    """
    if path_column in table.columns:
        table = table.assign(**{path_column: [_absolute(each) for each in table[path_column]]})
    text: str = table.to_csv(index=False)

    def write(part: Path) -> str:
        (part / "labels.csv").write_text(text, encoding="utf-8", newline="")
        return hashlib.sha256(text.encode()).hexdigest()

    saved = _saved(folder, "table", write, task)
    return replace(saved, path=saved.path / "labels.csv")


def _absolute(path: Any) -> Any:
    return os.path.abspath(path) if isinstance(path, (str, os.PathLike)) and "://" not in str(path) else path


# ---- datasets ----


@dataclass(frozen=True)
class _Part:
    """One dataset, which is a split or all.

    Args:
        dataset: has a length, and returns a sample with its label for a place.
        split: ``train``, ``val`` or ``test``; empty for data without splits.
        names: class names in the order of the labels; empty where labels are names.
        columns: the keys of sample and label, for a dataset that returns mappings.
        are_places: whether lists and vectors hold places in the class list in any case.
    """

    dataset: Any
    split: str
    names: tuple[str, ...]
    columns: tuple[str, str] | None
    are_places: bool = False

    def rows(self) -> Iterator[tuple[Any, Any]]:
        """Samples with their labels."""
        for place in range(len(self.dataset)):
            found = self.dataset[place]
            try:
                sample, label = (found[each] for each in self.columns) if self.columns else found
            except (TypeError, ValueError, KeyError):
                raise UsageError(
                    f"item {place} of the dataset is no pair of a sample and its label, but a {type(found).__name__}. Return (sample, label)."
                ) from None
            yield sample, label


def is_dataset(value: object) -> bool:
    """Whether a value is a dataset of PyTorch or Hugging Face, a list of pairs (sample, label), or a mapping of splits to them."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_dataset, value.values()))
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, tuple) and len(each) == 2 for each in value)
    is_plain = isinstance(value, (str, bytes, os.PathLike, Sequence, np.ndarray)) or hasattr(value, "detach")
    return not is_plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def save_dataset(
    dataset: Any, folder: Path, monitor: Monitor, task: str | None = None, label_column: str | None = None
) -> Saved:
    """Save each sample of a dataset once, as the dataset returns it: images of Pillow as PNG files with a table, arrays and tensors as NPY files.

    Args:
        dataset: returns (sample, label) for each place below its length, or a mapping with an image and a label (Hugging Face). A mapping of ``train``,
            ``validation`` and ``test`` to datasets defines the split.
        folder: in which a folder is made that is named by the content.
        monitor: follows the work.
        task: what a label is; default: decided by all labels (``visus.data.given_labels``).
        label_column: the column of the labels of Hugging Face; default: that of classes; of regression, that of numbers.

    Raises:
        UsageError: the dataset is empty, or returns something else.
        StorageError: it cannot be written.
    """
    parts = _parts(dataset, task, label_column)
    of_path = None if any(each.columns for each in parts) else label_column
    total = sum(len(each.dataset) for each in parts)
    if not total:
        raise UsageError("the dataset is empty. Give one with samples.")
    labels = _Labels(task)
    every_sample = labels.collected(parts)
    first = next(every_sample)
    samples = itertools.chain((first,), every_sample)
    if isinstance(first, Image.Image):
        saved = _saved(folder, "images", lambda part: _write_images(samples, labels, part, total, monitor), task)
        return replace(saved, task=labels.read().task, label_column=of_path, note=labels.read().note)
    rows: list[NDArray[Any]] = []
    for sample in samples:
        rows.append(given_array(sample, f"sample {len(rows)}"))
        if rows[-1].shape != rows[0].shape:
            raise UsageError(
                f"sample {len(rows) - 1} has the shape {write_shape(rows[-1].shape)}, and sample 0 {write_shape(rows[0].shape)}. "
                "Return samples of one shape, or images of Pillow."
            )
        monitor.step("reading the dataset", len(rows), total)
    arrays = {"x": np.stack(rows), "y": labels.read().labels, "splits": labels.splits()}
    return replace(save_arrays(arrays, folder, labels.read().task), label_column=of_path, note=labels.read().note)


class _Labels:
    """The labels of a dataset, collected while its samples are read: the form of one is decided by all."""

    def __init__(self, task: str | None) -> None:
        self._task = task
        self._found: list[tuple[_Part, Any]] = []
        self._read: DatasetLabels | None = None

    def collected(self, parts: Sequence[_Part]) -> Iterator[Any]:
        """The samples; their labels are kept.

        Raises:
            UsageError: a label is no number, text, list or vector.
        """
        for part in parts:
            for sample, label in part.rows():
                self._found.append((part, check_label(label, self._task)))
                yield sample

    def read(self) -> DatasetLabels:
        """The labels of all samples, once these are read."""
        if self._read is None:
            labels, names = [label for _, label in self._found], [part.names for part, _ in self._found]
            self._read = read_dataset_labels(
                labels, names, self._task, are_places=any(each.are_places for each, _ in self._found)
            )
        return self._read

    def splits(self) -> list[str] | None:
        """The split of each sample; None for data without splits."""
        splits = [part.split for part, _ in self._found]
        return splits if any(splits) else None


def _parts(dataset: Any, task: str | None, label_column: str | None) -> list[_Part]:
    if not isinstance(dataset, Mapping):
        return [_part(dataset, "", task, label_column)]
    for name in dataset:
        if name not in _SPLITS:
            raise UsageError(
                f"the dataset has a part {name!r}, and a split is train, validation or test. Leave the part out."
            )
    return [_part(each, _SPLITS[name], task, label_column) for name, each in dataset.items()]


def _part(dataset: Any, split: str, task: str | None, label_column: str | None) -> _Part:
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        names = getattr(dataset, "classes", None)
        return _Part(dataset, split, _class_names(names) if isinstance(names, (list, tuple)) else (), None)
    kinds = {name: type(kind).__name__ for name, kind in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if label_column is not None and label_column not in features:
        raise UsageError(unknown_name("column of the dataset", label_column, features))
    labels = _label_features(features, task) if label_column is None else [label_column]
    if len(images) != 1 or len(labels) != 1:
        raise UsageError(
            f"one column of images and one of labels are needed, and the dataset has {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}. "
            f"Choose the labels with {option('label_column')}, and the images with dataset.select_columns([image, label])."
        )
    kind = features[labels[0]]
    inner = getattr(getattr(kind, "feature", None), "names", None)
    names = getattr(kind, "names", None) or inner or ()
    return _Part(dataset, split, _class_names(names), (images[0], labels[0]), are_places=inner is not None)


def _label_features(features: Mapping[str, Any], task: str | None) -> list[str]:
    """The columns that may hold the labels: those called label, else those of classes; of regression, those of numbers too."""
    classes = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    named = [each for each in ("label", "labels") if each in features]
    if task != "regression":
        return classes or named
    are_numbers = [name for name, kind in features.items() if str(getattr(kind, "dtype", "")).startswith(_NUMBER_TYPES)]
    return [name for name in named if name not in classes] or list(dict.fromkeys([*classes, *are_numbers]))


def _class_names(names: Sequence[Any]) -> tuple[str, ...]:
    texts = tuple(map(str, names))
    refuse_repeated_names(texts, "the classes of the dataset")
    return texts


def _write_images(samples: Iterable[Any], labels: _Labels, folder: Path, total: int, monitor: Monitor) -> str:
    """Write images and their table; returns the digest of the files."""
    content = hashlib.sha256()
    names: list[str] = []
    for number, image in enumerate(samples):
        if not isinstance(image, Image.Image):
            raise UsageError(
                f"sample {number} is a {type(image).__name__}, and those before are images. Return images of Pillow."
            )
        is_png = image.mode in _PNG_MODES
        names.append(f"{number:06}.{'png' if is_png else 'tiff'}")
        encoded = io.BytesIO()
        image.save(encoded, "PNG" if is_png else "TIFF")
        content.update(encoded.getbuffer())
        (folder / names[-1]).write_bytes(encoded.getbuffer())
        monitor.step("reading the dataset", number + 1, total)
    splits = labels.splits()
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    rows.writerow(("path", "label", *(("split",) if splits else ())))
    rows.writerows(zip(names, labels.read().cells(), *((splits,) if splits else ()), strict=True))
    content.update(table.getvalue().encode())
    (folder / "labels.csv").write_text(table.getvalue(), encoding="utf-8", newline="")
    return content.hexdigest()


def _saved(folder: Path, kind: str, write: Callable[[Path], str], task: str | None) -> Saved:
    """The folder that ``write`` fills, named by the digest that it returns; one that is there already is kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    except OSError as error:
        raise StorageError(f"the samples cannot be saved here ({error.strerror or error}).", where=str(folder)) from None
    try:
        target = folder / f"{kind}-{write(part)[:16]}"
        if target.exists():
            return Saved(target, task)
        part.replace(target)
        return Saved(target, task, made=target)
    except OSError as error:
        raise StorageError(f"the samples cannot be saved here ({error.strerror or error}).", where=str(folder)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
