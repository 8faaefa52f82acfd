"""A dataset, opened: split, decoded and scaled, ready to be trained on.

This file knows how the rooms of data are put together, and which size and channels suit a set that says nothing.
"""

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
from visus.data.images.fit import RESIZE_MODES, ResizeMode
from visus.data.ledger import Ledger
from visus.data.preprocessing import NORMALIZATIONS, Normalize, Preprocessing, measure_scale
from visus.data.reading import DEFAULT_READING, Reading
from visus.data.samples import SPLITS, Samples
from visus.data.sources import read_source
from visus.data.splits import apply_split, read_split_csv, split_samples
from visus.data.store import MAX_UNREADABLE, Store, open_store, refuse_unreadable
from visus.data.survey import InputChooser, suitable_size, survey_images
from visus.errors import DataError, UsageError, unknown_name
from visus.progress import OnEvent, ShouldStop
from visus.units import Described, write_shape

FAR_FROM_ZERO = 2**20  # deviations: with 24 bits, float32 would leave 16 levels for one
IMBALANCE = 3.0
LOW_RANGE = "16-bit values in the lowest part of their range"


@dataclass(frozen=True, eq=False, repr=False)
class Data(Described):
    """A dataset, ready to be trained on.

    Args:
        table: all samples that the source names, readable or not.
        samples: the readable ones.
        preprocessing: what was, and will be, done to every sample.
        store: the decoded samples.
        rows: row of the store for each sample of ``samples``.
        ledger: every change that was made, counted and named.
        is_varied: image files of many different sizes.
        max_unreadable: the share of unreadable files that was allowed.
        given: the folder or file that was asked for; None for the images that come with visus.
        labels: other labels that were asked for: a column of the table or a file; None for the data's own.
        is_whole: all samples are in the test split because they are to be scored together.
        split_seed: the seed of the split; None where the data or a ``split.csv`` says all of it.
        reading: what was asked for where the source leaves it open: columns of a table, the level of folders, the axes of arrays.
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
    reading: Reading = DEFAULT_READING

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        counts = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS if len(self.split(name)))
        names = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        rows = [
            ("samples", f"{counts}; each {write_shape(self.input_shape)}, {self.preprocessing.dtype}"),
            ("classes", f"{len(self.classes):,}: {names}"),
            ("from", "visus itself" if self.given is None else str(self.given)),
        ]
        return f"Data {self.name}", rows

    @property
    def short_name(self) -> str:
        """A name for files and folders: that of the folder or file that was given, without its ending."""
        if self.given is None:
            return "fashion-sample"
        return self.given.stem if self.given.is_file() else self.given.name

    @property
    def noun(self) -> str:
        """What one sample is called: image, signal or volume."""
        return self.preprocessing.noun

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before they trust a training on this data."""
        return (*self.samples.warnings, *_dark_depth(self.ledger), *_far_from_zero(self.preprocessing), *_imbalance(self))

    @property
    def name(self) -> str:
        """What the dataset is called."""
        return self.samples.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.samples.classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, *spatial) of one sample."""
        return self.preprocessing.input_shape

    @property
    def num_samples(self) -> int:
        """Readable samples in all splits together."""
        return len(self.samples.names)

    @property
    def fingerprint(self) -> str:
        """Changes when any sample, label or class changes."""
        return self.samples.fingerprint

    @property
    def scored_split(self) -> str:
        """The split on which a trained network is scored: the test split, or the validation split where there is none."""
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
        """The samples of ``train``, ``val`` or ``test``; it may be empty.

        Raises:
            UsageError: another name.
        """
        if name not in SPLITS:
            raise UsageError(unknown_name("split", name, SPLITS))
        return self._parts[name]

    def groups_of(self, split: str) -> tuple[str, ...] | None:
        """The group of each sample of a split, in its order; None where the source names none."""
        if self.samples.groups is None:
            return None
        return tuple(self.samples.groups[index] for index in np.flatnonzero(self.samples.splits == split))

    def class_counts(self, split: str) -> dict[str, int]:
        """Number of samples of each class in one split."""
        counts = np.bincount(self.split(split).labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}


def open_data(
    path: str | Path | None = None,
    *,
    img_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    resize_mode: ResizeMode = "squash",
    normalize: Normalize = "mean-deviation",
    labels: str | Path | None = None,
    split: str | Path | None = None,
    split_seed: int | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    preprocessing: Preprocessing | None = None,
    suit: InputChooser | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    skip_missing: bool = False,
    class_depth: int | None = None,
    layout: str | None = None,
) -> Data:
    """Open a dataset: a folder for each class, split folders, a table, or array files.

    Args:
        path: folder or file; None for the images that come with visus.
        img_size: side in pixels, or one length for each axis; None chooses by the images' own sizes.
        channels: 1 for gray, 3 for color; None takes color where any image has it.
        resize_mode: how an image gets its size: ``squash``, ``crop`` (short side, then center) or ``pad``.
        normalize: ``mean-deviation`` or ``min-max``, both as the training split says.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` for each sample, named as in
            ``split.csv``; "folders" for the names of folders where a table lies beside them; None for the data's own.
        split: a ``split.csv`` of an earlier run, to split in the same way; with ``labels``, it may have other labels.
        split_seed: decides which samples train, validate and test, where the data does not say; None for 0. The seed of a training changes no split.
        max_unreadable: share of the files that may be left out because they cannot be read.
        cache_dir: another folder for the decoded samples.
        num_workers: decoding threads; 0 for one for each usable core.
        preprocessing: that of a training to go on with; size, channels, resize mode and scaling are then its own.
        suit: asked how image files are to be read for a network that already knows some; its answer is used instead of ``normalize``, of
            ``channels`` and of the size that suits the data.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: asked after each decoded sample; True raises ``CanceledError``.
        path_column: the column of a table that names the image files; default: ``path``.
        label_column: the column of a table that names the classes; default: ``label``.
        skip_missing: leave out rows of a table whose file does not exist.
        class_depth: which level of folders names the classes, counted from 1 below the data or below its split folders; default: the
            first, unless the folders show that another may be meant.
        layout: the axes of the arrays in an NPZ or NPY file, in letters such as ``NLC`` (samples, length, channels) or ``NHWC``; None follows
            their shape where it is clear, and asks where it is not.

    Raises:
        DataError: the data cannot be used as it is; the sentence says what to do.
        UsageError: a setting that cannot be used.
        StorageError: the cache folder cannot be written.
    """
    if path is not None and not isinstance(path, (str, os.PathLike)):
        raise UsageError(
            f"the data is one folder or file, and not a {type(path).__name__}. Save arrays as x.npz with the names x and y (np.savez), and give its path."
        )
    _check_settings(img_size, channels, resize_mode, normalize, max_unreadable)
    if split and split_seed is not None:
        raise UsageError(
            "a split.csv says which samples train, validate and test, so a split seed would change nothing. Leave one of them out."
        )
    ledger = Ledger()
    reading = Reading(path_column, label_column, skip_missing, class_depth, layout)
    samples = read_source(path, ledger, labels=labels, reading=reading)
    is_cut = not split and "val" not in samples.official
    if split_seed is not None and not is_cut:
        raise UsageError(
            "this data names its own splits, validation included, so a split seed would change nothing. Leave it out.",
            where=str(samples.root),
        )
    if split:
        samples = apply_split(samples, read_split_csv(Path(split)), same_labels=labels is None)
    else:
        samples = split_samples(samples, split_seed or 0)
    if preprocessing is None:
        plan, is_varied, told = _plan(samples, ledger, img_size, channels, resize_mode, normalize, suit)
        samples = dataclasses.replace(samples, warnings=(*samples.warnings, *told))
    else:
        plan, is_varied = preprocessing, False
    data = _decoded(samples, plan, ledger, is_varied, max_unreadable, cache_dir, num_workers, on_event, should_stop)
    kept = str(Path(labels).resolve()) if labels is not None and Path(labels).is_file() else labels
    data = dataclasses.replace(
        data,
        given=None if path is None else Path(path).resolve(),
        labels=None if kept is None else str(kept),
        split_seed=(split_seed or 0) if is_cut else None,
        reading=reading,
    )
    _refuse_empty_classes(data.samples)
    if not len(data.split("val")) and not len(data.split("test")):
        raise DataError(
            "nothing is left to validate or to score on: copies and groups stay on one side of a split, and here each class is one "
            "group or one copied sample. Add samples, or name other groups.",
            where=str(data.samples.root),
        )
    if preprocessing is None and plan.normalize != "fixed":
        training = data.split("train")
        offset, divisor = measure_scale(_Rows(training.pixels, training.indices), plan.normalize)
        data = dataclasses.replace(data, preprocessing=dataclasses.replace(plan, offset=offset, divisor=divisor))
    return data


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

    A test split that the source names itself is what is scored; a source that names none is scored whole.

    Args:
        preprocessing: the network's.
        classes: the network's; labels are counted by them, whatever classes the data has.
        reading: columns of a table and the level of folders, where they are asked for.

    Raises:
        DataError: a class that the network does not know, or data that cannot be used.
    """
    ledger = Ledger()
    samples = read_source(path, ledger, classes=tuple(classes), reading=reading, trained_layout=preprocessing.layout)
    is_whole = "test" not in samples.official
    if is_whole:
        samples = dataclasses.replace(samples, splits=np.full(len(samples.names), "test", dtype="<U5"))
    _check_kind(samples, preprocessing)
    data = _decoded(samples, preprocessing, ledger, False, max_unreadable, cache_dir, num_workers, on_event, should_stop)
    return dataclasses.replace(
        data, given=None if path is None else Path(path).resolve(), is_whole=is_whole, reading=reading
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
    """The samples with their decoded samples; what cannot be read is left out."""
    folder = Path(cache_dir) if cache_dir else None
    store = open_store(samples, plan, cache_dir=folder, num_workers=num_workers, on_event=on_event, should_stop=should_stop)
    refuse_unreadable(store, samples, max_unreadable)
    samples.reader.release()
    ledger.merge(store.ledger)
    rows = np.flatnonzero(store.readable).astype(np.int64)
    readable = samples if len(rows) == len(samples.names) else samples.select(rows)
    if plan.shuffle_seed is not None:
        for sample in readable.names:
            ledger.note("shuffled", sample)
    return Data(samples, readable, plan, store, rows, ledger, is_varied, max_unreadable)


def _dark_depth(ledger: Ledger) -> list[str]:
    """A sentence where most of the 16-bit images use the lowest eighth of their range."""
    counts = ledger.counts
    dark, deep = counts.get(LOW_RANGE, 0), counts.get("16-bit values scaled to 8-bit", 0)
    if 2 * dark <= deep:
        return []
    return [
        f"{dark:,} of {deep:,} 16-bit images use at most the lowest eighth of their range (up to 8,191 of 65,535), as cameras of 12 or 13 bits "
        f"leave it: they come out dark, with at most 32 of 256 levels. Multiply the values by the same number in all files so that they fill "
        f"the range, or give them as an .npy or .npz array, which keeps all levels."
    ]


def _far_from_zero(plan: Preprocessing) -> list[str]:
    """A sentence where numbers lie very far from 0 beside what they differ by."""
    if plan.normalize != "mean-deviation":
        return []
    far = [channel for channel in range(plan.channels) if abs(plan.offset[channel]) > FAR_FROM_ZERO * plan.divisor[channel]]
    if not far:
        return []
    channel = far[0]
    which = f" of channel {channel}" if plan.channels > 1 else ""
    return [
        f"the numbers{which} lie around {plan.offset[channel]:,.6g} and differ by about {plan.divisor[channel]:.2g} only, as times or indices do. They are "
        f"scaled in float64, so nothing is lost here; a program that reads them as float32 loses most of what they differ by."
    ]


def _imbalance(data: Data) -> list[str]:
    """A sentence where the largest class has many times the training samples of the smallest."""
    counts = data.class_counts("train")
    if not counts or min(counts.values()) == 0:
        return []
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[largest] < IMBALANCE * counts[smallest]:
        return []
    return [
        f"the classes are uneven: {largest} has {counts[largest]:,} training samples and {smallest} has {counts[smallest]:,}. "
        f"Look at the recall of each class; --class-weights balanced gives rare classes more weight."
    ]


@dataclass(frozen=True)
class _Rows:
    """Some rows of a memory-mapped array, copied only when a slice of them is taken."""

    pixels: npt.NDArray[np.generic]
    indices: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: slice) -> npt.NDArray[np.generic]:
        return self.pixels[self.indices[chosen]]


def _check_settings(
    img_size: int | Sequence[int] | None, channels: int | None, resize_mode: str, normalize: str, max_unreadable: float
) -> None:
    sizes = [] if img_size is None else [img_size] if isinstance(img_size, int) else list(img_size)
    if any(size < 1 for size in sizes):
        raise UsageError(f"the image size must be at least 1 pixel, not {write_shape(sizes)}.")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels must be 1 (gray) or 3 (color), not {channels}.")
    if resize_mode not in RESIZE_MODES:
        raise UsageError(unknown_name("resize mode", resize_mode, RESIZE_MODES))
    if normalize not in NORMALIZATIONS:
        raise UsageError(unknown_name("normalization", normalize, NORMALIZATIONS))
    if not 0 <= max_unreadable < 1:
        raise UsageError(f"the share of unreadable files must be at least 0 and below 1, not {max_unreadable}.")


def _plan(
    samples: Samples,
    ledger: Ledger,
    img_size: int | Sequence[int] | None,
    channels: int | None,
    resize_mode: ResizeMode,
    normalize: Normalize,
    suit: InputChooser | None,
) -> tuple[Preprocessing, bool, tuple[str, ...]]:
    """Size, channels and number format for a set that is opened for training, whether its images vary in size, and warnings."""
    if samples.reader.kind == "array":
        assert samples.reader.shape is not None, "rows of arrays have a shape"
        own_channels, *own_size = samples.reader.shape
        if resize_mode != "squash":
            raise UsageError(
                f"the resize mode {resize_mode} is for image files, and these are arrays. Leave it out.",
                where=str(samples.root),
            )
        if channels not in (None, own_channels):
            raise UsageError(
                f"these arrays have {own_channels} channels, and channels={channels} was asked for.", where=str(samples.root)
            )
        size = _wanted_size(img_size, len(own_size)) or tuple(own_size)
        if any(wanted > length for wanted, length in zip(size, own_size, strict=True)):
            raise UsageError(
                f"arrays are only made smaller: {write_shape(size)} was asked for, and they are {write_shape(own_size)}.",
                where=str(samples.root),
            )
        unit = ((0.0,) * own_channels, (1.0,) * own_channels)
        stored = getattr(samples.reader, "layout", None)
        plan = Preprocessing(
            "array", own_channels, size, resize_mode, str(samples.reader.dtype), normalize, *unit, layout=stored
        )
        return plan, False, ()
    seen = dataclasses.replace(survey_images(samples, ledger), wanted_size=_wanted_size(img_size, 2))
    if suit and (suited := suit(seen)):
        plan = Preprocessing(
            "images", suited.channels, suited.size, resize_mode, "uint8", "fixed", suited.offset, suited.divisor
        )
        return plan, seen.is_varied, seen.warnings
    num_channels = channels or (3 if seen.has_color else 1)
    unit = ((0.0,) * num_channels, (1.0,) * num_channels)
    size = seen.wanted_size or suitable_size(seen.sizes)
    return Preprocessing("images", num_channels, size, resize_mode, "uint8", normalize, *unit), seen.is_varied, seen.warnings


def _wanted_size(img_size: int | Sequence[int] | None, num_axes: int) -> tuple[int, ...] | None:
    if img_size is None:
        return None
    size = (img_size,) * num_axes if isinstance(img_size, int) else tuple(img_size)
    if len(size) != num_axes:
        raise UsageError(f"the size {write_shape(size)} has {len(size)} axes, and the data has {num_axes}.")
    return size


def _check_kind(samples: Samples, plan: Preprocessing) -> None:
    """Refuse arrays for a network of images and the reverse."""
    kinds = {"images": "image files", "array": "arrays"}
    if samples.reader.kind == "images" and plan.is_image_like:
        return
    if samples.reader.kind == "array" and plan.kind == "images" and samples.reader.shape and len(samples.reader.shape) == 3:
        return
    if samples.reader.kind != plan.kind:
        raise DataError(
            f"this network reads {kinds[plan.kind]}, and these are {kinds[samples.reader.kind]}.", where=str(samples.root)
        )


def _refuse_empty_classes(samples: Samples) -> None:
    """Refuse a class of which no readable training sample is left."""
    empty = [samples.classes[index] for index in np.flatnonzero(samples.class_counts("train") == 0)]
    if empty:
        raise DataError(
            f"no readable training sample is left of {'class' if len(empty) == 1 else 'the classes'} {', '.join(empty)}. "
            "Repair the files that were left out, or put samples of it into the training split.",
            where=str(samples.root),
        )
