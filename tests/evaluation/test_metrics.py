"""Every metric against torchmetrics or NumPy, and the standard error of the selection."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as oracle

from visus.errors import UsageError
from visus.evaluation.metric_names import METRIC_NAMES, check_metric
from visus.evaluation.metrics import METRICS, jackknife_error
from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.single_label import SingleLabel


def value(name: str, task: object, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    return METRICS[name].compute(task, outputs, labels)  # type: ignore[arg-type]


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 8))
def test_metrics_of_single_labels_are_those_of_torchmetrics(seed: int, num_classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(120, num_classes, generator=generator)
    labels = torch.randint(num_classes, (120,), generator=generator)
    task, shares = SingleLabel(tuple(map(str, range(num_classes)))), outputs.softmax(1)
    few = {"num_classes": num_classes, "average": "macro"}
    is_there = torch.bincount(labels, minlength=num_classes) > 0
    expected = {
        "accuracy": oracle.multiclass_accuracy(shares, labels, num_classes, average="micro"),
        "balanced_accuracy": oracle.multiclass_recall(shares, labels, num_classes, average="none")[is_there].mean(),
        "average_precision": oracle.multiclass_average_precision(shares, labels, **few),
        "auroc": oracle.multiclass_auroc(shares, labels, **few),
        "log_loss": torch.nn.functional.cross_entropy(outputs, labels),
    }
    if num_classes > 5:
        expected["top5_accuracy"] = oracle.multiclass_accuracy(shares, labels, num_classes, average="micro", top_k=5)
    for name, wanted in expected.items():
        if bool(is_there.all()):
            assert value(name, task, outputs, labels) == pytest.approx(float(wanted), abs=1e-5), name


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_metrics_of_sets_are_those_of_torchmetrics(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, labels = torch.randn(90, 4, generator=generator), torch.randint(2, (90, 4), generator=generator)
    task, shares = MultiLabel(tuple("abcd")), outputs.sigmoid()
    expected = {
        "average_precision": oracle.multilabel_average_precision(shares, labels, 4),
        "auroc": oracle.multilabel_auroc(shares, labels, 4),
        "macro_f1": oracle.multilabel_f1_score(shares, labels, 4),
        "exact_match": oracle.multilabel_exact_match(shares, labels, 4),
        "log_loss": torch.nn.functional.binary_cross_entropy(shares, labels.float()),
    }
    for name, wanted in expected.items():
        assert value(name, task, outputs, labels.float()) == pytest.approx(float(wanted), abs=1e-5), name


@given(st.integers(0, 1000))
def test_errors_of_several_numbers_are_averaged_in_standard_deviations_of_the_training_labels(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, outputs = 100 + 20 * random.normal(size=(50, 2)), random.normal(size=(50, 2))
    task = Regression(("a", "b"), mean=(100.0, 90.0), std=(20.0, 5.0))
    predicted = outputs * [20, 5] + [100, 90]
    given_to = torch.from_numpy(outputs), torch.from_numpy(truth)
    errors = predicted - truth
    assert value("mae", task, *given_to) == pytest.approx((np.abs(errors) / [20, 5]).mean())
    assert value("rmse", task, *given_to) == pytest.approx((np.sqrt((errors**2).mean(0)) / [20, 5]).mean())
    assert value("r2", task, *given_to) == pytest.approx(
        (1 - (errors**2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)).mean()
    )


def test_the_unit_of_a_target_does_not_change_which_epoch_is_kept() -> None:
    truth, near, far = (
        np.array([[0.1, 1e4], [0.3, 3e4]]),
        np.array([[0.0, 0.9], [0.0, 0.9]]),
        np.array([[0.9, 0.0], [0.9, 0.0]]),
    )
    for units in ([1.0, 1.0], [1e6, 1.0], [1.0, 1e-9]):
        scaled = torch.from_numpy(truth * units)
        task = Regression(("a", "b"), tuple(scaled.mean(0).tolist()), tuple(scaled.std(0).tolist()))
        for name in ("mae", "rmse"):
            found = [value(name, task, task.standardized(scaled) + torch.from_numpy(shift), scaled) for shift in (near, far)]
            assert found == pytest.approx([0.45, 0.45])


def test_the_error_of_one_number_is_in_its_own_unit() -> None:
    task = Regression(("a",), mean=(100.0,), std=(20.0,))
    outputs, truth = torch.tensor([[1.0], [0.0]]), torch.tensor([[110.0], [100.0]])
    assert value("mae", task, outputs, truth) == pytest.approx(5.0)
    assert value("rmse", task, outputs, truth) == pytest.approx(np.sqrt(50))


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        check_metric("mae", "single-label")
    assert str(caught.value) == (
        "mae is no metric of single-label. Known: accuracy, auroc, average_precision, balanced_accuracy, log_loss, macro_f1, top5_accuracy."
    )
    with pytest.raises(UsageError) as caught:
        check_metric("rmsee", "regression")
    assert str(caught.value) == "unknown metric 'rmsee'. Did you mean 'rmse'? Known: mae, r2, rmse."


def test_every_metric_is_named_and_computed() -> None:
    assert METRICS.keys() == METRIC_NAMES.keys()


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_jackknife_error_of_an_accuracy_is_about_the_binomial_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, labels = torch.randn(2000, 2, generator=generator), torch.randint(2, (2000,), generator=generator)
    found = jackknife_error(METRICS["accuracy"], SingleLabel(("a", "b")), outputs, labels)
    assert 0.3 < found / math.sqrt(0.25 / 2000) < 2.2
