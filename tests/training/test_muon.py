"""Muon: its steps are orthogonal, know no rank, and are the same together as one by one; Adam beside it is PyTorch's."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import visus
from visus.training.muon import Muon, orthogonalize, orthogonalize_all
from visus.training.optimizers import make_optimizer, raise_bn_momentum, set_rates
from visus.training.recipe import Recipe

MUON = Recipe(optimizer="muon", learning_rate=0.2, head_lr=0.06, bias_lr=0.02, norm_lr=0.004, weight_decay=0.5, momentum=0.6)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 24), st.integers(1, 60), st.sampled_from([1e-6, 1.0, 1e6]), st.integers(0, 99))
def test_singular_values_of_a_step_are_near_one_and_its_vectors_are_those_of_the_gradient(
    rows: int, columns: int, size: float, seed: int
) -> None:
    few, many = sorted((rows, columns))
    matrix = drawn(rows, columns, seed=seed) * size
    if many < 2 * few:  # square ones have singular values near 0, which three steps cannot lift
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        matrix = left @ torch.diag(torch.linspace(0.3, 1.0, few) * size) @ right
    step = orthogonalize(matrix)
    values = torch.linalg.svdvals(step)
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.3
    aligned = step.mT @ matrix if rows >= columns else step @ matrix.mT  # symmetric where the singular vectors are the same
    assert torch.allclose(aligned, aligned.mT, atol=1e-4 * float(aligned.abs().max()))


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 3, 3), (6, 4, 2, 3, 2), (6, 9)])
def test_a_filter_of_any_rank_is_stepped_like_its_matrix(shape: tuple[int, ...]) -> None:
    filters = nn.Parameter(drawn(*shape))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    gradient = drawn(*shape, seed=1)
    for value, own in ((filters, gradient), (matrix, gradient.flatten(1))):
        optimizer = Muon([{"params": [value], "unit": True}], 0.1)
        for _ in range(3):
            value.grad = own.clone()
            optimizer.step()
    assert torch.equal(filters.detach().flatten(1), matrix.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_filters_together_are_stepped_as_one_by_one(dtype: torch.dtype) -> None:
    filters = [
        drawn(8, 4, 3, 3, seed=0),
        drawn(8, 36, seed=1),
        drawn(5, 7, seed=2),
        drawn(8, 4, 9, seed=3),
        drawn(20, 3, seed=4),
    ]
    together = orthogonalize_all(filters, dtype=dtype)
    for own, step in zip(filters, together, strict=True):
        alone = orthogonalize(own.flatten(1).to(dtype)).float().reshape(own.shape)
        assert torch.allclose(step, alone, atol=1e-6 if dtype is torch.float32 else 2e-2)
        assert step.shape == own.shape


def test_groups_of_channels_are_matrices_of_their_own() -> None:
    filters = drawn(6, 4, 3)
    step = orthogonalize_all([filters], num_splits=3)[0]
    for first in range(0, 6, 2):
        assert torch.allclose(step[first : first + 2], orthogonalize_all([filters[first : first + 2]])[0], atol=1e-6)
    depthwise = orthogonalize_all([drawn(5, 1, 3, 3)], num_splits=5)[0]
    assert torch.allclose(depthwise.flatten(1).norm(dim=1), torch.ones(5), atol=0.3)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_filters_before_a_norm_have_one_size_and_the_rate_is_the_angle() -> None:
    filters = nn.Parameter(drawn(16, 8, 3, 3) * 40)
    optimizer = Muon([{"params": [filters], "unit": True}], 0.1)
    filters.grad = drawn(16, 8, 3, 3, seed=1)
    before = filters.detach() * (4 / filters.detach().norm())
    optimizer.step()
    step = (before - filters.detach()).flatten(1)
    assert torch.linalg.svdvals(step / 0.1).sub(1).abs().max() < 0.4


def test_adam_next_to_it_is_that_of_pytorch() -> None:
    ours, theirs = nn.Parameter(drawn(7, 3)), nn.Parameter(drawn(7, 3))
    optimizers = [
        Muon([{"params": [ours], "rule": "adam", "weight_decay": 0.1}], 0.01),
        torch.optim.AdamW([theirs], lr=0.01, betas=(0.85, 0.99), eps=1e-10, weight_decay=0.1),
    ]
    for step in range(5):
        for value, optimizer in zip((ours, theirs), optimizers, strict=True):
            value.grad = drawn(7, 3, seed=step)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_momentum_is_that_of_nesterov() -> None:
    """Against the same written out for one filter."""
    filters = nn.Parameter(drawn(4, 6))
    optimizer = Muon([{"params": [filters]}], 0.1, momentum=0.7)
    by_hand, memory = filters.detach().clone(), torch.zeros(4, 6)
    for step in range(4):
        gradient = drawn(4, 6, seed=step)
        filters.grad = gradient.clone()
        optimizer.step()
        memory = 0.7 * memory + gradient
        by_hand -= 0.1 * orthogonalize(gradient + 0.7 * memory)
    assert torch.allclose(filters.detach(), by_hand, atol=1e-6)


def test_a_step_asked_with_a_closure_returns_its_loss_and_leaves_what_has_no_gradient() -> None:
    moved, left = nn.Parameter(drawn(3, 4)), nn.Parameter(drawn(3))
    optimizer = Muon([{"params": [moved]}, {"params": [left], "rule": "adam"}], 0.1)

    def closure() -> float:
        loss = moved.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    before = left.detach().clone()
    assert optimizer.step(closure) == pytest.approx(float(drawn(3, 4).square().sum()))
    assert torch.equal(left, before)


def test_state_read_back_goes_on_with_the_same_bits() -> None:
    def steps(optimizer: torch.optim.Optimizer, values: list[nn.Parameter], numbers: range) -> None:
        for step in numbers:
            for place, value in enumerate(values):
                value.grad = drawn(*value.shape, seed=10 * step + place)
            optimizer.step()

    def begin(values: list[nn.Parameter]) -> Muon:
        return Muon([{"params": values[:1], "unit": True}, {"params": values[1:], "rule": "adam"}], 0.1)

    whole = [nn.Parameter(drawn(4, 3, 3)), nn.Parameter(drawn(4))]
    first = begin(whole)
    steps(first, whole, range(3))
    halved = copy.deepcopy(whole)
    second = begin(halved)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(first, whole, range(3, 6))
    steps(second, halved, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(whole, halved, strict=True))


def test_every_part_of_a_network_has_its_own_rule_and_rate() -> None:
    text = "conv(4, 3), norm, relu, conv(6, 3, bias=True), relu, depthwise(3), norm, globalpool, linear(classes)"
    module = visus.network(text, (1, 12, 12), 3)
    optimizer = make_optimizer(module, MUON, input_shape=(1, 12, 12))
    set_rates(optimizer, 0.5)
    names = {id(value): name for name, value in module.named_parameters()}
    found = {
        names[id(value)]: (group["rule"], group["unit"], group["num_splits"], group["weight_decay"], round(group["lr"], 6))
        for group in optimizer.param_groups
        for value in group["params"]
    }
    assert found == {
        "conv1.weight": ("orthogonal", True, 1, 0.0, 0.1),
        "conv2.weight": ("orthogonal", False, 1, 0.5, 0.01),
        "depthwise1.weight": ("orthogonal", True, 6, 0.0, 0.1),
        "linear1.weight": ("adam", False, 1, 0.5, 0.005),  # six inputs share its rate
        "linear1.bias": ("adam", False, 1, 0.0, 0.01),
        "conv2.bias": ("adam", False, 1, 0.0, 0.01),
        "norm1.weight": ("adam", False, 1, 0.0, 0.002),
        "norm1.bias": ("adam", False, 1, 0.0, 0.01),
        "norm2.weight": ("adam", False, 1, 0.0, 0.002),
        "norm2.bias": ("adam", False, 1, 0.0, 0.01),
    }
    assert set(names.values()) == set(found)


@pytest.mark.parametrize(("batch_size", "share"), [(20, 0.1), (250, 0.2), (500, 0.4), (2000, 0.4)])
def test_statistics_of_norms_follow_within_a_number_of_samples(batch_size: int, share: float) -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm2d(2, momentum=0.05), nn.GroupNorm(1, 2))
    raise_bn_momentum(module, batch_size)
    assert (module[0].momentum, module[1].momentum) == (share, 0.05)


def test_a_filter_of_zeros_is_left_alone_until_it_has_a_direction_and_others_are_stepped_as_before() -> None:
    values = [
        nn.Parameter(torch.zeros(4, 3, 3, 3)),
        nn.Parameter(drawn(4, 3, 3, 3)),
        nn.Parameter(1e-42 * drawn(4, 3, 3, 3)),
    ]
    plain = values[1].detach().clone()
    optimizer = Muon([{"params": values, "unit": True}], 0.1)
    for value in values:
        value.grad = drawn(4, 3, 3, 3, seed=1)
    gradient = drawn(4, 3, 3, 3, seed=1)
    step = orthogonalize_all([torch.add(gradient, gradient, alpha=0.6)] * 3)[1]
    optimizer.step()
    assert torch.equal(values[1].detach(), torch.add(plain * (2 / plain.norm()), step, alpha=-0.1))
    for value in (values[0], values[2]):
        assert torch.allclose(value.detach(), -0.1 * step, atol=1e-6)
    optimizer.zero_grad()
    values[0].grad = torch.zeros_like(values[0])
    optimizer.step()  # now it has one
    assert float(values[0].detach().norm()) == pytest.approx(2.0, abs=0.3)
    still = nn.Parameter(torch.zeros(2, 3, 3))
    still.grad = torch.zeros_like(still)
    Muon([{"params": [still], "unit": True}], 0.1).step()
    assert torch.equal(still.detach(), torch.zeros(2, 3, 3))
