"""Scores against figures computed by hand, by numpy and by torchmetrics; what cannot be scored is refused in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as metrics

from visus.errors import DataError, RunError, TrainingError, UsageError
from visus.evaluation.intervals import wilson_interval
from visus.evaluation.scores import THRESHOLDS, ClassScore, Scores, score

CLASSES = ("bag", "boot", "coat")
CHANCES = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]]
LABELS = [0, 0, 1, 1, 0]


def random_case(seed: int, num_samples: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_samples, num_classes, generator=generator)
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    return torch.softmax(logits, dim=1), labels, [f"class {place}" for place in range(num_classes)]


def test_scores_of_five_samples_are_those_worked_out_by_hand() -> None:
    scores = score(torch.tensor(CHANCES), LABELS, CLASSES, split="test", notes=["by hand"])
    assert scores.accuracy == 4 / 5
    assert scores.num_right == 4
    assert (scores.baseline, scores.baseline_class) == (3 / 5, "bag")
    assert scores.confusion == ((3, 0, 0), (1, 1, 0), (0, 0, 0))
    assert scores.per_class == (
        ClassScore("bag", num_samples=3, num_predicted=4, precision=0.75, recall=1.0, f1=0.8571429),
        ClassScore("boot", num_samples=2, num_predicted=1, precision=1.0, recall=0.5, f1=0.6666667),
        ClassScore("coat", num_samples=0, num_predicted=0, precision=None, recall=None, f1=None),
    )
    assert scores.macro_f1 == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert scores.loss == pytest.approx(-sum(math.log(row[label]) for row, label in zip(CHANCES, LABELS, strict=True)) / 5)
    assert scores.confidence == pytest.approx((0.7 + 0.6 + 0.8 + 0.5 + 0.9) / 5)
    assert (scores.split, scores.notes, scores.classes) == ("test", ("by hand",), CLASSES)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_samples=st.integers(1, 120), num_classes=st.integers(2, 7))
def test_thresholds_count_the_predictions_above_them(seed: int, num_samples: int, num_classes: int) -> None:
    chances, labels, classes = random_case(seed, num_samples, num_classes)
    scores = score(chances, labels, classes)
    confidence, is_right = chances.numpy().max(axis=1), chances.numpy().argmax(axis=1) == labels.numpy()
    found = {each.probability: each for each in scores.thresholds}
    last = None
    for threshold in THRESHOLDS:
        is_above = confidence >= threshold
        last = found.get(threshold, last)  # a threshold without a row has the samples of the row above
        assert last is not None
        assert (last.num_samples, last.num_right) == (is_above.sum(), (is_above & is_right).sum())
        if last.num_samples:
            assert (last.accuracy_low, last.accuracy_high) == wilson_interval(last.num_right, last.num_samples)
            assert last.accuracy == is_right[is_above].mean()
        else:
            assert (last.accuracy, last.accuracy_low, last.accuracy_high) == (None, None, None)
    counts = [each.num_samples for each in scores.thresholds]
    assert counts == sorted(set(counts), reverse=True)
    assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores


def test_the_table_of_thresholds_is_printed() -> None:
    lines = str(score(torch.tensor([*CHANCES[:4], [0.9, 0.05, 0.05]]), LABELS, CLASSES, split="test").text()).splitlines()
    assert lines[-8:] == [
        "accuracy of the predictions with at least this probability",
        "probability  share of samples  accuracy      95 % interval",
        "       50 %           100.0 %    80.0 %   37.6 % to 96.4 %",
        "       70 %            60.0 %   100.0 %  43.9 % to 100.0 %",
        "       80 %            40.0 %   100.0 %  34.2 % to 100.0 %",
        "       90 %            20.0 %   100.0 %  20.7 % to 100.0 %",
        "       95 %             0.0 %         -                  -",
        "with 5 samples, these intervals are wide: measure on more before you rely on a row",
    ]


def test_a_class_that_exists_and_is_never_predicted_has_no_precision_and_an_f1_of_zero() -> None:
    scores = score([[0.9, 0.1], [0.8, 0.2]] * np.ones((2, 2)), [0, 1], ["a", "b"])
    assert scores.per_class[1] == ClassScore("b", num_samples=1, num_predicted=0, precision=None, recall=0.0, f1=0.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num_samples=st.integers(1, 120), num_classes=st.integers(2, 7))
def test_scores_agree_with_numpy_and_torchmetrics(seed: int, num_samples: int, num_classes: int) -> None:
    chances, labels, classes = random_case(seed, num_samples, num_classes)
    scores = score(chances, labels, classes)
    predicted, truth = chances.numpy().argmax(axis=1), labels.numpy()
    confusion = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(confusion, (truth, predicted), 1)
    assert np.array_equal(scores.confusion, confusion)
    assert scores.accuracy == (truth == predicted).mean()
    assert scores.baseline == np.bincount(truth).max() / num_samples
    assert 0 <= scores.accuracy_low <= scores.accuracy <= scores.accuracy_high <= 1
    assert (
        sum(row.num_samples for row in scores.per_class) == sum(row.num_predicted for row in scores.per_class) == num_samples
    )
    for place, row in enumerate(scores.per_class):
        hits = confusion[place, place]
        assert row.precision == (pytest.approx(hits / row.num_predicted) if row.num_predicted else None)
        assert row.recall == (pytest.approx(hits / row.num_samples) if row.num_samples else None)
    macro = metrics.multiclass_f1_score(chances, labels, num_classes, average="macro")
    assert scores.macro_f1 == pytest.approx(float(macro), abs=1e-6)
    assert scores.loss == pytest.approx(float(torch.nn.functional.nll_loss(chances.log(), labels)), rel=1e-4)
    assert scores.calibration_error == pytest.approx(calibration_by_numpy(chances.numpy(), truth), abs=1e-6)


def calibration_by_numpy(chances: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error from its definition (Guo et al. 2017, equation 3), 15 equal bins."""
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    bins = np.digitize(confidence, np.linspace(0, 1, 16, dtype=np.float32)) - 1
    gaps = [abs(confidence[bins == b].sum() - right[bins == b].sum()) for b in range(16)]
    return float(sum(gaps) / len(truth))


def test_probabilities_of_exactly_zero_and_one_are_scored() -> None:
    scores = score(torch.eye(2), [0, 0], ["a", "b"])
    assert scores.loss == pytest.approx(-math.log(torch.finfo(torch.float32).tiny) / 2)
    assert scores.calibration_error == 0.5


@pytest.mark.parametrize(
    ("num_right", "num_samples", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (81, 263, 0.25528, 0.36620)],
)
def test_the_interval_is_that_of_published_tables(num_right: int, num_samples: int, low: float, high: float) -> None:
    # 81 of 263: Newcombe 1998, Statistics in Medicine 17, table I, method 3: 0.2553 to 0.3662.
    assert wilson_interval(num_right, num_samples) == pytest.approx((low, high), abs=1e-5)


@given(num_samples=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_interval_solves_wilsons_equation(num_samples: int, share: float) -> None:
    num_right = round(share * num_samples)
    for bound in wilson_interval(num_right, num_samples):
        if 1e-9 < bound < 1 - 1e-9:
            distance = abs(num_right / num_samples - bound)
            assert distance == pytest.approx(1.9599639845 * math.sqrt(bound * (1 - bound) / num_samples), rel=1e-3, abs=1e-9)


def test_scores_survive_json() -> None:
    scores = score(*random_case(1, 50, 3)[:2], CLASSES, split="val", notes=["a note"])
    assert Scores.from_json(json.loads(json.dumps(scores.to_json(), allow_nan=False))) == scores


def test_json_has_the_fields_that_scripts_rely_on() -> None:
    facts = score(torch.tensor(CHANCES), LABELS, CLASSES).to_json()
    assert {"accuracy", "accuracy_low", "accuracy_high", "baseline", "num_samples", "per_class", "confusion"} <= set(facts)
    assert facts["per_class"][2]["precision"] is None


def test_json_of_another_kind_is_refused() -> None:
    with pytest.raises(RunError) as caught:
        Scores.from_json({"accuracy": 1.0})
    assert str(caught.value) == ("these scores are not of this version of visus ('per_class'). Evaluate the run again.")


def test_the_sentence_reports_interval_and_baseline() -> None:
    assert score(torch.tensor(CHANCES), LABELS, CLASSES).sentence("image") == (
        "80.0 % of 5 images correct (95 % interval 37.6 to 96.4 %); always guessing 'bag' gives 60.0 %"
    )


def test_the_most_frequent_mistakes_come_first() -> None:
    chances = torch.eye(3)[[1, 1, 2, 0, 0]]
    assert score(chances, [0, 0, 0, 0, 1], CLASSES).most_confused(2) == [("bag", "boot", 2), ("bag", "coat", 1)]


def test_the_confusion_as_csv_quotes_names() -> None:
    text = score(torch.eye(2), [0, 0], ["a, b", "c"]).confusion_csv()
    assert text == 'true \\ predicted,"a, b",c\n"a, b",1,1\nc,0,0\n'


def test_mistakes_in_what_is_scored_are_named() -> None:
    chances = torch.tensor(CHANCES)
    diverged = chances.clone()
    diverged[1, 2] = math.nan
    cases = [
        (chances[:, :1], LABELS, ["bag"], UsageError, "scores need at least 2 classes, not 1."),
        (chances, LABELS[:2], CLASSES, UsageError, "probabilities of shape (5, 3) and labels of shape (2,) do not match 3 classes: (samples, 3) and (samples,) are needed."),
        (chances[:0], [], CLASSES, DataError, "there is nothing to score: no samples were given."),
        (diverged, LABELS, CLASSES, TrainingError, "the network's probabilities are NaN or infinite for 1 of 5 samples: its training diverged. Use an earlier checkpoint, or train again with a smaller learning rate."),
        (chances.log(), LABELS, CLASSES, UsageError, "these are not probabilities: values must be at least 0, and every row must sum to 1. Apply softmax to logits first."),
        (chances, [0, 1, 2, 3, 0], CLASSES, DataError, "the label 3 is out of range: with 3 classes, labels are 0 to 2."),
    ]  # fmt: skip
    for values, labels, classes, kind, text in cases:
        with pytest.raises(kind) as caught:
            score(values, labels, classes)
        assert str(caught.value) == text
