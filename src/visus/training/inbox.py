"""The inbox of a training: answers to its events wait there until the loop carries them out."""

from __future__ import annotations

from visus.errors import UsageError
from visus.training.answers import KINDS, Answer, KeepWeights
from visus.training.events import EpochDone, Finished


class Inbox:
    """The answers that were given since the loop last took them.

    >>> from visus.training.answers import Stop
    >>> inbox = Inbox()
    >>> inbox.put(Stop())
    >>> inbox.take(), inbox.take()
    ([Stop()], [])
    """

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self.event: object = None
        """The event that is answered now."""

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, answer: Answer) -> None:
        """Add an answer to the current event.

        Raises:
            UsageError: the training is over, or only the end of an epoch can be answered like this.
        """
        if isinstance(self.event, Finished):
            raise UsageError(f"this training is over, so {type(answer).__name__} comes too late. Answer an earlier event.")
        if isinstance(answer, KeepWeights) and not isinstance(self.event, EpochDone):
            given = "before the first event" if self.event is None else f"to {type(self.event).__name__}"
            raise UsageError(
                f"KeepWeights answers EpochDone alone, and this is an answer {given}. Use SaveWeights for a file."
            )
        self._answers.append(answer)

    def put_returned(self, value: object) -> None:
        """Add what ``on_event`` returned, if it is an answer; other values are none.

        Raises:
            UsageError: it is the class of an answer.
        """
        if isinstance(value, type) and value in KINDS.values():
            raise UsageError(
                f"on_event returned the class {value.__name__}. Return an answer: visus.events.{value.__name__}(...)."
            )
        if isinstance(value, tuple(KINDS.values())):
            self.put(value)  # type: ignore[arg-type]

    def take(self) -> list[Answer]:
        """The answers since the last call."""
        taken, self._answers = self._answers, []
        return taken
