"""Two networks on the same samples: intervals and tests as published, counts that add up, the samples on which they differ."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.errors import DataError, UsageError
from visus.evaluation.cluster_bootstrap import bootstrap_difference
from visus.evaluation.paired import compare_answers, difference_interval, difference_test, holm, mcnemar

COUNT = st.integers(0, 40)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # The R package contingencytables of Fagerland, Lydersen and Laake: complete response (Cavo et al. 2012).
        ((59, 6, 16, 80), 0.0054, 0.1240),
        ((59, 16, 6, 80), -0.1240, -0.0054),
    ],
)
def test_the_interval_is_the_published_one(table: tuple[int, int, int, int], low: float, high: float) -> None:
    assert difference_interval(*table) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("only_left", "only_right", "p_value"),
    [
        (1, 7, 0.034),  # Fagerland, Lydersen and Laake 2013 (doi:10.1186/1471-2288-13-91), table 2
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_test_returns_the_published_probability(only_left: int, only_right: int, p_value: float) -> None:
    assert mcnemar(only_left, only_right) == pytest.approx(p_value, abs=5e-4)


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_interval_excludes_zero_exactly_if_the_test_is_significant(a: int, b: int, c: int, d: int) -> None:
    if a + b + c + d == 0:
        return
    low, high = difference_interval(a, b, c, d)
    assert (low > 0 or high < 0) == (mcnemar(b, c) < 0.05)


@given(COUNT, COUNT, COUNT, COUNT)
@settings(max_examples=25, deadline=None)
def test_the_bounds_are_where_the_score_test_turns_significant(a: int, b: int, c: int, d: int) -> None:
    """The likelihood of the counts is maximized on a grid, without the formula of the estimate."""
    num_samples = a + b + c + d
    if not b or not c:
        return
    for bound in difference_interval(a, b, c, d):
        lefts = np.linspace(max(0.0, -bound), (1 - bound) / 2, 400_001)[1:-1]  # only left right, given the difference
        logs = b * np.log(lefts) + c * np.log(lefts + bound) + ((a + d) * np.log(1 - 2 * lefts - bound) if a + d else 0.0)
        left = float(lefts[logs.argmax()])
        z = (c - b - num_samples * bound) / math.sqrt(num_samples * (2 * left + bound - bound**2))
        assert abs(z) == pytest.approx(1.96, abs=0.01)


def test_the_test_takes_thousands_of_samples() -> None:
    assert 0 < mcnemar(4_000, 4_300) < 0.01
    assert difference_interval(50_000, 4_000, 4_300, 1_700)[0] > 0


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_interval_holds_the_difference_and_turns_with_the_sides(a: int, b: int, c: int, d: int) -> None:
    if a + b + c + d == 0:
        return
    low, high = difference_interval(a, b, c, d)
    assert -1 <= low - 1e-12 <= (c - b) / (a + b + c + d) <= high + 1e-12
    assert high <= 1
    assert difference_interval(a, c, b, d) == pytest.approx((-high, -low), abs=1e-12)


@given(COUNT, COUNT, COUNT, COUNT)
def test_counts_add_up_and_answers_that_differ_are_listed(a: int, b: int, c: int, d: int) -> None:
    left, right = [0] * (a + b) + [1] * (c + d), [0] * a + [1] * b + [0] * c + [1] * d
    names = [str(number) for number in range(a + b + c + d)]
    if not names:
        return
    found = compare_answers(left, right, [0] * len(names), ["yes", "no"], names)
    assert (found.both_right, found.only_left, found.only_right, found.both_wrong) == (a, b, c, d)
    assert found.accuracy_right - found.accuracy_left == pytest.approx(found.difference)
    assert [each.sample for each in found.differing] == names[a : a + b + c]
    assert {each.right_one for each in found.differing} <= {"left", "right"}
    assert json.loads(json.dumps(found.to_json()))["num_samples"] == len(names)


def test_two_wrong_answers_that_differ_are_listed_and_count_for_neither() -> None:
    found = compare_answers([1], [2], [0], ["a", "b", "c"], ["x.png"])
    assert (found.both_wrong, found.difference, found.p_value) == (1, 0.0, 1.0)
    assert found.differing[0].right_one == "neither"


def test_sentences_name_the_better_one_and_say_where_nothing_is_shown() -> None:
    def said(a: int, b: int, c: int, d: int) -> str:
        left, right = [0] * (a + b) + [1] * (c + d), [0] * a + [1] * b + [0] * c + [1] * d
        names = [str(number) for number in range(a + b + c + d)]
        return compare_answers(left, right, [0] * len(names), ["yes", "no"], names).sentence("one", "two", "image")

    assert said(70, 3, 20, 7) == (
        "two is more accurate than one by 17.0 points on 100 images (95 % interval 8.4 to 26.5; exactly one is correct "
        "on 23, McNemar's test p = 0.00039)."
    )
    assert said(70, 4, 3, 23).startswith("one is more accurate than two by 1.0 points on 100 images (95 % interval -5")
    assert said(70, 4, 3, 23).endswith("p = 0.71); the difference is not significant.")
    assert said(70, 4, 4, 22) == (
        "one and two have equal accuracy, 74.0 % of 100 images; only one is correct on 4, and only two on 4."
    )
    assert said(70, 0, 0, 30) == "one and two are correct on the same samples, of 100 images."


def test_what_cannot_be_compared_is_refused_in_words() -> None:
    with pytest.raises(DataError) as caught:
        compare_answers([], [], [], ["a", "b"], [])
    assert str(caught.value) == "there is nothing to compare: no sample has predictions of both networks."
    with pytest.raises(UsageError) as caught:
        compare_answers([0, 1], [0], [0, 1], ["a", "b"], ["x", "y"])
    assert str(caught.value) == ("each sample needs two predictions, a label and a name; their numbers are 2, 1, 2 and 2.")


@given(st.lists(st.integers(0, 100).map(lambda number: number / 999), min_size=1, max_size=8))
def test_holms_correction_rejects_what_its_procedure_rejects(p_values: list[float]) -> None:
    """Holm 1979: the sorted p-values are compared with level / n, level / (n - 1), ...; the first that is too large ends it."""
    corrected = holm(p_values)
    level = 0.05
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - rank) >= level:
            break
        rejected.add(place)
    assert {place for place, value in enumerate(corrected) if value < level} == rejected
    assert all(one <= other <= 1 for one, other in zip(p_values, corrected, strict=True))


def test_one_of_several_comparisons_is_judged_by_its_corrected_p_value() -> None:
    found = compare_answers(
        [0] * 12, [1] * 8 + [0] * 4, [1] * 7 + [0] * 5, ["cat", "dog"], [str(each) for each in range(12)]
    )
    assert found.is_sure
    p = f"{found.p_value:.2g}"
    assert f"McNemar's test p = {p})." in found.sentence("a", "b")
    told = found.sentence("a", "b", holm_p_value=0.07)
    assert told.endswith(f"McNemar's test p = {p}, 0.07 by Holm's correction); the difference is not significant.")


GAINS = st.lists(st.sampled_from([-1, 0, 0, 1]), min_size=2, max_size=30)


@given(GAINS)
def test_without_groups_a_difference_has_the_published_interval_and_test(gains: list[int]) -> None:
    only_left, only_right = gains.count(-1), gains.count(1)
    wanted = (*difference_interval(gains.count(0), only_left, only_right, 0), mcnemar(only_left, only_right))
    assert difference_test(gains) == difference_test(gains, [""] * len(gains)) == wanted
    assert difference_test(gains, [str(place) for place in range(len(gains))]) == wanted


@given(GAINS, st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_copies_of_a_sample_within_its_group_are_no_more_evidence(gains: list[int], num_copies: int) -> None:
    values = np.array(gains, dtype=float)
    once = bootstrap_difference(lambda weights: weights @ values / weights.sum(1), np.arange(len(gains)))
    copied = difference_test(np.repeat(gains, num_copies), np.repeat(np.arange(len(gains)), num_copies))
    assert copied[2] == pytest.approx(once.p_value)
    if any(gains):
        assert copied[:2] == pytest.approx((max(-1, once.low), min(1, once.high)))
    else:
        assert copied[:2] == difference_interval(len(gains), 0, 0, 0)


def test_a_difference_over_one_group_may_be_any() -> None:
    assert difference_test([1, 1, 0, 0, 1], ["a"] * 5) == (-1.0, 1.0, 1.0)


def test_a_difference_that_few_patients_make_is_not_significant_and_the_sentence_says_over_what() -> None:
    """30 images of three patients, of 120 images of 12: McNemar's test would be sure."""
    right = np.repeat([1] * 3 + [0] * 9, 10).tolist()
    names, patients = [str(place) for place in range(120)], [f"patient {place // 10}" for place in range(120)]
    args = ([0] * 120, right, [1] * 30 + [0] * 90, ["cat", "dog"], names)
    alone, grouped = compare_answers(*args), compare_answers(*args, patients)
    assert (alone.num_groups, grouped.num_groups) == (None, 12)
    assert (alone.is_sure, grouped.is_sure) == (True, False)
    said = grouped.sentence("one", "two", "image")
    assert said == (
        "two is more accurate than one by 25.0 points on 120 images (95 % interval 0.0 to 54.1 over 12 groups; exactly one is correct on 30, "
        "paired bootstrap p = 0.083); the difference is not significant."
    )
    assert "McNemar's test" in alone.sentence("one", "two", "image")
