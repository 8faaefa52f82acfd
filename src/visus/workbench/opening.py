"""``visus.open_data``: opens data with ``visus.data.opened`` and shows the progress of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from visus.data import opened
from visus.data.cache import given_folder
from visus.data.images.fit import ResizeMode
from visus.data.opened import Data
from visus.data.preprocessing import Normalize
from visus.data.reading import one_column
from visus.data.store import MAX_UNREADABLE
from visus.data.tasks import check_task
from visus.errors import UsageError
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.given_datasets import is_dataset, is_table, refuse_streams
from visus.workbench.given_samples import Saved, save_arrays, save_dataset, save_table
from visus.workbench.live_line import following
from visus.workbench.train.starts import choice_of, noted, suited_data


class _NotGiven:
    """The default of an argument for which None is a mistake."""

    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN: Final = _NotGiven()
_BESIDE_X: Final = {
    "groups": "Of a dataset of Hugging Face, it is the name of a column, such as groups='patient'; a table has its groups in the column group.",
    "classes": "A dataset has its class names as dataset.classes (Hugging Face: as ClassLabel), or returns them as labels.",
}
"""What to do if arguments that go with arrays are given with something else."""


def open_data(
    path: Any = None,
    *,
    x: Any = NOT_GIVEN,
    y: Any = NOT_GIVEN,
    x_val: Any = None,
    y_val: Any = None,
    x_test: Any = None,
    y_test: Any = None,
    groups: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    keep_in: str | Path | None = None,
    img_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    resize_mode: ResizeMode = "squash",
    normalize: Normalize | None = None,
    pretrained: bool | None = None,
    task: str | None = None,
    labels: str | Path | None = None,
    split: str | Path | None = None,
    split_seed: int | None = None,
    val: float | None = None,
    test: float | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    path_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    skip_missing: bool = False,
    class_depth: int | None = None,
    layout: str | None = None,
    num_workers: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Data:
    """Open a dataset: a folder for each class, split folders, a table, array files, arrays, or a dataset of PyTorch or Hugging Face.

    Args:
        path: folder or file; or a dataset that returns (sample, label), or the images and labels of Hugging Face; or a mapping of ``train``, ``validation``
            and ``test`` to such datasets; or a list of pairs (sample, label); or a table of pandas with a row for each image, whose relative paths are
            relative to the current folder; None for the images that come with visus.
        x, y: samples (N, ...) and their labels, in arrays, tensors or lists: class names as texts; whole numbers; 0 and 1 for each class; lists or sets of
            classes; or numbers (``regression``). All labels are read in one way: texts are names, and whole numbers are places in ``class_names``, or all
            of them names in it.
        x_val, y_val: samples of the validation set, and their labels; default: a part of ``x``.
        x_test, y_test: samples of the test set, and their labels; default: a part of ``x``.
        groups: with ``x`` alone, the group of each sample, such as a patient: groups are not split. Of a dataset of Hugging Face, the name of the column
            of groups.
        class_names: class names in the order of the labels 0, 1, ... of ``y``; default: the labels. Of ``regression``, the names of the targets.
        keep_in: folder in which arrays and datasets are saved as they are, since later steps read them again (resuming, evaluating, exporting); default:
            the user's data folder of this system. ``data.given`` is the place.
        img_size: side in pixels, or one length per axis; default: chosen by the sizes of the images.
        channels: 1 for gray, 3 for color; default: color if any image is in color.
        resize_mode: how images are resized: ``squash``, ``crop`` (short side, then center) or ``pad``.
        normalize: ``mean-deviation`` or ``min-max``, with the statistics of the training split; default: ``mean-deviation``.
        pretrained: True reads images as ImageNet weights need them, at their size and scaling; False does not. None does so for
            photos (see ``BackboneChoice``), so ``visus.train(visus.open_data(path))`` trains as ``visus.train(path)`` does.
        task: what a label is: ``single-label`` (one class), ``multi-label`` (a set of classes: a cell such as ``cat|dog``, several columns of 0 and 1, or
            an array of 0 and 1) or ``regression`` (numbers: one column or several, or an array). Default: ``multi-label`` for arrays or vectors of 0 and
            1 in which a row has several ones or none, and for labels that are lists of classes; else ``single-label``.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` per sample;
            "folders" for the names of the folders, even if there is a table; default: the data's own labels.
        split: a ``split.csv`` of an earlier run, for the same split.
        split_seed: seed of the split, if the data does not define it; default: 0. It is independent of the training seed.
        val: fraction of the training samples that become the validation set, 0 for none, if the data does not define one; default: 0.1, at most
            2,000 samples.
        test: fraction of all samples that become the test set, 0 for none, if the data defines no split; default: 0.2. Without a test set, the
            network is scored on the validation set, and the result says so.
        max_unreadable: largest share of files that may be unreadable, 0 to 1.
        path_column: the column of a table that names the image files; default: ``path``.
        label_column: the column of a table that names the classes or numbers, or several for ``multi-label`` and ``regression``, such as ``cat,dog`` or
            ``["cat", "dog"]``; default: ``label``. Of a dataset of Hugging Face in the same way; default: the column of classes; for
            ``regression``, of numbers.
        skip_missing: skip rows of a table whose file does not exist.
        class_depth: level of the folders that name the classes, counted from 1; default: the first level, unless the folders
            are ambiguous.
        layout: axes of the arrays in an NPZ or NPY file, in letters such as ``NLC`` (samples, length, channels) or ``NHWC``.
        num_workers: number of decoding threads; 0 for one per usable core.
        cache_dir: folder for the decoded samples; default: the user's cache folder.
        progress: False shows nothing; default: decoding that takes longer than a moment shows its progress.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: called after each decoded sample; True raises ``CanceledError``.

    Raises:
        DataError: the data is unusable; the message names the remedy.
        UsageError: a setting is invalid.
        StorageError: the cache folder cannot be written.

    >>> import visus
    >>> visus.open_data().classes[:3]
    ('T-shirt/top', 'Trouser', 'Pullover')
    """
    choice = choice_of(pretrained, channels=channels, normalize=normalize)
    absent = [name for name, value in (("x", x), ("y", y)) if value is None]
    if absent and path is None:
        raise UsageError(
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} None. Give samples and labels: a function that loads them returns None where "
            "its return statement is missing. For the images that come with visus, leave out x and y."
        )
    x, y = (None if value is NOT_GIVEN else value for value in (x, y))
    arrays = {"x": x, "y": y, "x_val": x_val, "y_val": y_val, "x_test": x_test, "y_test": y_test}
    arrays |= {"groups": groups, "classes": class_names}
    if task is not None:
        check_task(task)
    column = one_column(label_column)
    given = _given(path, arrays, keep_in, Monitor(on_event, should_stop), progress, task, path_column, column)
    with given.unless_refused(), following("decoding", Monitor(on_event, should_stop), progress) as monitor:
        data = opened.open_data(
            given.path,
            img_size=img_size,
            channels=channels,
            resize_mode=resize_mode,
            normalize=normalize or "mean-deviation",
            labels=labels,
            split=split,
            split_seed=split_seed,
            val=val,
            test=test,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
            num_workers=num_workers,
            choose_input=choice,
            path_column=path_column,
            label_column=given.label_column,
            skip_missing=skip_missing,
            class_depth=class_depth,
            layout=layout,
            task=given.task,
            **monitor.keywords,
        )
    notes, warnings = ([text] if text else [] for text in (given.note, given.warning))
    if notes or warnings:
        own = data.samples
        data = replace(data, samples=replace(own, notes=(*own.notes, *notes), warnings=(*own.warnings, *warnings)))
    return suited_data(data) if pretrained else noted(data, choice)


def _given(
    path: Any,
    arrays: dict[str, Any],
    keep_in: str | Path | None,
    monitor: Monitor,
    progress: bool | None,
    task: str | None,
    path_column: str | None,
    label_column: str | None,
) -> Saved:
    """The given path, or where arrays, a dataset or a table were saved.

    Raises:
        UsageError: several are given, or arrays that do not fit together.
    """
    named = [name for name, value in arrays.items() if value is not None]
    groups = arrays["groups"]
    if path is not None and named and set(named) <= _BESIDE_X.keys():
        if named != ["groups"] or not isinstance(groups, str) or not is_dataset(path):
            raise UsageError(
                f"{'class_names' if named[0] == 'classes' else named[0]} goes with x and y. {_BESIDE_X[named[0]]}"
            )
        named = []
    if path is not None and named:
        raise UsageError(f"data is given twice: as the first argument, and as {', '.join(named)}. Give one of them.")
    if named:
        if "x" not in named:
            raise UsageError(f"{named[0]} is given without x. Give x and y.")
        own = [name for name in named if name.endswith(("_val", "_test"))]
        if own and "groups" in named:
            raise UsageError(
                f"groups are for data whose split visus makes, and {own[0]} is given. Leave out groups, or {' and '.join(own)}."
            )
        return replace(save_arrays(arrays, given_folder(keep_in), task), label_column=label_column)
    if is_table(path):
        return replace(save_table(path, given_folder(keep_in), path_column or "path", task), label_column=label_column)
    if is_dataset(path):
        with following("reading the dataset", monitor, progress) as followed:
            return save_dataset(path, given_folder(keep_in), followed, task, label_column, group_column=groups)
    refuse_streams(path)
    return Saved(path, task, label_column=label_column)
