"""Average precision and AUROC against torchmetrics, and their weights against repeated samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from visus.evaluation.cluster_bootstrap import metric_interval
from visus.evaluation.ranking import Ranking, mean_average_precisions


@settings(max_examples=50)
@given(st.integers(2, 60), st.integers(0, 1000), st.integers(1, 30))
def test_areas_are_those_of_torchmetrics_with_ties_too(count: int, seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, count) / levels
    labels = random.integers(0, 2, count)
    labels[:2] = 0, 1
    found, tensors = Ranking(scores, labels), (torch.from_numpy(scores), torch.from_numpy(labels))
    assert found.average_precision() == pytest.approx(float(binary_average_precision(*tensors)), abs=1e-6)
    assert found.auroc() == pytest.approx(float(binary_auroc(*tensors)), abs=1e-6)


@given(st.integers(4, 40), st.integers(0, 1000))
def test_a_weight_counts_as_a_repeated_sample(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, labels, weights = random.integers(0, 9, count), random.integers(0, 2, count), random.integers(0, 4, count)
    labels[:2], weights[:2] = (0, 1), (1, 1)
    weighted, repeated = Ranking(scores, labels), Ranking(np.repeat(scores, weights), np.repeat(labels, weights))
    assert weighted.average_precisions(weights[None])[0] == pytest.approx(repeated.average_precision())
    assert weighted.aurocs(weights[None])[0] == pytest.approx(repeated.auroc())


def test_areas_without_samples_of_both_kinds_are_undefined() -> None:
    assert np.isnan(Ranking(np.array([0.1, 0.2]), np.array([0, 0])).average_precision())
    assert np.isnan(Ranking(np.array([0.1, 0.2]), np.array([1, 1])).auroc())


def test_a_class_that_a_draw_leaves_out_keeps_its_average_precision() -> None:
    """With one sample of a class, a third of the draws has none: the mean over the other classes would be another quantity."""
    random = np.random.default_rng(0)
    labels = (random.random((60, 3)) < 0.4).astype(int)
    labels[:, 2] = 0
    labels[7, 2] = 1
    scores = random.random((60, 3)) + labels * [0.3, 0.3, 0.0]
    rankings = [Ranking(scores[:, place], labels[:, place]) for place in range(3)]
    weights = np.ones((1, 60))
    weights[0, 7] = 0
    rare = rankings[2].average_precision()
    others = [float(each.average_precisions(weights)[0]) for each in rankings[:2]]
    assert mean_average_precisions(rankings, weights)[0] == pytest.approx((sum(others) + rare) / 3)
    assert np.isnan(mean_average_precisions([Ranking(scores[:, 0], np.zeros(60))], np.ones((2, 60)))).all()
    low, high = metric_interval(lambda rows: mean_average_precisions(rankings, rows), np.arange(60))
    found = float(mean_average_precisions(rankings, np.ones((1, 60)))[0])
    assert low < found < high
    assert high < found + 0.15, "it was up to the mean of the two frequent classes"
