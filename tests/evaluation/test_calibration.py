"""Temperature: it is the best one, it changes no answer, and the error before and after is that of a sum done by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from visus.errors import DataError, RunError, UsageError
from visus.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    UNCALIBRATED,
    Calibration,
    Calibrator,
    TemperatureFit,
    calibrate,
    choose_temperature,
    fit_calibrator,
    fit_temperature,
    reliability,
)
from visus.evaluation.scores import score


def answers(seed: int, num_samples: int = 200, num_classes: int = 5, sharpness: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits that know something of the labels, more or less sharp than they should be."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    logits = torch.randn(num_samples, num_classes, generator=generator) + 1.5 * F.one_hot(labels, num_classes)
    return sharpness * logits, labels


@given(seed=st.integers(0, 1000), sharpness=st.floats(0.2, 8.0))
def test_no_other_temperature_has_a_smaller_loss(seed: int, sharpness: float) -> None:
    logits, labels = answers(seed, sharpness=sharpness)
    found = fit_temperature(logits, labels)
    losses = [float(F.cross_entropy(logits.double() / t, labels)) for t in (found, found * 0.98, found * 1.02)]
    assert losses[0] < min(losses[1:])
    hot = torch.tensor(found, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(logits.double() / hot, labels), hot)
    assert abs(float(slope)) < 1e-8


def test_sharper_logits_need_a_temperature_higher_by_the_same_factor() -> None:
    logits, labels = answers(3)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-9)


def test_a_temperature_that_has_no_end_is_reported_as_the_limit() -> None:
    logits = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == MIN_TEMPERATURE
    assert fit_temperature(logits, torch.tensor([1, 0])) == MAX_TEMPERATURE
    found = reliability(logits, torch.tensor([0, 1]))
    assert Calibration("test", 2, found, "val", 50, MIN_TEMPERATURE, found).is_at_limit


@given(seed=st.integers(0, 1000))
def test_the_error_is_the_sum_over_bins_done_by_hand(seed: int) -> None:
    logits, labels = answers(seed, 80)
    found = reliability(logits, labels)
    chances = UNCALIBRATED(logits).tolist()
    total = 0.0
    for low in range(15):
        rows = [
            row for row in range(80) if low / 15 <= max(chances[row]) and (max(chances[row]) < (low + 1) / 15 or low == 14)
        ]
        if rows:
            sure = sum(max(chances[row]) for row in rows) / len(rows)
            right = sum(chances[row].index(max(chances[row])) == int(labels[row]) for row in rows) / len(rows)
            total += len(rows) * abs(sure - right) / 80
    assert found.error == pytest.approx(total, abs=1e-9)
    assert sum(each.num_samples for each in found.bins) == 80


@given(seed=st.integers(0, 1000), sharpness=st.sampled_from([1.0, 4.0, 60.0]))
def test_the_scores_report_the_same_error(seed: int, sharpness: float) -> None:
    logits, labels = answers(seed, sharpness=sharpness)  # the sharpest are sure to the last bit
    scores = score(UNCALIBRATED(logits), labels, list("abcde"))
    found = reliability(logits, labels)
    assert found.error == pytest.approx(scores.calibration_error, abs=2e-6)
    assert found.loss == pytest.approx(scores.loss, abs=1e-6)
    assert found.confidence == pytest.approx(scores.confidence, abs=1e-6)


def test_calibration_is_measured_on_other_samples_than_it_is_fitted_on() -> None:
    scored, held_back = answers(1, 400), answers(2, 400)
    fit = choose_temperature(*held_back, "val")
    found = calibrate(*scored, "test", fit)
    assert (found.fitted_on, found.num_fitted, found.measured_on, found.num_samples) == ("val", 400, "test", 400)
    assert not found.is_own
    assert (found.temperature, found.after) == (fit.temperature, reliability(*scored, fit.calibrator))
    assert found.after is not None
    assert found.after.error < found.before.error
    assert json.loads(json.dumps(found.to_json()))["temperature"] == found.temperature


@given(seed=st.integers(0, 200), sharpness=st.sampled_from([0.3, 1.0, 4.0]))
def test_a_temperature_changes_no_answer(seed: int, sharpness: float) -> None:
    logits, labels = answers(seed, 80, sharpness=sharpness)
    temperature = choose_temperature(logits, labels, "val").temperature
    assert torch.equal(Calibrator(temperature)(logits).argmax(1), logits.argmax(1))


def smoothed_answers(
    smoothing: float, num_samples: int, num_classes: int = 5
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of a network that knows the smoothed labels exactly, true labels, and the true probabilities."""
    generator = torch.Generator().manual_seed(0)
    true = torch.softmax(3 * torch.randn(num_samples, num_classes, generator=generator), 1)
    labels = torch.multinomial(true, 1, generator=generator)[:, 0]
    return ((1 - smoothing) * true + smoothing / num_classes).log(), labels, true


@pytest.mark.parametrize("smoothing", [0.1, 0.2, 0.5])
def test_the_smoothing_of_labels_is_taken_back_and_the_true_probabilities_come_out(smoothing: float) -> None:
    logits, labels, true = smoothed_answers(smoothing, 4000)
    found = choose_temperature(logits, labels, "val", smoothing)
    assert found.smoothing == smoothing
    assert found.temperature == pytest.approx(1, rel=0.1)
    assert float((found.calibrator(logits) - true).abs().mean()) < 0.02
    alone = choose_temperature(logits, labels, "val")
    assert alone.loss_after is not None
    assert found.loss_after is not None
    assert found.loss_after < alone.loss_after - 0.01


def test_the_smoothing_stays_where_the_network_never_followed_it() -> None:
    logits, labels, _ = smoothed_answers(0.0, 2000)
    assert choose_temperature(logits, labels, "val", 0.2).smoothing == 0.0


@given(
    logits=st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=1, max_size=5),
    temperature=st.floats(0.5, 3),
    smoothing=st.floats(0, 0.9),
)
def test_probabilities_sum_to_1_and_keep_the_order_of_the_logits(
    logits: list[list[float]], temperature: float, smoothing: float
) -> None:
    values = torch.tensor(logits, dtype=torch.float64)
    chances = Calibrator(temperature, smoothing).exact(values)
    assert torch.allclose(chances.sum(1), torch.ones(len(logits), dtype=torch.float64))
    assert bool((chances > 0).all())
    ordered = chances.gather(1, values.argsort(1))
    assert bool((ordered.diff(dim=1) >= -1e-12).all())


@given(seed=st.integers(0, 200))
def test_a_calibrated_network_keeps_a_temperature_near_1(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(600, 4, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]  # right exactly as often as it says
    assert 0.75 < choose_temperature(logits, labels, "val").temperature < 1.34


def test_a_temperature_is_used_where_it_lowers_the_loss_beyond_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2000, 4, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    found = choose_temperature(logits, labels, "val")
    assert found.temperature == 1.0
    assert found.reason.startswith("a temperature of 0.98")
    assert " does not lower the loss of the validation set significantly (cross-validated: by " in found.reason
    found = choose_temperature(3 * logits, labels, "val")
    assert (found.reason, found.is_used) == ("", True)
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert found.error_before is not None
    assert found.error_after is not None
    assert found.error_after < 0.03 < 0.1 < found.error_before


def test_a_network_that_is_right_on_all_samples_gets_no_endless_confidence() -> None:
    logits, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(100, 1), torch.tensor([0, 1]).repeat(100)
    found = choose_temperature(logits, labels, "val")
    assert found.is_used
    assert MIN_TEMPERATURE < found.temperature < 1
    assert float(found.calibrator(logits).max()) == pytest.approx(1 - 1 / 202, abs=1e-6)


@pytest.mark.parametrize(("num_samples", "is_fitted"), [(1, False), (5, False), (49, False), (50, True)])
def test_on_few_samples_no_temperature_is_fitted(num_samples: int, is_fitted: bool) -> None:
    fit = choose_temperature(*answers(2, num_samples, sharpness=8.0), "val")
    assert (fit.is_used, fit.temperature != 1) == (is_fitted, is_fitted)
    assert (fit.fitted_on, fit.num_samples) == ("val", num_samples)
    found = calibrate(*answers(1), "test", fit)
    assert (found.temperature is not None, found.after is not None) == (is_fitted, is_fitted)
    many = f"{num_samples} sample{'' if num_samples == 1 else 's'}"
    more = {1: 620, 5: 570, 49: 13}.get(num_samples)
    told = (
        f"{many} of the validation set are too few to fit a temperature on; about {more} more samples in the data allow it"
    )
    assert found.reason == ("" if is_fitted else told)


@pytest.mark.parametrize(
    ("num_held_out", "num_out_of_fold", "is_joined"), [(0, 200, True), (12, 199, False), (499, 200, True), (500, 900, False)]
)
def test_out_of_fold_predictions_join_a_small_validation_set(
    num_held_out: int, num_out_of_fold: int, is_joined: bool
) -> None:
    held, out_of_fold = answers(2, num_held_out, sharpness=8.0), answers(3, num_out_of_fold, sharpness=8.0)
    fit = choose_temperature(*held, "val", 0.3, out_of_fold=out_of_fold)
    if is_joined:
        joined = tuple(torch.cat(pair) for pair in zip(out_of_fold, held, strict=True))
        assert fit.temperature == choose_temperature(joined[0], joined[1], "val").temperature
        assert (fit.is_used, fit.smoothing) == (True, 0.0)
        assert (fit.fitted_on, fit.num_samples, fit.num_out_of_fold) == (
            "train",
            num_held_out + num_out_of_fold,
            num_out_of_fold,
        )
        also = f", and {num_held_out} images of the validation set" if num_held_out else ""
        assert fit.sentence("image").endswith(f"fitted on {num_out_of_fold} images of the training set, out-of-fold{also}.")
    elif num_held_out < 50:
        assert (
            fit.reason
            == "12 samples of the validation set are too few to fit a temperature on; about 2 more samples in the data allow it"
        )
    else:
        assert fit == choose_temperature(*held, "val", 0.3)
    found = [calibrate(*answers(1), split, fit) for split in ("val", "test")]
    assert [each.is_own for each in found] == [num_held_out > 0, False]
    assert TemperatureFit.from_json(json.loads(json.dumps(fit.to_json()))) == fit


def test_without_samples_to_fit_on_the_network_speaks_for_itself() -> None:
    logits, labels = answers(1)
    fit = choose_temperature(logits[:0], labels[:0], "val")
    assert fit == TemperatureFit(reason="there is no validation set to fit a temperature on")
    found = calibrate(logits, labels, "test", fit)
    assert (found.temperature, found.after, found.fitted_on) == (None, None, "")
    broken = choose_temperature(torch.full((60, 2), torch.nan), torch.zeros(60, dtype=torch.long), "val")
    assert (broken.temperature, broken.reason) == (1.0, "the logits for the validation set are not all finite")


def test_a_fit_is_read_as_it_was_written() -> None:
    found = choose_temperature(*answers(2, 100), "val")
    assert TemperatureFit.from_json(json.loads(json.dumps(found.to_json()))) == found
    for facts, why in (
        ({"temperature": 0.0}, "the temperature is 0.0"),
        ({"heat": 1}, "unexpected keyword argument 'heat'"),
    ):
        with pytest.raises(RunError) as caught:
            TemperatureFit.from_json(facts)
        assert str(caught.value).startswith("this calibration is not of this version of visus (")
        assert why in str(caught.value)
        assert str(caught.value).endswith("Renew it with: run.report()")


def test_what_cannot_be_calibrated_is_refused() -> None:
    nothing = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    with pytest.raises(DataError) as caught:
        reliability(*nothing)
    assert str(caught.value) == "there is nothing to calibrate: no samples were given."
    with pytest.raises(DataError) as caught:
        fit_temperature(*nothing)
    assert str(caught.value) == "there is nothing to fit a temperature on: no samples were given."
    with pytest.raises(UsageError) as wrong:
        reliability(*answers(1), Calibrator(0.0))
    assert str(wrong.value) == "a temperature must be above 0, not 0.0."


@pytest.mark.parametrize(("num_classes", "smoothing"), [(2, 0.75), (5, 0.9), (2, 0.2), (40, 0.3)])
def test_the_temperature_next_to_a_smoothing_is_the_best_of_a_fine_grid(num_classes: int, smoothing: float) -> None:
    logits, labels, _ = smoothed_answers(smoothing, 600, num_classes)
    logits = 1.3 * logits

    def loss(temperature: float) -> float:
        return reliability(logits, labels, Calibrator(temperature, smoothing)).loss

    found = fit_calibrator(logits, labels, smoothing)
    best = min(loss(math.exp(place)) for place in torch.linspace(math.log(0.05), math.log(20), 400).tolist())
    assert found.smoothing == smoothing
    assert loss(found.temperature) <= best + 1e-4


def test_a_temperature_at_the_limit_is_known_as_such_next_to_a_smoothing() -> None:
    torch.manual_seed(0)
    logits, labels = 1000 * torch.randn(200, 5), torch.randint(0, 5, (200,))
    found = fit_calibrator(logits, labels, 0.1)
    assert found == Calibrator(MAX_TEMPERATURE, 0.1)
    assert calibrate(logits, labels, "test", TemperatureFit(found.temperature, "", "val", 200, 0.1)).is_at_limit


@pytest.mark.parametrize("smoothing", [1.0, 2.0, -0.3, float("nan"), "abc"])
def test_a_smoothing_that_is_none_is_refused_in_a_file(smoothing: Any) -> None:
    facts = TemperatureFit(0.7, "", "val", 100).to_json() | {"smoothing": smoothing}
    with pytest.raises(RunError) as caught:
        TemperatureFit.from_json(facts)
    assert "Renew it with: run.report()" in str(caught.value)


def test_a_file_from_before_smoothings_were_taken_back_is_read() -> None:
    fit = TemperatureFit(0.7, "", "val", 100)
    facts = fit.to_json()
    del facts["smoothing"]
    assert TemperatureFit.from_json(facts) == fit
