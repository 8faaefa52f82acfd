"""Sets of classes without PyTorch: the probabilities, decisions and scores of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visus.evaluation.tasks.label_thresholds import Sigmoid, ThresholdFit
from visus.evaluation.tasks.multi_label_scores import score_sets
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.workbench.runs.prediction import Decision

NAMES = ("cat", "dog", "fox")
LOGITS = arrays(np.float32, (5, 3), elements=st.floats(-200, 200, width=32))
SHARES = st.floats(0, 1, width=32)


@given(LOGITS, st.floats(0.05, 20))
def test_probabilities_are_those_of_the_run(logits: Any, temperature: float) -> None:
    found = MultiLabelBundle((0.5,) * 3).answers(logits, temperature, 0.0)
    np.testing.assert_allclose(found, Sigmoid(temperature).exact(torch.from_numpy(logits)).numpy(), rtol=1e-12, atol=0)


@given(st.lists(SHARES, min_size=3, max_size=3), st.lists(SHARES, min_size=3, max_size=3))
def test_a_sample_has_the_classes_that_a_prediction_of_the_run_has(row: list[float], thresholds: list[float]) -> None:
    decided = Decision("multi-label", tuple(thresholds)).labels_of("a.png", row, NAMES).labels
    found = MultiLabelBundle(tuple(thresholds)).label(np.array(row), NAMES)
    assert set(filter(None, found.split("|"))) == set(decided)


def test_a_probability_at_its_threshold_reaches_it() -> None:
    task = MultiLabelBundle((0.5, float(np.float32(0.3)), 0.5))
    assert task.label(np.array([0.5, 0.3, 0.49]), NAMES) == "cat|dog"


def test_only_a_class_at_its_threshold_may_differ_and_only_by_rounding() -> None:
    task, run = MultiLabelBundle((0.5, 0.5, 0.5)), np.array([[0.50001, 0.9, 0.1]])
    across, changed = np.array([[0.49999, 0.9, 0.1]]), np.array([[0.50001, 0.49, 0.1]])
    assert task.agree(run, run, 1e-4).tolist() == [True]
    assert task.agree(across, run, 1e-4).tolist() == [True]
    assert task.agree(across, run, 1e-2).tolist() == task.agree(across, run, None).tolist() == [False]
    assert task.agree(changed, run, 1e-4).tolist() == [False]


@pytest.mark.parametrize("seed", range(3))
def test_the_score_is_the_mean_average_precision_of_an_evaluation(seed: int) -> None:
    task, random = MultiLabelBundle((0.5,) * 3), np.random.default_rng(seed)
    logits, labels = random.normal(size=(40, 3)).astype(np.float32), random.integers(0, 2, (40, 3)).astype(np.float32)
    labels[:, seed] = 0
    found = task.score([task.answers(logits, 1.0, 0.0).astype(np.float32)], labels)
    fit = ThresholdFit(thresholds=(0.5,) * 3)
    wanted = score_sets(torch.from_numpy(logits), torch.from_numpy(labels), NAMES, fit)
    assert found.value == pytest.approx(wanted.mean_average_precision)
    assert found.low == pytest.approx(max(0, wanted.mean_average_precision_low))
    assert found.high == pytest.approx(min(1, wanted.mean_average_precision_high))


@given(LOGITS, LOGITS)
def test_the_loss_is_the_difference_of_two_scores_and_nothing_beside_itself(logits: Any, others: Any) -> None:
    task, labels = MultiLabelBundle((0.5,) * 3), (np.arange(15).reshape(5, 3) % 4 == 0).astype(np.float32)
    run, found = (task.answers(each, 1.0, 0.0) for each in (logits, others))
    loss = task.loss(run, found, labels)
    assert loss.value == pytest.approx(task.score([run], labels).value - task.score([found], labels).value)
    assert -1 <= loss.low <= loss.high <= 1
    same = task.loss(run, run, labels)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], ""),
        ([[1.0, 0.5], [0.0, 0.0]], "a value is neither 0 nor 1"),
        ([[0.0, 0.0], [0.0, 0.0]], "none of the held-out samples has a class, and one at least is needed"),
        ([[1.0, 0.0]], "there is one held-out sample, and two at least are needed for an interval"),
    ],
)
def test_labels_that_no_score_can_be_made_of_are_named(labels: list[list[float]], problem: str) -> None:
    assert MultiLabelBundle((0.5, 0.5)).labels_problem(np.array(labels), 2) == problem
