"""Batch norm by batch statistics fused with the activation after it, and activations alone, by the compiled kernels.

Each direction of the fused norm makes two passes over the maps. Gradients of gradients use PyTorch's own operators.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.gradients import gradients_by_pytorch, is_first_order_eager

BY_PYTORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda maps: maps,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}
ACTIVATIONS = ("none", "relu", "gelu", "silu", "relu6", "hardswish")  # in the order of the C++ enum


Reduce = Callable[[torch.Tensor], torch.Tensor]


class _NormActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        activation: str,
        all_reduce_sum: Reduce | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        library = kernels()
        assert library is not None, "eligibility requires the kernels"
        rows, kind, threads = _rows(maps), ACTIVATIONS.index(activation), torch.get_num_threads()
        channels, num_values = maps.shape[1], maps.numel() // maps.shape[1]
        sums = maps.new_empty(2 * channels, dtype=torch.float64)
        check_status(library.visus_norm_sums(_address(maps), *rows, _address(sums), threads))
        if all_reduce_sum is not None:
            added = all_reduce_sum(torch.cat([sums, sums.new_tensor([num_values])]))
            sums, num_values = added[:-1], int(added[-1])
        mean, squares = (sums / num_values).chunk(2)
        variance = (squares - mean.square()).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        coefficients = torch.stack([scale, bias - mean * scale, inverse, -mean * inverse]).float()
        out = torch.empty_like(maps)
        check_status(
            library.visus_norm_forward(_address(maps), *rows, *map(_address, coefficients[:2]), kind, _address(out), threads)
        )
        ctx.save_for_backward(maps, weight, bias, coefficients)
        ctx.eps, ctx.activation, ctx.all_reduce_sum, ctx.num_values = eps, activation, all_reduce_sum, num_values
        statistics = mean.float(), (variance * (num_values / (num_values - 1))).float()
        ctx.mark_non_differentiable(*statistics)
        return out, *statistics

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight, bias, coefficients = ctx.saved_tensors
        all_reduce_sum: Reduce | None = ctx.all_reduce_sum
        if all_reduce_sum is None and not is_first_order_eager(gradient):

            def by_pytorch(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
                out = F.batch_norm(maps, None, None, weight, bias, training=True, momentum=0.0, eps=ctx.eps)
                return BY_PYTORCH[ctx.activation](out)

            return *gradients_by_pytorch(by_pytorch, (maps, weight, bias), ctx.needs_input_grad, gradient), None, None, None
        library = kernels()
        assert library is not None, "eligibility requires the kernels"
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        rows, kind, threads = _rows(maps), ACTIVATIONS.index(ctx.activation), torch.get_num_threads()
        inputs = (_address(gradient), _address(maps), *rows)
        sums = maps.new_empty(2 * maps.shape[1], dtype=torch.float64)
        check_status(library.visus_norm_backward_sums(*inputs, *map(_address, coefficients), kind, _address(sums), threads))
        bias_grad, weight_grad = sums.float().chunk(2)  # of this process's slice, as for all other parameters
        maps_grad = None
        if ctx.needs_input_grad[0]:  # the same in all processes, so that all of them take part in the reduction
            # With y = (x - mean) / deviation and g the gradient of the norm's output, the gradient of x is
            # weight / deviation * (g - mean(g) - y * mean(g * y)), with means over the whole batch (Ioffe and Szegedy 2015, section 3).
            mean_g, mean_gy = ((sums if all_reduce_sum is None else all_reduce_sum(sums)) / ctx.num_values).chunk(2)
            scale, base, inverse, offset = coefficients
            correction = torch.stack([-scale * mean_gy * inverse, -scale * (mean_g + mean_gy * offset)]).float()
            maps_grad = torch.empty_like(maps)
            numbers = map(_address, (scale, base, *correction))
            check_status(library.visus_norm_backward(*inputs, *numbers, kind, _address(maps_grad), threads))
        wanted = zip((maps_grad, weight_grad, bias_grad), ctx.needs_input_grad[:3], strict=True)
        return (*(found if wants else None for found, wants in wanted), None, None, None)


class _SharedNormActivation(_NormActivation):
    """The same for several processes, without gradients of gradients."""

    backward = staticmethod(once_differentiable(_NormActivation.backward))  # type: ignore[assignment]


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(maps)
        ctx.activation = activation
        return _run_activation(None, maps, activation)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        (maps,) = ctx.saved_tensors
        if not is_first_order_eager(gradient):
            return gradients_by_pytorch(BY_PYTORCH[ctx.activation], (maps,), ctx.needs_input_grad, gradient)[0], None
        return _run_activation(gradient.contiguous(memory_format=torch.channels_last), maps, ctx.activation), None


def norm_and_activation(
    maps: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    activation: str,
    all_reduce_sum: Reduce | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``activation(weight * (maps - mean) / sqrt(variance + eps) + bias)`` with the batch's mean and variance of each channel.

    Args:
        maps: (N, C, H, W) bfloat16, channels-last.
        weight, bias: (C,) float32.
        eps: constant added to the biased variance.
        activation: one of ``ACTIVATIONS``; GELU is the exact one.
        all_reduce_sum: if ``maps`` is a slice of the batch, sums (n,) float64 values over all slices, with the same result for all. Each
            direction calls it once.

    Returns:
        Output in the format of ``maps``; and mean and unbiased variance of each channel, float32, without gradients. The relative error of the
        variance is at most 5e-5, even if the mean is much larger than the standard deviation.
    """
    function = _NormActivation if all_reduce_sum is None else _SharedNormActivation
    out, mean, variance = function.apply(maps, weight, bias, eps, activation, all_reduce_sum)  # type: ignore[no-untyped-call]
    return out, mean, variance


def activate(maps: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply an activation to bfloat16 channels-last maps (N, C, H, W)."""
    out: torch.Tensor = _Activation.apply(maps, activation)  # type: ignore[no-untyped-call]
    return out


def _run_activation(gradient: torch.Tensor | None, maps: torch.Tensor, activation: str) -> torch.Tensor:
    """Run the activation kernel; with ``gradient``, its backward pass."""
    library = kernels()
    assert library is not None, "eligibility requires the kernels"
    out = torch.empty_like(maps)
    count, kind = ctypes.c_int64(maps.numel()), ACTIVATIONS.index(activation)
    check_status(
        library.visus_activation(_address(gradient), _address(maps), count, kind, _address(out), torch.get_num_threads())
    )
    return out


def _rows(maps: torch.Tensor) -> tuple[ctypes.c_int64, int]:
    """Number of positions of all samples, and number of channels."""
    return ctypes.c_int64(maps.numel() // maps.shape[1]), maps.shape[1]


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
