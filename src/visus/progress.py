"""Progress and cancellation: the keywords ``on_event`` and ``should_stop`` of every long function.

``on_event`` receives a frozen event for each thing that happened: a ``Progress``, or one of the events of a training, which it may answer by what it
returns (``visus.events``).
``should_stop`` is called after each event. If it returns True, a training ends with a checkpoint, and any other function
raises ``CanceledError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from visus.errors import CanceledError

OnEvent = Callable[[Any], Any]
ShouldStop = Callable[[], bool]
Counter = Callable[[Any], int]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of one stage are finished, such as samples of the stage ``decoding``.

    ``total`` is None if it is unknown before the end. ``skipped_by`` names the setting and the value that leave this stage out, for
    stages that may take long; it is empty if there is none. ``per_second`` is the number of units per second; None if it is not measured.
    """

    stage: str
    done: int
    total: int | None = None
    skipped_by: tuple[str, ...] = field(default=(), repr=False)
    per_second: float | None = field(default=None, repr=False)

    @property
    def is_done(self) -> bool:
        """Whether this was the last unit of the stage."""
        return self.done == self.total

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at this speed; None if total or speed is unknown.

        >>> Progress("predicting", 20, 100, per_second=40.0).seconds_left
        2.0
        """
        return None if self.total is None or not self.per_second else (self.total - self.done) / self.per_second


@dataclass(frozen=True)
class Monitor:
    """The two keywords as one value, which a long function passes to the functions that it calls.

    Args:
        on_event: receives each event; None drops them.
        should_stop: called after each step; None never stops.

    >>> Monitor(on_event=print).step("scoring", 3, 3)
    Progress(stage='scoring', done=3, total=3)
    >>> Monitor(should_stop=lambda: True).step("scoring", 1, 3)
    Traceback (most recent call last):
        ...
    visus.errors.CanceledError: canceled while scoring, after 1 of 3.
    """

    on_event: OnEvent | None = None
    should_stop: ShouldStop | None = None

    @property
    def keywords(self) -> dict[str, Any]:
        """The two as keyword arguments."""
        return {"on_event": self.on_event, "should_stop": self.should_stop}

    def emit(self, event: object) -> object:
        """Pass an event on; what ``on_event`` returns."""
        return None if self.on_event is None else self.on_event(event)

    def step(self, stage: str, done: int, total: int | None = None) -> None:
        """Report progress, and check whether to stop.

        Raises:
            CanceledError: ``should_stop`` returned True.
        """
        self.emit(Progress(stage, done, total))
        if done != total or not done:
            self.check(stage, done, total)

    def check(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """Ask whether to stop.

        Raises:
            CanceledError: ``should_stop`` returned True.
        """
        if self.should_stop is not None and self.should_stop():
            far = f", after {done:,}{'' if total is None else f' of {total:,}'}" if done else ""
            raise CanceledError(f"canceled while {stage}{far}.")

    def over(self, items: Iterable[Item], stage: str, total: int | None = None, count: Counter = len) -> Iterator[Item]:
        """Iterate over the items, with a progress step before the first one and after each.

        Args:
            items: batches of samples, or anything else.
            stage: name of the work, such as ``scoring``.
            total: units of all items together.
            count: units of one item; default: its length.
        """
        done = 0
        self.step(stage, done, total)
        for item in items:
            yield item
            done += count(item)
            self.step(stage, done, total)


def one(item: object) -> int:
    """Each item is one unit."""
    return 1


SILENT: Final = Monitor()
"""Reports nothing and never stops."""
