"""Reading a dataset of any supported format from a path into a frozen table of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visus.caller import for_caller
from visus.data.folder_layouts import CLASSIFIES
from visus.data.folder_names import guess_split, guess_splits
from visus.data.label_warnings import label_warnings
from visus.data.ledger import Ledger
from visus.data.listed_names import write_names
from visus.data.other_labels import with_other_labels
from visus.data.reading import DEFAULT_READING, Reading, check_call
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
from visus.data.source_rules import FoundSamples, assemble_samples, natural_key, single_class_error
from visus.data.source_table import TABLE_SUFFIXES, has_predictions, is_table, read_table, refuse_lone_indicator
from visus.data.splits import split_samples
from visus.data.table_paths import find_annotation_file, list_images
from visus.data.table_search import (
    FOLDERS,
    WORKBOOKS,
    find_tables,
    missing_images_message,
    predictions_note,
    unused_table_message,
    unused_table_warning,
)
from visus.data.table_text import RECORD_SUFFIXES
from visus.data.tasks import check_task
from visus.errors import DataError
from visus.files import closest_path
from visus.units import write_number_of

SAMPLE_NAME = "Fashion-MNIST sample"
_SAMPLE_FOLDER = Path(__file__).parent / "fashion"
_SAMPLE_SEED = 0
_SOUNDS = (".wav",)
_ARRAYS = (".npy", ".csv")
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
    trained_layout: str | None = None,
) -> Samples:
    """Read the dataset at a path. ``splits`` has only the splits that the source itself defines.

    A folder is read as the first of these that it holds: IDX files, CIFAR files, a pair of NPY files, a table with the columns path
    and label, folders of images, a single NPZ file. A folder that only holds one folder of data is a wrapper, and is skipped.

    Args:
        path: a folder, a table, an NPZ, NPY or IDX file; None for the images that come with visus.
        ledger: receives files that are ignored, copies, and contradicting labels.
        classes: the classes of a trained network; default: the classes of the training split.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` per sample; or "folders" for
            the names of the folders, even if there is a table.
        delimiter: delimiter of a table: "comma", "semicolon" or "tab"; default: detected.
        layout: axes of plain arrays in letters, such as ``NHWC``; default: inferred as in ``visus.data.source_arrays``.
        reading: further options for ambiguous sources.
        trained_layout: layout that a trained network expects, for plain arrays with the same number of axes that do not state their own.

    Raises:
        DataError: the data is not supported or has a mistake; the message names the place.
    """
    if path is None:
        return sample_data(ledger, classes=classes, labels=labels)
    place = Path(path)
    if not place.exists():
        raise DataError(f"there is no such file or folder.{closest_path(place)}", where=str(path))
    if not place.is_dir() and not place.is_file():
        raise DataError("this is a pipe, a socket or a device. Save the data as a file or folder first.", where=str(path))
    if place.is_dir() and all((place / name).is_file() for name in ("recipe.yaml", "split.csv", "data.json")):
        raise DataError(
            "this is the folder of a run, and data is needed here: a folder of samples, a table or an array file. To compare runs: "
            f"{for_caller('visus compare RUN RUN', 'visus.compare(run, run)')}.",
            where=str(path),
        )
    layout = layout or reading.layout
    by_folders = labels == FOLDERS and place.is_dir() and not Path(FOLDERS).is_file()
    stated = layout or (TrainedLayout(trained_layout) if trained_layout else None)
    request = _Request(ledger, delimiter, stated, reading, by_folders, classes)
    found = _read_folder(place, request) if place.is_dir() else _read_file(place, request)
    if by_folders and found.kind in ("folder", "split folders"):
        labels = None
    _refuse_unused(found, reading, path)
    if delimiter and found.kind != "table":
        raise DataError(f"a delimiter was given, but this is not a table: it was read as {found.kind}.", where=str(path))
    if layout and found.kind not in ("npz", "npy"):
        raise DataError(
            f"a layout was given, but this is not an NPZ or NPY file: it was read as {found.kind}.", where=str(path)
        )
    if labels is None and classes is None:
        refuse_lone_indicator(found, reading)
    found = found if labels is None else with_other_labels(found, labels)
    samples = assemble_samples(_as_task(found, reading, path), ledger, classes)
    warnings = label_warnings(samples) if classes is None else []
    return dataclasses.replace(
        samples, warnings=(*samples.warnings, *warnings), notes=(*samples.notes, *_group_notes(samples))
    )


def _as_task(found: FoundSamples, reading: Reading, path: str | Path) -> FoundSamples:
    """The labels as those of the requested task.

    Raises:
        DataError: labels are the names of folders, and regression needs numbers.
    """
    if reading.task is None or reading.task == found.task:
        return found
    task = check_task(reading.task)
    if task == "multi-label" and found.kind in ("folder", "split folders"):
        raise DataError(
            "multi-label needs several classes for a sample, and a folder names one. Write a table with the columns path and label, such as "
            "1.jpg,cat|dog.",
            where=str(path),
        )
    return dataclasses.replace(found, task=task, declared=() if task == "regression" else found.declared)


def _group_notes(samples: Samples) -> list[str]:
    """A note that the groups of the source are used."""
    groups = {group for group in samples.groups or () if group}
    if not groups or samples.official:
        return []
    return [f"{write_number_of(len(groups), 'group')} found: visus keeps the samples of a group in the same split."]


def sample_data(ledger: Ledger, *, classes: Sequence[str] | None = None, labels: str | Path | None = None) -> Samples:
    """The images that come with visus: Fashion-MNIST's test file, always split 8,000 / 2,000 in the same way.

    The split counts as official, so no seed moves an image between training and test.

    >>> from visus.data.ledger import Ledger
    >>> samples = sample_data(Ledger())
    >>> len(samples.indices("train")), len(samples.indices("test")), samples.classes[9]
    (8000, 2000, 'Ankle boot')
    """
    found = read_idx(_SAMPLE_FOLDER, list_folder(_SAMPLE_FOLDER)[1], SAMPLE_NAME)
    unsplit = dataclasses.replace(found, name=SAMPLE_NAME, splits=[""] * len(found.names))
    split = split_samples(assemble_samples(unsplit, ledger, None), seed=_SAMPLE_SEED, val_fraction=0.0, test_fraction=0.2)
    found = dataclasses.replace(unsplit, splits=split.splits.tolist())
    return assemble_samples(found if labels is None else with_other_labels(found, labels), ledger, classes)


@dataclass(frozen=True)
class _Request:
    """The arguments of ``read_source`` that the readers need."""

    ledger: Ledger
    delimiter: str | None
    layout: str | None
    reading: Reading
    by_folders: bool
    classes: Sequence[str] | None


def _refuse_unused(found: FoundSamples, reading: Reading, path: str | Path) -> None:
    """Raise an error for options that do not apply to this source."""
    columns = reading.path_column or reading.label_column or reading.skip_missing
    if columns and found.kind != "table":
        raise DataError(
            f"--path-column, --label-column and --skip-missing apply to tables, but this was read as {found.kind}. Give the path of the table.",
            where=str(path),
        )
    if reading.class_depth and found.kind not in ("folder", "split folders"):
        raise DataError(f"--class-depth applies to folders, but this was read as {found.kind}. Omit it.", where=str(path))


def _read_folder(given: Path, request: _Request) -> FoundSamples:
    uses_tables = not request.by_folders and not request.reading.class_depth
    folder, notes, warnings = unwrap(given, is_dataset=lambda place: uses_tables and bool(_tables(place)))
    name = given.resolve().name
    files = [name for name in list_folder(folder)[1] if not is_ignored(name)]
    found = _read_data_files(folder, files, request.ledger, name, request.layout, request.reading.task)
    if found is None:
        found = _read_images(given, folder, files, name, request)
        if request.classes is None:
            warnings = (*warnings, *_sibling_split_warning(given, found))
    return dataclasses.replace(found, notes=(*notes, *found.notes), warnings=(*warnings, *found.warnings))


def _tables(folder: Path) -> list[str]:
    """The tables with the columns path and label in a folder."""
    return [
        file
        for file in list_folder(folder)[1]
        if Path(file).suffix.lower() in TABLE_SUFFIXES and not is_ignored(file) and is_table(folder / file)
    ]


def _sibling_split_warning(given: Path, found: FoundSamples) -> list[str]:
    """A warning if the path is one split folder, and its siblings are other splits with the same classes."""
    place = given.resolve()
    if guess_split(place.name) is None or found.kind != "folder":
        return []
    try:
        folders = [name for name in list_folder(place.parent)[0] if not is_ignored(name)]
    except DataError:
        return []
    splits = guess_splits(folders)
    labels = set(found.texts)
    siblings = [
        name
        for name, split in splits.items()
        if split != splits.get(place.name) and labels & set(list_folder(place.parent / name)[0])
    ]
    if not siblings:
        return []
    return [
        f"the splits {write_names(map(repr, siblings))} next to {place.name!r} have the same classes, but are not used. To use them, type: "
        f"{check_call(given.parent if given.name else place.parent)}"
    ]


def _read_data_files(
    folder: Path, files: list[str], ledger: Ledger, name: str, layout: str | None, task: str | None
) -> FoundSamples | None:
    """The dataset in IDX, CIFAR or NPY files, or None. Other files in the folder are noted on the ledger."""
    arrays = [file for file in files if file.lower().endswith(".npy")]
    if any(is_idx(file) for file in files):
        used, found = [file for file in files if is_idx(file)], read_idx(folder, files, name)
    elif is_cifar(files):
        used, found = files, read_cifar(folder, files)
    elif is_pair([Path(file).stem for file in arrays]):
        used, found = arrays, read_npy(folder, arrays, name, layout, task)
    else:
        return None
    for file in sorted(set(files) - set(used)):
        ledger.note(LEFT_OUT, file, f"not part of the {found.kind.upper()} files")
    return found


def _read_images(given: Path, folder: Path, files: list[str], name: str, request: _Request) -> FoundSamples:
    """The dataset of a table, of folders of images, or of a single NPZ file."""
    candidates = [
        file for file in files if Path(file).suffix.lower() in TABLE_SUFFIXES and not has_predictions(folder / file)
    ]
    tables = _tables(folder) if not request.by_folders else []
    if len(tables) > 1:
        raise DataError(f"there are several tables: {write_names(tables)}. Give the path of one of them.", where=str(folder))
    if tables:
        found = read_table(folder / tables[0], request.ledger, name, request.delimiter, request.reading)
        note = f"the table {tables[0]!r} defines the images and their classes; the names of folders are not used."
        return dataclasses.replace(found, notes=(note, *found.notes))
    bundles = [file for file in files if file.lower().endswith(".npz")]
    if len(bundles) == 1 and not any(is_image_name(file) for file in files):
        return read_npz(folder / bundles[0], name, request.layout, request.reading.task)
    try:
        found = read_folders(folder, request.ledger, name, request.reading, request.classes)
    except DataError as error:
        _raise_better_error(given, folder, request, error)
        if len(candidates) == 1 and not any(list_folder(folder)[0]):
            return read_table(folder / candidates[0], request.ledger, name, request.delimiter, request.reading)
        raise
    if request.classes is None and len(set(found.labels)) == 1:  # maybe a folder of all images, not of one class
        _raise_better_error(given, folder, request, single_class_error(found.texts[0], len(found.names), str(folder)))
    return _compare_with_tables(given, folder, found, request)


def _table_places(given: Path, folder: Path) -> list[Path]:
    """Folders that may hold tables for the images in a folder: itself, its wrappers, and its subfolders."""
    inner = [folder / name for name in list_folder(folder)[0] if not is_ignored(name)]
    return [folder, *[parent for parent in folder.parents if parent == given or given in parent.parents], *inner[:50]]


def _raise_better_error(given: Path, folder: Path, request: _Request, error: DataError) -> None:
    """Look for a better explanation of an error than the folders give, and raise it.

    It looks for a table that names the images, boxes for detection, archives, and class folders one level up.

    Raises:
        DataError: such a table, box file, archive or folder was found.
    """
    if request.by_folders or request.reading.class_depth:
        return
    place = given.resolve()
    above = [] if place == place.parent else [place.parent]
    samples = list_images(folder)
    for table in find_tables([*_table_places(given, folder), *above], samples, {}):
        if not table.is_about_images:
            continue
        if table.is_records and not table.labels:
            raise _detection_error(error, f"{table.file.name!r} names the images, but no class for each")
        if table.file.parent in above:
            raise DataError(
                f"{error.message} One level up, {unused_table_message(table, given, ())}", where=error.where
            ) from error
        raise DataError(unused_table_message(table, given, ()), where=str(given)) from error
    if not samples and (message := missing_images_message(_table_places(given, folder))):
        raise DataError(f"{error.message.partition('. ')[0]}. {message}", where=str(given)) from error
    archives = [name for name in list_folder(folder)[1] if not samples and Path(name).suffix.lower() in _ARCHIVES]
    if archives:
        raise DataError(
            f"no images found, but {write_number_of(len(archives), 'archive')} ({write_names(archives)}). "
            f"Unpack {'it' if len(archives) == 1 else 'them'}, and give the path of the folder.",
            where=str(given),
        ) from error
    sounds = [] if samples else _sounds_below(folder)
    if sounds:
        inner = "*/*" if "/" in sounds[0] else "*"
        raise DataError(
            f"no images found, but sound files such as {sounds[0]}. visus reads signals from one NPZ file, with x (samples, channels, length) and y "
            "(labels). Python writes it, with short signals padded:\n"
            "  import numpy as np; from pathlib import Path; from scipy.io import wavfile\n"
            f"  files = sorted(Path({str(given)!r}).glob('{inner}.wav')); waves = [wavfile.read(file)[1] for file in files]\n"
            "  x = np.stack([np.pad(wave, (0, max(map(len, waves)) - len(wave))) for wave in waves])[:, None]\n"
            "  np.savez('signals.npz', x=x, y=[file.parent.name for file in files])",
            where=str(given),
        ) from error
    arrays = [] if samples else _arrays_below(folder)
    if arrays:
        raise _array_files_error(given, arrays) from error
    if boxes := find_annotation_file(given, samples):
        raise _detection_error(error, f"The images have annotation files with their own names, such as {boxes}")
    siblings = class_folders(place.parent) if samples and not any("/" in sample for sample in samples) else []
    if place.name in siblings and len(siblings) > 1:
        raise DataError(
            f"{error.message}\n  - if this folder and its siblings ({write_names(siblings)}) are the classes: {check_call(given.parent if given.name else place.parent)}",
            where=error.where,
        ) from error


def _array_files_error(given: Path, arrays: Sequence[str]) -> DataError:
    """The error for class folders with an NPY or CSV file for each signal, with the code that makes one NPZ file of them."""
    suffix = Path(arrays[0]).suffix
    is_table = suffix.lower() == ".csv"
    read = "np.loadtxt(file, delimiter=',').T" if is_table else "np.load(file)"
    columns = ", a channel for each column" if is_table else ""
    files = write_number_of(len(arrays), f"{suffix[1:].upper()} file")
    return DataError(
        f"no images found, but {files} in class folders, such as {arrays[0]}. visus reads signals from one NPZ file, with x (samples, channels, "
        f"length) and y (labels). Python writes it, with short signals padded{columns}:\n"
        "  import numpy as np; from pathlib import Path\n"
        f"  files = sorted(Path({str(given)!r}).glob('*/*{suffix}')); found = [np.atleast_2d({read}) for file in files]\n"
        "  length = max(each.shape[-1] for each in found)\n"
        "  x = np.stack([np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, length - each.shape[-1])]) for each in found])\n"
        "  np.savez('signals.npz', x=x, y=[file.parent.name for file in files])",
        where=str(given),
    )


def _arrays_below(folder: Path) -> list[str]:
    """The NPY files in the folders of a folder or, if there are none, the CSV files."""
    found = [f"{inner}/{name}" for inner in list_folder(folder)[0] for name in list_folder(folder / inner)[1]]
    return next((some for end in _ARRAYS if (some := [name for name in found if name.lower().endswith(end)])), [])


def _sounds_below(folder: Path) -> list[str]:
    """The sound files in a folder or, if it has none, in the first of its folders that has some."""
    folders, names = list_folder(folder)
    found = [name for name in names if Path(name).suffix.lower() in _SOUNDS]
    for inner in folders if not found else ():
        found = [f"{inner}/{name}" for name in list_folder(folder / inner)[1] if Path(name).suffix.lower() in _SOUNDS]
        if found:
            break
    return found


def _detection_error(error: DataError, found: str) -> DataError:
    """The error for a dataset of boxes or outlines."""
    more = "" if CLASSIFIES in error.message else f" {CLASSIFIES}"
    return DataError(f"{error.message} {found}: boxes or outlines, as for detection.{more}", where=error.where)


def _compare_with_tables(given: Path, folder: Path, found: FoundSamples, request: _Request) -> FoundSamples:
    """Compare folders with tables next to them. A table that agrees adds a note, an unrelated table a warning.

    Raises:
        DataError: a table names the images but does not agree with the folders, and the user did not choose the folders.
    """
    if request.by_folders:
        return found
    labels = dict(zip(found.names, found.texts, strict=True))
    notes, warnings = [], []
    for table in find_tables(_table_places(given, folder), found.names, labels):
        if table.has_predictions:
            notes.append(predictions_note(table))
        elif table.is_about_images and table.agrees:
            notes.append(f"the table {table.file.name!r} is not needed: it names the same classes as the folders.")
        elif table.is_about_images and (table.labels or table.one_hot or table.path_column is None):
            classes = sorted(set(found.texts), key=natural_key)
            message = unused_table_message(table, given, classes if len(classes) > 1 else ())
            if request.classes is None:
                raise DataError(message, where=str(given))
            warnings.append(message.partition("\n")[0])
        elif table.file.suffix.lower() in (*TABLE_SUFFIXES, *WORKBOOKS) and table.file.parent not in [
            folder / name for name in list_folder(folder)[0]
        ]:
            warnings.append(unused_table_warning(table))
    return dataclasses.replace(found, notes=(*found.notes, *notes), warnings=(*found.warnings, *warnings))


def _read_file(file: Path, request: _Request) -> FoundSamples:
    suffix, name = file.suffix.lower(), file.stem
    if suffix in TABLE_SUFFIXES or suffix in RECORD_SUFFIXES:
        return read_table(file, request.ledger, name, request.delimiter, request.reading)
    if suffix in WORKBOOKS:
        raise DataError(
            "visus does not read workbooks. Save the sheet as 'CSV UTF-8' with the columns path,label, and give that file.",
            where=str(file),
        )
    if suffix == ".npz":
        return read_npz(file, name, request.layout, request.reading.task)
    siblings = [name for name in list_folder(file.parent)[1] if not is_ignored(name)]
    if suffix == ".npy":
        arrays = [name for name in siblings if name.lower().endswith(".npy")]
        if not is_pair([Path(name).stem for name in arrays]):
            raise DataError(
                "an NPY file needs a file of labels in the same folder: x.npy with y.npy, or train_images.npy with train_labels.npy.",
                where=str(file),
            )
        return read_npy(file.parent, arrays, file.parent.resolve().name, request.layout, request.reading.task)
    if is_idx(file.name):
        return read_idx(file.parent, siblings, file.parent.resolve().name)
    if is_image_name(file.name):
        raise DataError("this is a single image. Give the path of the folder with all images.", where=str(file))
    if suffix in _ARCHIVES:
        raise DataError("this is an archive. Unpack it, and give the path of the folder.", where=str(file))
    raise DataError(f"this is not a dataset that visus can read. {LAYOUTS}", where=str(file))
