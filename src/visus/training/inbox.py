"""The inbox of a training: answers to its events wait there until the loop carries them out."""

from __future__ import annotations

from visus.errors import UsageError
from visus.training.answers import KINDS, Answer, KeepWeights, SaveWeights, Stop
from visus.training.events import EpochDone, Finished, Stopped


class Inbox:
    """The answers that were given since the loop last took them.

    Args:
        is_first: whether this is the first process of the training, whose answers hold for all.

    >>> from visus.training.answers import Stop
    >>> inbox = Inbox()
    >>> inbox.put(Stop())
    >>> inbox.take(), inbox.take()
    ([Stop()], [])
    """

    def __init__(self, *, is_first: bool = True) -> None:
        self._answers: list[Answer] = []
        self._is_first = is_first
        self._event: object = None
        self._end: Finished | Stopped | None = None

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def event(self) -> object:
        """The event that is answered now; None before the first one."""
        return self._event

    @event.setter
    def event(self, event: object) -> None:
        self._event = event
        if isinstance(event, (Finished, Stopped)):
            self._end = event

    def put(self, answer: Answer) -> None:
        """Add an answer to the current event. A stopped training may be stopped again.

        Raises:
            UsageError: the training is over, or only the end of an epoch can be answered like this.
            StorageError: weights cannot be saved to this file.
        """
        if self._end is not None and not (isinstance(self._end, Stopped) and isinstance(answer, Stop)):
            raise UsageError(f"this training is over, so {type(answer).__name__} comes too late. Answer an earlier event.")
        if isinstance(answer, KeepWeights) and not isinstance(self.event, EpochDone):
            given = "before the first event" if self.event is None else f"to {type(self.event).__name__}"
            raise UsageError(
                f"KeepWeights answers EpochDone alone, and this is an answer {given}. Use SaveWeights for a file."
            )
        if isinstance(answer, SaveWeights) and self._is_first:
            answer.make_folder()
        self._answers.append(answer)

    def put_returned(self, value: object) -> None:
        """Add what ``on_event`` returned, if it is an answer, or a list of answers; other values are none.

        Raises:
            UsageError: it is the class of an answer, or a list of answers and of something else.
        """
        if isinstance(value, (list, tuple)):
            kinds = [self._is_answer(each) for each in value]
            if any(kinds) and not all(kinds):
                other = value[kinds.index(False)]
                raise UsageError(
                    f"on_event returned answers and {other!r} in one list. Return an answer, a list of answers, or None."
                )
            for each in value if any(kinds) else ():
                self.put(each)
        elif self._is_answer(value):
            self.put(value)  # type: ignore[arg-type]

    @staticmethod
    def _is_answer(value: object) -> bool:
        """Whether it is an answer.

        Raises:
            UsageError: it is the class of one.
        """
        if isinstance(value, type) and value in KINDS.values():
            raise UsageError(
                f"on_event returned the class {value.__name__}. Return an answer: visus.events.{value.__name__}(...)."
            )
        return isinstance(value, tuple(KINDS.values()))

    def take(self) -> list[Answer]:
        """The answers since the last call."""
        taken, self._answers = self._answers, []
        return taken
