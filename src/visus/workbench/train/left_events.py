"""Trainings whose events a loop left without ending them: they end when their run is resumed in the same process.

A loop that an error ended keeps its events as long as the error is kept, as a notebook does; until then the run is locked.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

_begun: WeakValueDictionary[Path, Generator[Any, None, None]] = WeakValueDictionary()


def remember_events(folder: Path, events: Generator[Any, None, None]) -> None:
    """Remember the events of the training in a run folder."""
    _begun[folder.resolve()] = events


def end_events(folder: Path) -> None:
    """End the training in a run folder, if its loop in this process was left."""
    events = _begun.pop(folder.resolve(), None)
    if events is not None and inspect.getgeneratorstate(events) != inspect.GEN_RUNNING:
        events.close()
