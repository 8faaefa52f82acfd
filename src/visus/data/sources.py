"""One door to every dataset: a path becomes one frozen table, whatever lies there.

This file knows which source a path is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visus.data.folder_layouts import CLASSIFIES
from visus.data.folder_names import guess_split, guess_splits
from visus.data.label_warnings import label_warnings
from visus.data.ledger import Ledger
from visus.data.other_labels import with_other_labels
from visus.data.reading import DEFAULT_READING, Reading, check_command
from visus.data.samples import Samples
from visus.data.source_arrays import TrainedLayout
from visus.data.source_cifar import is_cifar, read_cifar
from visus.data.source_folders import (
    LAYOUTS,
    LEFT_OUT,
    class_folders,
    is_ignored,
    is_image_name,
    list_folder,
    read_folders,
    unwrap,
)
from visus.data.source_idx import is_idx, read_idx
from visus.data.source_npz import is_pair, read_npy, read_npz
from visus.data.source_rules import FoundSamples, assemble_samples, natural_key, single_class_error, write_names
from visus.data.source_table import TABLE_SUFFIXES, is_table, read_table
from visus.data.splits import split_samples
from visus.data.table_paths import annotations_of, images_below
from visus.data.table_search import FOLDERS, WORKBOOKS, absent_images, question, tables_beside, unused
from visus.data.table_text import RECORD_SUFFIXES
from visus.errors import DataError
from visus.units import write_number_of

SAMPLE_NAME = "Fashion-MNIST, the 10,000 test images, cut 8,000 / 2,000"
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
    reading: Reading = DEFAULT_READING,
    usual_layout: str | None = None,
) -> Samples:
    """The dataset at a path, as one table; ``splits`` says only what the source itself says.

    A folder is taken for the first of these that it holds: IDX files, CIFAR's files, a pair of NPY files, a table with the
    columns path and label, folders of images, a single NPZ file. A folder that holds one folder with data and nothing else
    is a wrapper.

    Args:
        path: a folder, a table, an NPZ, NPY or IDX file; None for the images that come with visus.
        ledger: what was passed over, repeated or contradictory is noted here.
        classes: the class list of a trained network to hold the data to; None takes the list from the training split.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` for each sample; or "folders" for
            the names of folders, whatever tables lie beside them.
        delimiter: of a table: "comma", "semicolon" or "tab"; None finds it.
        layout: of plain arrays: the axes in letters, such as ``NHWC``; None follows the rule of
            ``visus.data.source_arrays``.
        reading: which columns of a table are meant, whether rows without a file are left out, which level of folders names the classes,
            the axes of plain arrays.
        usual_layout: of plain arrays with as many axes, where their own shape does not say it: that of a trained network.

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
    layout = layout or reading.layout
    by_folders = labels == FOLDERS and place.is_dir() and not Path(FOLDERS).is_file()
    stated = layout or (TrainedLayout(usual_layout) if usual_layout else None)
    ask = _Ask(ledger, delimiter, stated, reading, by_folders, classes)
    found = _read_folder(place, ask) if place.is_dir() else _read_file(place, ask)
    if by_folders and found.kind in ("folder", "split folders"):
        labels = None
    _refuse_unused(found, reading, path)
    if delimiter and found.kind != "table":
        raise DataError(f"a delimiter was given, but this is no table: it was read as {found.kind}.", where=str(path))
    if layout and found.kind not in ("npz", "npy"):
        raise DataError(f"a layout was given, but this is no NPZ or NPY file: it was read as {found.kind}.", where=str(path))
    samples = assemble_samples(found if labels is None else with_other_labels(found, labels), ledger, classes)
    warnings = label_warnings(samples) if classes is None else []
    return dataclasses.replace(samples, warnings=(*samples.warnings, *warnings), notes=(*samples.notes, *_honored(samples)))


def _honored(samples: Samples) -> list[str]:
    """A note about groups, so that a person sees that they count."""
    groups = {group for group in samples.groups or () if group}
    if not groups or samples.official:
        return []
    return [
        f"{write_number_of(len(groups), 'group')} honored: samples of one group stay on one side of a split that visus makes."
    ]


def sample_data(ledger: Ledger, *, classes: Sequence[str] | None = None, labels: str | Path | None = None) -> Samples:
    """The images that come with visus: Fashion-MNIST's test file, always cut 8,000 / 2,000 in the same way.

    The cut counts as official, so no seed moves an image between training and test.

    >>> from visus.data.ledger import Ledger
    >>> samples = sample_data(Ledger())
    >>> len(samples.indices("train")), len(samples.indices("test")), samples.classes[9]
    (8000, 2000, 'Ankle boot')
    """
    found = read_idx(_SAMPLE_FOLDER, list_folder(_SAMPLE_FOLDER)[1], SAMPLE_NAME)
    unsplit = dataclasses.replace(found, name=SAMPLE_NAME, splits=[""] * len(found.names))
    cut = split_samples(assemble_samples(unsplit, ledger, None), seed=_SAMPLE_SEED, val_fraction=0.0, test_fraction=0.2)
    found = dataclasses.replace(unsplit, splits=cut.splits.tolist())
    return assemble_samples(found if labels is None else with_other_labels(found, labels), ledger, classes)


@dataclass(frozen=True)
class _Ask:
    """What was asked for, beside the path."""

    ledger: Ledger
    delimiter: str | None
    layout: str | None
    reading: Reading
    by_folders: bool
    classes: Sequence[str] | None


def _refuse_unused(found: FoundSamples, reading: Reading, path: str | Path) -> None:
    """Refuse an answer to a question that this source does not ask."""
    columns = reading.path_column or reading.label_column or reading.skip_missing
    if columns and found.kind != "table":
        raise DataError(
            f"--path-column, --label-column and --skip-missing are for a table, and this was read as {found.kind}. Give the table itself.",
            where=str(path),
        )
    if reading.class_depth and found.kind not in ("folder", "split folders"):
        raise DataError(f"--class-depth is for folders, and this was read as {found.kind}. Leave it out.", where=str(path))


def _read_folder(given: Path, ask: _Ask) -> FoundSamples:
    goes_by_tables = not ask.by_folders and not ask.reading.class_depth
    folder, notes, warnings = unwrap(given, is_dataset=lambda place: goes_by_tables and bool(_tables(place)))
    name = given.resolve().name
    files = [name for name in list_folder(folder)[1] if not is_ignored(name)]
    found = _read_data_files(folder, files, ask.ledger, name, ask.layout)
    if found is None:
        found = _read_images(given, folder, files, name, ask)
        if ask.classes is None:
            warnings = (*warnings, *_siblings_left(given, found))
    return dataclasses.replace(found, notes=(*notes, *found.notes), warnings=(*warnings, *found.warnings))


def _tables(folder: Path) -> list[str]:
    """The tables in a folder that have the columns path and label."""
    return [
        file
        for file in list_folder(folder)[1]
        if Path(file).suffix.lower() in TABLE_SUFFIXES and not is_ignored(file) and is_table(folder / file)
    ]


def _siblings_left(given: Path, found: FoundSamples) -> list[str]:
    """A warning where one split folder was given, and its siblings hold the same classes."""
    place = given.resolve()
    if guess_split(place.name) is None or found.kind != "folder":
        return []
    try:
        folders = [name for name in list_folder(place.parent)[0] if not is_ignored(name)]
    except DataError:
        return []
    meant = guess_splits(folders)
    labels = set(found.labels)
    beside = [
        name
        for name, split in meant.items()
        if split != meant.get(place.name) and labels & set(list_folder(place.parent / name)[0])
    ]
    if not beside:
        return []
    return [
        f"beside {place.name!r} lie the splits {write_names(map(repr, beside))} with the same classes, and they are not used. To use them, type: "
        f"{check_command(given.parent if given.name else place.parent)}"
    ]


def _read_data_files(folder: Path, files: list[str], ledger: Ledger, name: str, layout: str | None) -> FoundSamples | None:
    """The dataset in files with published names, or None; every other file there goes on the ledger."""
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


def _read_images(given: Path, folder: Path, files: list[str], name: str, ask: _Ask) -> FoundSamples:
    """The dataset of a table or of folders of images; else of a single NPZ file."""
    candidates = [file for file in files if Path(file).suffix.lower() in TABLE_SUFFIXES]
    tables = _tables(folder) if not ask.by_folders else []
    if len(tables) > 1:
        raise DataError(
            f"several tables lie here: {write_names(tables)}. Give the one that is meant as the path.", where=str(folder)
        )
    if tables:
        found = read_table(folder / tables[0], ask.ledger, name, ask.delimiter, ask.reading)
        note = f"the table {tables[0]!r} says which images there are and what they show; names of folders do not."
        return dataclasses.replace(found, notes=(note, *found.notes))
    bundles = [file for file in files if file.lower().endswith(".npz")]
    if len(bundles) == 1 and not any(is_image_name(file) for file in files):
        return read_npz(folder / bundles[0], name, ask.layout)
    try:
        found = read_folders(folder, ask.ledger, name, ask.reading, ask.classes)
    except DataError as error:
        _ask_for_table(given, folder, ask, error)
        if len(candidates) == 1 and not any(list_folder(folder)[0]):
            return read_table(folder / candidates[0], ask.ledger, name, ask.delimiter, ask.reading)
        raise
    if ask.classes is None and len(set(found.labels)) == 1:  # the folder of all images, not of a class?
        _ask_for_table(given, folder, ask, single_class_error(found.labels[0], len(found.names), str(folder)))
    return _beside_folders(given, folder, found, ask)


def _places(given: Path, folder: Path) -> list[Path]:
    """Where tables of the images in a folder may lie: there, in the wrappers around it, and in the folders just below it."""
    inner = [folder / name for name in list_folder(folder)[0] if not is_ignored(name)]
    return [folder, *[each for each in folder.parents if each == given or given in each.parents], *inner[:50]]


def _ask_for_table(given: Path, folder: Path, ask: _Ask, error: DataError) -> None:
    """Refuse folders that cannot be read with a sentence about what lies there instead: a table that names the images, boxes for
    detection, or class folders one level up.

    Raises:
        DataError: there is such a thing.
    """
    if ask.by_folders or ask.reading.class_depth:
        return
    place = given.resolve()
    above = [] if place == place.parent else [place.parent]
    samples = images_below(folder)
    for seen in tables_beside([*_places(given, folder), *above], samples, {}):
        if not seen.is_about_images:
            continue
        if seen.is_records and not seen.labels:
            raise _for_detection(error, f"{seen.file.name!r} names the images, and no class for each")
        if seen.file.parent in above:
            raise DataError(f"{error.message} One level up, {question(seen, given, ())}", where=error.where) from error
        raise DataError(question(seen, given, ()), where=str(given)) from error
    if not samples and (absent := absent_images(_places(given, folder))):
        raise DataError(f"{error.message.partition('. ')[0]}. {absent}", where=str(given)) from error
    packed = [name for name in list_folder(folder)[1] if not samples and Path(name).suffix.lower() in _ARCHIVES]
    if packed:
        raise DataError(
            f"no images found, but {write_number_of(len(packed), 'archive')} ({write_names(packed)}). Unpack {'it' if len(packed) == 1 else 'them'}, and give the folder.",
            where=str(given),
        ) from error
    if boxes := annotations_of(given, samples):
        raise _for_detection(error, f"The images have files of their own names beside them, such as {boxes}")
    siblings = class_folders(place.parent) if samples and not any("/" in sample for sample in samples) else []
    if place.name in siblings and len(siblings) > 1:
        raise DataError(
            f"{error.message}\n  - if the folders beside it ({write_names(siblings)}) are the classes: {check_command(given.parent if given.name else place.parent)}",
            where=error.where,
        ) from error


def _for_detection(error: DataError, found: str) -> DataError:
    """The error with what was found: a dataset of boxes or outlines."""
    more = "" if CLASSIFIES in error.message else f" {CLASSIFIES}"
    return DataError(f"{error.message} {found}: boxes or outlines, as for detection.{more}", where=error.where)


def _beside_folders(given: Path, folder: Path, found: FoundSamples, ask: _Ask) -> FoundSamples:
    """What folders say, with what tables beside them say: agreement is a note, a table about other things a warning.

    Raises:
        DataError: a table names the images and does not agree with the folders, and no one said that the folders hold.
    """
    if ask.by_folders:
        return found
    labels = dict(zip(found.names, found.labels, strict=True))
    notes, warnings = [], []
    for seen in tables_beside(_places(given, folder), found.names, labels):
        if seen.is_about_images and seen.agrees:
            notes.append(f"the table {seen.file.name!r} is not needed: it names the same classes as the folders.")
        elif seen.is_about_images and (seen.labels or seen.one_hot or seen.path_column is None):
            classes = sorted(set(found.labels), key=natural_key)
            sentence = question(seen, given, classes if len(classes) > 1 else ())
            if ask.classes is None:
                raise DataError(sentence, where=str(given))
            warnings.append(sentence.partition("\n")[0])
        elif seen.file.suffix.lower() in (*TABLE_SUFFIXES, *WORKBOOKS) and seen.file.parent not in [
            folder / name for name in list_folder(folder)[0]
        ]:
            warnings.append(unused(seen))
    return dataclasses.replace(found, notes=(*found.notes, *notes), warnings=(*found.warnings, *warnings))


def _read_file(file: Path, ask: _Ask) -> FoundSamples:
    suffix, name = file.suffix.lower(), file.stem
    if suffix in TABLE_SUFFIXES or suffix in RECORD_SUFFIXES:
        return read_table(file, ask.ledger, name, ask.delimiter, ask.reading)
    if suffix in WORKBOOKS:
        raise DataError(
            "this is a workbook, and visus reads CSV. Save the sheet as 'CSV UTF-8' with the columns path,label, and give that file.",
            where=str(file),
        )
    if suffix == ".npz":
        return read_npz(file, name, ask.layout)
    siblings = [name for name in list_folder(file.parent)[1] if not is_ignored(name)]
    if suffix == ".npy":
        arrays = [name for name in siblings if name.lower().endswith(".npy")]
        if not is_pair([Path(name).stem for name in arrays]):
            raise DataError(
                "an NPY file needs its labels beside it: x.npy with y.npy, or train_images.npy with train_labels.npy.",
                where=str(file),
            )
        return read_npy(file.parent, arrays, file.parent.resolve().name, ask.layout)
    if is_idx(file.name):
        return read_idx(file.parent, siblings, file.parent.resolve().name)
    if is_image_name(file.name):
        raise DataError("this is one image; training needs the folder that holds all of them.", where=str(file))
    if suffix in _ARCHIVES:
        raise DataError("this is an archive. Unpack it and give the folder.", where=str(file))
    raise DataError(f"this file is not a dataset that visus knows. {LAYOUTS}", where=str(file))
