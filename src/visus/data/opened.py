"""Opening a dataset: reading, splitting, decoding and normalizing it for training or scoring."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visus.data.batches import Part
from visus.data.contact_sheet import Captioned, contact_sheet, label_caption, spread
from visus.data.earlier_split import extend_split, read_contents
from visus.data.images.fit import ResizeMode
from visus.data.ledger import Ledger
from visus.data.opened_warnings import (
    blank_warning,
    imbalance_warning,
    large_offset_warning,
    low_range_warning,
    unreadable_warning,
)
from visus.data.preprocessing import Normalize, Preprocessing, measure_scale
from visus.data.preprocessing_plan import check_kind, check_settings, plan_preprocessing
from visus.data.reading import DEFAULT_READING, Reading, one_column
from visus.data.samples import SPLITS, UNASSIGNED, Samples
from visus.data.sources import read_source
from visus.data.splits import SplitRow, apply_split, read_split_csv, split_samples
from visus.data.store import MAX_UNREADABLE, Store, blank_rows, open_store, refuse_unreadable
from visus.data.survey import InputChooser
from visus.data.tasks import TaskName, count_labels, strata
from visus.data.value_ranges import split_warnings
from visus.errors import DataError, UsageError, unknown_name
from visus.progress import OnEvent, ShouldStop
from visus.tables import Described, Table, listed
from visus.units import write_number_of, write_shape, write_split

MAX_ROWS = 200  # classes that a notebook shows at most


@dataclass(frozen=True, eq=False, repr=False)
class Data(Described):
    """A dataset that is ready for training.

    Args:
        table: all samples of the source, including unreadable ones.
        samples: the readable samples.
        preprocessing: how every sample is converted and normalized.
        store: the decoded samples.
        rows: row of the store for each sample of ``samples``.
        ledger: all changes made to the samples.
        is_varied: whether the image files have many different sizes.
        max_unreadable: allowed fraction of unreadable files.
        given: absolute path of the folder or file given by the user; None for the images that come with visus.
        labels: the column or file of other labels; None for the data's own labels.
        is_whole: whether all samples are in the test split, to be scored together.
        split_seed: seed of the split; None if the data or a ``split.csv`` defines the whole split.
        val_fraction, test_fraction: the fractions of the split that were asked for; None for the default, and for a split that is defined.
        reading: options for reading the source.
        typed: the path as the user wrote it, for commands that are printed; None for the images that come with visus.
        short_side_px: median of the short sides of the image files; 0 for arrays.
        note: a remark on the choice of pretrained weights; may be empty.
        fold: the number of the fold whose data this is, and the number of folds; None for data that is no fold of a cross-validation.

    >>> data.num_samples, data.classes, data.input_shape
    (60, ('0', '1', '2'), (3, 8, 8))
    """

    table: Samples
    samples: Samples
    preprocessing: Preprocessing
    store: Store
    rows: npt.NDArray[np.int64]
    ledger: Ledger
    is_varied: bool
    max_unreadable: float = MAX_UNREADABLE
    given: Path | None = None
    labels: str | None = None
    is_whole: bool = False
    split_seed: int | None = None
    val_fraction: float | None = None
    test_fraction: float | None = None
    reading: Reading = DEFAULT_READING
    typed: str | None = None
    short_side_px: int = 0
    note: str = ""
    fold: tuple[int, int] | None = None

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        counts = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS if len(self.split(name)))
        rows = [
            ("samples", f"{counts}; each {write_shape(self.input_shape)}, {self.preprocessing.dtype}"),
            ("targets" if self.task == "regression" else "classes", f"{len(self.classes):,}: {listed(self.classes)}"),
            *([("task", self.task)] if self.task != "single-label" else []),
            ("source", "included in visus" if self.given is None else str(self.given)),
        ]
        return f"Data {self.name}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        if len(self.classes) > MAX_ROWS or self.task == "regression":
            return ()
        counts = [self.class_counts(split) for split in SPLITS]
        rows = tuple((name, *(f"{each[name]:,}" for each in counts)) for name in self.classes)
        return (("samples of each class", Table(rows, ("class", *SPLITS), (1, 2, 3))),)

    def _sheet(self) -> str:
        name = next((each for each in SPLITS if len(self.split(each))), SPLITS[0])
        part = self.split(name)
        places = spread(strata(part.labels))
        samples = [
            Captioned(values, label_caption(part.labels[place], self.task, self.classes), part.names[place])
            for place, values in zip(places, part.rows(places).numpy(), strict=True)
        ]
        shown = f"{len(samples):,} of " if len(samples) < len(part) else ""
        whole = write_split("all" if self.is_whole else name)
        return contact_sheet(f"{shown}{write_number_of(len(part), self.noun)} of {whole}", samples)

    @property
    def short_name(self) -> str:
        """A name for files and folders: that of the given folder or file, without extension.

        >>> data.short_name
        'levels'
        """
        if self.given is None:
            return "fashion-sample"
        return self.given.stem if self.given.is_file() else self.given.name

    @property
    def noun(self) -> str:
        """The noun for a sample: image, signal or volume.

        >>> data.noun
        'image'
        """
        return self.preprocessing.noun

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about possible problems with this data.

        >>> data.warnings
        ()
        """
        return (
            *self.samples.warnings,
            *unreadable_warning(self.ledger),
            *low_range_warning(self.ledger),
            *large_offset_warning(self.preprocessing),
            *imbalance_warning(self.class_counts("train") if self.task == "single-label" else {}),
            *self._split_warnings,
        )

    @cached_property
    def _split_warnings(self) -> list[str]:
        return split_warnings([self.split(name) for name in SPLITS])

    @property
    def name(self) -> str:
        """Name of the dataset.

        >>> data.name
        'levels'
        """
        return self.samples.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs; of regression, the names of the targets.

        >>> data.classes
        ('0', '1', '2')
        """
        return self.samples.classes

    @property
    def task(self) -> TaskName:
        """What a label is: ``single-label`` (one class), ``multi-label`` (a set of classes) or ``regression`` (numbers).

        >>> data.task
        'single-label'
        """
        return self.samples.task

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, *spatial) of one sample.

        >>> data.input_shape
        (3, 8, 8)
        """
        return self.preprocessing.input_shape

    @property
    def num_samples(self) -> int:
        """Number of readable samples in all splits.

        >>> data.num_samples
        60
        """
        return len(self.samples.names)

    @property
    def fingerprint(self) -> str:
        """A hash that changes when any sample, label or class changes.

        >>> data.fingerprint == run.open_data().fingerprint
        True
        """
        return self.samples.fingerprint

    @property
    def scored_split(self) -> str:
        """The split for scoring a trained network: the test split, or the validation split if there is no test split.

        >>> data.scored_split
        'test'
        """
        return "test" if len(self.split("test")) else "val"

    @cached_property
    def _parts(self) -> dict[str, Part]:
        parts = {}
        for name in SPLITS:
            chosen = np.flatnonzero(self.samples.splits == name)
            names = tuple(self.samples.names[index] for index in chosen)
            parts[name] = Part(name, self.store.pixels, self.rows[chosen], self.samples.labels[chosen], names)
        return parts

    def split(self, name: str) -> Part:
        """The samples of ``train``, ``val`` or ``test``; may be empty.

        Raises:
            UsageError: the name is unknown.

        >>> len(data.split("train")), len(data.split("val")), len(data.split("test"))
        (43, 5, 12)
        """
        if name not in SPLITS:
            raise UsageError(unknown_name("split", name, SPLITS))
        return self._parts[name]

    def split_at(
        self, name: str, size: tuple[int, ...], *, on_event: OnEvent | None = None, should_stop: ShouldStop | None = None
    ) -> Part:
        """The samples of a split, decoded from their files at another size. The cache keeps them.

        Args:
            name: ``train``, ``val`` or ``test``.
            size: lengths of the spatial axes; larger images than the input's are what random crops are cut from.
            on_event: receives a ``Progress`` for each decoded sample.
            should_stop: called after each decoded sample; True raises ``CanceledError``.

        Raises:
            StorageError: the cache folder cannot be written, or the disk is full.
            CanceledError: ``should_stop`` returned True.

        >>> data.split_at("train", (4, 4)).pixels.shape
        (60, 3, 4, 4)
        """
        plan, part = dataclasses.replace(self.preprocessing, size=size), self.split(name)
        folder = self.store.folder.parent
        store = open_store(self.table, plan, cache_dir=folder, on_event=on_event, should_stop=should_stop)
        return Part(part.name, store.pixels, part.indices, part.labels, part.names)

    def groups_of(self, split: str) -> tuple[str, ...] | None:
        """The group of each sample of a split, in order; None if the source has no groups.

        >>> data.groups_of("train") is None
        True
        """
        if self.samples.groups is None:
            return None
        return tuple(self.samples.groups[index] for index in np.flatnonzero(self.samples.splits == split))

    def class_counts(self, split: str) -> dict[str, int]:
        """Number of samples of each class in one split; of regression, the number of samples for each target.

        >>> data.class_counts("test")
        {'0': 4, '1': 4, '2': 4}
        """
        counts = count_labels(self.split(split).labels, len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def open_data(
    path: str | Path | None = None,
    *,
    img_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    resize_mode: ResizeMode = "squash",
    normalize: Normalize = "mean-deviation",
    labels: str | Path | None = None,
    split: str | Path | Sequence[SplitRow] | None = None,
    split_seed: int | None = None,
    val: float | None = None,
    test: float | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    preprocessing: Preprocessing | None = None,
    choose_input: InputChooser | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    skip_missing: bool = False,
    class_depth: int | None = None,
    layout: str | None = None,
    task: str | None = None,
) -> Data:
    """Open a dataset: class folders, split folders, a table, or array files.

    Args:
        path: folder or file; None for the images that come with visus.
        img_size: side in pixels, or one length per axis; default: chosen by the sizes of the images.
        channels: 1 for gray, 3 for color; default: color if any image is in color.
        resize_mode: how images are resized: ``squash``, ``crop`` (short side, then center) or ``pad``.
        normalize: ``mean-deviation`` or ``min-max``, with the statistics of the training split.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` per sample, with the names of
            ``split.csv``; "folders" for the names of the folders, even if there is a table; default: the data's own labels.
        split: a ``split.csv`` of an earlier run: the samples that it knows, by content or name, keep their split, and new ones are split in
            addition. Or the rows of one, which must list exactly these samples; with ``labels``, their labels may differ.
        split_seed: seed of the split, if the data does not define it; default: 0. It is independent of the training seed.
        val: fraction of the training samples that become the validation set, 0 for none, if the data does not define one; default: 0.1.
        test: fraction of all samples that become the test set, 0 for none, if the data defines no split; default: 0.2.
        max_unreadable: maximum fraction of files that may be left out because they are unreadable, 0 to 1.
        cache_dir: folder for the decoded samples; default: the cache folder.
        num_workers: number of decoding threads; 0 for one per usable core.
        preprocessing: preprocessing of a training to continue; it replaces ``img_size``, ``channels``, ``resize_mode`` and ``normalize``.
        choose_input: chooses the size, channels and normalization of images for a pretrained network; if it returns an ``InputSpec``,
            this replaces ``channels``, ``normalize`` and the default size.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: called after each decoded sample; True raises ``CanceledError``.
        path_column: the column of a table that names the image files; default: ``path``.
        label_column: the column of a table that names the classes; default: ``label``.
        skip_missing: skip rows of a table whose file does not exist.
        class_depth: level of the folders that name the classes, counted from 1 below the dataset or below its split folders; default: the
            first level, unless the folders are ambiguous.
        layout: axes of the arrays in an NPZ or NPY file, in letters such as ``NLC`` (samples, length, channels) or ``NHWC``; default:
            inferred from their shape, or an error if the shape is ambiguous.
        task: ``single-label``, ``multi-label`` or ``regression`` (``Reading.task``).

    Raises:
        DataError: the data cannot be used; the message says what to do.
        UsageError: a setting cannot be used.
        StorageError: the cache folder cannot be written.
        CanceledError: ``should_stop`` returned True.
    """
    if path is not None and not isinstance(path, (str, os.PathLike)):
        raise UsageError(
            f"the data must be one folder or file, not a {type(path).__name__}. For arrays: visus.open_data(x=x, y=y). For a table of pandas: visus.open_data(table). "
            f"For a dataset of PyTorch or Hugging Face: visus.open_data({'loader.dataset' if hasattr(path, 'dataset') else 'dataset'})."
        )
    check_settings(img_size, channels, resize_mode, normalize, max_unreadable)
    if split and split_seed is not None:
        raise UsageError("a split.csv defines the whole split, so a split seed would have no effect. Omit one of them.")
    if split and (val is not None or test is not None):
        raise UsageError(
            "a split.csv defines the whole split, so fractions of it would have no effect. Leave one of them out."
        )
    ledger = Ledger()
    reading = Reading(path_column, one_column(label_column), skip_missing, class_depth, layout, task)
    samples = read_source(path, ledger, labels=labels, reading=reading)
    is_cut = not split and "val" not in samples.official
    if split_seed is not None and not is_cut:
        raise UsageError(
            "this data defines its own splits, including validation, so a split seed would have no effect. Omit it.",
            where=samples.place,
        )
    samples = _split(samples, split, split_seed or 0, val, test, same_labels=labels is None)
    survey = None
    if preprocessing is None:
        plan, survey = plan_preprocessing(samples, ledger, img_size, channels, resize_mode, normalize, choose_input)
        warnings = survey.warnings if survey else ()
        samples = dataclasses.replace(samples, warnings=(*samples.warnings, *warnings))
    else:
        plan = preprocessing
    is_varied = survey is not None and survey.is_varied
    data = _decoded(samples, plan, ledger, is_varied, max_unreadable, cache_dir, num_workers, on_event, should_stop)
    kept = str(Path(labels).resolve()) if labels is not None and Path(labels).is_file() else labels
    data = dataclasses.replace(
        data,
        given=None if path is None else Path(path).resolve(),
        labels=None if kept is None else str(kept),
        split_seed=(split_seed or 0) if is_cut else None,
        val_fraction=val,
        test_fraction=test,
        reading=reading,
        typed=None if path is None else str(path),
        short_side_px=survey.short_side_px if survey else 0,
    )
    _refuse_empty_classes(data.samples)
    if val == 0 and not len(data.split("test")):
        raise UsageError(
            "with neither a validation nor a test set, nothing is left to score the network on. Give one of them a fraction above 0.",
            where=data.samples.place,
        )
    if not len(data.split("val")) and not len(data.split("test")):
        raise DataError(
            "no samples are left for validation and testing: copies and groups stay in one split, and here each class is a single "
            "group or copies of one sample. Add samples, or define other groups.",
            where=data.samples.place,
        )
    return normalized_by_training(data) if preprocessing is None else data


def normalized_by_training(data: Data) -> Data:
    """Data with the statistics of its own training samples; unchanged where the numbers are those of pretrained weights."""
    plan = data.preprocessing
    if plan.normalize == "fixed":
        return data
    training = data.split("train")
    offset, divisor = measure_scale(_Rows(training.pixels, training.indices), plan.normalize)
    return dataclasses.replace(data, preprocessing=dataclasses.replace(plan, offset=offset, divisor=divisor))


def _split(
    samples: Samples,
    split: str | Path | Sequence[SplitRow] | None,
    seed: int,
    val: float | None,
    test: float | None,
    *,
    same_labels: bool,
) -> Samples:
    """The samples in splits: those of a file or its rows, else by seed and fractions."""
    if not split:
        return split_samples(samples, seed, val_fraction=val, test_fraction=test)
    if isinstance(split, (str, Path)):
        return extend_split(samples, read_split_csv(Path(split)), read_contents(Path(split)), str(split))
    return apply_split(samples, split, same_labels=same_labels)


def open_scoring_data(
    path: str | Path | None,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    max_unreadable: float = MAX_UNREADABLE,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    reading: Reading = DEFAULT_READING,
) -> Data:
    """Open a dataset to score a trained network on it.

    The test split is scored if the source defines one; otherwise all samples are.

    Args:
        path: folder or file; None for the images that come with visus.
        preprocessing: the network's preprocessing.
        classes: the network's classes, which define the class indices.
        max_unreadable: maximum fraction of files that may be left out because they are unreadable, 0 to 1.
        cache_dir: folder for the decoded samples; default: the cache folder.
        num_workers: number of decoding threads; 0 for one per usable core.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: called after each decoded sample; True raises ``CanceledError``.
        reading: options for reading the source.

    Raises:
        DataError: a class is unknown to the network, or the data cannot be used.
        StorageError: the cache folder cannot be written.
        CanceledError: ``should_stop`` returned True.
    """
    ledger = Ledger()
    samples = read_source(path, ledger, classes=tuple(classes), reading=reading, trained_layout=preprocessing.layout)
    is_whole = "test" not in samples.official
    if is_whole:
        samples = dataclasses.replace(samples, splits=np.full(len(samples.names), "test", dtype="<U5"))
    check_kind(samples, preprocessing)
    data = _decoded(samples, preprocessing, ledger, False, max_unreadable, cache_dir, num_workers, on_event, should_stop)
    return dataclasses.replace(
        data,
        given=None if path is None else Path(path).resolve(),
        is_whole=is_whole,
        reading=reading,
        typed=None if path is None else str(path),
    )


def _decoded(
    samples: Samples,
    plan: Preprocessing,
    ledger: Ledger,
    is_varied: bool,
    max_unreadable: float,
    cache_dir: str | Path | None,
    num_workers: int,
    on_event: OnEvent | None,
    should_stop: ShouldStop | None,
) -> Data:
    """Decode the samples, and leave out unreadable files."""
    folder = Path(cache_dir) if cache_dir else None
    store = open_store(samples, plan, cache_dir=folder, num_workers=num_workers, on_event=on_event, should_stop=should_stop)
    refuse_unreadable(store, samples, max_unreadable)
    samples.reader.release()
    ledger.merge(store.ledger)
    is_used = np.ones(len(samples), dtype=bool) if (samples.splits == UNASSIGNED).all() else samples.splits != UNASSIGNED
    rows = np.flatnonzero(store.readable & is_used).astype(np.int64)
    readable = samples if len(rows) == len(samples.names) else samples.select(rows)
    if plan.shuffle_seed is not None:
        for sample in readable.names:
            ledger.note("shuffled", sample)
    if warning := blank_warning(
        [readable.names[place] for place in blank_rows(store.pixels, rows, are_files=plan.kind == "images")]
        if plan.is_image_like
        else []
    ):
        readable = dataclasses.replace(readable, warnings=(*readable.warnings, *warning))
    return Data(samples, readable, plan, store, rows, ledger, is_varied, max_unreadable)


@dataclass(frozen=True)
class _Rows:
    """Rows of a memory-mapped array, copied only when sliced."""

    pixels: npt.NDArray[np.generic]
    indices: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: slice) -> npt.NDArray[np.generic]:
        return self.pixels[self.indices[chosen]]


def _refuse_empty_classes(samples: Samples) -> None:
    """Check that every class has readable training samples.

    Raises:
        DataError: a class has no readable training samples.
    """
    if samples.task == "regression" and not len(samples.indices("train")):
        raise DataError("no readable training samples are left. Repair the files that were left out.", where=samples.place)
    empty = [samples.classes[index] for index in np.flatnonzero(samples.class_counts("train") == 0)]
    if empty:
        raise DataError(
            f"no readable training samples are left of the {'class' if len(empty) == 1 else 'classes'} {', '.join(empty)}. "
            "Repair the files that were left out, or add samples to the training split.",
            where=samples.place,
        )
