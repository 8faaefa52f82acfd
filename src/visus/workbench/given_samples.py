"""Samples that a program holds: arrays, and datasets of PyTorch or Hugging Face.

They are saved as files, unchanged, so that every later step reads them again by the rules for files: a resumed training, an evaluation, an export.
"""

from __future__ import annotations

import contextlib
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

from visus.data.array_labels import class_values
from visus.data.given_arrays import given_array, plain_labels, refuse_other_modes
from visus.data.given_labels import DatasetLabels, check_label, read_dataset_labels, read_given_labels
from visus.data.source_rules import absent_classes_warning, count_not_finite, not_finite_error
from visus.errors import StorageError, UsageError, VisusError
from visus.progress import Monitor
from visus.units import write_shape
from visus.workbench.given_datasets import Part, Row, parts_of

_PAIRS: Final = (("x", "y"), ("x_val", "y_val"), ("x_test", "y_test"))
_TABLE: Final = "labels.csv"
_RESERVED: Final = ("path", "split", "group")
"""Columns of the table of a dataset, which a target cannot be called."""
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
        warning: what is wrong with them; may be empty.
    """

    path: Any
    task: str | None = None
    made: Path | None = None
    label_column: str | None = None
    note: str = ""
    warning: str = ""

    @contextlib.contextmanager
    def unless_refused(self) -> Iterator[None]:
        """A context that opens the samples. After an error, what this call saved is removed, and its folder is taken out of the error's place."""
        try:
            yield
        except VisusError as error:
            if self.made is not None:
                shutil.rmtree(self.made, ignore_errors=True)
                place = Path(error.where)
                if error.where and place.is_relative_to(self.made):
                    error.where = "" if place in (self.made, self.made / _TABLE) else str(place.relative_to(self.made))
            raise


def save_arrays(arrays: Mapping[str, Any], folder: Path, task: str | None = None) -> Saved:
    """Save arrays as a folder of NPY files that is named by their content. Equal arrays are saved once.

    Args:
        arrays: ``x``, ``y`` and the like -> array, tensor or list, and ``groups``, ``splits`` and ``classes``. None is left out. The files are called as in
            ``visus.data.source_npz``: beside ``x_val`` or ``x_test``, ``x`` is ``x_train``.
        folder: in which the folder is made.
        task: what a label is; default: decided by all labels (``visus.data.given_labels``).

    Raises:
        UsageError: an array holds objects, such as samples of several shapes; or there are no labels.
        DataError: samples hold NaN or infinite values, labels fit no task, or the class names do not fit the labels. Nothing is saved then.
        StorageError: it cannot be written.
    """
    present = {name: value for name, value in arrays.items() if value is not None}
    for name in (name for name, _ in _PAIRS if name in present):
        refuse_other_modes(present[name], name)
    if "groups" in present:
        present["groups"] = plain_labels(present["groups"], "groups", "group")
    read, task = read_given_labels(present, task)
    values = read | {name: given_array(value, name) for name, value in present.items() if name not in read}
    for samples, labels in _PAIRS:
        for given, missing in ((samples, labels), (labels, samples)):
            if given in values and missing not in values:
                raise UsageError(f"{given} is given without {missing}. Give both.")
        if samples in values and len(values[samples]) != len(values[labels]):
            raise UsageError(
                f"{samples} has {len(values[samples]):,} samples, and {labels} has {len(values[labels]):,} labels. Give one label for each sample."
            )
    _refuse_unusable(values)
    if "x_val" in values or "x_test" in values:
        values = {{"x": "x_train", "y": "y_train"}.get(name, name): value for name, value in values.items()}
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
    for name in (name for name, _ in _PAIRS if name in values):
        num_broken, first = count_not_finite(values[name])
        if num_broken:
            raise not_finite_error(num_broken, len(values[name]), f"{name}[{first}]")
    if "groups" in values:
        class_values(values["groups"], "groups", "group")


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
        (part / _TABLE).write_text(text, encoding="utf-8", newline="")
        return hashlib.sha256(text.encode()).hexdigest()

    saved = _saved(folder, "table", write, task)
    return replace(saved, path=saved.path / _TABLE)


def _absolute(path: Any) -> Any:
    return os.path.abspath(path) if isinstance(path, (str, os.PathLike)) and "://" not in str(path) else path


# ---- datasets ----


def save_dataset(
    dataset: Any,
    folder: Path,
    monitor: Monitor,
    task: str | None = None,
    label_column: str | None = None,
    *,
    group_column: str | None = None,
    class_names: Sequence[str] = (),
) -> Saved:
    """Save each sample of a dataset once, as the dataset returns it: images of Pillow as PNG files with a table, arrays and tensors as NPY files.

    Args:
        dataset: returns (sample, label) for each place below its length, or a mapping with an image and a label (Hugging Face). A mapping of ``train``,
            ``validation`` and ``test`` to datasets defines the split.
        folder: in which a folder is made that is named by the content.
        monitor: follows the work.
        task: what a label is; default: decided by all labels (``visus.data.given_labels``).
        label_column: the columns of the labels of Hugging Face, separated by commas; default: that of classes; of regression, that of numbers.
        group_column: the column of the groups of Hugging Face.
        class_names: class names for a dataset that has none.

    Raises:
        UsageError: the dataset is empty, or returns something else.
        DataError: a sample cannot be read, or has no label.
        StorageError: it cannot be written.
    """
    parts = parts_of(dataset, task, label_column, group_column, class_names)
    of_path = None if any(each.columns for each in parts) else label_column
    total = sum(len(each.dataset) for each in parts)
    if not total:
        raise UsageError("the dataset is empty. Give one with samples.")
    labels = _Labels(parts, task)
    every_sample = labels.collected()
    first = next(every_sample)
    samples = itertools.chain((first,), every_sample)
    if isinstance(first, Image.Image):
        saved = _saved(folder, "images", lambda part: _write_images(samples, labels, part, total, monitor), task)
        column = of_path if labels.heads == ("label",) else ",".join(labels.heads)
        saved = replace(saved, path=saved.path / _TABLE, label_column=column)
    else:
        saved = replace(_save_rows(samples, labels, folder, total, monitor), label_column=of_path)
    unused = labels.read().unused
    return replace(
        saved, task=labels.read().task, note=labels.read().note, warning=absent_classes_warning(unused) if unused else ""
    )


def _save_rows(samples: Iterable[Any], labels: _Labels, folder: Path, total: int, monitor: Monitor) -> Saved:
    """Save the arrays of a dataset.

    Raises:
        UsageError: they have several shapes.
    """
    rows: list[NDArray[Any]] = []
    for sample in samples:
        rows.append(given_array(sample, f"sample {len(rows)}"))
        if rows[-1].shape != rows[0].shape:
            raise UsageError(
                f"sample {len(rows) - 1} has the shape {write_shape(rows[-1].shape)}, and sample 0 {write_shape(rows[0].shape)}. "
                "Return samples of one shape, or images of Pillow."
            )
        monitor.step("reading the dataset", len(rows), total)
    read = labels.read()
    targets = None if labels.heads == ("label",) else labels.heads
    arrays = {"x": np.stack(rows), "y": read.labels, "splits": labels.splits(), "groups": labels.groups()}
    return save_arrays(arrays | {"classes": targets}, folder, read.task)


class _Labels:
    """The labels of a dataset, collected while its samples are read: the form of one is decided by all."""

    def __init__(self, parts: Sequence[Part], task: str | None) -> None:
        self._parts, self._task = parts, task
        self._found: list[tuple[Part, Row]] = []
        self._read: DatasetLabels | None = None

    def collected(self) -> Iterator[Any]:
        """The samples; their labels are kept.

        Raises:
            UsageError: a label is no number, text, list or vector.
        """
        for part in self._parts:
            for row in part.rows(self._task):
                self._found.append((part, replace(row, sample=None, label=check_label(row.label, self._task))))
                yield row.sample

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the targets of regression, those of their columns; else ``label``."""
        columns = self._parts[0].columns
        if self._task != "regression" or columns is None:
            return ("label",)
        plain = [name.replace(",", " ").strip() for name in columns.labels]
        return tuple(f"target {name}" if name.lower() in _RESERVED else name for name in plain)

    def read(self) -> DatasetLabels:
        """The labels of all samples, once these are read."""
        if self._read is None:
            labels, names = [row.label for _, row in self._found], [part.names for part, _ in self._found]
            are_places = any(each.columns is not None and each.columns.are_places for each in self._parts)
            self._read = read_dataset_labels(labels, names, self._task, are_places=are_places)
        return self._read

    def cells(self) -> list[tuple[str, ...]]:
        """The labels as the cells of a table with the columns ``heads``."""
        if len(self.heads) == 1:
            return [(cell,) for cell in self.read().cells()]
        return [tuple(map(repr, numbers)) for numbers in self.read().labels]

    def splits(self) -> list[str] | None:
        """The split of each sample; None for data without splits."""
        splits = [part.split for part, _ in self._found]
        return splits if any(splits) else None

    def groups(self) -> list[str] | None:
        """The group of each sample; None for data without groups."""
        groups = [str(row.group) for _, row in self._found if row.group is not None]
        return groups or None


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
    more = {head: cells for head, cells in (("split", labels.splits()), ("group", labels.groups())) if cells}
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    rows.writerow(("path", *labels.heads, *more))
    rows.writerows(
        (name, *cells, *others) for name, cells, *others in zip(names, labels.cells(), *more.values(), strict=True)
    )
    content.update(table.getvalue().encode())
    (folder / _TABLE).write_text(table.getvalue(), encoding="utf-8", newline="")
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
