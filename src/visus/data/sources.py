"""One door to every data set: a path becomes one frozen table, whatever lies there.

This file knows which source a path is. It must not know how each is read, how unsplit data is cut, or networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from visus.data.ledger import Ledger
from visus.data.other_labels import with_other_labels
from visus.data.samples import Samples
from visus.data.source_cifar import is_cifar, read_cifar
from visus.data.source_folders import LAYOUTS, LEFT_OUT, entries, is_passed_over, is_picture_name, read_folders, unwrap
from visus.data.source_idx import is_idx, read_idx
from visus.data.source_npz import is_pair, read_npy, read_npz
from visus.data.source_rules import Found, assemble, shown
from visus.data.source_table import TABLE_SUFFIXES, is_table, read_table
from visus.data.splits import split_samples
from visus.errors import DataError

SAMPLE_NAME = "Fashion-MNIST, the 10,000 test pictures, cut 8,000 / 2,000"
_SAMPLE_FOLDER = Path(__file__).parent / "fashion"
_SAMPLE_SEED = 0
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def read_source(
    path: str | Path | None,
    ledger: Ledger,
    *,
    classes: Sequence[str] | None = None,
    labels: str | Path | None = None,
    delimiter: str | None = None,
    layout: str | None = None,
) -> Samples:
    """The data set at a path, as one table; ``splits`` says only what the source itself says.

    A folder is taken for the first of these that it holds: IDX files, CIFAR's files, a pair of NPY files, a table with the
    columns path and label, folders of pictures, a single NPZ file. A folder that holds one folder with data and nothing else
    is a wrapper.

    Args:
        path: a folder, a table, an NPZ, NPY or IDX file; None for the pictures that come with visus.
        ledger: what was passed over, repeated or contradictory is noted here.
        classes: the class list of a trained network to hold the data to; None takes the list from the training split.
        labels: other labels for the items: a column of the table, or a CSV file with a row ``path,label`` for each item.
        delimiter: of a table: "comma", "semicolon" or "tab"; None finds it.
        layout: of plain arrays: the axes in letters, such as ``NHWC``; None follows the rule of
            ``visus.data.source_arrays``.

    Raises:
        DataError: nothing there that can be used, or a mistake in it; the message names the place.
    """
    if path is None:
        return sample_data(ledger, classes=classes, labels=labels)
    place = Path(path)
    if not place.exists():
        raise DataError("there is no such file or folder.", where=str(path))
    if not place.is_dir() and not place.is_file():
        raise DataError("this is a pipe, a socket or a device. Save the data as a file or a folder first.", where=str(path))
    found = (
        _read_folder(place, ledger, delimiter, layout) if place.is_dir() else _read_file(place, ledger, delimiter, layout)
    )
    if delimiter and found.kind != "table":
        raise DataError(f"a delimiter was given, but this is no table: it was read as {found.kind}.", where=str(path))
    if layout and found.kind not in ("npz", "npy"):
        raise DataError(f"a layout was given, but this is no NPZ or NPY file: it was read as {found.kind}.", where=str(path))
    return assemble(found if labels is None else with_other_labels(found, labels), ledger, classes)


def sample_data(ledger: Ledger, *, classes: Sequence[str] | None = None, labels: str | Path | None = None) -> Samples:
    """The pictures that come with visus: Fashion-MNIST's test file, always cut 8,000 / 2,000 in the same way.

    The cut counts as official, so no seed moves a picture between training and test.

    >>> from visus.data.ledger import Ledger
    >>> samples = sample_data(Ledger())
    >>> len(samples.indices("train")), len(samples.indices("test")), samples.classes[9]
    (8000, 2000, 'Ankle boot')
    """
    found = read_idx(_SAMPLE_FOLDER, entries(_SAMPLE_FOLDER)[1], SAMPLE_NAME)
    unsplit = dataclasses.replace(found, name=SAMPLE_NAME, splits=[""] * len(found.items))
    cut = split_samples(assemble(unsplit, ledger, None), seed=_SAMPLE_SEED, val_fraction=0.0, test_fraction=0.2)
    found = dataclasses.replace(unsplit, splits=cut.splits.tolist())
    return assemble(found if labels is None else with_other_labels(found, labels), ledger, classes)


def _read_folder(given: Path, ledger: Ledger, delimiter: str | None, layout: str | None) -> Found:
    folder, notes = unwrap(given)
    name = given.resolve().name
    files = [name for name in entries(folder)[1] if not is_passed_over(name)]
    found = _read_data_files(folder, files, ledger, name, layout) or _read_pictures(
        folder, files, ledger, name, delimiter, layout
    )
    return dataclasses.replace(found, notes=(*notes, *found.notes))


def _read_data_files(folder: Path, files: list[str], ledger: Ledger, name: str, layout: str | None) -> Found | None:
    """The data set in files with published names, or None; every other file there goes on the ledger."""
    arrays = [file for file in files if file.lower().endswith(".npy")]
    if any(is_idx(file) for file in files):
        used, found = [file for file in files if is_idx(file)], read_idx(folder, files, name)
    elif is_cifar(files):
        used, found = files, read_cifar(folder, files)
    elif is_pair([Path(file).stem for file in arrays]):
        used, found = arrays, read_npy(folder, arrays, name, layout)
    else:
        return None
    for file in sorted(set(files) - set(used)):
        ledger.note(LEFT_OUT, file, f"not part of the {found.kind.upper()} files")
    return found


def _read_pictures(
    folder: Path, files: list[str], ledger: Ledger, name: str, delimiter: str | None, layout: str | None
) -> Found:
    """The data set of a table or of folders of pictures; else of a single NPZ file."""
    candidates = [file for file in files if Path(file).suffix.lower() in TABLE_SUFFIXES]
    tables = [file for file in candidates if is_table(folder / file)]
    if len(tables) > 1:
        raise DataError(
            f"several tables lie here: {shown(tables)}. Give the one that is meant as the path.", where=str(folder)
        )
    if tables:
        found = read_table(folder / tables[0], ledger, name, delimiter)
        note = f"the table {tables[0]!r} says which pictures there are and what they show; names of folders do not."
        return dataclasses.replace(found, notes=(note, *found.notes))
    bundles = [file for file in files if file.lower().endswith(".npz")]
    if len(bundles) == 1 and not any(is_picture_name(file) for file in files):
        return read_npz(folder / bundles[0], name, layout)
    try:
        return read_folders(folder, ledger, name)
    except DataError:
        if len(candidates) == 1 and not any(entries(folder)[0]):
            return read_table(folder / candidates[0], ledger, name, delimiter)
        raise


def _read_file(file: Path, ledger: Ledger, delimiter: str | None, layout: str | None) -> Found:
    suffix, name = file.suffix.lower(), file.stem
    if suffix in TABLE_SUFFIXES:
        return read_table(file, ledger, name, delimiter)
    if suffix == ".npz":
        return read_npz(file, name, layout)
    siblings = [name for name in entries(file.parent)[1] if not is_passed_over(name)]
    if suffix == ".npy":
        arrays = [name for name in siblings if name.lower().endswith(".npy")]
        if not is_pair([Path(name).stem for name in arrays]):
            raise DataError(
                "an NPY file needs its labels beside it: x.npy with y.npy, or train_images.npy with train_labels.npy.",
                where=str(file),
            )
        return read_npy(file.parent, arrays, file.parent.resolve().name, layout)
    if is_idx(file.name):
        return read_idx(file.parent, siblings, file.parent.resolve().name)
    if is_picture_name(file.name):
        raise DataError("this is one picture; training needs the folder that holds all of them.", where=str(file))
    if suffix in _ARCHIVES:
        raise DataError("this is an archive. Unpack it and give the folder.", where=str(file))
    raise DataError(f"this file is not a data set that visus knows. {LAYOUTS}", where=str(file))
