"""``visus.open_data``: data opened as ``visus.data.opened`` does it, with the decoding shown.

This file knows that decoding can take long.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from visus.data import opened
from visus.data.opened import Data
from visus.workbench.progress import Screen
from visus.workbench.progress_display import speaks


def open_data(
    path: str | Path | None = None,
    *,
    progress: bool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Data:
    """Open a data set: a folder for each class, split folders, a table, or array files; decoding that takes long is shown on stderr.

    Args:
        path: folder or file; None for the images that come with visus.
        progress: False shows nothing.
        on_progress: called with the number of samples decoded and in all, in place of what is shown.
        settings: img_size, channels, rule, scale, labels, split, seed, max_unreadable, cache_dir and num_workers, as
            ``visus.data.opened.open_data`` explains them.

    Raises:
        DataError: the data cannot be used as it is; the sentence says what to do.
        UsageError: a setting that cannot be used.
        StorageError: the cache folder cannot be written.
    """
    is_shown = speaks.get() if progress is None else progress
    with Screen(not is_shown) as screen:
        return opened.open_data(path, on_progress=on_progress or screen.decoding, **settings)
