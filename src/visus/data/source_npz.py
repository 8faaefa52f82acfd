"""NPZ and NPY files with the array names of MedMNIST or Keras, or with plain ``x, y``.

Nothing is unpickled: an array of Python objects is an error.

=======================================  =====================================================================
names (case is ignored)                  meaning
=======================================  =====================================================================
train_images, train_labels, val_, test_  MedMNIST: one pair per split
x_train, y_train, x_val, x_test, y_test  Keras: one pair per split
x, y   or   images, labels               one pair; optional: ``groups`` and ``splits``, one value per sample
classes   (optional)                     class names in the order of the labels 0, 1, ...
layout   (optional)                      axes in letters, such as NHWC, if the inferred layout is wrong
=======================================  =====================================================================
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from visus.data.array_labels import (
    MULTI_HOT_NOTE,
    SAVE_TEXTS,
    class_of_each,
    class_values,
    is_multi_hot,
    is_one_hot,
    labels_in_array,
    one_hot_note,
    refuse_repeated_names,
)
from visus.data.listed_names import write_names
from visus.data.npy import npy_header
from visus.data.source_arrays import ArrayPart, TrainedLayout, samples_in_arrays
from visus.data.source_rules import FoundSamples, parse_split
from visus.data.tasks import Label, check_task
from visus.errors import DataError, unknown_name
from visus.units import write_shape

_SPLIT_WORDS = ("train", "val", "valid", "validation", "test")
_PLAIN = (("x", "y"), ("images", "labels"))
_KNOWN = "train_images with train_labels, x_train with y_train, x with y, or images with labels"


@dataclass(frozen=True)
class _Stored:
    """An array in a file: its name, its shape and type, and a function that loads it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]


def read_npz(file: Path, name: str, layout: str | None = None, task: str | None = None) -> FoundSamples:
    """Read the samples of an NPZ file with one of the sets of names at the top of this file; ``task`` as for ``Reading``.

    Raises:
        DataError: the file is damaged, holds Python objects, or has other names.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            stored = [_npz_member(file, archive, member) for member in archive.namelist() if member.endswith(".npy")]
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"the NPZ file is truncated or damaged ({error}). Copy or save it again.", where=str(file)
        ) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error}).", where=str(file)) from error
    return _found(file, "npz", name, stored, layout, task)


def read_npy(folder: Path, names: list[str], name: str, layout: str | None = None, task: str | None = None) -> FoundSamples:
    """Read the samples of a folder of NPY files such as ``x.npy`` and ``y.npy``; ``task`` as for ``Reading``. The files are memory-mapped.

    Raises:
        DataError: a file is damaged or holds Python objects, or the names do not form pairs.
    """
    stored = []
    for file in [folder / file_name for file_name in names]:
        array = _load_npy(file)
        stored.append(_Stored(file.stem, array.shape, array.dtype, partial(_load_npy, file)))
    return _found(folder, "npy", name, stored, layout, task)


def is_pair(stems: list[str]) -> bool:
    """Whether the names of NPY files include a known pair.

    >>> is_pair(["x", "y"]), is_pair(["X_train", "y_train"]), is_pair(["mean"])
    (True, True, False)
    """
    low = {stem.lower() for stem in stems}
    return any(images in low and labels in low for images, labels, *_ in _candidates())


def _candidates() -> list[tuple[str, str, str, bool]]:
    """Every known pair: names of samples and labels, split, and whether the samples are images by convention."""
    pairs = [(f"{word}_images", f"{word}_labels", parse_split(word) or "", True) for word in _SPLIT_WORDS]
    pairs += [(f"x_{word}", f"y_{word}", parse_split(word) or "", False) for word in _SPLIT_WORDS]
    return pairs + [(images, labels, "", False) for images, labels in _PLAIN]


def _found(
    root: Path, kind: str, name: str, stored: list[_Stored], layout: str | None, asked_task: str | None
) -> FoundSamples:
    arrays = {array.name.lower(): array for array in stored}
    if len(arrays) < len(stored):
        raise DataError("the names of two arrays differ only in case. Rename one.", where=str(root))
    pairs = _pairs(root, arrays)
    used = {key for images, labels, *_ in pairs for key in (images, labels)}
    given = {labels: arrays[labels].load() for _, labels, *_ in pairs}
    declared = _texts(arrays["classes"], root) if "classes" in arrays else []
    task = (
        check_task(asked_task) if asked_task else "multi-label" if any(map(is_multi_hot, given.values())) else "single-label"
    )
    refuse_repeated_names(declared, f"{root}: classes", task)
    columns = next((values.shape[1] for values in given.values() if is_multi_hot(values) or is_one_hot(values)), 0)
    named = declared or ([str(place) for place in range(columns)] if task != "regression" else [])
    parts: list[ArrayPart] = []
    labels: list[Label] = []
    for images_key, labels_key, split, _ in pairs:
        images = arrays[images_key]
        values = labels_in_array(given[labels_key], task, f"{root}: {arrays[labels_key].name}", declared)
        if not images.shape or images.shape[0] != len(values):
            raise DataError(
                f"{images.name} has the shape {write_shape(images.shape) or '()'} but {arrays[labels_key].name} has "
                f"{len(values):,} labels. One label per sample is needed, with samples along the first axis.",
                where=str(root),
            )
        parts.append(ArrayPart(split or images.name, split, images.shape, images.dtype, images.load))
        labels += values
    if "classes" in arrays:
        used.add("classes")
    if "layout" in arrays:
        used.add("layout")
        stored_layout = "".join(_texts(arrays["layout"], root)).upper()
        layout = stored_layout if layout is None or isinstance(layout, TrainedLayout) else layout
    groups = splits = None
    if not pairs[0][2]:
        groups, splits = _per_sample(root, arrays, len(labels))
        used |= {"groups", "splits"}
    unused = [array.name for key, array in arrays.items() if key not in used]
    return samples_in_arrays(
        root,
        kind,
        name,
        parts,
        _named(labels, declared if task == "single-label" else (), root),
        style="images" if pairs[0][3] else "plain",
        layout=layout,
        declared=named,
        groups=groups,
        splits=splits,
        notes=(
            *_task_notes(task, asked_task, list(given.values())),
            *([f"unused arrays: {write_names(unused)}."] if unused else []),
        ),
        task=task,
    )


def _task_notes(task: str, asked: str | None, labels: list[NDArray[Any]]) -> list[str]:
    """A note on labels that were taken for sets of classes, or on one-hot labels that were taken for classes."""
    if task == "single-label" and not asked:
        return (
            [one_hot_note(max(each.shape[1] for each in hot))]
            if (hot := [each for each in labels if is_one_hot(each)])
            else []
        )
    if task != "multi-label" or asked:
        return []
    return [MULTI_HOT_NOTE]


def _named(labels: Sequence[Label], names: Sequence[str], root: Path) -> list[str | tuple[str, ...]]:
    """Labels with the classes of whole numbers; the numbers themselves where there is no class list."""
    single = [label for label in labels if not isinstance(label, tuple)]
    class_of = class_of_each({str(root): single}, names, SAVE_TEXTS) if names else {}
    return [label if isinstance(label, tuple) else class_of.get(label, str(label)) for label in labels]


def _pairs(root: Path, arrays: dict[str, _Stored]) -> list[tuple[str, str, str, bool]]:
    """The pairs of arrays, training first.

    Raises:
        DataError: there are no pairs, an array has no partner, or the pairs have more than one set of names.
    """
    complete = []
    for pair in _candidates():
        images, labels, *_ = pair
        if (images in arrays) and (labels in arrays):
            complete.append(pair)
        elif (images in arrays) or (labels in arrays):
            lone, absent = (images, labels) if images in arrays else (labels, images)
            raise DataError(
                f"the array {arrays[lone].name!r} is there without {absent!r}. Found: {write_names(sorted(arrays))}.",
                where=str(root),
            )
    if not complete:
        raise DataError(
            f"there are no arrays of samples and labels. Found: {write_names(sorted(arrays)) or 'nothing'}. Needed: {_KNOWN}.",
            where=str(root),
        )
    sets = {(bool(split), by_convention, "" if split else name) for name, _, split, by_convention in complete}
    splits = [split for _, _, split, _ in complete]
    if len(sets) > 1 or len(set(splits)) < len(splits):
        names = write_names(images for images, *_ in complete)
        raise DataError(f"there is more than one set of samples: {names}. Keep one set of names.", where=str(root))
    return complete


def _per_sample(root: Path, arrays: dict[str, _Stored], num_samples: int) -> tuple[list[str] | None, list[str] | None]:
    """The optional arrays ``groups`` and ``splits``, with one value per sample."""
    values: dict[str, list[str] | None] = {"groups": None, "splits": None}
    for key in values:
        if key in arrays:
            values[key] = class_values(arrays[key].load(), f"{root}: {arrays[key].name}", key.removesuffix("s"))
            if len(values[key] or ()) != num_samples:
                raise DataError(f"{key} has {len(values[key] or ()):,} values for {num_samples:,} samples.", where=str(root))
    if values["splits"] is not None:
        for word in dict.fromkeys(values["splits"]):
            if parse_split(word) is None:
                raise DataError(unknown_name("split", word, _SPLIT_WORDS), where=str(root))
        values["splits"] = [cast(str, parse_split(word)) for word in values["splits"]]
    return values["groups"], values["splits"]


def _texts(array: _Stored, root: Path) -> list[str]:
    values = array.load()
    if values.dtype.kind not in "US":
        raise DataError(f"the array {array.name!r} has the type {values.dtype}, but text is needed.", where=str(root))
    return class_values(values.reshape(-1), f"{root}: {array.name}")


def _npz_member(file: Path, archive: zipfile.ZipFile, member: str) -> _Stored:
    name = member.removesuffix(".npy")
    with archive.open(member) as stream:
        shape, _, dtype = npy_header(cast("BinaryIO", stream))
    _refuse_objects(dtype, f"{file}: {name}")
    return _Stored(name, shape, dtype, partial(_load_npz, file, name))


def _load_npz(file: Path, name: str) -> NDArray[Any]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError, OSError) as error:
        raise DataError(
            f"the array {name!r} cannot be read ({error}). The file is truncated or damaged: copy or save it again.",
            where=str(file),
        ) from error


def _load_npy(file: Path) -> NDArray[Any]:
    try:
        with file.open("rb") as stream:
            dtype = npy_header(stream)[2]
        _refuse_objects(dtype, str(file))
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return array
    except (EOFError, ValueError) as error:
        raise DataError(
            f"the NPY file is truncated or damaged ({error}). Copy or save it again.", where=str(file)
        ) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error}).", where=str(file)) from error


def _refuse_objects(dtype: np.dtype[Any], where: str) -> None:
    if dtype.hasobject:
        raise DataError(
            "the array holds Python objects, which are stored as a pickle, and visus does not unpickle data. "
            "Save it with a numeric type, such as np.stack(samples) for samples of one size.",
            where=where,
        )
