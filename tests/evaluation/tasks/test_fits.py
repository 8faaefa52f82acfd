"""Thresholds of sets and prediction intervals of numbers, fitted on held-out samples."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from visus.errors import DataError, RunError, TrainingError
from visus.evaluation.tasks.label_thresholds import ThresholdFit, fit_thresholds
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores, score_sets
from visus.evaluation.tasks.prediction_intervals import IntervalFit, fit_intervals
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import RegressionScores, score_numbers


def sets(seed: int, count: int, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels that were drawn with these probabilities; the logits are multiplied by a temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 3, generator=generator)
    return temperature * logits, (torch.rand(count, 3, generator=generator) < logits.sigmoid()).float()


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from([0.5, 2.0, 4.0]))
@pytest.mark.long
def test_the_temperature_finds_the_one_that_was_applied(seed: int, temperature: float) -> None:
    fit = fit_thresholds(*sets(seed, 2000, temperature))
    assert fit.is_used
    assert fit.temperature == pytest.approx(temperature, rel=0.2)


def f1(probabilities: torch.Tensor, truth: torch.Tensor, threshold: float) -> float:
    """The F1 of predicting the class from this probability on."""
    predicted = probabilities >= threshold
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(60, 300))
@pytest.mark.long
def test_a_threshold_is_half_of_the_highest_f1_of_its_class(seed: int, count: int) -> None:
    logits, labels = sets(seed, count)
    fit = fit_thresholds(logits, labels)
    for shares, label, threshold in zip(fit.calibrator(logits).T, labels.T, fit.thresholds, strict=True):
        assert threshold == pytest.approx(max(f1(shares, label > 0.5, each) for each in shares.tolist()) / 2)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.0]))
@pytest.mark.long
def test_with_many_samples_no_threshold_has_a_clearly_higher_f1_on_others(seed: int, temperature: float) -> None:
    fit = fit_thresholds(*sets(seed, 4000, temperature))
    logits, labels = sets(seed + 1, 4000, temperature)
    for shares, label, threshold in zip(fit.calibrator(logits).T, labels.T, fit.thresholds, strict=True):
        best = max(f1(shares, label > 0.5, each) for each in np.linspace(0.02, 0.98, 49))
        assert f1(shares, label > 0.5, threshold) > best - 0.01


def test_few_samples_keep_the_default_threshold_and_no_temperature() -> None:
    fit = fit_thresholds(torch.zeros(9, 2), torch.ones(9, 2))
    assert fit.thresholds == (0.5, 0.5)
    assert fit.sentence("image") == (
        "Probabilities are not calibrated: 9 samples of the validation set are too few to fit a temperature on. All thresholds are 0.5."
    )
    assert (
        fit_thresholds(torch.zeros(0, 2), torch.zeros(0, 2)).reason == "there is no validation set to fit a temperature on"
    )


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(19, 200))
def test_intervals_hold_nine_tenths_of_the_samples_of_the_fit(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    task = Regression(("a",), mean=(5.0,), std=(2.0,))
    outputs, labels = torch.from_numpy(random.normal(size=(count, 1))), torch.from_numpy(random.normal(size=(count, 1)))
    fit = fit_intervals(task, outputs, labels)
    inside = ((task.values(outputs) - labels).abs()[:, 0] <= fit.half_widths[0]).double().mean()
    assert 0.9 <= inside <= 1.0
    assert inside <= 0.9 + 2 / count + 1e-9


def test_intervals_hold_nine_tenths_of_new_samples_on_average() -> None:
    random = np.random.default_rng(0)
    task, covered = Regression(("a",), mean=(0.0,), std=(1.0,)), []
    for _ in range(200):
        labels = torch.from_numpy(random.standard_t(3, size=(50, 1)))
        (width,) = fit_intervals(task, torch.zeros(50, 1), labels).half_widths
        covered.append((np.abs(random.standard_t(3, size=2000)) <= width).mean())
    assert np.mean(covered) == pytest.approx(46 / 51, abs=0.01)  # k / (n + 1)


def test_intervals_of_samples_with_groups_claim_nothing_for_new_groups() -> None:
    task = Regression(("age",), mean=(0.0,), std=(1.0,))
    fit = fit_intervals(task, torch.zeros(9, 1), torch.full((9, 1), 2.0), has_groups=True)
    assert fit.sentence("scan") == (
        "At least 90 % of new scans of the same groups lie within 2 of the prediction (age), by the errors on 9 scans of the validation set; "
        "of new groups, fewer may."
    )
    assert IntervalFit.from_json(fit.to_json()) == fit
    before = {name: each for name, each in fit.to_json().items() if name != "has_groups"}  # of an earlier version
    assert not IntervalFit.from_json(before).has_groups


def test_too_few_samples_have_no_interval() -> None:
    task = Regression(("a",), mean=(0.0,), std=(1.0,))
    fit = fit_intervals(task, torch.zeros(8, 1), torch.zeros(8, 1))
    assert fit.sentence() == "Predictions have no interval: 8 samples of the validation set are too few."
    assert fit_intervals(task, torch.zeros(0, 1), torch.zeros(0, 1)).reason == "there is no validation set"


@pytest.mark.parametrize(
    ("kind", "facts", "message"),
    [
        (
            ThresholdFit,
            {"thresholds": [2]},
            "this calibration is not of this version of visus (a threshold is not between 0 and 1).",
        ),
        (
            ThresholdFit,
            {"thresholds": [], "temperature": -1.0},
            "this calibration is not of this version of visus (the temperature is -1.0).",
        ),
        (
            IntervalFit,
            {"half_widths": [-1.0], "targets": []},
            "this calibration is not of this version of visus (a half width is negative or not finite).",
        ),
    ],
)
def test_a_damaged_fit_is_refused(kind: type[ThresholdFit | IntervalFit], facts: dict[str, object], message: str) -> None:
    with pytest.raises(RunError) as caught:
        kind.from_json(facts)
    assert str(caught.value) == message


def test_fits_and_scores_are_read_back_from_json() -> None:
    logits, labels = sets(0, 80)
    fit = fit_thresholds(logits, labels)
    assert ThresholdFit.from_json(json.loads(json.dumps(fit.to_json()))) == fit
    scores = score_sets(logits, labels, ["a", "b", "c"], fit, split="test", notes=["n"], groups=["g", "h"] * 40)
    assert MultiLabelScores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
    assert scores.num_groups == 2
    task = Regression(("a",), mean=(0.0,), std=(1.0,))
    intervals = fit_intervals(task, logits[:, :1], labels[:, :1])
    assert IntervalFit.from_json(json.loads(json.dumps(intervals.to_json()))) == intervals
    numbers = score_numbers(task, logits[:, :1], labels[:, :1], intervals, split="val")
    assert RegressionScores.from_json(json.loads(json.dumps(numbers.to_json()))) == numbers


@pytest.mark.parametrize("kind", [MultiLabelScores, RegressionScores])
def test_scores_of_another_version_are_refused(kind: type[MultiLabelScores | RegressionScores]) -> None:
    with pytest.raises(RunError) as caught:
        kind.from_json({"split": "test"})
    assert str(caught.value).startswith("these scores are not of this version of visus (")


def test_a_column_of_the_table_adds_up_to_the_figures_above_it() -> None:
    logits, labels = sets(1, 200)
    scores = score_sets(logits, labels, ["a", "b", "c"], fit_thresholds(logits, labels))
    rows = scores.per_class
    assert scores.mean_average_precision == pytest.approx(np.mean([row.average_precision for row in rows]))
    hits = sum(round((row.recall or 0) * row.num_samples) for row in rows)
    total = sum(row.num_samples + row.num_predicted for row in rows)
    assert scores.micro_f1 == pytest.approx(2 * hits / total)
    assert scores.mean_average_precision_low <= scores.mean_average_precision <= scores.mean_average_precision_high


def test_the_mean_predictor_has_its_own_error_and_an_r2_of_zero() -> None:
    truth = torch.arange(40.0)[:, None]
    task = Regression(("a",), mean=(19.5,), std=(1.0,))
    (row,) = score_numbers(task, torch.zeros(40, 1), truth, IntervalFit()).targets
    assert row.mae == row.baseline == 10.0
    assert row.r2 == pytest.approx(0.0)
    assert row.covered is None


def test_what_cannot_be_scored_is_refused() -> None:
    task, fit = Regression(("a",), mean=(0.0,), std=(1.0,)), IntervalFit()
    with pytest.raises(DataError) as caught:
        score_numbers(task, torch.zeros(0, 1), torch.zeros(0, 1), fit)
    assert str(caught.value) == "there is nothing to score: no samples were given."
    with pytest.raises(DataError) as caught:
        score_sets(torch.zeros(0, 1), torch.zeros(0, 1), ["a"], ThresholdFit())
    assert str(caught.value) == "there is nothing to score: no samples were given."
    with pytest.raises(DataError) as caught:
        score_sets(torch.zeros(3, 1), torch.zeros(3, 1), ["a"], ThresholdFit())
    assert str(caught.value) == "no sample has any of the classes, so there is nothing to score."
    nan = torch.full((3, 1), float("nan"))
    message = "the network's outputs are NaN or infinite: its training diverged. Train again with a smaller learning rate."
    with pytest.raises(TrainingError) as diverged:
        score_numbers(task, nan, torch.zeros(3, 1), fit)
    assert str(diverged.value) == message
    with pytest.raises(TrainingError) as diverged:
        score_sets(nan, torch.ones(3, 1), ["a"], ThresholdFit())
    assert str(diverged.value) == message


def test_a_target_with_a_single_value_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Regression(("a", "b")).facts_of(np.array([[1.0, 3.0], [2.0, 3.0]]))
    assert str(caught.value) == (
        "the target 'b' has the same value, 3, in all training samples, so there is nothing to learn. Leave it out."
    )


@given(st.floats(-1e6, 1e6), st.integers(1, 80))
@example(0.1, 60)
def test_equal_numbers_are_a_single_value_however_their_mean_is_rounded(value: float, count: int) -> None:
    with pytest.raises(DataError, match="has the same value"):
        Regression(("a",)).facts_of(np.full((count, 1), value))
