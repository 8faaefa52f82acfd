"""The start time of the command, from which a time limit counts."""

from __future__ import annotations

import time


class Clock:
    """A point in time, as a value of ``time.perf_counter``."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def start(self) -> None:
        """Set the start time to now."""
        self.began = time.perf_counter()


CLOCK = Clock()
