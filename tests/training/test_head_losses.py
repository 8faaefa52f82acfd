"""The losses of heads: those of the tasks, with exact slopes, and heads at their minimum."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from visus.evaluation.tasks.multi_label import MultiLabel
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.single_label import SingleLabel
from visus.evaluation.tasks.task import Task
from visus.training.head_losses import CROSS_ENTROPY, head_loss_of
from visus.training.heads import cross_validate, fit_head

NUM, OUTPUTS = 60, 3
TASKS = [
    SingleLabel(("a", "b", "c")),
    MultiLabel(("a", "b", "c")),
    Regression(("a", "b", "c"), mean=(5.0, 0.0, -3.0), std=(2.0, 0.1, 10.0)),
]
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def labels_of(task: Task, stream: torch.Generator) -> torch.Tensor:
    if isinstance(task, Regression):
        return torch.tensor(task.mean) + torch.tensor(task.std) * torch.randn(NUM, OUTPUTS, generator=stream).double()
    if isinstance(task, MultiLabel):
        return torch.randint(2, (NUM, OUTPUTS), generator=stream).float()
    return torch.randint(OUTPUTS, (NUM,), generator=stream)


@by_task
def test_the_losses_are_those_of_the_task_and_the_slopes_are_their_derivatives(task: Task) -> None:
    stream = torch.Generator().manual_seed(0)
    labels, loss = labels_of(task, stream), head_loss_of(task)
    outputs = (2 * torch.randn(NUM, OUTPUTS, generator=stream)).requires_grad_()
    losses, slopes = loss.losses_and_slopes(outputs.detach(), loss.targets(labels))
    share = 1 if task.name == "single-label" else OUTPUTS  # the training takes the mean over the outputs
    expected = share * task.losses(outputs, labels)
    torch.testing.assert_close(losses, expected.detach())
    (derivative,) = torch.autograd.grad(expected.sum(), outputs)
    torch.testing.assert_close(slopes, derivative)


def test_the_head_of_each_class_of_a_set_is_a_logistic_regression_of_its_own() -> None:
    stream = torch.Generator().manual_seed(1)
    features, labels = torch.randn(1, NUM, 5, generator=stream), labels_of(TASKS[1], stream)
    loss = head_loss_of(TASKS[1])
    together = fit_head(features, loss.targets(labels), OUTPUTS, 0.1, loss=loss)
    for place in range(OUTPUTS):
        alone = fit_head(features, labels[:, place : place + 1], 1, 0.1, loss=loss)
        torch.testing.assert_close(together.weight[place : place + 1], alone.weight, atol=2e-3, rtol=0)


def test_the_head_for_numbers_is_ridge_regression_where_no_error_is_large() -> None:
    stream = torch.Generator().manual_seed(2)
    features = torch.randn(NUM, 4, generator=stream).double()
    features = (features - features.mean(0)) / (features - features.mean(0)).square().mean().sqrt()
    targets = features @ torch.tensor([[0.3], [-0.2], [0.0], [0.1]]).double()
    head = fit_head(features.float()[None], targets.float(), 1, 0.5, loss=head_loss_of(TASKS[2]))
    normal = features.T @ features / NUM + 0.5 * torch.eye(4)
    exact = torch.linalg.solve(normal, features.T @ (targets - targets.mean()) / NUM)
    torch.testing.assert_close(head.weight.double(), exact.T, atol=1e-3, rtol=0)


def test_heads_for_numbers_and_sets_are_cross_validated_and_groups_stay_together() -> None:
    stream = torch.Generator().manual_seed(3)
    features = torch.randn(NUM, 4, generator=stream)
    values = features @ torch.randn(4, OUTPUTS, generator=stream)
    task = Regression(("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3)
    loss = head_loss_of(task)
    judged = cross_validate(features[None], loss.targets(values.double()), OUTPUTS, loss=loss)
    assert float((judged.logits - values).abs().mean()) < 0.2 * float(values.abs().mean())
    assert judged.decay in loss.decays
    groups = [f"g{place % 6}" for place in range(NUM)]
    signs = (values > 0).float()
    sets = cross_validate(features[None], signs, OUTPUTS, loss=head_loss_of(TASKS[1]), groups=groups)
    assert float(((sets.logits > 0) == (values > 0)).float().mean()) > 0.9


def test_a_head_of_class_indices_is_fitted_with_cross_entropy_by_default() -> None:
    stream = torch.Generator().manual_seed(4)
    features, labels = torch.randn(1, NUM, 5, generator=stream), labels_of(TASKS[0], stream)
    assert head_loss_of(TASKS[0]) is CROSS_ENTROPY
    assert torch.equal(
        fit_head(features, labels, OUTPUTS).weight, fit_head(features, labels, OUTPUTS, loss=CROSS_ENTROPY).weight
    )
    loss = F.cross_entropy(torch.zeros(NUM, OUTPUTS), labels, reduction="none")
    torch.testing.assert_close(CROSS_ENTROPY.losses_and_slopes(torch.zeros(NUM, OUTPUTS), labels)[0], loss)
