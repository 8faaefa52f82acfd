"""Which epoch is kept, and when patience runs out: within one phase alone, and against the start by paired evidence."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from visus.training.selection import (
    Phase,
    SampleResults,
    Selection,
    is_better,
    is_more_often_right,
    paired_z,
    standard_error,
)

FULL, SMALL, AVERAGED = Phase(), Phase(0.75), Phase(is_averaged=True)


def judged(selection: Selection, phases: list[Phase], accuracies: list[float]) -> list[bool]:
    return [selection.judge(epoch, *each) for epoch, each in enumerate(zip(phases, accuracies, strict=True))]


def answers(num_right: int, num_wrong: int, loss: float = 1.0) -> SampleResults:
    return SampleResults((True,) * num_right + (False,) * num_wrong, (loss,) * (num_right + num_wrong))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_the_latest_epoch_within_one_standard_error_of_the_best_is_kept(num_right: list[int]) -> None:
    accuracies = [number / 100 for number in num_right]
    selection = Selection(num_samples=100)
    judged(selection, [FULL] * len(accuracies), accuracies)
    bests = [max(accuracies[: epoch + 1]) for epoch in range(len(accuracies))]
    near = [epoch for epoch, best in enumerate(bests) if accuracies[epoch] >= best - standard_error(best, 100)]
    assert selection.best_epoch == max(near)


@pytest.mark.parametrize("change", [SMALL, AVERAGED])
def test_epochs_are_compared_within_one_phase_alone(change: Phase) -> None:
    selection = Selection(num_samples=1000)
    assert judged(selection, [change, change, FULL, FULL], [0.95, 0.90, 0.70, 0.72]) == [True, False, True, True]
    assert (selection.best_epoch, selection.best_score) == (3, 0.72)


def test_patience_counts_at_the_full_size_alone() -> None:
    selection = Selection(patience=2, num_samples=1000)
    phases, accuracies = [SMALL] * 4 + [FULL] * 3, [0.9, 0.5, 0.5, 0.5, 0.7, 0.6, 0.6]
    ends = []
    for epoch, (phase, accuracy) in enumerate(zip(phases, accuracies, strict=True)):
        selection.judge(epoch, phase, accuracy)
        ends.append(selection.is_over(epoch))
    assert ends == [False] * 6 + [True]
    assert selection.best_epoch == 4
    assert not Selection(num_samples=10).is_over(100)


def test_without_validation_samples_every_epoch_is_kept() -> None:
    selection = Selection(patience=1)
    assert [selection.judge(epoch, FULL, float("nan")) for epoch in range(3)] == [True] * 3
    assert (selection.best_epoch, selection.is_over(2)) == (2, False)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (answers(90, 10), answers(96, 4), True),  # six mended, none lost: p = 1/64
        (answers(90, 10), answers(93, 7), False),  # three mended may be chance: p = 1/8
        (
            answers(90, 10, 1.0),
            SampleResults(answers(90, 10).is_right, tuple(np.linspace(0.5, 0.9, 100))),
            True,
        ),  # as many right, surer
        (
            answers(90, 10, 1.0),
            SampleResults(answers(89, 11).is_right, tuple(np.linspace(0.5, 0.9, 100))),
            False,
        ),  # surer, but fewer right
        (answers(90, 10), answers(90, 10), False),
        (SampleResults((), ()), SampleResults((), ()), False),
    ],
)
def test_the_start_is_kept_unless_an_epoch_is_better_beyond_chance(
    before: SampleResults, after: SampleResults, expected: bool
) -> None:
    assert is_better(before, after) is expected
    selection = Selection(num_samples=len(before.is_right) or 1, start=before)
    assert selection.judge(0, FULL, after.accuracy if after.is_right else 0.0, after) is expected
    assert selection.best_epoch == (0 if expected else -1)


def test_without_losses_right_predictions_alone_decide() -> None:
    """A lower mean loss is no evidence: it has no spread over the samples."""
    start = SampleResults(answers(90, 10).is_right, ())
    assert not is_better(start, SampleResults(answers(90, 10).is_right, ()))
    assert not is_better(start, SampleResults(answers(93, 7).is_right, ()))
    assert is_better(start, SampleResults(answers(96, 4).is_right, ()))
    assert is_better(answers(90, 10), SampleResults(answers(96, 4).is_right, ()))  # a start of an earlier version


def test_a_smaller_input_size_is_never_compared_with_the_start() -> None:
    selection = Selection(num_samples=100, start=answers(50, 50))
    assert not selection.judge(0, SMALL, 0.99, answers(99, 1))
    assert selection.judge(1, FULL, 0.99, answers(99, 1))


@given(st.integers(0, 40), st.integers(0, 40))
def test_more_right_answers_are_beyond_chance_by_the_binomial_test(gained: int, lost: int) -> None:
    before, after = answers(lost, gained), SampleResults((False,) * lost + (True,) * gained, (1.0,) * (gained + lost))
    if gained + lost:
        expected = scipy.stats.binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue <= 0.05
        assert is_more_often_right(before, after) == (expected and gained > lost)


def test_the_paired_test_of_losses_goes_by_the_differences() -> None:
    rng = np.random.default_rng(0)
    before = rng.exponential(size=200)
    after = before - rng.normal(0.05, 0.3, 200)
    differences = before - after
    z = differences.mean() / (differences.std(ddof=1) / 200**0.5)
    assert paired_z(tuple(before), tuple(after)) == pytest.approx(scipy.stats.norm.sf(z))
    assert paired_z((1.0,) * 5, (0.0,) * 5) == 1.0  # too few to tell
    assert (paired_z((1.0,) * 9, (0.0,) * 9), paired_z((1.0,) * 9, (1.0,) * 9)) == (0.0, 1.0)


def test_the_state_survives_a_checkpoint() -> None:
    selection = Selection(patience=3, num_samples=4, start=answers(2, 2))
    judged(selection, [SMALL, FULL], [0.5, 0.75])
    again = Selection.from_json(json.loads(json.dumps(dataclasses.asdict(selection))))
    assert again == selection
    assert Selection.from_json(json.loads(json.dumps(dataclasses.asdict(Selection())))) == Selection()
