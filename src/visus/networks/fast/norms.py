"""A norm over the batch together with the activation behind it, two passes over the maps each way, and an activation alone.

This file knows the calls of the compiled kernels, and PyTorch's own for gradients of gradients.
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
ACTIVATIONS = ("none", "relu", "gelu", "silu", "relu6", "hardswish")  # in the order of the kernels


AddUp = Callable[[torch.Tensor], torch.Tensor]


class _NormActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        gain: torch.Tensor,
        shift: torch.Tensor,
        eps: float,
        activation: str,
        all_reduce_sum: AddUp | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        library = kernels()
        assert library is not None, "asked only where the kernels are"
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
        scale = gain * inverse
        coefficients = torch.stack([scale, shift - mean * scale, inverse, -mean * inverse]).float()
        out = torch.empty_like(maps)
        check_status(
            library.visus_norm_forward(_address(maps), *rows, *map(_address, coefficients[:2]), kind, _address(out), threads)
        )
        ctx.save_for_backward(maps, gain, shift, coefficients)
        ctx.eps, ctx.activation, ctx.all_reduce_sum, ctx.num_values = eps, activation, all_reduce_sum, num_values
        told = mean.float(), (variance * (num_values / (num_values - 1))).float()
        ctx.mark_non_differentiable(*told)
        return out, *told

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, gain, shift, coefficients = ctx.saved_tensors
        all_reduce_sum: AddUp | None = ctx.all_reduce_sum
        if all_reduce_sum is None and not is_first_order_eager(gradient):

            def by_pytorch(maps: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
                out = F.batch_norm(maps, None, None, gain, shift, training=True, momentum=0.0, eps=ctx.eps)
                return BY_PYTORCH[ctx.activation](out)

            return *gradients_by_pytorch(by_pytorch, (maps, gain, shift), ctx.needs_input_grad, gradient), None, None, None
        library = kernels()
        assert library is not None, "asked only where the kernels are"
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        rows, kind, threads = _rows(maps), ACTIVATIONS.index(ctx.activation), torch.get_num_threads()
        given = (_address(gradient), _address(maps), *rows)
        sums = maps.new_empty(2 * maps.shape[1], dtype=torch.float64)
        check_status(library.visus_norm_backward_sums(*given, *map(_address, coefficients), kind, _address(sums), threads))
        of_shift, of_gain = sums.float().chunk(2)  # of this process's slice, as the gradients of all other weights are
        of_maps = None
        if ctx.needs_input_grad[0]:  # who has another slice asks by the same rule
            # With y = (x - mean) / deviation and g the gradient behind the norm, the gradient of x is
            # gain / deviation * (g - mean(g) - y * mean(g * y)), its means over the whole batch (Ioffe and Szegedy 2015, section 3).
            mean_g, mean_gy = ((sums if all_reduce_sum is None else all_reduce_sum(sums)) / ctx.num_values).chunk(2)
            scale, base, inverse, offset = coefficients
            slants = torch.stack([-scale * mean_gy * inverse, -scale * (mean_g + mean_gy * offset)]).float()
            of_maps = torch.empty_like(maps)
            numbers = map(_address, (scale, base, *slants))
            check_status(library.visus_norm_backward(*given, *numbers, kind, _address(of_maps), threads))
        wanted = zip((of_maps, of_gain, of_shift), ctx.needs_input_grad[:3], strict=True)
        return (*(found if wants else None for found, wants in wanted), None, None, None)


class _SharedNormActivation(_NormActivation):
    """By sums over several processes, whose gradients of gradients nobody computes."""

    backward = staticmethod(once_differentiable(_NormActivation.backward))  # type: ignore[assignment]


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(maps)
        ctx.activation = activation
        return _activated(None, maps, activation)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        (maps,) = ctx.saved_tensors
        if not is_first_order_eager(gradient):
            return gradients_by_pytorch(BY_PYTORCH[ctx.activation], (maps,), ctx.needs_input_grad, gradient)[0], None
        return _activated(gradient.contiguous(memory_format=torch.channels_last), maps, ctx.activation), None


def norm_and_activation(
    maps: torch.Tensor,
    gain: torch.Tensor,
    shift: torch.Tensor,
    eps: float,
    activation: str,
    all_reduce_sum: AddUp | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``activation(gain * (maps - mean) / sqrt(variance + eps) + shift)`` by mean and variance of each channel in the batch.

    Args:
        maps: (N, C, H, W) bfloat16, channels last.
        gain, shift: (C,) float32.
        eps: added to the variance, which is divided by the number of values.
        activation: one of ``ACTIVATIONS``; GELU is the exact one, by the normal distribution.
        add_up: where ``maps`` are a slice of the batch, gives sums over all slices, (n,) float64, of those of this one. It is
            asked once in each direction, and gives the same to all who have a slice.

    Returns:
        Maps like ``maps``; the mean and the variance of each channel, float32, without gradients. This variance is divided by
        one less than there are values, as PyTorch stores it. Its relative error is at most 5e-5, however large the mean is
        beside the deviation.
    """
    function = _NormActivation if all_reduce_sum is None else _SharedNormActivation
    out, mean, variance = function.apply(maps, gain, shift, eps, activation, all_reduce_sum)  # type: ignore[no-untyped-call]
    return out, mean, variance


def activation_alone(maps: torch.Tensor, activation: str) -> torch.Tensor:
    """An activation of bfloat16 maps (N, C, H, W), channels last."""
    out: torch.Tensor = _Activation.apply(maps, activation)  # type: ignore[no-untyped-call]
    return out


def _activated(gradient: torch.Tensor | None, maps: torch.Tensor, activation: str) -> torch.Tensor:
    """The activation, or with a gradient its gradient."""
    library = kernels()
    assert library is not None, "asked only where the kernels are"
    out = torch.empty_like(maps)
    count, kind = ctypes.c_int64(maps.numel()), ACTIVATIONS.index(activation)
    check_status(
        library.visus_activation(_address(gradient), _address(maps), count, kind, _address(out), torch.get_num_threads())
    )
    return out


def _rows(maps: torch.Tensor) -> tuple[ctypes.c_int64, int]:
    """Positions of all samples, and channels."""
    return ctypes.c_int64(maps.numel() // maps.shape[1]), maps.shape[1]


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
