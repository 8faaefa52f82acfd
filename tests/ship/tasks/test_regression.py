"""Numbers without PyTorch: the values, labels and errors of a run, whatever their unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visus.evaluation.tasks.prediction_intervals import IntervalFit, Numbers
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import score_numbers
from visus.ship.tasks.regression import RegressionBundle

OUTPUTS = arrays(np.float32, (6, 2), elements=st.floats(-9, 9, width=32))
MEANS = st.tuples(*[st.floats(-1e6, 1e6)] * 2)
STDS = st.tuples(*[st.floats(1e-3, 1e6)] * 2)


@given(OUTPUTS, MEANS, STDS)
def test_numbers_are_those_of_the_run_to_the_last_bit(outputs: Any, mean: Any, std: Any) -> None:
    of_run = Numbers(Regression(("x", "y"), mean, std))(torch.from_numpy(outputs)).numpy()
    assert RegressionBundle(mean, std).answers(outputs, 1.0, 0.0).tobytes() == of_run.tobytes()


@given(OUTPUTS, OUTPUTS, MEANS, STDS)
def test_differences_do_not_depend_on_the_unit(outputs: Any, others: Any, mean: Any, std: Any) -> None:
    task, plain = RegressionBundle(mean, std), RegressionBundle((0.0, 0.0), (1.0, 1.0))
    found = task.differences(task.answers(outputs, 1.0, 0.0), task.answers(others, 1.0, 0.0))
    rounding = 4 * np.finfo(float).eps * (np.abs(mean) + 9 * np.array(std)).max() / min(std)
    np.testing.assert_allclose(found, plain.differences(outputs, others), atol=rounding)


@given(OUTPUTS, OUTPUTS)
def test_the_score_is_the_mean_absolute_error_of_an_evaluation(outputs: Any, labels: Any) -> None:
    mean, std = (40.0, 40.0), (10.0, 10.0)
    run, task = Regression(("x", "y"), mean, std), RegressionBundle(mean, std)
    numbers = task.answers(labels, 1.0, 0.0)
    wanted = score_numbers(run, torch.from_numpy(outputs), torch.from_numpy(numbers), IntervalFit(reason="none"))
    found = task.score([task.answers(outputs, 1.0, 0.0)], numbers)
    assert found.value == pytest.approx(np.mean([each.mae for each in wanted.targets]) / 10, abs=1e-9)
    assert 0 <= found.low <= found.high


def test_the_loss_is_how_much_larger_the_error_is() -> None:
    task, labels = RegressionBundle((0.0,), (2.0,)), np.zeros((40, 1))
    run, found = np.ones((40, 1)), -3 * np.ones((40, 1))
    loss = task.loss(run, found, labels)
    assert (loss.value, loss.low, loss.high) == pytest.approx((1, 1, 1))
    assert task.loss(found, run, labels).value == -1


def test_numbers_agree_up_to_the_tolerance_or_loosely_where_differences_are_not_judged() -> None:
    task, run = RegressionBundle((0.0,), (10.0,)), np.zeros((3, 1))
    found = np.array([[5e-4], [5e-2], [5e-1]])
    assert task.agree(found, run, 1e-4).tolist() == [True, False, False]
    assert task.agree(found, run, None).tolist() == [True, True, False]


def test_a_number_is_written_with_its_target() -> None:
    assert (
        RegressionBundle((0.0, 0.0), (1.0, 1.0)).label(np.array([41.25, 1e-7]), ["age", "size"]) == "age 41.25, size 1e-07"
    )


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([[1.0], [2.0]], ""),
        ([[1.0], [float("nan")]], "a value is NaN or infinite"),
        ([[1.0]], "there is one held-out sample, and two at least are needed for an interval"),
    ],
)
def test_labels_that_no_score_can_be_made_of_are_named(labels: list[list[float]], problem: str) -> None:
    assert RegressionBundle((0.0,), (1.0,)).labels_problem(np.array(labels), 1) == problem
