"""Samples that a program holds: arrays, and datasets of PyTorch or Hugging Face.

They are saved as files, unchanged, so that every later step reads them again by the rules for files: a resumed training, an evaluation, an export.
"""

from __future__ import annotations

import csv
import hashlib
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
from visus.data.source_arrays import is_multi_hot, label_texts, labels_to_names, refuse_repeated_names
from visus.data.source_rules import count_not_finite, not_finite_error
from visus.data.tasks import SEPARATOR
from visus.errors import StorageError, UsageError, VisusError, unknown_name
from visus.progress import Monitor
from visus.units import write_shape

_SPLITS: Final = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_SAMPLES: Final = ("x", "x_train", "x_val", "x_test")
_LABELS: Final = ("y", "y_train", "y_val", "y_test")
_NEEDED: Final = {
    "classes": "Class names are a list of texts, in the order of the labels.",
    "groups": "A group is a whole number or a text.",
}
_NEEDED_LABELS: Final = (
    "Labels are whole numbers or texts; lists of classes (multi-label); or numbers, as many for each sample (regression)."
)
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
    """

    path: Any
    task: str | None = None
    made: Path | None = None
    label_column: str | None = None

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
        task: what a label is; default: a set of classes where labels are lists of names or of several lengths, else decided where the files are read.

    Raises:
        UsageError: an array holds objects, such as samples of several shapes; or there are no labels.
        DataError: samples hold NaN or infinite values, labels fit no task, or the class names do not fit the labels. Nothing is saved then.
        StorageError: it cannot be written.
    """
    present = {name: value for name, value in arrays.items() if value is not None}
    if task in (None, "multi-label"):
        names = [str(each) for each in _as_array(present.get("classes", []), "classes").reshape(-1).tolist()]
        sets = {name: _sets_of_classes(value, names, task) for name, value in present.items() if name in _LABELS}
        task = "multi-label" if any(sets.values()) else task
        present |= {name: texts for name, texts in sets.items() if texts}
    values = {name: _as_array(value, name) for name, value in present.items()}
    for samples, labels in (("x", "y"), ("x_train", "y_train"), ("x_val", "y_val"), ("x_test", "y_test")):
        for given, missing in ((samples, labels), (labels, samples)):
            if given in values and missing not in values:
                raise UsageError(f"{given} is given without {missing}. Give both.")
        if samples in values and len(values[samples]) != len(values[labels]):
            raise UsageError(
                f"{samples} has {len(values[samples]):,} samples, and {labels} has {len(values[labels]):,} labels. Give one label for each sample."
            )
    _refuse_unusable(values, task)
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


def _refuse_unusable(values: Mapping[str, NDArray[Any]], task: str | None) -> None:
    """Raise an error for labels and values that could not be read from their files either, before anything is written.

    Raises:
        DataError: there are some.
    """
    for name in (name for name in _SAMPLES if name in values):
        num_broken, first = count_not_finite(values[name])
        if num_broken:
            raise not_finite_error(num_broken, len(values[name]), f"{name}[{first}]")
    labels = {name: values[name] for name in _LABELS if name in values}
    assumed = task or ("multi-label" if any(map(is_multi_hot, labels.values())) else "single-label")
    names = [str(each) for each in values["classes"].reshape(-1).tolist()] if "classes" in values else []
    refuse_repeated_names(names, "class_names")
    for name, given in labels.items():
        texts = label_texts(given, assumed, name, names)
        if names and assumed == "single-label":
            labels_to_names(texts, names, name)


def _sets_of_classes(labels: Any, names: Sequence[str], task: str | None) -> list[str] | None:
    """The texts of labels that are lists, tuples or sets of class names, or of places in the class list; None for other labels.

    Whole numbers in lists of one length are an array, as long as they may be 0 and 1 for each class.
    """
    has_objects = getattr(getattr(labels, "dtype", None), "kind", "") == "O"
    if isinstance(labels, (str, bytes)) or not (isinstance(labels, Sequence) or has_objects):
        return None
    rows = [each.tolist() if hasattr(each, "tolist") else each for each in labels]
    if not rows or not all(isinstance(each, (list, tuple, set, frozenset)) for each in rows):
        return None
    if all(isinstance(each, str) for row in rows for each in row):
        return [SEPARATOR.join(sorted(row) if isinstance(row, (set, frozenset)) else row) for row in rows]
    if not all(isinstance(each, (int, np.integer)) and not isinstance(each, bool) for row in rows for each in row):
        return None
    is_array = all(isinstance(row, (list, tuple)) for row in rows) and len(set(map(len, rows))) == 1
    if is_array and (task is None or all(each in (0, 1) for row in rows for each in row)):
        return None
    return [SEPARATOR.join(class_of(each, names) for each in sorted(row)) for row in rows]


def class_of(place: int, names: Sequence[str]) -> str:
    """The class at a place in the class list; the number itself where there is no list.

    >>> class_of(1, ["cat", "dog"]), class_of(1, [])
    ('dog', '1')

    Raises:
        UsageError: there is no such place.
    """
    if not names:
        return str(place)
    if not 0 <= place < len(names):
        raise UsageError(f"the label {place} has no class name: there are {len(names):,} classes.")
    return names[place]


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


def _as_array(value: Any, name: str) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        is_wider = str(value.dtype) == "torch.bfloat16"  # NumPy has no such type; float32 holds each of its values exactly
        value = (value.float() if is_wider else value).numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and array.ndim == 1:
            array = np.asarray(_of_one_kind(array, name))
    except ValueError:  # rows of several shapes
        raise _unfit(name, " has rows of several lengths") from None
    if array.ndim == 0:
        raise _unfit(name, f" is of the type {type(value).__name__}")
    if array.dtype.kind not in "biufU":
        raise _unfit(name, f" holds values of the type {array.dtype}")
    return array


def _of_one_kind(array: NDArray[Any], name: str) -> list[Any]:
    """The values of an array of objects (n,) that are all texts, all numbers or all rows.

    Raises:
        UsageError: they are something else, or of several kinds.
    """
    values: list[Any] = array.tolist()
    kinds: tuple[tuple[type, ...], ...] = ((str,), (int, float, np.number, np.bool_), (list, tuple, np.ndarray))
    kind = next((each for each in kinds if values and isinstance(values[0], each)), ())
    odd = next((place for place, each in enumerate(values) if not isinstance(each, kind)), None)
    if odd is not None:
        raise _unfit(name, f"[{odd}] is {values[odd]!r}")
    return values


def _unfit(name: str, found: str) -> UsageError:
    """The error for samples, labels, groups or class names that are no array of numbers or texts."""
    if name not in (*_LABELS, *_NEEDED):
        return UsageError(
            f"{name} is no array of numbers or texts. Samples of several shapes cannot be stacked: save images as files, or give a dataset that "
            "returns images of Pillow."
        )
    return UsageError(f"{'class_names' if name == 'classes' else name}{found}. {_NEEDED.get(name, _NEEDED_LABELS)}")


# ---- datasets ----


@dataclass(frozen=True)
class _Part:
    """One dataset, which is a split or all.

    Args:
        dataset: has a length, and returns a sample with its label for a place.
        split: ``train``, ``val`` or ``test``; empty for data without splits.
        names: class names in the order of the labels; empty where labels are names.
        columns: the keys of sample and label, for a dataset that returns mappings.
    """

    dataset: Any
    split: str
    names: tuple[str, ...]
    columns: tuple[str, str] | None

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

    def label_text(self, label: Any, task: str | None) -> str:
        """The text of a label (``visus.data.tasks``)."""
        if task == "regression":
            return SEPARATOR.join(repr(number) for number in _numbers(label))
        if task == "multi-label":
            return SEPARATOR.join(self._names_in(label))
        return self._name(label)

    def _names_in(self, label: Any) -> list[str]:
        """The classes of a label: of names, of places in the class list, or of 0 and 1 for each class."""
        if isinstance(label, str):
            return [label]
        if isinstance(label, (set, frozenset)):
            return [self._name(each) for each in sorted(label, key=str)]
        values = np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
        is_vector, is_of_0_and_1 = values.ndim == 1 and not isinstance(label, (list, tuple)), np.isin(values, (0, 1)).all()
        if is_vector and values.dtype.kind in "biuf" and not is_of_0_and_1:
            raise UsageError(
                f"a vector as a label holds 0 or 1 for each class, and not {values[~np.isin(values, (0, 1))][0]}. Return a list for the numbers of classes."
            )
        is_hot = is_vector or (len(values) == len(self.names) and is_of_0_and_1)
        if values.dtype.kind in "biuf" and is_hot:
            places = np.flatnonzero(values)
            return [self.names[place] if self.names else str(place) for place in places.tolist()]
        return [self._name(each) for each in values.tolist()]

    def _name(self, label: Any) -> str:
        value = label.item() if hasattr(label, "item") else label
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return class_of(int(value), self.names)
        if isinstance(value, float):
            raise UsageError(
                f"a label is a whole number or a text, and not {value!r}. For numbers that are no classes: {option('task', 'regression')}."
            )
        if not isinstance(value, (str, int)):
            raise UsageError(f"a label is a whole number or a text, and not a {type(label).__name__}.")
        return str(value)


def is_dataset(value: object) -> bool:
    """Whether a value is a dataset of PyTorch or Hugging Face, a list of pairs (sample, label), or a mapping of splits to them."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_dataset, value.values()))
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, tuple) and len(each) == 2 for each in value)
    is_plain = isinstance(value, (str, bytes, os.PathLike, Sequence, np.ndarray)) or hasattr(value, "detach")
    return not is_plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _numbers(label: Any) -> list[float]:
    """The numbers of a label of regression.

    Raises:
        UsageError: it is no number and no list of numbers.
    """
    values = label.detach().cpu().tolist() if hasattr(label, "detach") else label
    try:
        return [float(each) for each in np.asarray(values, dtype=np.float64).reshape(-1)]
    except (TypeError, ValueError):
        raise UsageError(f"a label of regression is a number or a list of numbers, and not {label!r}.") from None


def _task_of(label: Any, task: str | None) -> str | None:
    """The given task, ``multi-label`` where a label is a list, a set or a vector, else None for the default."""
    is_vector = isinstance(label, (list, tuple, set, frozenset)) or getattr(label, "ndim", 0) == 1
    return "multi-label" if task is None and is_vector else task


def save_dataset(
    dataset: Any, folder: Path, monitor: Monitor, task: str | None = None, label_column: str | None = None
) -> Saved:
    """Save each sample of a dataset once, as the dataset returns it: images of Pillow as PNG files with a table, arrays and tensors as NPY files.

    Args:
        dataset: returns (sample, label) for each place below its length, or a mapping with an image and a label (Hugging Face). A mapping of ``train``,
            ``validation`` and ``test`` to datasets defines the split.
        folder: in which a folder is made that is named by the content.
        monitor: follows the work.
        task: what a label is; default: a set of classes where the first label is a list, a set or a vector, else one class.
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
    found = ((part, sample, label) for part in parts for sample, label in part.rows())
    first = next(found)
    task = _task_of(first[2], task)
    every_row = (
        (sample, part.label_text(label, task), part.split) for part, sample, label in itertools.chain((first,), found)
    )
    has_splits = any(each.split for each in parts)
    if isinstance(first[1], Image.Image):

        def write(part: Path) -> str:
            return _write_images(every_row, part, total, monitor, has_splits=has_splits)

        return replace(_saved(folder, "images", write, task), label_column=of_path)
    samples: list[NDArray[Any]] = []
    labels: list[str] = []
    splits: list[str] = []
    for sample, label, split in every_row:
        samples.append(_as_array(sample, f"sample {len(samples)}"))
        labels.append(label)
        splits.append(split)
        if samples[-1].shape != samples[0].shape:
            raise UsageError(
                f"sample {len(samples) - 1} has the shape {write_shape(samples[-1].shape)}, and sample 0 {write_shape(samples[0].shape)}. "
                "Return samples of one shape, or images of Pillow."
            )
        monitor.step("reading the dataset", len(samples), total)
    if task == "regression":
        numbers = np.array([[float(part) for part in label.split(SEPARATOR)] for label in labels])
        arrays = {"x": np.stack(samples), "y": numbers, "splits": splits if has_splits else None}
    else:
        arrays = {"x": np.stack(samples), "y": labels, "splits": splits if has_splits else None}
    return replace(save_arrays(arrays, folder, task), label_column=of_path)


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
    names = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None) or ()
    return _Part(dataset, split, _class_names(names), (images[0], labels[0]))


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


def _write_images(
    rows: Iterable[tuple[Any, str, str]], folder: Path, total: int, monitor: Monitor, *, has_splits: bool
) -> str:
    """Write images and their table; returns the digest of their content."""
    content = hashlib.sha256()
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label", *(("split",) if has_splits else ())))
        for number, (image, label, split) in enumerate(rows):
            if not isinstance(image, Image.Image):
                raise UsageError(
                    f"sample {number} is a {type(image).__name__}, and those before are images. Return images of Pillow."
                )
            name = f"{number:06}.{'png' if image.mode in _PNG_MODES else 'tiff'}"
            image.save(folder / name)
            table.writerow((name, label, *((split,) if has_splits else ())))
            content.update(f"{label} {split} {image.mode} {image.size}\n".encode())
            content.update(image.tobytes())
            monitor.step("reading the dataset", number + 1, total)
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
