"""``reference/run-files.md``: the files of a run, from ``visus.training.run_files``."""

from __future__ import annotations

from visus.training.run_files import RUN_FILES
from visus.training.runs import RESULT_COLUMNS

from .markdown import sentence, table


def pages() -> dict[str, str]:
    """The page of the files of a run."""
    always = [(f"`{each.path}`", sentence(each.holds)) for each in RUN_FILES if not each.condition]
    others = [(f"`{each.path}`", sentence(each.holds), sentence(each.condition)) for each in RUN_FILES if each.condition]
    columns = ", ".join(f"`{name}`" for name in RESULT_COLUMNS)
    text = f"""# Files of a run

A training writes one folder, such as `runs/photos`. The next training of the same name writes `runs/photos-2`: visus never overwrites a run.
Each file is replaced as a whole, so after a crash the old file or the new one is there. No file is a pickle. A run folder may be moved.

## In every finished run

{table(("file", "holds"), always)}

The columns of `results.csv` are {columns}. `elapsed_seconds` is the time of the training from its start, not that of the epoch. An `epoch`
of 3.4 was ended by the time limit after 0.4 of it.

## In some runs

{table(("file", "holds", "when"), others)}
"""
    return {"reference/run-files.md": text}
