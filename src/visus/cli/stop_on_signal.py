"""Ctrl-C during a training: the first one stops after the step, the second one ends the process."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from types import FrameType

from visus.training.events import CheckpointWritten, Finished, Started
from visus.workbench.train.events import Prepared


class StopOnSignal:
    """During training steps, the first Ctrl-C requests a stop after the step, and the second ends the process at once.

    Before the first step and after the last, Ctrl-C ends the process as usual: nothing is lost, as ``sentence`` states.

    Args:
        resumed: the run that is resumed; None for a new one.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        self.is_asked = False
        self._folder, self._is_safe, self._is_trained = resumed, resumed is not None, False

    def __enter__(self) -> StopOnSignal:
        self._before = signal.getsignal(signal.SIGINT)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def follow(self, event: object) -> None:
        """Handle Ctrl-C from the first step to the last."""
        if isinstance(event, Prepared):
            self._folder, self._is_safe = event.folder, self._is_safe or event.start is not None
        elif isinstance(event, CheckpointWritten):
            self._is_safe = True
        self._is_trained |= isinstance(event, Finished)
        if isinstance(event, Started):
            signal.signal(signal.SIGINT, self._ask)
        elif isinstance(event, Finished):
            signal.signal(signal.SIGINT, self._before)

    def sentence(self) -> str:
        """A sentence on what is saved if the process ends at once, and how to resume."""
        if self._folder is None:
            return "stopped before the training began: nothing is lost. Run the command again."
        folder = shlex.quote(str(self._folder))
        if not self._is_safe:
            return (
                f"stopped before the first step: nothing is lost. Run the command again; the folder {folder} can be deleted."
            )
        if self._is_trained:
            return f"stopped while scoring; the training is done and safe. To score it: visus train --resume {folder}"
        return f"stopped at once; all up to the last checkpoint is safe. next: visus train --resume {folder}"

    def __call__(self) -> bool:
        return self.is_asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
