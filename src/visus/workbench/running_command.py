"""The command that is running: its command line, for the reports of its trainings, and its start, for their time limits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RunningCommand:
    """A command of visus.

    Args:
        line: the command line; empty if Python was called.
        began_at: value of ``time.perf_counter`` from which a time limit counts; None for the call of the training itself.
    """

    line: str = ""
    began_at: float | None = None

    def start(self) -> float:
        """Value of ``time.perf_counter`` from which a time limit counts.

        >>> RunningCommand(began_at=3.0).start()
        3.0
        """
        return time.perf_counter() if self.began_at is None else self.began_at


_RUNNING: ContextVar[RunningCommand | None] = ContextVar("running_command", default=None)


def running_command() -> RunningCommand:
    """The command that is running; one without a command line if Python was called.

    >>> running_command().line
    ''
    """
    return _RUNNING.get() or RunningCommand()


@contextlib.contextmanager
def running(line: str, began_at: float | None = None) -> Iterator[None]:
    """A context in which a command is running.

    Args:
        line, began_at: as for ``RunningCommand``.

    >>> with running("visus train photos"):
    ...     running_command().line
    'visus train photos'
    """
    token = _RUNNING.set(RunningCommand(line, began_at))
    try:
        yield
    finally:
        _RUNNING.reset(token)
