"""``visus.open_data``: data opened as ``visus.data.opened`` does it, with the decoding shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visus.data import opened
from visus.data.opened import Data
from visus.progress import OnEvent, ShouldStop
from visus.workbench.progress_display import speaks
from visus.workbench.screen import Screen


def open_data(
    path: str | Path | None = None,
    *,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    **settings: Any,
) -> Data:
    """Open a dataset: a folder for each class, split folders, a table, or array files; decoding that takes long is shown on stderr.

    Args:
        path: folder or file; None for the images that come with visus.
        progress: False shows nothing.
        on_event: receives a ``Progress`` for each decoded sample, in place of what is shown.
        should_stop: asked after each decoded sample; True raises ``CanceledError``.
        settings: img_size, channels, resize_mode, normalize, labels, split, seed, max_unreadable, cache_dir and num_workers, as
            ``visus.data.opened.open_data`` explains them.

    Raises:
        DataError: the data cannot be used as it is; the sentence says what to do.
        UsageError: a setting that cannot be used.
        StorageError: the cache folder cannot be written.
    """
    is_shown = speaks.get() if progress is None else progress
    with Screen(not is_shown) as screen:
        return opened.open_data(path, on_event=on_event or screen.show, should_stop=should_stop, **settings)
