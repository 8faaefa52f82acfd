"""One line on stderr about the work that goes on now: redrawn in a terminal, updated in a notebook, repeated now and then in a log.

Loads neither torch nor data, so that a command shows it while it imports them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from visus.progress import OnEvent, Progress
from visus.units import write_duration
from visus.workbench.progress_display import notebook_line
from visus.workbench.wrapping import LABEL_WIDTH, fitting

APPEARS_S: Final = 0.7  # what takes less is not shown in a terminal
HEARTBEAT_S: Final = 30.0  # silence in a log
REDRAWN_S: Final = 0.2


def error_console(*, quiet: bool = False) -> Console:
    """A console on stderr that neither colors numbers nor breaks lines."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, force_jupyter=False)


class LiveLine:
    """The line; a context, which clears it at its end.

    In a terminal it appears after ``APPEARS_S`` and is redrawn. In a log it is printed when nothing was printed for ``HEARTBEAT_S``.

    Args:
        console: a console on stderr; nothing is shown if it is quiet.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._parts: list[str] = []
        self._began = self._said = self._told_cell = time.monotonic()
        self._is_timed = True
        self._over = threading.Event()
        self._live: Live | None = None
        self._cell = None if console.quiet else notebook_line()

    def __enter__(self) -> LiveLine:
        if self._console.quiet or self._cell is not None:
            return self
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._rendered,
                transient=True,
                refresh_per_second=1 / REDRAWN_S,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, parts: list[str], *, is_timed: bool = False) -> None:
        """Show other words: the first part always, the others where they fit.

        Args:
            parts: the most important first.
            is_timed: whether to add the seconds since the first part last changed.
        """
        if parts[:1] != self._parts[:1]:
            self._began = time.monotonic()
        self._parts, self._is_timed = parts, is_timed
        now = time.monotonic()
        if self._cell is not None and now - self._told_cell >= REDRAWN_S and not is_timed:
            self._told_cell = now
            self._cell("  ".join(parts))

    def refresh(self) -> None:
        """Redraw the line now, where it is redrawn."""
        if self._live is not None:
            self._live.refresh()

    def stage(self, name: str, done: int = 0, total: int | None = None) -> None:
        """Show a stage of the work, and how far it is."""
        self.show([name, *([] if not done else [f"{done:,}{'' if total is None else f' of {total:,}'}"])], is_timed=True)

    def on_event(self, event: object) -> None:
        """Show a ``Progress``; other events are not for this line."""
        if isinstance(event, Progress):
            self.stage(event.stage, event.done, event.total)

    def said(self) -> None:
        """Something else was printed: in a log the next line is ``HEARTBEAT_S`` away."""
        self._said = time.monotonic()

    def _words(self) -> list[str]:
        seconds = time.monotonic() - self._began
        return [*self._parts, *([write_duration(round(seconds))] if self._is_timed and seconds >= 1 else [])]

    def _rendered(self) -> Text:
        is_shown = self._parts and (not self._is_timed or time.monotonic() - self._began >= APPEARS_S)
        return Text(fitting(self._words(), self._console.width - 1) if is_shown else "", style="dim", no_wrap=True, end="")

    def _beat(self) -> None:
        while not self._over.wait(0.5):
            if self._parts and time.monotonic() - self._said >= HEARTBEAT_S:
                words = [part for part in self._words() if part and not part.startswith("[")]  # a bar is for terminals
                print_aligned(self._console, f"{'':{LABEL_WIDTH}}{'  '.join(words)}")
                self.said()


@contextlib.contextmanager
def showing_work(stage: str, *, quiet: bool = False) -> Iterator[OnEvent]:
    """A context whose work is shown on stderr while it lasts; it yields the ``on_event`` of the functions within.

    Args:
        stage: name of the first stage, such as ``loading PyTorch``.
        quiet: shows nothing.
    """
    with LiveLine(error_console(quiet=quiet)) as line:
        line.stage(stage)
        yield line.on_event


def width_of(console: Console) -> int | None:
    """Columns of a terminal; None for a log, which is not broken into lines."""
    return console.width if console.is_terminal else None


def print_aligned(console: Console, text: str, **style: Any) -> None:
    """Print text as it is: neither marked up nor broken."""
    console.print(text, markup=False, **style)
