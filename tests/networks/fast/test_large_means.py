"""The compiled kernels where the mean of what they read is large beside its deviation: held against float64 and PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from visus.networks.fast import Plan
from visus.networks.fast.convolutions import MAX_WINOGRAD_ERROR, WINOGRAD, convolve
from visus.networks.fast.norms import norm_and_activation
from visus.networks.fast.windows import TapGeometry

pytestmark = pytest.mark.usefixtures("compiled_kernels")

LAST = {"memory_format": torch.channels_last}


def far_from_zero(channels: int, ratio: float, seed: int, outlier: float | None = None) -> torch.Tensor:
    """(8, channels, 12, 12) bfloat16 whose channels have means of about ``ratio`` deviations."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, channels, 12, 12, generator=generator) + ratio * (
        1 + torch.rand(1, channels, 1, 1, generator=generator)
    )
    if outlier is not None:
        x[:, :, ::3] = outlier
    return x.to(torch.bfloat16).contiguous(**LAST)  # type: ignore[arg-type]


def normed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    channels = x.shape[1]
    return norm_and_activation(x, torch.ones(channels), torch.zeros(channels), 1e-5, "none")


@pytest.mark.parametrize("channels", [1, 3, 16, 40, 256])
@pytest.mark.parametrize("ratio", [0, 1, 30, 100, -300, 700])
def test_mean_and_variance_are_those_of_float64_at_any_mean(channels: int, ratio: float) -> None:
    x = far_from_zero(channels, ratio, 0)
    _, mean, variance = normed(x)
    exact = x.double().var((0, 2, 3))
    torch.testing.assert_close(variance.double(), exact, rtol=5e-5, atol=1e-9)
    torch.testing.assert_close(mean.double(), x.double().mean((0, 2, 3)), rtol=1e-6, atol=1e-5)


def test_rows_that_are_no_sample_of_a_channel_do_not_spoil_its_variance() -> None:
    x = torch.full((8, 16, 12, 12), 1000.0)
    x[:, 3] = 7.0
    rows = x.permute(0, 2, 3, 1).reshape(-1, 16).clone()
    sampled = [(2 * place + 1) * len(rows) // 64 for place in range(32)]
    rows[:, 8] = 500 + torch.randn(len(rows), generator=torch.Generator().manual_seed(1))
    rows[sampled, 8] = 30_000.0  # all that is asked for the center lies far away
    maps = rows.reshape(8, 12, 12, 16).permute(0, 3, 1, 2).to(torch.bfloat16).contiguous(**LAST)  # type: ignore[arg-type]
    variance = normed(maps)[2]
    torch.testing.assert_close(variance.double(), maps.double().var((0, 2, 3)), rtol=5e-5, atol=1e-9)
    assert variance[3] == 0


def test_sums_of_slices_add_up_to_those_of_the_whole_at_a_large_mean() -> None:
    x = far_from_zero(16, 300, 2)
    parts = x[:3].contiguous(**LAST), x[3:].contiguous(**LAST)  # type: ignore[arg-type]
    sums: list[torch.Tensor] = []
    for part in parts:
        norm_and_activation(
            part, torch.ones(16), torch.zeros(16), 1e-5, "none", all_reduce_sum=lambda own: sums.append(own) or own
        )  # type: ignore[func-returns-value]
    total = sums[0] + sums[1]
    out, mean, variance = norm_and_activation(
        parts[0], torch.ones(16), torch.zeros(16), 1e-5, "none", all_reduce_sum=lambda own: total
    )
    whole = normed(x)
    torch.testing.assert_close(variance, whole[2], rtol=1e-5, atol=0)
    torch.testing.assert_close(mean, whole[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(out.float(), whole[0][:3].float(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("channels", [3, 16, 64])
@pytest.mark.parametrize("ratio", [1, 100, 300])
def test_output_and_gradients_at_a_large_mean_are_no_worse_than_pytorchs(channels: int, ratio: float) -> None:
    x = far_from_zero(channels, ratio, 3)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16).contiguous(**LAST)  # type: ignore[arg-type]

    def found(x: torch.Tensor, norm: Callable[..., torch.Tensor], kind: torch.dtype) -> list[torch.Tensor]:
        tensors = [
            x.detach().clone(),
            torch.rand(channels, generator=torch.Generator().manual_seed(5)) + 0.5,
            torch.ones(channels),
        ]
        tensors = [
            each.to(kind if place == 0 else torch.float64 if kind == torch.float64 else torch.float32)
            for place, each in enumerate(tensors)
        ]
        for each in tensors:
            each.requires_grad_(True)
        out = norm(*tensors)
        out.backward(gradient.to(out.dtype))  # type: ignore[no-untyped-call]
        return [out.detach(), *(each.grad for each in tensors if each.grad is not None)]

    def by_pytorch(x: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, None, None, gain, shift, training=True, eps=1e-5)

    true = found(x, by_pytorch, torch.float64)
    ours = found(x, lambda *tensors: norm_and_activation(*tensors, 1e-5, "none")[0], torch.bfloat16)
    theirs = found(x, by_pytorch, torch.bfloat16)
    for exact, own, other in zip(true, ours, theirs, strict=True):
        errors = [(each.double() - exact).square().mean().sqrt() for each in (own, other)]
        assert errors[0] <= 1.2 * errors[1] + 1e-4 * exact.square().mean().sqrt()


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1, 1), (5, 0.1), (50, 0.5), (-50, 0.1)])
def test_errors_of_winograd_stay_within_their_bound(mean: float, deviation: float, is_balanced: bool, channels: int) -> None:
    generator = torch.Generator().manual_seed(6)
    x = (mean + deviation * torch.randn(4, channels, 16, 16, generator=generator)).to(torch.bfloat16).contiguous(**LAST)  # type: ignore[arg-type]
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    if is_balanced:
        weight -= weight.mean((2, 3), keepdim=True)
    gradient = torch.randn(x.shape, generator=generator).to(torch.bfloat16).contiguous(**LAST)  # type: ignore[arg-type]
    window, plan = TapGeometry((1, 1), (1, 1)), Plan(WINOGRAD, WINOGRAD, WINOGRAD)

    def found(convolution: Callable[..., torch.Tensor], kind: torch.dtype | None) -> list[torch.Tensor]:
        tensors = [each.detach().clone() if kind is None else each.detach().to(kind) for each in (x, weight)]
        for each in tensors:
            each.requires_grad_(True)
        out = convolution(*tensors)
        out.backward(gradient.to(out.dtype))  # type: ignore[no-untyped-call]
        return [out.detach(), *(each.grad for each in tensors if each.grad is not None)]

    true = found(lambda x, weight: F.conv2d(x, weight, padding=1), torch.float64)
    ours = found(lambda x, weight: convolve(x, weight, window, plan), None)
    rms = [float(each.double().square().mean().sqrt()) for each in (x, gradient)]
    to_filter, to_input = (float(weight.double().square().sum(dims).mean().sqrt()) for dims in ((1, 2, 3), (0, 2, 3)))
    norms = (to_filter * rms[0], to_input * rms[1], rms[0] * rms[1] * x[:, 0].numel() ** 0.5)
    for exact, own, norm in zip(true, ours, norms, strict=True):
        assert float((own.double() - exact).square().mean().sqrt()) <= MAX_WINOGRAD_ERROR * 2**-8 * norm
