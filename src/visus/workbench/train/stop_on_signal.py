"""Ctrl-C and SIGTERM during a training: the first one stops after the step, the second one ends it at once."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from visus.caller import for_caller, resume_call
from visus.progress import Monitor
from visus.training.events import CheckpointWritten, Finished, Started
from visus.workbench.train.events import FoldsBegun, Prepared

_is_handled: ContextVar[bool] = ContextVar("is_handled", default=False)
"""Whether Ctrl-C is handled around the training."""


class StopOnSignal:
    """During training steps, the first Ctrl-C requests a stop after the step, and the second raises ``KeyboardInterrupt`` at once.

    Before the first step and after the last, Ctrl-C raises ``KeyboardInterrupt`` as usual: nothing is lost, as ``sentence`` states. SIGTERM
    (kill, timeout, the end of a job on a cluster) counts as Ctrl-C; where another handler than the default is set, it stays.

    Args:
        resumed: the run that is resumed; None for a new one.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        self.is_asked = False
        self._number = signal.SIGINT
        self._folder = resumed
        self._whole: Path | None = None  # the cross-validation whose folds are trained
        self._is_safe, self._is_trained = resumed is not None, False
        self._is_active = self._is_stepping = False

    def __enter__(self) -> StopOnSignal:
        self._before = signal.getsignal(signal.SIGINT)
        self._ends_terminated = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._ends_terminated:
            signal.signal(signal.SIGTERM, self._end)
        self._token = _is_handled.set(True)
        self._is_active = True
        if self._is_stepping:
            self._handle(self._ask, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None) -> None:
        self._is_active = False
        _is_handled.reset(self._token)
        signal.signal(signal.SIGINT, self._before)
        if self._ends_terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    @property
    def exit_code(self) -> int:
        """The exit code of a process that the last signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self._number

    @property
    def is_terminated(self) -> bool:
        """Whether the last signal was SIGTERM."""
        return self._number == signal.SIGTERM

    def follow(self, event: object) -> None:
        """Handle Ctrl-C from the first step to the last, within the context, which may be left and entered again."""
        if isinstance(event, Prepared):
            self._folder, self._is_safe = event.folder, self._is_safe or event.start is not None
        elif isinstance(event, CheckpointWritten):
            self._is_safe = True
        elif isinstance(event, FoldsBegun):
            self._whole = event.folder
        self._is_trained |= isinstance(event, Finished)
        if isinstance(event, Started):
            self._is_stepping = True
            if self._is_active:
                self._handle(self._ask, self._ask)
        elif isinstance(event, Finished):
            self._is_stepping = False
            if self._is_active:
                self._handle(self._before, self._end)
            if self.is_asked:  # in the last step
                raise KeyboardInterrupt

    def sentence(self) -> str:
        """A sentence on what is saved if the training ends at once, and how to resume."""
        if self._whole is not None:
            return f"stopped; all up to the last checkpoint is safe, and finished folds are kept. next: {resume_call(self._whole)}"
        again = for_caller("Run the command again", "Call it again")
        if self._folder is None:
            return f"stopped before the training began: nothing is lost. {again}."
        if not self._is_safe:
            folder = shlex.quote(str(self._folder))
            return f"stopped before the first step: nothing is lost. {again}; the folder {folder} can be deleted."
        resume = resume_call(self._folder)
        if self._is_trained:
            return f"stopped while scoring; the training is done and safe. To score it: {resume}"
        return f"stopped at once; all up to the last checkpoint is safe. next: {resume}"

    def stopped_sentence(self) -> str:
        """A sentence on a training that ended after a step, with a checkpoint, and how to resume."""
        assert self._folder is not None, "a step was taken"
        return f"stopped after a step; everything up to there is safe. next: {resume_call(self._whole or self._folder)}"

    def __call__(self) -> bool:
        return self.is_asked

    def _handle(self, interrupted: Any, terminated: Any) -> None:
        """Set the handlers of both signals."""
        signal.signal(signal.SIGINT, interrupted)
        if self._ends_terminated:
            signal.signal(signal.SIGTERM, terminated)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        raise KeyboardInterrupt


def is_signal_handled() -> bool:
    """Whether Ctrl-C is handled around the training."""
    return _is_handled.get()


@contextlib.contextmanager
def stopping_on_signal(monitor: Monitor, resumed: Path | None = None) -> Iterator[Monitor]:
    """A context for a training that Python called: its ``KeyboardInterrupt`` says what is saved, and how to resume.

    SIGTERM ends the process instead, with exit code 143, after it was handled like Ctrl-C.

    Nothing changes if Ctrl-C is handled around it, outside the main thread, and where another handler than Python's is set.

    Args:
        monitor: monitor of the caller.
        resumed: the run that is resumed; None for a new one.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        SystemExit: the process was sent SIGTERM.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if _is_handled.get() or not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield monitor
        return
    should_stop = monitor.should_stop

    def follow(event: Any) -> object:
        stop.follow(event)
        return monitor.emit(event)

    with StopOnSignal(resumed) as stop:
        try:
            yield Monitor(follow, lambda: stop() or (should_stop is not None and should_stop()))
        except KeyboardInterrupt as error:
            if stop.is_terminated:
                raise SystemExit(stop.exit_code) from error
            error.args = (stop.sentence(),)
            raise
        if stop.is_asked and stop.is_terminated:
            raise SystemExit(stop.exit_code)
        if stop.is_asked:
            raise KeyboardInterrupt(stop.stopped_sentence())
