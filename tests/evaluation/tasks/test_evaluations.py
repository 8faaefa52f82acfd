"""Laws of the evaluations of all tasks: raw answers keep their predictions, and chosen outputs keep their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.evaluation.calibration import TemperatureFit
from visus.evaluation.tasks.evaluations.evaluation import LabeledSamples
from visus.evaluation.tasks.evaluations.registry import EVALUATIONS, evaluation_of
from visus.evaluation.tasks.label_thresholds import ThresholdFit
from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.registry import TASK_KINDS
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.single_label import SingleLabel

NAMES = ("a", "b", "c")
SIZE = 40
OWN = [
    evaluation_of(SingleLabel(NAMES), TemperatureFit(1.5, smoothing=0.2)),
    evaluation_of(MultiLabel(NAMES), ThresholdFit(3.0, (0.65, 0.5, 0.2))),
    evaluation_of(
        Regression(NAMES, mean=(5.0, 0.0, -3.0), std=(2.0, 0.1, 10.0)), IntervalFit((1.0, 2.0, 3.0), "", 90, NAMES)
    ),
]
by_task = pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)


def drawn(own: Any, seed: int = 0) -> tuple[torch.Tensor, Any]:
    """Outputs and labels."""
    stream = np.random.default_rng(seed)
    outputs = torch.from_numpy(stream.normal(0, 3, (SIZE, 3)).astype(np.float32))
    labels = {
        "single-label": lambda: stream.integers(0, 3, SIZE),
        "multi-label": lambda: stream.integers(0, 2, (SIZE, 3)).astype(np.float32),
        "regression": lambda: stream.normal(0, 3, (SIZE, 3)),
    }
    return outputs, labels[own.name]()


def test_every_task_has_an_evaluation() -> None:
    assert list(EVALUATIONS) == list(TASK_KINDS)


@by_task
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_raw_answers_have_the_predictions_of_calibrated_ones(own: Any, seed: int) -> None:
    outputs, _ = drawn(own, seed)
    calibrated, raw = own.answers(outputs), own.raw().answers(outputs)
    np.testing.assert_array_equal(raw.predicted, calibrated.predicted)
    assert np.array_equal(raw.values, calibrated.values) == (own.name == "regression")


@by_task
def test_raw_answers_without_a_temperature_are_the_same(own: Any) -> None:
    plain = evaluation_of(own.task, own.fit_kind(reason="too few samples"))
    assert plain.raw() == plain


@settings(max_examples=25)
@given(st.floats(0.05, 20), st.floats(0.001, 0.999))
def test_a_raw_threshold_is_reached_by_the_logits_that_reach_the_threshold(temperature: float, threshold: float) -> None:
    (found,) = ThresholdFit(temperature, (threshold,)).raw().thresholds
    logit = temperature * float(np.log(threshold / (1 - threshold)))
    assert found == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-9)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_raw_thresholds_at_the_ends_and_in_the_middle_stay(threshold: float) -> None:
    assert ThresholdFit(20.0, (threshold,)).raw().thresholds == (threshold,)


@by_task
def test_chosen_outputs_have_the_answers_scores_and_differences_of_all_in_another_order(own: Any) -> None:
    places = [2, 0, 1]
    outputs, labels = drawn(own)
    chosen, turned = own.chosen(places), outputs[:, places]
    is_single = own.name == "single-label"
    in_order = np.array([places.index(label) for label in labels]) if is_single else labels[:, places]
    np.testing.assert_array_equal(chosen.answers(turned).values, own.answers(outputs).values[:, places])
    found, whole = chosen.score(turned, LabeledSamples(in_order)), own.score(outputs, LabeledSamples(labels))
    assert found.classes == tuple(NAMES[place] for place in places)
    rows = [each.targets if own.name == "regression" else each.per_class for each in (found, whole)]
    assert list(rows[0]) == [rows[1][place] for place in places]
    other = -outputs
    names = tuple(map(str, range(SIZE)))
    pairs = [
        kind.compare(kind.answers(one), kind.answers(two), LabeledSamples(truth, names=names))
        for kind, one, two, truth in ((chosen, turned, other[:, places], in_order), (own, outputs, other, labels))
    ]
    if own.name == "regression":
        assert list(pairs[0].targets) == [pairs[1].targets[place] for place in places]
    else:
        assert pairs[0].difference == pytest.approx(pairs[1].difference)


@by_task
def test_scores_count_the_samples_of_the_training(own: Any) -> None:
    outputs, labels = drawn(own)
    is_learned, is_chosen = np.arange(SIZE) < 3, np.arange(SIZE) == 9
    found = own.score(outputs, LabeledSamples(labels, known=(is_learned, is_chosen)))
    assert (found.num_learned, found.num_chose) == (3, 1)
    assert own.score(outputs, LabeledSamples(labels)).num_learned is None
