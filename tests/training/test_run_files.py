"""The list of a run's files: complete, and the only files that a run folder accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from visus.errors import RunError
from visus.training.run_files import RUN_FILES, is_run_file
from visus.training.runs import RunFolder


def files_of(folder: Path) -> set[str]:
    """Every file of a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_leaves_every_file_that_is_always_written_and_no_other(run: Path) -> None:
    found = files_of(run)
    always = {each.path for each in RUN_FILES if not each.condition}
    assert always <= found, sorted(always - found)
    assert {name for name in found if not is_run_file(name)} == set()


def test_a_run_folder_refuses_a_file_that_is_not_listed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", {})
    folder.write_text("design.txt", "relu\n")
    with pytest.raises(AssertionError, match=r"notes\.txt is not listed in training\.run_files"):
        folder.write_text("notes.txt", "")


def test_no_file_is_listed_twice() -> None:
    assert len({each.path for each in RUN_FILES}) == len(RUN_FILES)


def test_a_run_is_opened_by_every_path_in_it_and_by_any_file_name_in_its_weights(run: Path) -> None:
    for path in (
        run,
        run / "report.html",
        run / "weights",
        run / "weights" / "best.safetensors",
        run / "weights" / "last.pt",
    ):
        assert RunFolder.open(path).path == run
    with pytest.raises(RunError, match="there is no such run folder"):
        RunFolder.open(run / "checkpoint" / "last.pt")
