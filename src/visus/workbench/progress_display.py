"""Whether visus shows progress by default, and one line on stderr for work that takes longer than two seconds.

The line is updated in place in a terminal and in a notebook. Elsewhere, as in a log, a plain line is printed now and then.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final, TextIO

from visus.progress import SILENT, Monitor, Progress
from visus.units import write_duration

PATIENCE_S = 2.0  # work that takes longer is shown
LIVE_S = 0.2  # between two changes of a line that is updated in place
LOG_S = 10.0  # between two lines of a log
_ERASE: Final = "\r\x1b[2K"  # to the start of the line, and erase it

speaks: ContextVar[bool] = ContextVar("speaks", default=True)
"""Whether visus shows progress by default; commands set it to False, since they show their own."""


def is_shown(progress: bool | None) -> bool:
    """Whether to show progress: as the keyword ``progress`` says, or by default unless ``speaks`` is False.

    >>> is_shown(True), is_shown(False)
    (True, False)
    """
    return speaks.get() if progress is None else progress


class Line:
    """One line on stderr that shows how far some work is; nothing appears before ``PATIENCE_S``.

    Args:
        what: name of the work, such as ``scoring``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._cell = notebook_line()
        self._stream: TextIO = sys.stderr
        self._is_terminal = self._cell is None and self._stream.isatty()
        self._is_dirty = False
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._began

    def show(self, event: object = None) -> None:
        """Show how far the work is, if it is time to.

        Args:
            event: a ``Progress``; other events are skipped. None shows the name alone, unless something was shown before.
        """
        now = time.monotonic()
        if event is None and not self._shown_at:
            self._shown_at = now
            self._write(f"{self.what} ...")
        is_live = self._cell is not None or self._is_terminal
        is_early = now - self._began < PATIENCE_S or now - self._shown_at < (LIVE_S if is_live else LOG_S)
        if isinstance(event, Progress) and not is_early:
            self._shown_at = now
            self._write(self._words(event))

    def followed(self, monitor: Monitor) -> Monitor:
        """A monitor that shows each event on this line and passes it on to ``monitor``."""

        def show_and_pass_on(event: object) -> None:
            self.show(event)
            monitor.emit(event)

        return Monitor(show_and_pass_on, monitor.should_stop)

    def clear(self) -> None:
        """Erase the line in a terminal, so that other output can be printed."""
        with self._lock:
            if self._is_dirty:
                self._stream.write(_ERASE)
                self._stream.flush()
                self._is_dirty = False

    def close(self, *, is_done: bool) -> None:
        """Replace the line by the duration of the work, if it was long; work that failed is only erased."""
        self.clear()
        if self.seconds <= PATIENCE_S:
            return
        if is_done:
            self._write(f"{self.what}: {write_duration(self.seconds)}", is_last=True)
        elif self._cell is not None and self._shown_at:
            self._write(f"{self.what}: stopped after {write_duration(self.seconds)}")

    def _words(self, event: Progress) -> str:
        far = f"{event.done:,}{'' if event.total is None else f' of {event.total:,}'}"
        return f"{self.what}: {far}" if event.stage == self.what else f"{self.what}: {event.stage}, {far}"

    def _write(self, text: str, *, is_last: bool = False) -> None:
        with self._lock:
            if self._cell is not None:
                self._cell(text)
            elif self._is_terminal and not is_last:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"{_ERASE}{text[:width]}")
                self._is_dirty = True
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()


@contextlib.contextmanager
def following(what: str, monitor: Monitor = SILENT, progress: bool | None = None) -> Iterator[Monitor]:
    """A context whose work is shown in one line if it takes longer than ``PATIENCE_S``.

    It yields a monitor, which shows each ``Progress`` and passes every event on. Blocks inside it show nothing of their own.

    Args:
        what: name of the work, such as ``scoring``.
        monitor: monitor of the caller.
        progress: True or False to show the work or not; None to show it unless ``speaks`` is False or an outer block is shown.
    """
    if not is_shown(progress):
        token = speaks.set(False)
        try:
            yield monitor
        finally:
            speaks.reset(token)
        return
    line = Line(what)
    timer = threading.Timer(PATIENCE_S, line.show)
    timer.daemon = True
    timer.start()
    token = speaks.set(False)
    is_done = False
    try:
        yield line.followed(monitor)
        is_done = True
    finally:
        speaks.reset(token)
        timer.cancel()
        line.close(is_done=is_done)


@contextlib.contextmanager
def working(what: str, progress: bool | None = None) -> Iterator[None]:
    """A context for work without events: it is named if it takes longer than ``PATIENCE_S``, with its duration at the end.

    Args:
        what, progress: as for ``following``.
    """
    with following(what, progress=progress):
        yield


def notebook_line() -> Callable[[str], None] | None:
    """An updatable line in a notebook; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    displaying = sys.modules.get("IPython.display")
    if shell is None or displaying is None or not hasattr(shell, "kernel"):
        return None
    handles: list[Any] = []

    def show(text: str) -> None:
        content = {"text/plain": text}
        if handles:
            handles[0].update(content, raw=True)
        else:
            handles.append(displaying.display(content, raw=True, display_id=True))

    return show
