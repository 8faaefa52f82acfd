"""The calls of torch's functions in a forward pass, counted, so that what a trace saw is found again in a run on real data."""

from __future__ import annotations

from collections import Counter
from typing import Any


class FunctionCalls:
    """Counts the calls of each function of torch in one forward pass, those inside of other functions left out.

    Two runs of the same code on inputs of one shape make the same calls in the same order, whether tensors have data or not.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def next_call(self, func: Any) -> tuple[str, int]:
        """The name of a function that is called now, and the number of its calls before.

        >>> calls = FunctionCalls()
        >>> [calls.next_call(each) for each in (max, min, max)]
        [('max', 0), ('min', 0), ('max', 1)]
        """
        name = str(getattr(func, "__name__", func))
        self.counts[name] += 1
        return name, self.counts[name] - 1
