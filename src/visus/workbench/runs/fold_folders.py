"""The folder of a cross-validation, as those see it who use its networks: a file that marks it, and a run for each fold."""

from __future__ import annotations

import json
from pathlib import Path

from visus.caller import resume_call
from visus.errors import RunError
from visus.training.run_files import FOLDS_FILE


def is_folds_folder(path: Path) -> bool:
    """Whether a folder is that of a cross-validation.

    >>> is_folds_folder(run.folder)
    False
    """
    return (path / FOLDS_FILE).is_file()


def is_trained(folder: Path) -> bool:
    """Whether the run of a fold is trained and scored to its end; its model card is written last.

    >>> is_trained(run.folder)
    True
    """
    return (folder / "scores.json").is_file() and (folder / "README.md").is_file()


def fold_folders(path: Path) -> list[Path]:
    """The runs of a cross-validation, one for each fold.

    Raises:
        RunError: a fold is not trained to its end, or the folder is damaged.
    """
    try:
        num_folds = int(json.loads((path / FOLDS_FILE).read_text(encoding="utf-8"))["num_folds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{FOLDS_FILE} is missing or damaged. Put it back, or train the folds again.", where=str(path)
        ) from error
    folders = [path / f"fold{number}" for number in range(1, num_folds + 1)]
    left = [folder.name for folder in folders if not is_trained(folder)]
    if left:
        raise RunError(
            f"this cross-validation was stopped before its end: {', '.join(left)} of {num_folds} folds "
            f"{'is' if len(left) == 1 else 'are'} not trained. Go on with: {resume_call(path)}",
            where=str(path),
        )
    return folders
