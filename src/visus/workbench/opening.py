"""``visus.open_data``: opens data with ``visus.data.opened`` and shows the progress of decoding."""

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
    """Open a dataset: a folder for each class, split folders, a table, or array files; slow decoding shows its progress on
    stderr.

    Args:
        path: folder or file; None for the images that come with visus.
        progress: False shows nothing.
        on_event: receives a ``Progress`` for each decoded sample, instead of the display.
        should_stop: called after each decoded sample; True raises ``CanceledError``.
        settings: img_size, channels, resize_mode, normalize, labels, split, seed, max_unreadable, cache_dir and num_workers,
            as for ``visus.data.opened.open_data``.

    Raises:
        DataError: the data is unusable; the message names the remedy.
        UsageError: a setting is invalid.
        StorageError: the cache folder cannot be written.
    """
    is_shown = speaks.get() if progress is None else progress
    with Screen(not is_shown) as screen:
        return opened.open_data(path, on_event=on_event or screen.show, should_stop=should_stop, **settings)
