"""Intervals over groups: the ordinary ones where each sample is a group, wider where samples of a group are alike, and right as often as they say."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visus.evaluation.cluster_bootstrap import (
    count_groups,
    group_notes,
    group_numbers,
    mean_interval,
    metric_interval,
    proportion_interval,
)
from visus.evaluation.intervals import wilson_interval
from visus.evaluation.scores import Scores, score
from visus.evaluation.tasks.multi_label_scores import score_set_probabilities
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import score_numbers
from visus.pages.report.other_tasks import expected_sentence


@given(st.integers(60, 400), st.floats(0.2, 0.8), st.integers(0, 99))
def test_with_a_group_for_each_sample_it_agrees_with_wilson(num_samples: int, share: float, seed: int) -> None:
    right = np.arange(num_samples) < round(share * num_samples)
    wilson = wilson_interval(int(right.sum()), num_samples)
    ours = mean_interval(right, np.arange(num_samples), seed=seed)
    width = wilson[1] - wilson[0]
    assert ours == pytest.approx(wilson, abs=0.2 * width)
    assert proportion_interval(right, list(range(num_samples))) == proportion_interval(right) == wilson


@given(st.lists(st.booleans(), min_size=10, max_size=60), st.integers(2, 9))
def test_copies_within_a_group_add_nothing(right: list[bool], num_copies: int) -> None:
    """Each sample copied within its group: the mean of each draw is unchanged, so the interval is that of the groups."""
    groups = np.repeat(np.arange(len(right)), num_copies)
    copied = np.repeat(right, num_copies)
    assert mean_interval(copied, groups) == mean_interval(right, np.arange(len(right)))
    low, high = proportion_interval(copied, groups)
    wilson = wilson_interval(int(copied.sum()), len(copied))
    assert high - low > wilson[1] - wilson[0]


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 7)), min_size=2, max_size=40), st.integers(0, 9))
def test_the_fast_mean_is_the_mean_metric_over_the_same_groups(samples: list[tuple[float, int]], seed: int) -> None:
    values, groups = np.array([value for value, _ in samples]), [group for _, group in samples]
    fast = mean_interval(values, groups, seed=seed)
    slow = metric_interval(lambda weights: weights @ values / weights.sum(1), groups, seed=seed)
    if math.isinf(fast[0]):
        assert slow == (-math.inf, math.inf)
    else:  # other draws of the same distribution
        spread = values.max() - values.min()
        assert slow == pytest.approx(fast, abs=0.35 * spread + 1e-9)
        assert values.min() - 1e-9 <= fast[0] <= fast[1] <= values.max() + 1e-9


@given(st.permutations(range(12)), st.integers(2, 5))
def test_names_of_groups_and_order_of_samples_within_them_do_not_matter(order: list[int], num_groups: int) -> None:
    right = np.arange(12) % 3 > 0
    groups = np.arange(12) // num_groups
    named = [f"patient {group}" for group in groups]
    assert proportion_interval(right, groups.tolist()) == proportion_interval(right, named)
    shuffled = sorted(order, key=lambda place: groups[place])
    assert proportion_interval(right[shuffled], groups[shuffled].tolist()) == proportion_interval(right, groups.tolist())


def test_a_sample_without_a_group_is_one_of_its_own() -> None:
    assert group_numbers(["", "a", None, "a", ""]).tolist() == [0, 1, 2, 1, 3]


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly() -> None:
    values, groups = np.random.default_rng(0).normal(size=300), np.arange(300) // 6
    assert mean_interval(values, groups, seed=1) == mean_interval(values, groups, seed=1)
    assert mean_interval(values, groups, seed=1) != mean_interval(values, groups, seed=2)
    assert mean_interval(values, groups, seed=1) == pytest.approx(mean_interval(values, groups, seed=2), abs=0.03)


def test_it_covers_the_true_accuracy_where_wilson_does_not() -> None:
    """200 studies of 15 patients with 12 images each, whose accuracy differs from patient to patient around 80 %."""
    random = np.random.default_rng(0)
    ours = wilsons = 0
    groups = np.repeat(np.arange(15), 12).tolist()
    for _ in range(200):
        right = (random.random((15, 12)) < random.beta(4, 1, 15)[:, None]).ravel()
        low, high = proportion_interval(right, groups)
        ours += low <= 0.8 <= high
        low, high = wilson_interval(int(right.sum()), len(right))
        wilsons += low <= 0.8 <= high
    assert ours >= 0.92 * 200
    assert wilsons < 0.85 * 200


def test_groups_that_are_all_right_are_not_certain() -> None:
    groups = [place // 5 for place in range(50)]
    assert proportion_interval([True] * 50, groups) == wilson_interval(10, 10)
    assert proportion_interval([False] * 50, groups) == wilson_interval(0, 10)
    assert proportion_interval([True, False], ["one", "one"]) == (0.0, 1.0)
    assert mean_interval([1.0, 2.0], ["one", "one"]) == (-math.inf, math.inf)


def test_a_metric_that_no_draw_defines_has_no_interval() -> None:
    low, high = metric_interval(lambda weights: np.full(len(weights), np.nan), [0, 1, 2])
    assert math.isnan(low)
    assert math.isnan(high)


def test_many_groups_take_no_time() -> None:
    right = np.random.default_rng(0).random(60_000) < 0.9
    began = time.perf_counter()
    proportion_interval(right, (np.arange(60_000) // 2).tolist())
    assert time.perf_counter() - began < 2.0


# ---- in scores ----


def grouped(num_copies: int) -> Scores:
    chances = np.repeat([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]] * 5, num_copies, axis=0)
    labels = np.repeat([0, 1, 1, 0] * 5, num_copies)
    groups = [f"patient {place // num_copies}" for place in range(len(labels))]
    return score(chances, labels, ["ill", "well"], groups=groups)


def test_scores_say_what_their_interval_is_over() -> None:
    scores = grouped(6)
    assert (scores.num_samples, scores.num_groups) == (120, 20)
    assert " over 20 groups)" in str(scores.text()[0])
    assert "over 20 groups" in scores.sentence("image")
    assert "over 20 groups" in repr(scores)
    plain = score(np.array([[0.9, 0.1]] * 120), [0] * 90 + [1] * 30, ["ill", "well"])
    assert (plain.num_groups, plain.over_groups()) == (None, "")
    assert scores.accuracy == plain.accuracy
    assert scores.accuracy_high - scores.accuracy_low > plain.accuracy_high - plain.accuracy_low
    assert Scores.from_json(scores.to_json()) == scores


def test_scores_with_a_group_for_each_sample_are_those_without_groups() -> None:
    assert grouped(1) == score(
        np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]] * 5), [0, 1, 1, 0] * 5, ["ill", "well"]
    )


def test_the_intervals_of_thresholds_are_over_groups_too() -> None:
    many, few = grouped(6).thresholds, grouped(1).thresholds
    wilson = wilson_interval(many[1].num_right, many[1].num_samples)
    assert many[1].accuracy == few[1].accuracy
    assert many[1].accuracy_low is not None
    assert many[1].accuracy_low < wilson[0]


@pytest.mark.parametrize(("groups", "counted"), [(None, None), (["a", "a"], 1), (["a", ""], None), (["a", "b", "a"], 2)])
def test_groups_are_counted_where_some_hold_several_samples(groups: list[str] | None, counted: int | None) -> None:
    assert count_groups(groups) == counted


def test_an_interval_over_few_groups_is_noted_and_one_over_ten_is_not() -> None:
    assert [len(group_notes(count)) for count in (None, 1, 2, 9, 10, 100)] == [0, 1, 1, 1, 0, 0]


def test_an_average_precision_over_one_group_has_the_whole_range_and_an_error_none() -> None:
    groups = ["patient"] * 4
    sets = score_set_probabilities(
        np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[0, 1, 0, 0]], ["a", "b"], np.full(2, 0.5), groups=groups
    )
    assert sets.headline.range() == "0.0 % to 100.0 % over 1 group"
    task = Regression(("age",), (0.0,), (1.0,))
    numbers = score_numbers(task, torch.zeros(4, 1), torch.arange(4.0)[:, None], IntervalFit(), groups=groups)
    target = numbers.targets[0]
    assert (target.mae_low, target.mae_high, target.r2_low, target.r2_high) == (None,) * 4
    assert target.r2 is not None
    assert numbers.sentence("scan") == (
        "mean absolute error 1.5 (no interval: all samples are of one group) on 4 scans; always predicting the training mean has 1.5"
    )
    assert expected_sentence(numbers.headline, "scans") == (
        "What to expect on more scans is unknown, since all of these are of one group."
    )
