"""``visus.resume``: goes on with a stopped training, of one run or of the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from visus.progress import Monitor, OnEvent, ShouldStop
from visus.workbench.folds.cross_validation import refuse_tracking, resume_folds
from visus.workbench.runs.fold_folders import is_folds_folder
from visus.workbench.runs.run import Run
from visus.workbench.train import training


def resume(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    network: nn.Module | None = None,
    changes: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    track: str | Sequence[str] = (),
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    progress: bool | None = None,
) -> Run:
    """Resume a stopped training in the same folder; on the same processor, the result is the same as without the stop.

    Args:
        folder: the run folder, or that of a cross-validation.
        data: new path of its data, if it was moved; the run saves it.
        network: the module, for a training of a module object.
        changes: settings that may differ from the run's recipe: device, checkpoint_every_s, and time_limit_s, which then
            counts from now.
        cache_dir: another folder for the decoded samples.
        num_workers: decoding threads; 0 for one for each usable core.
        track: more trackers, as for ``visus.train``. Those that the run has go on in the same place.
        on_event, should_stop, progress: as for ``visus.train``.

    Returns:
        The run; for the folder of a cross-validation, its ``CrossValidation``.

    Raises:
        RunError: the folder is not a run, has no checkpoint, or is being trained by another process.
        DataError: the data has changed or is missing.
        UsageError: a changed setting is fixed for the run.
        KeyboardInterrupt: as for ``visus.train``.

    >>> import visus
    >>> visus.resume(run.folder, progress=False).name
    'levels'
    """
    options: dict[str, Any] = {"cache_dir": cache_dir, "num_workers": num_workers, "progress": progress}
    if not is_folds_folder(Path(folder)):
        return training.resume(
            folder,
            data,
            network=network,
            changes=changes,
            track=track,
            on_event=on_event,
            should_stop=should_stop,
            **options,
        )
    refuse_tracking(track)
    monitor = Monitor(on_event, should_stop)
    return cast("Run", resume_folds(Path(folder), data, network=network, changes=changes or {}, monitor=monitor, **options))
