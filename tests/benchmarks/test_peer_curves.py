"""Time to accuracy over several seeds: laws of the mean, and what ends a training early."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.curves import SETTLED, Curve, Point, first_reached, is_settled, mean_accuracies

shares = st.floats(0, 1, allow_nan=False)


@st.composite
def curves(draw: Any, num_points: int = 6) -> list[Curve]:
    """Trainings of one kind, all with as many evaluations, their times growing."""
    found = []
    for seed in range(draw(st.integers(1, 4))):
        steps = draw(st.lists(st.floats(0.1, 10), min_size=num_points, max_size=num_points))
        points, seconds = [], 0.0
        for epoch, step in enumerate(steps, 1):
            seconds += step
            points.append(Point(epoch, seconds, seconds / 4, draw(shares)))
        found.append(Curve(seed, draw(st.floats(0, 5)), seconds + 5, "schedule", tuple(points)))
    return found


@given(curves(), shares)
def test_the_first_mean_at_or_above_the_target_counts_and_none_before_it(found: list[Curve], target: float) -> None:
    means = [accuracy for _, accuracy in mean_accuracies(found)]
    reached = first_reached(found, target)
    if reached is None:
        assert all(mean < target for mean in means)
    else:
        assert all(mean < target for mean in means[: reached.evaluation - 1])
        assert means[reached.evaluation - 1] >= target - 1e-9
        assert reached.seconds_low - 1e-9 <= reached.seconds <= reached.seconds_high + 1e-9
        assert reached.evaluation_s <= reached.seconds <= reached.from_start_s


@given(curves(), shares, shares)
def test_a_higher_target_is_never_reached_earlier(found: list[Curve], one: float, other: float) -> None:
    low, high = (first_reached(found, target) for target in sorted((one, other)))
    assert high is None or (low is not None and low.evaluation <= high.evaluation)


def test_one_lucky_seed_does_not_reach_a_target() -> None:
    lucky = Curve(0, 0.0, 1.0, "schedule", (Point(1, 1.0, 0.0, 0.99),))
    usual = Curve(1, 0.0, 1.0, "schedule", (Point(1, 1.0, 0.0, 0.80),))
    assert first_reached([lucky], 0.9) is not None
    assert first_reached([lucky, usual], 0.9) is None


def test_a_settled_seed_stands_with_its_last_accuracy_and_one_cut_off_ends_the_mean() -> None:
    early = (Point(1, 1.0, 0.0, 0.5), Point(2, 2.0, 0.0, 0.9))
    late = (Point(1, 1.5, 0.0, 0.5), Point(2, 3.0, 0.0, 0.6), Point(3, 4.5, 0.0, 0.9))
    slow = Curve(1, 0.0, 9.0, "schedule", late)
    assert [accuracy for _, accuracy in mean_accuracies([Curve(0, 0.0, 9.0, "settled", early), slow])] == [0.5, 0.75, 0.9]
    assert mean_accuracies([Curve(0, 0.0, 9.0, "settled", early), slow])[2][0] == (2.0 + 4.5) / 2
    assert len(mean_accuracies([Curve(0, 0.0, 9.0, "time limit", early), slow])) == 2
    assert first_reached([Curve(0, 0.0, 9.0, "time limit", early), slow], 0.9) is None


def test_a_settled_seed_keeps_its_place_on_the_clock() -> None:
    quick = Curve(0, 1.0, 9.0, "settled", tuple(Point(number, 2.0 * number, 0.5 * number, 0.95) for number in (1, 2, 3)))
    late = Curve(1, 3.0, 99.0, "schedule", tuple(Point(number, 10.0 * number, 1.0 * number, 0.9) for number in range(1, 6)))
    late = dataclasses.replace(late, points=(*late.points, Point(6, 60.0, 6.0, 0.95)))
    found = first_reached([quick, late], 0.94)
    assert found is not None
    assert (found.evaluation, found.seconds, found.seconds_low, found.seconds_high) == (6, 33.0, 6.0, 60.0)
    assert (found.evaluation_s, found.from_start_s) == (3.75, (1 + 6 + 3 + 60) / 2)


@given(curves(), st.integers(0, 5))
def test_the_mean_time_never_falls_when_a_seed_settles(found: list[Curve], num_left: int) -> None:
    early = dataclasses.replace(found[0], end="settled", points=found[0].points[: num_left + 1])
    times = [seconds for seconds, _ in mean_accuracies([early, *found[1:]])]
    assert times == sorted(times)


def test_a_settled_seed_without_evaluations_stands_for_nothing() -> None:
    assert (
        mean_accuracies([Curve(0, 0.0, 1.0, "settled", ()), Curve(1, 0.0, 1.0, "schedule", (Point(1, 1.0, 0.0, 0.5),))])
        == []
    )


def test_nothing_is_reached_without_evaluations() -> None:
    assert mean_accuracies([]) == []
    assert first_reached([Curve(0, 0.0, 1.0, "time limit", ())], 0.1) is None


@pytest.mark.parametrize(("accuracies", "expected"), [([0.9] * (SETTLED - 1), False), ([0.9] * SETTLED, True)])
def test_a_training_is_settled_after_three_evaluations_at_the_target(accuracies: list[float], expected: bool) -> None:
    assert is_settled(accuracies, 0.9) is expected
    assert is_settled([*accuracies, 0.89], 0.9) is False


def test_a_curve_comes_back_from_json() -> None:
    curve = Curve(3, 1.5, 9.0, "failed", (Point(1, 2.0, 0.5, 0.75),), "out of paper")
    assert Curve.from_json(json.loads(json.dumps(dataclasses.asdict(curve)))) == curve
