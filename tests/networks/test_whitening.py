"""Whitening: what comes out is white on the samples that were looked at; filters are saved, never trained; known to accounts and notation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from visus.design import account, parse
from visus.errors import DesignError, UsageError
from visus.networks import build, weights
from visus.networks.whitening import Fitted, Whitening, fit_whitening, num_needed

CASES = [
    ("whiten(3, stride=2), gelu, globalpool, linear(classes)", (2, 60)),
    ("whiten(2), gelu, conv(4, 3), norm, relu, globalpool, linear(classes)", (3, 12, 12)),
    ('whiten((2, 1, 2), padding="same"), gelu, globalpool, linear(classes)', (1, 8, 8, 8)),
]


def smooth(num_samples: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Samples whose neighbors are alike, with a mean of their own for each channel."""
    samples = torch.randn(num_samples, *shape, generator=torch.Generator().manual_seed(seed))
    for axis in range(2, samples.dim()):
        samples = samples + samples.roll(1, axis) + 0.5 * samples.roll(2, axis)
    return samples + torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize(("text", "shape"), CASES)
def test_what_comes_out_has_deviation_one_and_its_channels_do_not_go_together(text: str, shape: tuple[int, ...]) -> None:
    module = build(parse(text), shape, 3)
    samples = smooth(400, shape)
    (fitted,) = fit_whitening(module, samples)
    layer = module.get_submodule("whiten1")
    made = layer(samples)
    inside = (slice(None), slice(None), *(slice(0, length - 1) for length in made.shape[2:]))  # where no zeros were read
    flat = made[inside].detach().transpose(0, 1).flatten(1).double()
    half = len(flat) // 2
    assert torch.allclose(flat[half:], -flat[:half], atol=1e-4)
    assert torch.allclose(torch.cov(flat[:half]), torch.eye(half, dtype=torch.float64), atol=0.06)
    assert flat.mean(1).abs().max() < 0.05
    assert (fitted.path, fitted.num_filters, fitted.num_samples) == ("whiten1", 2 * half, 400)


def test_the_first_filter_lies_along_the_direction_in_which_patches_vary_most() -> None:
    """Pairs of neighbors that are nearly equal: their sum varies most, their difference least."""
    common = torch.randn(2000, 1, 1, generator=torch.Generator().manual_seed(0))
    samples = common + 0.1 * torch.randn(2000, 1, 2, generator=torch.Generator().manual_seed(1))
    module = build(parse("whiten(2), flatten, linear(classes)"), (1, 2), 2)
    fit_whitening(module, samples)
    filters = module.get_submodule("whiten1").weight[:, 0]
    directions = filters / filters.norm(dim=1, keepdim=True)
    assert torch.allclose(directions[0], torch.tensor([0.5, 0.5]).sqrt(), atol=0.01)
    assert torch.allclose(directions[1].abs(), torch.tensor([0.5, 0.5]).sqrt(), atol=0.01)
    assert float(filters[0].norm()) == pytest.approx(1 / 2.005**0.5, rel=0.05)


def test_patches_that_never_vary_give_finite_filters() -> None:
    module = build(parse("whiten(2), gelu, globalpool, linear(classes)"), (1, 8, 8), 2)
    fit_whitening(module, torch.zeros(10, 1, 8, 8))
    fit_whitening(module, torch.ones(1, 1, 8, 8))
    assert all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e4])
def test_samples_far_from_zero_come_out_with_deviation_one_too(offset: float) -> None:
    module = build(parse("whiten(2), globalpool, linear(classes)"), (2, 12, 12), 2)
    samples = smooth(300, (2, 12, 12)) + offset
    fit_whitening(module, samples)
    filters = module.get_submodule("whiten1").weight.detach().double()
    made = torch.nn.functional.conv2d(samples.double(), filters).transpose(0, 1).flatten(1)
    assert torch.allclose(made.std(1), torch.ones(len(made)).double(), atol=0.01)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused_with_the_layer(value: float) -> None:
    module = build(parse("whiten(2), globalpool, linear(classes)"), (1, 8, 8), 2)
    samples = smooth(5, (1, 8, 8))
    samples[3, 0, 2, 2] = value
    with pytest.raises(UsageError) as caught:
        fit_whitening(module, samples)
    assert str(caught.value) == (
        "whiten1: whitening filters need finite inputs: the samples, or the outputs of the layers before, hold NaN "
        "or infinity. Remove such samples."
    )


def test_filters_are_saved_and_no_optimizer_sees_them() -> None:
    module = build(parse(CASES[1][0]), CASES[1][1], 3)
    fit_whitening(module, smooth(50, CASES[1][1]))
    assert "whiten1.weight" in module.state_dict()
    assert next(name for name, _ in module.named_parameters()) == "whiten1.bias"
    other = build(parse(CASES[1][0]), CASES[1][1], 3)
    weights.fit_weights(other, module.state_dict())
    samples = smooth(3, CASES[1][1], seed=5)
    assert torch.equal(other.eval()(samples), module.eval()(samples))


@pytest.mark.parametrize(("text", "shape"), CASES)
def test_its_gradients_are_those_of_a_plain_convolution(text: str, shape: tuple[int, ...]) -> None:
    module = build(parse(text), shape, 3)
    fit_whitening(module, smooth(50, shape))
    layer = module.get_submodule("whiten1")
    assert isinstance(layer, Whitening)
    for needs_input in (False, True):
        found = []
        for has_own_way in (True, False):
            samples = smooth(4, shape, seed=2).requires_grad_(needs_input)
            bias = nn.Parameter(layer.bias.detach().clone())
            alone = copy.deepcopy(layer)
            alone.bias = bias
            if has_own_way:
                made = alone(samples)
            else:
                padded = torch.nn.functional.pad(samples, alone.pads) if alone.pads else samples
                made = type(alone)._convolve(padded, alone.weight, bias, alone.stride, alone.padding)
            (made * torch.linspace(-1, 1, made.numel()).reshape(made.shape)).sum().backward()  # type: ignore[no-untyped-call]
            found.append((made.detach(), bias.grad, samples.grad))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-3)
        assert (found[0][2] is None) == (not needs_input)
        assert not needs_input or torch.allclose(found[0][2], found[1][2], atol=1e-5)


def test_nothing_is_computed_backward_once_its_bias_is_frozen() -> None:
    module = build(parse(CASES[1][0]), CASES[1][1], 3)
    layer = module.get_submodule("whiten1")
    layer.bias.requires_grad_(False)
    assert not layer(torch.randn(2, *CASES[1][1])).requires_grad


def test_the_same_samples_give_the_same_filters_and_modes_stay() -> None:
    shape = (3, 12, 12)
    first, second = (build(parse(CASES[1][0]), shape, 3, seed=seed) for seed in (0, 1))
    second.norm1.eval()
    for module in (first, second):
        fit_whitening(module, smooth(60, shape))
    assert torch.equal(first.whiten1.weight, second.whiten1.weight)
    assert (second.training, second.norm1.training, second.gelu1.training) == (True, False, True)


def test_a_layer_further_on_whitens_what_reaches_it_and_a_network_without_any_is_left_alone() -> None:
    module = build(parse("avgpool(2), whiten(2), gelu, whiten(1), gelu, globalpool, linear(classes)"), (1, 12, 12), 3)
    samples = smooth(300, (1, 12, 12))
    assert [fitted.path for fitted in fit_whitening(module, samples)] == ["whiten1", "whiten2"]
    made = module[:4](samples).detach().transpose(0, 1).flatten(1).double()
    axes = made[: len(made) // 2]
    varying = axes[axes.var(1) > 0.5]
    assert torch.allclose(torch.cov(varying), torch.eye(len(varying), dtype=torch.float64), atol=0.1)
    assert fit_whitening(build(parse("globalpool, linear(classes)"), (1, 4), 3), samples) == ()


def test_many_patches_are_thinned_and_large_samples_are_fewer() -> None:
    module = build(parse("whiten(2), globalpool, linear(classes)"), (1, 64, 64), 2)
    (fitted,) = fit_whitening(module, smooth(2_000, (1, 64, 64)))
    assert 500_000 < fitted.num_patches <= 2**21
    assert [num_needed(10_000, shape) for shape in ((3, 32, 32), (3, 128, 128), (1, 64, 64, 64))] == [5_000, 1_365, 256]


def test_a_reader_is_reported_that_filters_were_computed() -> None:
    assert Fitted("whiten1", 8, 60, 4_000).sentence == (
        "The 8 filters of whiten1 were computed from 4,000 patches of 60 training samples, and are not trained."
    )


def test_counts_report_trained_numbers_and_bytes_report_all() -> None:
    row = account(parse("whiten(2), globalpool, linear(classes)"), (3, 32, 32), 10).rows[0]
    assert (row.num_parameters, row.bytes_weights, row.macs) == (24, 4 * (24 * 12 + 24), 31 * 31 * 24 * 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "whiten(30), globalpool, linear(classes)",
            "whiten1: whiten makes two channels for each of the 2,700 values of a patch; at most 2,048 channels are allowed. "
            "Use a smaller kernel_size.",
        ),
        (
            "globalpool, whiten(2), linear(classes)",
            "whiten1: whiten needs a map (channels and at least one axis), and gets 3 features. Put it before flatten, globalpool or linear.",
        ),
    ],
)
def test_impossible_whitening_is_refused(text: str, message: str) -> None:
    with pytest.raises(DesignError) as caught:
        parse(text).place((3, 32, 32), 10)
    assert str(caught.value) == message
