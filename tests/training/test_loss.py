"""The loss: PyTorch's own where it is right, and weights that belong to samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from visus.data.batches import Batch
from visus.errors import UsageError
from visus.evaluation.metrics import METRICS
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.training.loss import Loss
from visus.training.validation import Validation


def drawn(seed: int, num_samples: int = 12, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_samples, num_classes, generator=stream)
    labels = torch.randint(num_classes, (num_samples,), generator=stream)
    return logits, labels, torch.rand(num_classes, generator=stream) + 0.1


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.3]))
def test_without_weights_it_is_pytorchs(seed: int, smoothing: float) -> None:
    logits, labels, _ = drawn(seed)
    torch.testing.assert_close(
        Loss(smoothing).mean(logits, labels), F.cross_entropy(logits, labels, label_smoothing=smoothing)
    )


@given(st.integers(0, 1000))
def test_without_smoothing_weights_are_pytorchs(seed: int) -> None:
    logits, labels, weights = drawn(seed)
    torch.testing.assert_close(Loss(0.0, weights).mean(logits, labels), F.cross_entropy(logits, labels, weights))


@given(st.integers(0, 1000), st.integers(1, 11))
def test_slices_add_up_to_the_whole_batch(seed: int, place: int) -> None:
    logits, labels, weights = drawn(seed)
    loss = Loss(0.2, weights)
    parts = [loss.mean(logits[cut], labels[cut], labels) for cut in (slice(place), slice(place, None))]
    torch.testing.assert_close(parts[0] + parts[1], loss.mean(logits, labels))


@pytest.mark.parametrize("smoothing", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("ratio", [1.0, 9.0, 99.0])
def test_the_best_answer_for_a_sample_is_its_own_class_however_rare_the_others(smoothing: float, ratio: float) -> None:
    """PyTorch's own weighted and smoothed loss is least where the rare class is answered for all (pytorch#104776)."""
    weights = torch.tensor([1.0, ratio])
    logit = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = Loss(smoothing, weights).mean(logit, torch.tensor([0]))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    expected = torch.tensor([1 - smoothing / 2, smoothing / 2])
    torch.testing.assert_close(logit.detach().softmax(1)[0], expected, atol=1e-3, rtol=0)


def mean_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, labels)


def each_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, labels, reduction="none")


def test_an_own_loss_of_one_number_has_no_losses_of_samples() -> None:
    logits, labels, _ = drawn(0)
    assert Loss(own=mean_loss).per_sample(logits, labels) is None
    torch.testing.assert_close(Loss(own=each_loss).per_sample(logits, labels), each_loss(logits, labels))
    torch.testing.assert_close(Loss(own=mean_loss).mean(logits, labels), mean_loss(logits, labels))


@given(st.integers(1, 11))
def test_slices_of_an_own_mean_add_up_to_the_whole_batch(place: int) -> None:
    logits, labels, _ = drawn(1)
    loss = Loss(own=mean_loss)
    parts = [loss.mean(logits[cut], labels[cut], labels) for cut in (slice(place), slice(place, None))]
    torch.testing.assert_close(parts[0] + parts[1], mean_loss(logits, labels))


def test_mixed_samples_need_the_loss_of_each_sample() -> None:
    """One number for the batch cannot be weighted by the share of each sample."""
    logits, labels, _ = drawn(2)
    other, share = labels.flip(0), torch.linspace(0.5, 1, len(labels))
    batch = Batch(logits, labels, 0, other_labels=other, share=share)
    mixed = (share * each_loss(logits, labels) + (1 - share) * each_loss(logits, other)).mean()
    torch.testing.assert_close(
        batch.mean_loss(lambda own, weight: Loss(own=each_loss).mean(logits, own, None, weight)), mixed
    )
    with pytest.raises(UsageError) as caught:
        batch.mean_loss(lambda own, weight: Loss(own=mean_loss).mean(logits, own, None, weight))
    assert str(caught.value) == (
        "mixup and cutmix weight the loss of each sample by its own share, and the own loss returned one number for 12 samples. "
        "Return the loss of each sample, (12,), or leave mixup and cutmix out."
    )


@pytest.mark.parametrize(
    ("task", "num_losses"),
    [(SingleLabel(("a", "b", "c", "d")), 0), (Regression(("age",), mean=(0.0,), std=(1.0,)), 12)],
)
def test_an_own_mean_leaves_paired_tests_to_right_predictions_or_the_loss_of_the_task(task: Task, num_losses: int) -> None:
    logits, classes, _ = drawn(3)
    has_right = task.name == "single-label"
    outputs, labels = (logits, classes) if has_right else (logits[:, :1], logits[:, 1:2].double())
    metric = METRICS["accuracy" if has_right else "mae"]
    loss = Loss(task=task, own=lambda outputs, labels: outputs.sum() * 0)
    part: Any = None  # nothing is predicted
    results = Validation(part, part, loss, metric, part, part, part)._results(outputs, labels)
    assert len(results.losses) == num_losses
    assert len(results.is_right) == (12 if has_right else 0)
    if not has_right:
        assert results.losses == pytest.approx(task.fair_losses(outputs, labels).tolist())


def test_a_rare_class_counts_as_much_as_the_common_one() -> None:
    logits, labels = torch.zeros(10, 2), torch.tensor([0] * 9 + [1])
    logits[9, 0] = 5.0
    weights = torch.tensor([10 / 18, 5.0])
    losses = Loss(0.1, weights).per_sample(logits, labels)
    assert losses is not None
    assert float(Loss(0.1, weights).mean(logits, labels)) == pytest.approx(
        float(losses[:9].mean() + losses[9]) / 2, rel=1e-6
    )
