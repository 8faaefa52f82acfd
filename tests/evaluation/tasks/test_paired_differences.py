"""Two networks that predict sets or numbers: the differences are those of their scores, and the interval and the p-value say the same."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.errors import DataError
from visus.evaluation.cluster_bootstrap import bootstrap_difference
from visus.evaluation.tasks.label_thresholds import ThresholdFit
from visus.evaluation.tasks.multi_label_scores import score_sets
from visus.evaluation.tasks.paired_differences import PairedNumbers, PairedSets, compare_numbers, compare_sets

CLASSES = ("cat", "dog", "cow")
SEEDS, COUNTS = st.integers(0, 999), st.integers(5, 60)
FEW = settings(max_examples=15, deadline=None)


def sets(seed: int, count: int) -> tuple[list[Any], list[Any], Any]:
    """The probabilities and the predicted classes of two networks, the second one noisier, and the labels."""
    random = np.random.default_rng(seed)
    labels = (random.random((count, 3)) < 0.4).astype(np.float32)
    labels[0] = 1
    logits = [2 * labels - 1 + noise * random.normal(size=(count, 3)) for noise in (1.0, 1.5)]
    shares = [1 / (1 + np.exp(-each)) for each in logits]
    return shares, [each > 0.5 for each in shares], labels


def compared_sets(seed: int, count: int, *, is_swapped: bool = False) -> PairedSets:
    shares, predicted, labels = sets(seed, count)
    step = -1 if is_swapped else 1
    return compare_sets(shares[::step], predicted[::step], labels, CLASSES, [str(place) for place in range(count)])


def numbers(seed: int, count: int) -> tuple[list[Any], Any]:
    random = np.random.default_rng(seed)
    labels = random.normal(size=(count, 2))
    return [labels + noise * random.normal(size=(count, 2)) for noise in (1.0, 1.4)], labels


def compared_numbers(seed: int, count: int, *, is_swapped: bool = False) -> PairedNumbers:
    predicted, labels = numbers(seed, count)
    names = [str(place) for place in range(count)]
    return compare_numbers(predicted[:: -1 if is_swapped else 1], labels, ["age", "size"], names)


@FEW
@given(SEEDS, COUNTS)
@pytest.mark.long
def test_the_difference_is_that_of_the_scores(seed: int, count: int) -> None:
    shares, predicted, labels = sets(seed, count)
    found = compared_sets(seed, count)
    alone = [
        score_sets(
            torch.from_numpy(np.log(each / (1 - each))), torch.from_numpy(labels), CLASSES, ThresholdFit(1.0, (0.5,) * 3)
        )
        for each in shares
    ]
    assert (found.precision_left, found.precision_right) == pytest.approx([each.mean_average_precision for each in alone])
    assert found.difference == pytest.approx(found.precision_right - found.precision_left)
    exact = [found.exact.accuracy_left, found.exact.accuracy_right]
    assert exact == pytest.approx([(each == (labels > 0.5)).all(axis=1).mean() for each in predicted])
    assert {each.sample for each in found.differing} == {
        str(place) for place in range(count) if (predicted[0][place] != predicted[1][place]).any()
    }


@FEW
@given(SEEDS, COUNTS)
def test_the_difference_of_the_errors_is_that_of_the_means(seed: int, count: int) -> None:
    predicted, labels = numbers(seed, count)
    for place, each in enumerate(compared_numbers(seed, count).targets):
        errors = [float(np.abs(one - labels)[:, place].mean()) for one in predicted]
        assert (each.mae_left, each.mae_right) == pytest.approx(errors)
        assert each.difference == pytest.approx(errors[1] - errors[0])
        assert each.difference_low <= each.difference <= each.difference_high


@FEW
@given(SEEDS, COUNTS)
def test_the_interval_excludes_zero_exactly_if_the_bootstrap_is_significant(seed: int, count: int) -> None:
    for each in (*compared_numbers(seed, count).targets, compared_sets(seed, count)):
        assert (each.difference_low > 0 or each.difference_high < 0) == (each.p_value < 0.05)


@FEW
@given(SEEDS, COUNTS)
@pytest.mark.long
def test_swapping_the_networks_turns_the_sign(seed: int, count: int) -> None:
    pairs = [(compared_sets(seed, count), compared_sets(seed, count, is_swapped=True))]
    pairs += zip(  # type: ignore[arg-type]
        compared_numbers(seed, count).targets, compared_numbers(seed, count, is_swapped=True).targets, strict=True
    )
    for one, other in pairs:
        assert other.difference == pytest.approx(-one.difference)
        ends = (-other.difference_high, -other.difference_low)
        assert ends == pytest.approx((one.difference_low, one.difference_high))
        assert other.p_value == pytest.approx(one.p_value, abs=1e-6)


@FEW
@given(SEEDS, st.integers(40, 200))
def test_the_p_value_is_near_that_of_the_paired_t_test(seed: int, count: int) -> None:
    gains = np.random.default_rng(seed).normal(0.15, 1.0, count)
    found = bootstrap_difference(lambda weights: weights @ gains / weights.sum(1), np.arange(count))
    z = abs(gains.mean()) / (gains.std(ddof=1) / math.sqrt(count))
    wanted = 2 * (1 - statistics.NormalDist().cdf(z))  # of many samples, Student's distribution is nearly normal
    assert found.p_value == pytest.approx(wanted, abs=0.06)


def test_a_network_equals_itself() -> None:
    shares, predicted, labels = sets(0, 20)
    names = [str(place) for place in range(20)]
    found = compare_sets([shares[0]] * 2, [predicted[0]] * 2, labels, CLASSES, names)
    assert (found.difference, found.p_value, found.is_sure, found.differing) == (0.0, 1.0, False, ())
    assert found.sentence("a", "b", "image") == (
        "a and b have the same mean average precision, of 20 images. By exact match, "
        f"{found.exact.sentence('a', 'b', 'image')}"
    )
    same = compare_numbers([labels, labels], labels, CLASSES, names)
    assert same.p_values == (1.0, 1.0, 1.0)
    assert same.sentence("a", "b", "image").startswith("a and b have the same mean absolute error of cat, of 20 images. ")
    assert same.largest == ()


def test_groups_make_the_interval_wider() -> None:
    """Copies of a sample within its group tell nothing new."""
    predicted, labels = numbers(3, 20)
    once = compared_numbers(3, 20).targets[0]
    copied = [np.repeat(each, 5, axis=0) for each in predicted]
    groups = np.repeat([f"patient {place}" for place in range(20)], 5).tolist()
    names = [str(place) for place in range(100)]
    grouped = compare_numbers(copied, np.repeat(labels, 5, axis=0), ["age", "size"], names, groups).targets[0]
    apart = compare_numbers(copied, np.repeat(labels, 5, axis=0), ["age", "size"], names).targets[0]
    ends = (grouped.difference_low, grouped.difference_high)
    assert ends == pytest.approx((once.difference_low, once.difference_high))
    assert grouped.difference_high - grouped.difference_low > 1.5 * (apart.difference_high - apart.difference_low)


def test_the_exact_match_is_compared_over_groups_too() -> None:
    shares, predicted, labels = sets(0, 40)
    names, groups = [str(place) for place in range(40)], [f"patient {place // 4}" for place in range(40)]
    apart, grouped = (compare_sets(shares, predicted, labels, CLASSES, names, each).exact for each in (None, groups))
    assert (apart.num_groups, grouped.num_groups, grouped.difference) == (None, 10, apart.difference)
    assert (apart.difference_low, apart.difference_high) != (grouped.difference_low, grouped.difference_high)


def test_the_sentence_names_the_better_one_its_interval_and_the_test() -> None:
    found = compare_numbers([np.full((40, 1), 2.0), np.full((40, 1), 0.5)], np.zeros((40, 1)), ["age"], [""] * 40)
    said = found.sentence("a", "b", "image")
    assert said.startswith(
        "b has a smaller mean absolute error of age than a, by 1.5 on 40 images (95 % interval 1.5 to 1.5; "
    )
    assert said.endswith(").")
    assert found.is_sure
    corrected = found.sentence("a", "b", "image", [0.2])
    assert corrected.endswith(", 0.2 by Holm's correction); the difference is not significant.")
    better = dataclasses.replace(
        compared_sets(0, 30), difference=-0.1, difference_low=-0.15, difference_high=-0.05, p_value=0.01
    )
    assert better.sentence("a", "b", "image").startswith(
        "a has a higher mean average precision than b, by 10.0 points on 30 images (95 % interval 5.0 to 15.0; paired bootstrap p = "
        "0.01). By exact match, "
    )


def test_the_samples_with_the_largest_differences_come_first() -> None:
    labels = np.zeros((5, 1))
    found = compare_numbers([labels, np.array([[0.0], [3.0], [-9.0], [1.0], [0.0]])], labels, ["age"], list("abcde"))
    assert [(each.sample, each.label, each.left, each.right) for each in found.largest] == [
        ("c", "0", "0", "-9"),
        ("b", "0", "0", "3"),
        ("d", "0", "0", "1"),
    ]


def test_a_difference_is_plain_data() -> None:
    for each in (compared_sets(0, 12), compared_numbers(0, 12)):
        facts = json.loads(json.dumps(each.to_json()))
        assert facts["num_samples"] == 12
    assert {"accuracy_left", "differing"} <= compared_sets(0, 12).to_json()["exact"].keys()


def test_nothing_to_compare_is_refused() -> None:
    none = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(DataError) as caught:
        compare_sets([none, none], [none > 1, none > 1], none, CLASSES, list("abc"))
    assert str(caught.value) == "there is nothing to compare: no sample has any of the classes."
    with pytest.raises(DataError) as caught:
        compare_numbers([none[:0], none[:0]], none[:0], CLASSES, [])
    assert str(caught.value) == "there is nothing to compare: no sample has predictions of both networks."


def test_the_interval_of_a_clear_difference_has_its_sign() -> None:
    labels = (np.random.default_rng(0).random((60, 3)) < 0.4).astype(np.float32)
    noise = np.random.default_rng(1).random((60, 3))
    shares = [0.9 * labels + 0.05, noise]
    names = [str(place) for place in range(60)]
    found = compare_sets(shares, [each > 0.5 for each in shares], labels, CLASSES, names)
    assert found.difference_low <= found.difference <= found.difference_high < 0
    assert found.is_sure
