"""When the command began: a time limit counts from here."""

from __future__ import annotations

import time


class Clock:
    """A point in time, as a value of ``time.perf_counter``."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def start(self) -> None:
        """The command begins now."""
        self.began = time.perf_counter()


CLOCK = Clock()
