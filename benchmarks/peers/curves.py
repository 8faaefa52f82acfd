"""How long several trainings of one kind take to reach an accuracy: curves of accuracy over time, and the first moment of their mean.

The mean over the seeds is what has to reach the target, not the luckiest seed: at each evaluation the accuracies of all seeds are
averaged, and the first evaluation whose mean is at least the target counts. A training may end early once three evaluations in a row
are at or above the target (``SETTLED``); the last evaluation of such a run then stands for its later ones, with its accuracy and its times,
since no more time was spent on it. So every mean is over all seeds, and the mean time never falls from one evaluation to the next.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

End = Literal["schedule", "settled", "time limit", "failed"]
SETTLED: Final = 3  # evaluations in a row at or above the target after which nothing more is to be learned from a run


@dataclass(frozen=True)
class Point:
    """One evaluation on the held-out samples.

    Args:
        epoch: epochs that were trained until then.
        seconds: since the training data was in memory, everything counted.
        evaluation_s: how many of these seconds went into evaluating, this time and before.
        accuracy: share of the held-out samples that were right, 0 to 1.
    """

    epoch: int
    seconds: float
    evaluation_s: float
    accuracy: float


@dataclass(frozen=True)
class Curve:
    """One training of one seed.

    Args:
        seed: everything random in it follows from it.
        before_s: seconds from the start of its process until the training data was in memory: imports and opening the data.
        process_s: seconds that the process lasted altogether.
        end: why it ended: its ``schedule`` was done, it was ``settled`` above the target, its ``time limit`` was over, or it ``failed``.
        points: its evaluations in their order.
        problem: why it failed; empty where it did not.
    """

    seed: int
    before_s: float
    process_s: float
    end: End
    points: tuple[Point, ...]
    problem: str = ""

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Curve:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**{**facts, "points": tuple(Point(**point) for point in facts["points"])})


@dataclass(frozen=True)
class Reached:
    """The first evaluation at which the mean accuracy of all seeds is at least the target. All times are means over all seeds; a seed that
    had settled before counts with the time of its last evaluation.

    Attributes:
        evaluation: its number, from 1.
        accuracy: the mean accuracy there.
        seconds: since the training data was in memory, everything counted.
        seconds_low, seconds_high: the fastest and the slowest seed.
        evaluation_s: how much of ``seconds`` was evaluating.
        from_start_s: since the start of the process.
    """

    evaluation: int
    accuracy: float
    seconds: float
    seconds_low: float
    seconds_high: float
    evaluation_s: float
    from_start_s: float

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def is_settled(accuracies: Sequence[float], target: float) -> bool:
    """Whether a training may end: its last three accuracies are all at or above the target.

    >>> is_settled([0.8, 0.91, 0.89, 0.9, 0.9, 0.92], 0.9), is_settled([0.91, 0.92], 0.9)
    (True, False)
    """
    return len(accuracies) >= SETTLED and min(accuracies[-SETTLED:]) >= target


def mean_accuracies(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """(mean seconds, mean accuracy) for each evaluation that every seed has, or has settled before.

    >>> left = Curve(0, 1.0, 9.0, "schedule", (Point(1, 2.0, 0.5, 0.8), Point(2, 4.0, 1.0, 0.9)))
    >>> right = Curve(1, 1.0, 9.0, "time limit", (Point(1, 3.0, 0.5, 0.6),))
    >>> [(seconds, round(accuracy, 6)) for seconds, accuracy in mean_accuracies([left, right])]
    [(2.5, 0.7)]
    """
    means = []
    for place in range(max((len(curve.points) for curve in curves), default=0)):
        there = _points_at(curves, place)
        if there is None:
            break
        means.append(
            (statistics.fmean(point.seconds for point in there), statistics.fmean(point.accuracy for point in there))
        )
    return means


def _points_at(curves: Sequence[Curve], place: int) -> list[Point] | None:
    """One evaluation of every seed: that at ``place``, or the last of one that has settled before; None where a seed has neither."""
    if any(len(curve.points) <= place and not (curve.points and curve.end == "settled") for curve in curves):
        return None
    return [curve.points[min(place, len(curve.points) - 1)] for curve in curves]


def first_reached(curves: Sequence[Curve], target: float) -> Reached | None:
    """When the mean over the seeds first reaches the target; None where it never does.

    A seed that settles at 6 s and one that gets there at 60 s take 33 s in the mean:

    >>> quick = Curve(0, 1.0, 9.0, "settled", tuple(Point(number, 2.0 * number, 0.0, 0.94) for number in (1, 2, 3)))
    >>> late = Curve(1, 1.0, 99.0, "schedule", tuple(Point(number, 10.0 * number, 0.0, 0.8 + 0.02 * number) for number in range(1, 7)))
    >>> found = first_reached([quick, late], 0.93)
    >>> found.evaluation, found.seconds, found.seconds_low, found.seconds_high
    (6, 33.0, 6.0, 60.0)

    Each counts with its own clock:

    >>> fast = Curve(0, 1.0, 9.0, "schedule", (Point(1, 2.0, 0.5, 0.8), Point(2, 4.0, 1.0, 0.94)))
    >>> slow = Curve(1, 3.0, 9.0, "schedule", (Point(1, 3.0, 0.5, 0.8), Point(2, 6.0, 1.0, 0.92)))
    >>> found = first_reached([fast, slow], 0.93)
    >>> found.evaluation, found.seconds, found.seconds_low, found.seconds_high, found.from_start_s
    (2, 5.0, 4.0, 6.0, 7.0)
    >>> first_reached([fast, slow], 0.95) is None
    True
    """
    for place, (seconds, accuracy) in enumerate(mean_accuracies(curves)):
        if accuracy + 1e-12 < target:
            continue
        there = _points_at(curves, place)
        assert there is not None, "a mean is over all seeds"
        return Reached(
            evaluation=place + 1,
            accuracy=accuracy,
            seconds=seconds,
            seconds_low=min(point.seconds for point in there),
            seconds_high=max(point.seconds for point in there),
            evaluation_s=statistics.fmean(point.evaluation_s for point in there),
            from_start_s=statistics.fmean(
                curve.before_s + point.seconds for curve, point in zip(curves, there, strict=True)
            ),
        )
    return None
