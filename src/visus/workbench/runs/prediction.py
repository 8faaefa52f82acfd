"""The prediction for one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from visus.errors import printable
from visus.units import write_share


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one sample.

    Args:
        file: the file, with the row in brackets if it has several samples.
        labels: class names, the most probable first; empty if there is no prediction.
        probabilities: their probabilities, 0 to 1.
        error: why there is no prediction; None if there is one.

    >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1))
    Prediction(new.jpg: cat, 90.0 %; dog, 10.0 %)
    >>> Prediction("old.jpg", error="there is no such file or folder.")
    Prediction(old.jpg: no prediction: there is no such file or folder.)
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None

    def __repr__(self) -> str:
        return f"Prediction({printable(self.file)}: {self._words()})"

    def _words(self) -> str:
        """The most probable classes with their probabilities, or why there are none."""
        if not self.labels:
            return f"no prediction: {self.error}"
        pairs = list(zip(self.labels, self.probabilities, strict=True))
        words = [f"{label}, {write_share(probability)}" for label, probability in pairs[:_MAX_SHOWN]]
        more = len(pairs) - len(words)
        return "; ".join([*words, *([f"and {more:,} more"] if more else [])])

    @property
    def label(self) -> str | None:
        """The most probable class; None if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).label
        'cat'
        >>> Prediction("old.jpg", error="there is no such file or folder.").label is None
        True
        """
        return self.labels[0] if self.labels else None

    @property
    def probability(self) -> float:
        """Probability of ``label``; NaN if there is no prediction.

        >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1)).probability
        0.9
        >>> Prediction("old.jpg", error="there is no such file or folder.").probability
        nan
        """
        return self.probabilities[0] if self.probabilities else math.nan


_MAX_SHOWN: Final = 5
"""Classes of a prediction in its ``repr``."""
