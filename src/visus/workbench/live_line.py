"""One line about the work that goes on now, for the console and for Python: whether it is shown, where, and when.

In a terminal the line is redrawn on stderr and cleared at the end. In a notebook it is one output that is updated in place, with what is
printed above it. In a log a plain line is printed now and then. Loads neither torch nor data, so that a command shows the line while it imports them.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType

from visus.progress import SILENT, Monitor, OnEvent, Progress
from visus.units import write_duration
from visus.workbench.wrapping import fitting

APPEARS_S: Final = 0.7  # work that takes less is not shown in a terminal
PATIENCE_S: Final = 2.0  # work that takes less is not shown in a notebook or a log
LOG_S: Final = 10.0  # silence in a log before a line
HINT_S: Final = 10.0  # a stage that takes longer gets its hint
REDRAWN_S: Final = 0.2  # between two changes of a line that is updated in place
NOTEBOOK_WIDTH: Final = 100  # columns of what is printed in a notebook
_ERASE: Final = Control((ControlType.CARRIAGE_RETURN,), (ControlType.ERASE_IN_LINE, 2))

speaks: ContextVar[bool] = ContextVar("speaks", default=True)
"""Whether visus shows progress by default; commands set it to False, since they show their own."""


def is_shown(progress: bool | None) -> bool:
    """Whether to show progress: as the keyword ``progress`` says, or by default unless ``speaks`` is False.

    >>> is_shown(True), is_shown(False)
    (True, False)
    """
    return speaks.get() if progress is None else progress


def error_console(*, quiet: bool = False) -> Console:
    """A console on stderr that neither colors numbers nor breaks lines."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, emoji=False, force_jupyter=False)


class LiveLine:
    """The line; a context, which clears it at its end.

    In a terminal it appears after ``APPEARS_S``. In a notebook it appears after ``PATIENCE_S``, and in a log after ``LOG_S`` of silence.
    Work with a name that took longer than ``PATIENCE_S`` ends with its duration in a notebook and in a log.

    Args:
        console: a console on stderr; nothing is shown if it is quiet.
        name: name of the work, such as ``scoring``.
        indent: spaces before a line in a log.
    """

    def __init__(self, console: Console, name: str = "", *, indent: int = 0) -> None:
        self._console, self._name, self._indent = console, name, indent
        self._parts = [name] if name else []
        self._is_timed, self._is_hidden = True, False
        self._began = self._stage_began = self._printed_at = self._drawn_at = time.monotonic()
        self._drawn = ""
        self._hint = ""
        self._hints_given: set[str] = set()
        self._above: list[str] = []  # what a notebook shows above the line
        self._cell = None if console.quiet else notebook_line()
        self._is_terminal = self._cell is None and console.is_terminal and not console.is_dumb_terminal
        self._over = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> LiveLine:
        if not self._console.quiet:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(is_done=kind is None)

    def close(self, *, is_done: bool) -> None:
        """Clear the line; work with a name leaves its duration in a notebook, and in a log unless it failed."""
        self._over.set()
        seconds = time.monotonic() - self._began
        is_named = bool(self._name) and seconds > PATIENCE_S and not self._console.quiet
        with self._lock:
            self._erase()
            if self._cell is not None and is_named and (is_done or self._drawn):
                self._draw_cell(f"{self._name}: {'' if is_done else 'stopped after '}{write_duration(seconds)}")
            elif self._cell is not None and (self._drawn or self._above):
                self._draw_cell("")
            elif self._cell is None and not self._is_terminal and is_named and is_done:
                self._log(f"{self._name}: {write_duration(seconds)}")

    def show(self, parts: list[str], *, is_timed: bool = False, hint: str = "") -> None:
        """Show other words: the first part always, the others where they fit.

        Args:
            parts: the most important first.
            is_timed: whether to add the seconds since the first part last changed.
            hint: what helps if this first part stays for longer than ``HINT_S``; one hint is given once: during one stage, or in one line of a log.
        """
        with self._lock:
            if parts[:1] != self._parts[:1]:
                if self._hint and self._is_long:
                    self._hints_given.add(self._hint)
                self._stage_began = time.monotonic()
            self._parts, self._is_timed, self._is_hidden = parts, is_timed, False
            self._hint = hint if hint not in self._hints_given else ""
            self._draw()

    def stage(self, name: str, done: int = 0, total: int | None = None, speed: Sequence[str] = ()) -> None:
        """Show a stage of the work, how far it is, and its speed; without a speed, how long it has taken."""
        first = name if not self._name or name == self._name else f"{self._name}: {name}"
        self.show([first, counted(done, total), *speed], is_timed=not speed)

    def on_event(self, event: object) -> None:
        """Show a ``Progress``; other events are not for this line."""
        if isinstance(event, Progress):
            self.stage(event.stage, event.done, event.total, write_speed(event))

    def followed(self, monitor: Monitor) -> Monitor:
        """A monitor that shows each event on this line and passes it on to ``monitor``."""

        def show_and_pass_on(event: object) -> None:
            self.on_event(event)
            monitor.emit(event)

        return Monitor(show_and_pass_on, monitor.should_stop)

    def refresh(self) -> None:
        """Redraw the line now, where it is redrawn."""
        with self._lock:
            self._draw(is_now=True)

    def hide(self) -> None:
        """Clear the line until the next ``show``, so that the caller can print."""
        with self._lock:
            self._is_hidden = True
            self._erase()

    @property
    def width(self) -> int | None:
        """Columns of what is printed; None for a log, which is not broken into lines."""
        return NOTEBOOK_WIDTH if self._cell is not None else width_of(self._console)

    def print(self, text: str, **style: Any) -> None:
        """Print something above the line, with a style in a terminal; a log waits ``LOG_S`` for the next line."""
        if self._console.quiet:
            return
        with self._lock:
            if self._cell is not None:
                self._above.append(text)
                self._draw_soon()
                return
            self._erase()
            print_aligned(self._console, text, **style)
            self._printed_at = time.monotonic()

    def _tick(self) -> None:
        while not self._over.wait(REDRAWN_S or 0.01):
            with self._lock:
                self._draw()

    def _draw(self, *, is_now: bool = False) -> None:
        """Draw the line if there is something new to show, and it is time to."""
        now = time.monotonic()
        if self._over.is_set() or self._is_hidden or self._console.quiet or not (self._parts or self._above):
            return
        if not self._is_terminal and self._cell is None:
            if now - self._printed_at >= LOG_S and now - self._began >= PATIENCE_S:
                self._log(
                    "  ".join(part for part in self._words() if part and not part.startswith("["))
                )  # a bar is for terminals
                if self._hint and self._is_long:
                    self._hints_given.add(self._hint)
                    self._hint = ""
            return
        if now - self._drawn_at < REDRAWN_S and not is_now:
            return
        is_early = now - self._began < (PATIENCE_S if self._cell is not None else APPEARS_S if self._is_timed else 0.0)
        if is_early and not self._above:
            return
        if self._cell is not None:
            self._draw_cell(self._cell_line())
        else:
            self._draw_line(fitting(self._words(), self._console.width - 1))
        self._drawn_at = now

    def _cell_line(self) -> str:
        """The line in a notebook, once the work has taken a while."""
        is_early = time.monotonic() - self._began < PATIENCE_S
        return "" if is_early or self._is_hidden else "  ".join(filter(None, self._words()))

    def _draw_soon(self) -> None:
        """Draw what was printed in a notebook: at once, or with the next change if the last one was just now."""
        now = time.monotonic()
        if not self._over.is_set() and now - self._drawn_at >= REDRAWN_S:
            self._draw_cell(self._cell_line())
            self._drawn_at = now

    def _draw_cell(self, line: str) -> None:
        text = "\n".join([*self._above, *([line] if line else [])])
        if self._cell is not None and text != self._drawn:
            self._cell(text)
            self._drawn = text

    def _draw_line(self, text: str) -> None:
        if text != self._drawn:
            self._console.control(_ERASE)
            self._console.print(text, style="dim", markup=False, end="")
            self._console.file.flush()
            self._drawn = text

    def _erase(self) -> None:
        if self._is_terminal and self._drawn:
            self._console.control(_ERASE)
            self._drawn = ""

    @property
    def _is_long(self) -> bool:
        """Whether the stage takes so long that its hint is shown."""
        return time.monotonic() - self._stage_began >= HINT_S

    def _log(self, text: str) -> None:
        print_aligned(self._console, f"{'':{self._indent}}{text}")
        self._printed_at = time.monotonic()

    def _words(self) -> list[str]:
        seconds = time.monotonic() - self._stage_began
        duration = [write_duration(round(seconds))] if self._is_timed and seconds >= 1 else []
        if not (self._hint and self._is_long):
            return [*self._parts, *duration]
        first, *others = self._parts
        return [first, self._hint, *duration, *others]


@contextlib.contextmanager
def following(what: str, monitor: Monitor = SILENT, progress: bool | None = None) -> Iterator[Monitor]:
    """A context whose work is shown in one line while it lasts, for Python.

    It yields a monitor, which shows each ``Progress`` and passes every event on. Blocks inside it show nothing of their own.

    Args:
        what: name of the work, such as ``scoring``.
        monitor: monitor of the caller.
        progress: True or False to show the work or not; None to show it unless ``speaks`` is False or an outer block is shown.
    """
    with LiveLine(error_console(quiet=not is_shown(progress)), what) as line:
        token = speaks.set(False)
        try:
            yield line.followed(monitor)
        finally:
            speaks.reset(token)


@contextlib.contextmanager
def working(what: str, progress: bool | None = None) -> Iterator[None]:
    """As ``following``, for work without events.

    Args:
        what, progress: as for ``following``.
    """
    with following(what, progress=progress):
        yield


@contextlib.contextmanager
def showing_work(stage: str, *, quiet: bool = False) -> Iterator[OnEvent]:
    """A context whose work is shown in one line while it lasts, for a command; it yields the ``on_event`` of the functions within.

    Args:
        stage: name of the first stage, such as ``loading PyTorch``.
        quiet: shows nothing.
    """
    with LiveLine(error_console(quiet=quiet)) as line:
        line.stage(stage)
        yield line.on_event


def counted(done: int, total: int | None = None) -> str:
    """How far some work is; empty before the first unit.

    >>> counted(3, 8), counted(1200), counted(0, 8)
    ('3 of 8', '1,200', '')
    """
    return f"{done:,}{'' if total is None else f' of {total:,}'}" if done else ""


def write_speed(event: Progress) -> list[str]:
    """The speed and the time left; empty if the speed is unknown.

    >>> write_speed(Progress("predicting", 2_000, 9_500, per_second=250.0)), write_speed(Progress("predicting", 1))
    (['250 samples/s', '30 s left'], [])
    """
    if not event.per_second:
        return []
    left = [] if event.seconds_left is None else [f"{write_duration(round(event.seconds_left))} left"]
    rate = f"{event.per_second:,.0f}" if event.per_second >= 10 else f"{event.per_second:.2g}"
    return [f"{rate} samples/s", *left]


def width_of(console: Console) -> int | None:
    """Columns of a terminal; None for a log, which is not broken into lines."""
    return console.width if console.is_terminal else None


def print_aligned(console: Console, text: str, **style: Any) -> None:
    """Print text as it is: neither marked up nor broken."""
    console.print(text, markup=False, **style)


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
