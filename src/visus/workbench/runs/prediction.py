"""The prediction for one sample, and how it follows from the numbers that a network answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from visus.errors import printable
from visus.other_libraries import ATTRIBUTES, absent
from visus.units import write_share


@dataclass(frozen=True)
class PredictedNumber:
    """A predicted number of regression.

    Args:
        name: the target.
        value: the number, in the units of the labels.
        low, high: ends of its 90 % prediction interval; None where the validation set was too small for one.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """The number with its interval.

        >>> str(PredictedNumber("age", 41.2, 38.0, 44.4))
        'age 41.2 (38 to 44.4)'
        """
        interval = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.name} {self.value:.4g}{interval}"


@dataclass(frozen=True)
class Decision:
    """How the numbers that a network answers for a sample become its prediction.

    Args:
        task: one of ``visus.data.tasks.TASKS``: the numbers are probabilities of classes, of which one or any number holds, or values of targets.
        thresholds: of multi-label, for each class the probability from which on a sample has it.
        half_widths: of regression, the half width of each target's interval; empty for none.
    """

    task: str = "single-label"
    thresholds: tuple[float, ...] = ()
    half_widths: tuple[float, ...] = ()

    def prediction_of(self, file: str, answers: Sequence[float], names: Sequence[str]) -> Prediction:
        """The prediction of a set of classes, or of numbers.

        Args:
            file: what is predicted.
            answers: the probability of each class, or the value of each target.
            names: the classes or targets.

        >>> Decision("multi-label", (0.5, 0.3)).prediction_of("new.jpg", (0.4, 0.35), ("cat", "dog")).labels
        ('dog',)
        """
        decide = self.numbers_of if self.task == "regression" else self.labels_of
        return decide(file, answers, names)

    def labels_of(self, file: str, probabilities: Sequence[float], classes: Sequence[str]) -> Prediction:
        """The classes above their thresholds, the most probable first.

        >>> Decision("multi-label", (0.5, 0.3)).labels_of("new.jpg", (0.4, 0.35), ("cat", "dog"))
        Prediction(new.jpg: dog, 35.0 %)
        """
        all_of = {name: round(float(probability), 7) for probability, name in zip(probabilities, classes, strict=True)}
        reached = [
            name
            for probability, name, threshold in zip(probabilities, classes, self.thresholds, strict=True)
            if probability >= threshold
        ]
        return _with_labels(Prediction(file, class_probabilities=all_of), reached)

    def numbers_of(self, file: str, values: Sequence[float], targets: Sequence[str]) -> Prediction:
        """The numbers with their intervals.

        >>> Decision("regression", half_widths=(2.0,)).numbers_of("new.jpg", (40.0,), ("age",))
        Prediction(new.jpg: age 40 (38 to 42))
        """
        widths = self.half_widths or (None,) * len(targets)
        numbers = tuple(
            PredictedNumber(name, float(value), *(() if width is None else (float(value) - width, float(value) + width)))
            for name, value, width in zip(targets, values, widths, strict=True)
        )
        return Prediction(file, numbers=numbers)


class ClassProbabilities(Mapping[str, float]):
    """The probability of each class, looked up in the row that the network answered: nothing is computed before it is asked for.

    Args:
        places: the place of each class in the row.
        row: the probabilities.

    >>> dict(ClassProbabilities({"cat": 0, "dog": 1}, (0.9, 0.1)))
    {'cat': 0.9, 'dog': 0.1}
    """

    def __init__(self, places: Mapping[str, int], row: Sequence[float]) -> None:
        self._places, self._row = places, row

    def __getitem__(self, name: str) -> float:
        return round(float(self._row[self._places[name]]), 7)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction for one sample.

    Args:
        file: the file, with the row in brackets if it has several samples.
        labels: class names, the most probable first; empty if there is no prediction. Of multi-label, the classes above their thresholds, maybe none.
        probabilities: their probabilities, 0 to 1.
        error: why there is no prediction; None if there is one.
        numbers: the predicted numbers of regression.
        class_probabilities: the probability of every class, whatever ``top`` is, and of multi-label also of those below their thresholds; empty for numbers and
            without a prediction.

    >>> Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1))
    Prediction(new.jpg: cat, 90.0 %; dog, 10.0 %)
    >>> Prediction("old.jpg", error="there is no such file or folder.")
    Prediction(old.jpg: no prediction: there is no such file or folder.)
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None
    numbers: tuple[PredictedNumber, ...] = ()
    class_probabilities: Mapping[str, float] = field(default_factory=dict, compare=False)

    if not TYPE_CHECKING:  # or mypy would accept every name

        def __getattr__(self, name: str) -> Any:
            if name in ATTRIBUTES:
                raise absent("Prediction", name, ATTRIBUTES[name])
            return object.__getattribute__(self, name)  # raises Python's own error

    def __repr__(self) -> str:
        return f"Prediction({printable(self.file)}: {self._words()})"

    def _words(self) -> str:
        """The most probable classes with their probabilities, or the numbers, or why there are none."""
        if self.error is not None:
            return f"no prediction: {self.error}"
        if self.numbers:
            return "; ".join(map(str, self.numbers))
        if not self.labels:
            return "no class reaches its threshold"
        pairs = list(zip(self.labels, self.probabilities, strict=True))
        words = [f"{label}, {write_share(probability)}" for label, probability in pairs[:_MAX_SHOWN]]
        more = len(pairs) - len(words)
        return "; ".join([*words, *([f"and {more:,} more"] if more else [])])

    def facts(self, task: str) -> dict[str, Any]:
        """A set of classes, or numbers, as plain data for JSON: the same from a run, a bundle and a server.

        >>> Prediction("new.jpg", ("dog",), (0.9,)).facts("multi-label")
        {'labels': [{'label': 'dog', 'probability': 0.9}]}
        >>> Prediction("new.jpg", numbers=(PredictedNumber("age", 41.2, 38.0, 44.4),)).facts("regression")
        {'numbers': [{'target': 'age', 'value': 41.2, 'low': 38.0, 'high': 44.4}]}
        """
        if task == "regression":
            return {
                "numbers": [
                    {"target": each.name, "value": each.value, "low": each.low, "high": each.high} for each in self.numbers
                ]
            }
        pairs = zip(self.labels, self.probabilities, strict=True)
        return {"labels": [{"label": label, "probability": probability} for label, probability in pairs]}

    @property
    def label(self) -> str | None:
        """The most probable class; None if there is no prediction, or no class of a set.

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

    def at_least(self, probability: float) -> Prediction:
        """The same prediction of multi-label with another threshold: the classes with at least this probability.

        >>> found = Decision("multi-label", (0.5, 0.3)).labels_of("new.jpg", (0.4, 0.35), ("cat", "dog"))
        >>> found, found.at_least(0.4)
        (Prediction(new.jpg: dog, 35.0 %), Prediction(new.jpg: cat, 40.0 %))
        """
        return _with_labels(self, [name for name, share in self.class_probabilities.items() if share >= probability])

    @property
    def value(self) -> float:
        """The first predicted number of regression; NaN if there is none.

        >>> Prediction("new.jpg", numbers=(PredictedNumber("age", 41.2),)).value
        41.2
        """
        return self.numbers[0].value if self.numbers else math.nan


def _with_labels(prediction: Prediction, names: Sequence[str]) -> Prediction:
    """A prediction of multi-label with these classes, the most probable first."""
    shares = prediction.class_probabilities
    names = sorted(names, key=lambda name: -shares[name])
    return replace(prediction, labels=tuple(names), probabilities=tuple(shares[name] for name in names))


_MAX_SHOWN: Final = 5
"""Classes of a prediction in its ``repr``."""
