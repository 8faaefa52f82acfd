"""The lock of a run folder: one training at a time. The operating system releases it when the process ends, whatever ends it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from visus.errors import RunError
from visus.files import LOCKED_BY_OTHERS
from visus.files import lock_file as _lock
from visus.training.runs import RunFolder

NAME: Final = "training.lock"
"""The file in the checkpoint folder that a process locks while it trains the run, and removes at its end."""


@contextlib.contextmanager
def training_lock(folder: RunFolder) -> Iterator[str]:
    """A context in which no other process can train the run; it yields a warning where the file system has no locks, else an empty text.

    Of several processes of one training, only the first takes the lock.

    Args:
        folder: the run folder.

    Raises:
        RunError: another process trains this run.
    """
    path = folder.path / "checkpoint" / NAME
    file, warning = _take(path) if folder.is_ours else (None, "")
    try:
        yield warning
    finally:
        if file is not None:
            _release(path, file)


def _take(path: Path) -> tuple[int | None, str]:
    """The locked file, or None with a warning; no warning if the folder cannot be written, which the first checkpoint reports."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            return None, ""
        try:
            _lock(file)
        except OSError as error:
            holder = "" if error.errno not in LOCKED_BY_OTHERS else os.read(file, 1000).decode(errors="replace").strip()
            os.close(file)
            if error.errno in LOCKED_BY_OTHERS:
                by = f" by {holder}" if holder else " by another process"
                raise RunError(f"this run is being trained{by}. Wait, or end it.", where=str(path.parent.parent)) from None
            path.unlink(missing_ok=True)
            return None, (
                f"the run folder cannot be locked ({error.strerror}), so nothing keeps a second process from training this run: "
                "resume it only after this training has ended"
            )
        if _is_at(path, file):
            break
        os.close(file)  # the process before removed it after it was opened here
    os.ftruncate(file, 0)
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
    return file, ""


def _release(path: Path, file: int) -> None:
    """Remove the file while it is locked, so that whoever opened it before sees that it is gone; Windows removes no open file."""
    is_removed = False
    with contextlib.suppress(OSError):
        path.unlink()
        is_removed = True
    os.close(file)
    if not is_removed:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False
