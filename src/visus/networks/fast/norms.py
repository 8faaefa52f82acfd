"""A norm over the batch together with the activation behind it, and an activation alone, one pass over the maps each way.

This file knows the calls of the compiled kernels, and PyTorch's own for gradients of gradients. It must not know modules.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from visus.networks.fast.compiler import carried_out, kernels
from visus.networks.fast.gradients import gradients_by_pytorch, is_for_good

_BY_PYTORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda maps: maps,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
}
ACTIVATIONS = ("none", "relu", "gelu", "silu")  # in the order of the kernels


class _NormActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor, eps: float, activation: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        library = kernels()
        assert library is not None, "asked only where the kernels are"
        channels = maps.shape[1]
        out = torch.empty_like(maps)
        mean, variance = (maps.new_empty(channels, dtype=torch.float32) for _ in range(2))
        settings = (ctypes.c_double(eps), ACTIVATIONS.index(activation))
        status = library.visus_norm_forward(
            _address(maps), *_rows(maps), _address(gain), _address(shift), *settings, *map(_address, (out, mean, variance)),
            torch.get_num_threads(),
        )  # fmt: skip
        carried_out(status)
        ctx.save_for_backward(maps, gain, shift, mean, variance)
        ctx.settings, ctx.eps, ctx.activation = settings, eps, activation
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, *rest = ctx.saved_tensors
        if not is_for_good(gradient):

            def by_pytorch(maps: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
                out = F.batch_norm(maps, None, None, gain, shift, training=True, momentum=0.0, eps=ctx.eps)
                return _BY_PYTORCH[ctx.activation](out)

            return *gradients_by_pytorch(by_pytorch, (maps, *rest[:2]), ctx.needs_input_grad, gradient), None, None
        library = kernels()
        assert library is not None, "asked only where the kernels are"
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = torch.empty_like(maps)
        of_gain, of_shift = (maps.new_empty(maps.shape[1], dtype=torch.float32) for _ in range(2))
        status = library.visus_norm_backward(
            _address(gradient), _address(maps), *_rows(maps), *map(_address, rest), *ctx.settings,
            *map(_address, (of_maps, of_gain, of_shift)), torch.get_num_threads(),
        )  # fmt: skip
        carried_out(status)
        wanted = zip((of_maps, of_gain, of_shift), ctx.needs_input_grad[:3], strict=True)
        return (*(found if wants else None for found, wants in wanted), None, None)


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(maps)
        ctx.activation = activation
        return _activated(None, maps, activation)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        (maps,) = ctx.saved_tensors
        if not is_for_good(gradient):
            return gradients_by_pytorch(_BY_PYTORCH[ctx.activation], (maps,), ctx.needs_input_grad, gradient)[0], None
        return _activated(gradient.contiguous(memory_format=torch.channels_last), maps, ctx.activation), None


def norm_and_activation(
    maps: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor, eps: float, activation: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``activation(gain * (maps - mean) / sqrt(variance + eps) + shift)`` by mean and variance of each channel in the batch.

    Args:
        maps: (N, C, H, W) bfloat16, channels last.
        gain, shift: (C,) float32.
        eps: added to the variance.
        activation: one of ``ACTIVATIONS``; GELU is the exact one, by the normal distribution.

    Returns:
        Maps like ``maps``; the mean and the variance (divided by N * H * W) of each channel, float32, without gradients.
    """
    out, mean, variance = _NormActivation.apply(maps, gain, shift, eps, activation)  # type: ignore[no-untyped-call]
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
    carried_out(
        library.visus_activation(_address(gradient), _address(maps), count, kind, _address(out), torch.get_num_threads())
    )
    return out


def _rows(maps: torch.Tensor) -> tuple[ctypes.c_int64, int]:
    """Positions of all items, and channels."""
    return ctypes.c_int64(maps.numel() // maps.shape[1]), maps.shape[1]


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
