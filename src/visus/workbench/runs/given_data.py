"""Other data for a run that is in memory: a dataset of PyTorch or Hugging Face, or a table of pandas. It is saved as files, and read as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from visus.data.cache import given_folder
from visus.data.opened import Data
from visus.data.reading import Reading
from visus.progress import Monitor
from visus.workbench.given_samples import save_dataset, save_table


def open_given(
    dataset: Any,
    task: str,
    classes: Sequence[str],
    reading: Reading,
    monitor: Monitor,
    open_path: Callable[[Path, Reading], Data],
) -> Data:
    """Open a dataset with the labels of a network: whole numbers are places in its class list, unless the dataset has one itself.

    Args:
        dataset: as for ``visus.open_data``.
        task: that of the network.
        classes: the classes of the network; of regression, the targets, which are the columns of the labels if the dataset has all of them.
        reading: the columns that were chosen.
        monitor: follows the reading of the samples.
        open_path: opens a path for the network.

    Raises:
        UsageError: the dataset returns no samples with labels.
        DataError: a label is missing, or unknown to the network.
        StorageError: the samples cannot be saved.
    """
    column = reading.label_column
    if task == "regression" and column is None and _has_columns(dataset, classes):
        column = ",".join(classes)
    are_names = task != "regression" and not all(name.lstrip("-").isdecimal() for name in classes)
    given = save_dataset(dataset, given_folder(), monitor, task, column, class_names=classes if are_names else ())
    with given.unless_refused():
        data = open_path(given.path, replace(reading, label_column=given.label_column))
    notes = (*data.samples.notes, *([given.note] if given.note else []))
    return replace(data, samples=replace(data.samples, notes=notes))


def open_given_table(table: Any, reading: Reading, path_column: str, open_path: Callable[[Path, Reading], Data]) -> Data:
    """Open a table of pandas as the CSV file of it.

    Args:
        table: a row for each image; relative paths start at the current folder.
        reading: the columns that were chosen.
        path_column: the column of the paths.
        open_path: opens a path for the network.

    Raises:
        UsageError: it does not fit the network.
        DataError: as for a CSV file.
        StorageError: the table cannot be saved.
    """
    given = save_table(table, given_folder(), path_column)
    with given.unless_refused():
        return open_path(given.path, reading)


def _has_columns(dataset: Any, names: Sequence[str]) -> bool:
    """Whether the features of a dataset, or of all its parts, have all names."""
    parts = dataset.values() if isinstance(dataset, Mapping) else [dataset]
    return all(set(names) <= set(getattr(each, "features", None) or ()) for each in parts)
