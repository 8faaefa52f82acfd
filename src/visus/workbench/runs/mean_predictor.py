"""Several predictors as one: the mean of their probabilities or numbers, each with its own reading and scaling of the samples. Works without PyTorch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.data.ledger import Ledger
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import UsageError
from visus.tables import listed
from visus.units import write_number_of, write_shape
from visus.workbench.runs.bulk.work import BulkPredictor
from visus.workbench.runs.predict_inputs import Sample
from visus.workbench.runs.prediction import Decision
from visus.workbench.runs.predictions import Answers, read_chunk


class MeanPredictor:
    """The mean of the probabilities of several predictors, or of their numbers; classes and targets are matched by name, in the order of the first.

    Samples are read once for all members that read them alike, and scaled by each for itself.

    Args:
        members: the predictors, at least one.

    Raises:
        UsageError: they have different tasks or classes, or read different kinds of samples.
    """

    def __init__(self, members: Sequence[BulkPredictor]) -> None:
        self._members = tuple(members)
        for other in self._members[1:]:
            _check_pair(self._members[0], other)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the first member."""
        return self._members[0].classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How the first member converts samples."""
        return self._members[0].preprocessing

    @cached_property
    def decision(self) -> Decision:
        """How the means become a prediction: that of the members; of sets of classes by the mean of their thresholds, of numbers without intervals."""
        task = self._members[0].decision.task
        if task != "multi-label":
            return Decision(task)
        return Decision(task, mean_thresholds([(each.classes, each.decision.thresholds) for each in self._members]))

    @property
    def chunk(self) -> int:
        """Samples that are read and predicted together: as many as all members take."""
        return min(each.chunk for each in self._members)

    @property
    def num_threads(self) -> int:
        """Threads of one prediction."""
        return max(each.num_threads for each in self._members)

    @property
    def name(self) -> str:
        """Its name, for messages."""
        return " and ".join(each.name for each in self._members)

    @cached_property
    def identity(self) -> str:
        """A hash over all that decides its answers."""
        return hashlib.sha256("\n".join(each.identity for each in self._members).encode()).hexdigest()

    @property
    def reopen(self) -> Callable[[], MeanPredictor]:
        """Opens it in another process."""
        return partial(_reopened, [each.reopen for each in self._members])

    def probabilities(self, samples: Pixels) -> npt.NDArray[np.float32]:
        """Mean probabilities (samples, classes), or numbers (samples, targets), for samples that all members store alike."""
        return self.mean([each.probabilities(samples) for each in self._members])

    def learned(self, samples: Pixels) -> Iterable[int]:
        """Places of the samples with the content of one that any member learned from."""
        return sorted({int(place) for each in self._members for place in each.learned(samples)})

    def answer(self, chunk: Sequence[Sample], ledger: Ledger) -> Answers:
        """The answers for a chunk; a sample is predicted if every member can read it, else it has the first reason.

        The ledger counts a change once for each sample, however many members make it.
        """
        readings: dict[Preprocessing, tuple[list[Pixels], list[int | str]]] = {}
        changes = set[tuple[str, str]]()
        for member in self._members:
            key = _reading(member.preprocessing)
            if key not in readings:
                own = Ledger()
                readings[key] = read_chunk(member, chunk, own)
                _merge_new(ledger, own, changes)
        outcomes, kept = _common([found for _, found in readings.values()])
        rows = {
            key: [pixels[int(found[place])] for place in kept] for key, (pixels, found) in readings.items()
        }  # the same samples for all
        first = rows[_reading(self.preprocessing)]
        if not kept:
            return Answers(first, outcomes, None)
        answers, learned = [], set[int]()
        for member in self._members:
            batch = np.stack(rows[_reading(member.preprocessing)])
            answers.append(member.probabilities(batch))
            learned |= {int(place) for place in member.learned(batch)}
        for place in sorted(learned):
            ledger.note("learned from", chunk[kept[place]].name)
        return Answers(first, outcomes, self.mean(answers))

    def mean(self, answers: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The mean of the answers (samples, outputs) of each member, with the columns in the order of the first."""
        mean = mean_numbers if self._members[0].decision.task == "regression" else mean_probabilities
        return mean(answers, [each.classes for each in self._members])


def mean_probabilities(answers: Sequence[npt.NDArray[Any]], classes: Sequence[Sequence[str]]) -> npt.NDArray[np.float32]:
    """The mean of the probabilities (samples, classes) of several networks, whose columns are matched by name.

    The sum is computed in float64, so the order of the networks does not matter.

    Args:
        answers: probabilities of each network.
        classes: class names of each network; the result has the order of the first.

    >>> mean_probabilities([np.array([[0.2, 0.8]]), np.array([[0.4, 0.6]])], [("cat", "dog"), ("dog", "cat")]).round(2).tolist()
    [[0.4000000059604645, 0.6000000238418579]]
    """
    return mean_numbers(answers, classes).astype(np.float32)


def mean_numbers(answers: Sequence[npt.NDArray[Any]], targets: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """The mean of the numbers (samples, targets) of several networks; the arguments are those of ``mean_probabilities``.

    >>> mean_numbers([np.array([[40.0, 1.8]]), np.array([[1.6, 50.0]])], [("age", "height"), ("height", "age")]).tolist()
    [[45.0, 1.7000000000000002]]
    """
    total = np.zeros(answers[0].shape, dtype=np.float64)
    for numbers, names in zip(answers, targets, strict=True):
        total += numbers[:, [list(names).index(name) for name in targets[0]]]
    return total / len(answers)


def mean_thresholds(members: Sequence[tuple[Sequence[str], Sequence[float]]]) -> tuple[float, ...]:
    """The mean of the thresholds of several networks.

    Args:
        members: the classes of each network, and its threshold for each; the result has the order of the first.

    >>> mean_thresholds([(("cat", "dog"), (0.5, 0.3)), (("dog", "cat"), (0.4, 0.5))])
    (0.5, 0.35)
    """
    found = [dict(zip(classes, thresholds, strict=True)) for classes, thresholds in members]
    return tuple(sum(each[name] for each in found) / len(found) for name in members[0][0])


def _reopened(opened: Sequence[Callable[[], BulkPredictor]]) -> MeanPredictor:
    return MeanPredictor([each() for each in opened])


def _reading(plan: Preprocessing) -> Preprocessing:
    """The part of a preprocessing that decides the stored values: all but the scaling."""
    ones = (1.0,) * plan.channels
    return dataclasses.replace(plan, normalize="fixed", offset=ones, divisor=ones)


def _merge_new(ledger: Ledger, own: Ledger, changes: set[tuple[str, str]]) -> None:
    """Add the changes of one reading to the ledger, except those that earlier readings of the chunk have made: ``changes``, which grows."""
    rows = list(own.rows())
    for action, name, reason in rows:
        if (action, name) not in changes:
            ledger.note(action, name, reason)
    changes |= {(action, name) for action, name, _ in rows}


def _common(found: Sequence[Sequence[int | str]]) -> tuple[list[int | str], list[int]]:
    """For each sample its place among those that every reading has, or the first reason; and these samples."""
    outcomes: list[int | str] = []
    kept: list[int] = []
    for sample, each in enumerate(zip(*found, strict=True)):
        reasons = [outcome for outcome in each if isinstance(outcome, str)]
        if reasons:
            outcomes.append(reasons[0])
        else:
            outcomes.append(len(kept))
            kept.append(sample)
    return outcomes, kept


def _check_pair(first: BulkPredictor, other: BulkPredictor) -> None:
    """Refuse two members whose answers cannot be averaged.

    Raises:
        UsageError: they have different tasks or classes, or read different kinds of samples.
    """
    tasks = [each.decision.task for each in (first, other)]
    if tasks[0] != tasks[1]:
        raise UsageError(
            f"{first.name} and {other.name} cannot be averaged: one predicts {tasks[0]}, the other {tasks[1]}. Give networks of one task."
        )
    if only := [name for name in first.classes if name not in other.classes] + [
        name for name in other.classes if name not in first.classes
    ]:
        raise UsageError(
            f"{first.name} and {other.name} cannot be averaged: only one of them knows {listed(only)}. Give networks with the same "
            f"{write_number_of(len(first.classes), *(('target',) if tasks[0] == 'regression' else ('class', 'classes')))}."
        )
    one, two = first.preprocessing, other.preprocessing
    kinds = [(plan.kind, len(plan.size), plan.channels if plan.kind == "array" else 0, plan.layout) for plan in (one, two)]
    if kinds[0] != kinds[1]:
        shapes = [
            f"{'files' if plan.kind == 'images' else 'arrays'} of {write_shape(plan.input_shape)}" for plan in (one, two)
        ]
        raise UsageError(
            f"{first.name} and {other.name} cannot be averaged: one reads {shapes[0]}, the other {shapes[1]}. Give networks for one kind of data."
        )
