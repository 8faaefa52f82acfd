"""``visus.open_data``: opens data with ``visus.data.opened`` and shows the progress of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visus.data import opened
from visus.data.images.fit import ResizeMode
from visus.data.opened import Data
from visus.data.preprocessing import Normalize
from visus.data.store import MAX_UNREADABLE
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.live_line import following
from visus.workbench.train.starts import choice_of, noted, suited_data


def open_data(
    path: str | Path | None = None,
    *,
    img_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    resize_mode: ResizeMode = "squash",
    normalize: Normalize | None = None,
    pretrained: bool | None = None,
    labels: str | Path | None = None,
    split: str | Path | None = None,
    split_seed: int | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    path_column: str | None = None,
    label_column: str | None = None,
    skip_missing: bool = False,
    class_depth: int | None = None,
    layout: str | None = None,
    num_workers: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Data:
    """Open a dataset: a folder for each class, split folders, a table, or array files.

    Args:
        path: folder or file; None for the images that come with visus.
        img_size: side in pixels, or one length per axis; default: chosen by the sizes of the images.
        channels: 1 for gray, 3 for color; default: color if any image is in color.
        resize_mode: how images are resized: ``squash``, ``crop`` (short side, then center) or ``pad``.
        normalize: ``mean-deviation`` or ``min-max``, with the statistics of the training split; default: ``mean-deviation``.
        pretrained: True reads images as ImageNet weights need them, at their size and scaling; False does not. None does so for
            photos (see ``BackboneChoice``), so ``visus.train(visus.open_data(path))`` trains as ``visus.train(path)`` does.
        labels: other labels for the samples: a column of the table, or a CSV file with a row ``path,label`` per sample;
            "folders" for the names of the folders, even if there is a table; default: the data's own labels.
        split: a ``split.csv`` of an earlier run, for the same split.
        split_seed: seed of the split, if the data does not define it; default: 0. It is independent of the training seed.
        max_unreadable: largest share of files that may be unreadable, 0 to 1.
        path_column: the column of a table that names the image files; default: ``path``.
        label_column: the column of a table that names the classes; default: ``label``.
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
    with following("decoding", Monitor(on_event, should_stop), progress) as monitor:
        data = opened.open_data(
            path,
            img_size=img_size,
            channels=channels,
            resize_mode=resize_mode,
            normalize=normalize or "mean-deviation",
            labels=labels,
            split=split,
            split_seed=split_seed,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
            num_workers=num_workers,
            choose_input=choice,
            path_column=path_column,
            label_column=label_column,
            skip_missing=skip_missing,
            class_depth=class_depth,
            layout=layout,
            **monitor.keywords,
        )
    return suited_data(data) if pretrained else noted(data, choice)
