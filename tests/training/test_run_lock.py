"""One run is trained by one process: the others are refused until it has ended, in whatever way."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from visus.errors import RunError
from visus.training import run_lock
from visus.training.run_lock import NAME, training_lock
from visus.training.runs import RunFolder

HOLD = """
import sys
from pathlib import Path
from visus.training.run_lock import training_lock
from visus.training.runs import RunFolder
with training_lock(RunFolder(Path(sys.argv[1]), {})):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run", {})


@pytest.fixture
def holder(folder: RunFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock until its standard input is closed."""
    words = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def lock_file(folder: RunFolder) -> Path:
    return folder.path / "checkpoint" / NAME


def test_a_second_process_is_refused_with_the_first_ones_number_until_it_is_killed(
    folder: RunFolder, holder: subprocess.Popen[str]
) -> None:
    told = (
        rf"{re.escape(str(folder.path))}: this run is being trained by process {holder.pid} on \S+ "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d\. Wait, or end it\."
    )
    with pytest.raises(RunError) as caught, training_lock(folder):
        pass
    assert re.fullmatch(told, str(caught.value))
    holder.kill()
    holder.wait()
    assert lock_file(folder).is_file()
    with training_lock(folder) as warning:
        assert warning == ""
        assert f"process {os.getpid()} on " in lock_file(folder).read_text(encoding="utf-8")
    assert not lock_file(folder).exists()


def test_two_trainings_of_one_process_are_refused_too_and_the_first_keeps_its_lock(folder: RunFolder) -> None:
    with training_lock(folder):
        for _ in range(2):
            with pytest.raises(RunError, match="is being trained"), training_lock(folder):
                pass
        assert lock_file(folder).is_file()


def test_the_other_processes_of_one_training_take_no_lock(folder: RunFolder) -> None:
    with training_lock(folder), training_lock(dataclasses.replace(folder, is_ours=False)) as warning:
        assert warning == ""


def test_a_file_that_its_process_removed_after_it_was_opened_here_is_no_lock(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = run_lock._lock, list[Path]()

    def lock_after_removal(file: int) -> None:
        if not removed:
            removed.append(lock_file(folder))
            lock_file(folder).unlink()
        lock(file)

    monkeypatch.setattr(run_lock, "_lock", lock_after_removal)
    with training_lock(folder):
        assert lock_file(folder).is_file()
        with pytest.raises(RunError), training_lock(folder):
            pass
    assert removed


def test_a_file_system_without_locks_gives_a_warning(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock, "_lock", refuse)
    with training_lock(folder) as warning:
        assert warning == (
            "the run folder cannot be locked (No locks available), so nothing keeps a second process from training this run: "
            "resume it only after this training has ended"
        )
        assert not lock_file(folder).exists()


def test_a_folder_without_a_place_for_checkpoints_is_left_to_the_training(folder: RunFolder) -> None:
    (folder.path / "checkpoint").rmdir()
    with training_lock(folder) as warning:
        assert warning == ""
