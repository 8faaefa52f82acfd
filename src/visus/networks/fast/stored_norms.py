"""Batch norm by stored statistics fused with the activation after it, and optionally with the convolution before it.

Each direction makes one pass over the maps. After a convolution, norm and activation overwrite its output, so a training step saves one map where PyTorch
saves two or three. The gradient of the norm's weight needs the norm's input. For the identity, ReLU and ReLU6 it follows from the output; where rounding
would make that too inaccurate, the convolution runs again. Gradients of gradients use PyTorch's own operators.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.convolutions import Plan, backward_by_plan, by_pytorch, forward_by_plan
from visus.networks.fast.gradients import gradients_by_pytorch, is_first_order_eager
from visus.networks.fast.norms import ACTIVATIONS, BY_PYTORCH
from visus.networks.fast.windows import TapGeometry

_INVERTIBLE = ("none", "relu", "relu6")  # activations whose input follows from the output wherever the gradient is not zero
_MAX_BIAS = 16.0  # of a channel, relative to its weight; above it, rounding of the output hides the norm's input


@dataclass(frozen=True)
class StoredNorm:
    """A batch norm in evaluation mode; all tensors are (C,) float32.

    Attributes:
        weight, bias: parameters, trained or frozen.
        mean, variance: stored statistics.
        eps: constant added to the variance.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    eps: float

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Weight, bias, mean and variance."""
        return self.weight, self.bias, self.mean, self.variance

    def by_pytorch(self, maps: torch.Tensor, activation: str) -> torch.Tensor:
        """Norm and activation by PyTorch's operators."""
        out = F.batch_norm(maps, self.mean, self.variance, self.weight, self.bias, training=False, eps=self.eps)
        return BY_PYTORCH[activation](out)

    @property
    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``scale`` and ``base`` of the norm as ``scale * x + base``."""
        scale = self.weight.detach().double() * (self.variance.double() + self.eps).rsqrt()
        return scale.float(), (self.bias.detach().double() - self.mean.double() * scale).float()

    def normalization(self, is_output: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """``factor`` and ``offset`` of the normalized value as ``factor * x + offset``, for x the norm's output or its input."""
        weight, bias = self.weight.detach().double(), self.bias.detach().double()
        factor = 1 / weight if is_output else (self.variance.double() + self.eps).rsqrt()
        return factor.float(), (-factor * (bias if is_output else self.mean.double())).float()


class _StoredNormActivation(torch.autograd.Function):
    """Norm and activation; the input stays intact."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        activation: str,
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, weight, bias, mean, variance)
        ctx.eps, ctx.activation = eps, activation
        out = torch.empty_like(maps)
        _forward(maps, StoredNorm(weight, bias, mean, variance, eps), activation, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, *tensors = ctx.saved_tensors
        norm, wanted = StoredNorm(tensors[0], tensors[1], tensors[2], tensors[3], ctx.eps), ctx.needs_input_grad[:3]
        if is_first_order_eager(gradient):
            found = _backward(gradient, maps, norm, ctx.activation, False, wanted)
        else:

            def by_autograd(maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
                return StoredNorm(weight, bias, tensors[2], tensors[3], ctx.eps).by_pytorch(maps, ctx.activation)

            found = gradients_by_pytorch(by_autograd, (maps, *tensors[:2]), wanted, gradient)
        return *found, None, None, None, None


class _ConvolutionStoredNormActivation(torch.autograd.Function):
    """Convolution, norm and activation; no other layer reads the maps between them."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        norm_weight: torch.Tensor,
        norm_bias: torch.Tensor,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eps: float,
        activation: str,
        window: TapGeometry,
        plan: Plan,
    ) -> torch.Tensor:
        convolved, _ = forward_by_plan(maps, weight, window, plan)
        convolved = convolved.contiguous(memory_format=torch.channels_last)
        saves_output = activation in _INVERTIBLE
        out = convolved if saves_output else torch.empty_like(convolved)
        ctx.is_finite = _forward(convolved, StoredNorm(norm_weight, norm_bias, mean, variance, eps), activation, out)
        ctx.save_for_backward(maps, weight, norm_weight, norm_bias, mean, variance, out if saves_output else convolved)
        ctx.eps, ctx.activation, ctx.window, ctx.plan, ctx.saves_output = eps, activation, window, plan, saves_output
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight, *tensors, saved = ctx.saved_tensors
        norm = StoredNorm(tensors[0], tensors[1], tensors[2], tensors[3], ctx.eps)
        window, plan, activation = ctx.window, ctx.plan, ctx.activation
        wants_maps, wants_weight, wants_norm_weight, wants_norm_bias = wanted = ctx.needs_input_grad[:4]
        if not is_first_order_eager(gradient):

            def by_autograd(
                maps: torch.Tensor, weight: torch.Tensor, norm_weight: torch.Tensor, norm_bias: torch.Tensor
            ) -> torch.Tensor:
                convolved = by_pytorch(maps, weight, window)
                return StoredNorm(norm_weight, norm_bias, tensors[2], tensors[3], ctx.eps).by_pytorch(convolved, activation)

            return *gradients_by_pytorch(by_autograd, (maps, weight, *tensors[:2]), wanted, gradient), *[None] * 6
        is_output = ctx.saves_output
        if wants_norm_weight and is_output and not (ctx.is_finite and _is_invertible(norm)):
            saved, _ = forward_by_plan(maps, weight, window, plan)
            saved, is_output = saved.contiguous(memory_format=torch.channels_last), False
        norm_wanted = (wants_maps or wants_weight, wants_norm_weight, wants_norm_bias)
        convolved_grad, norm_weight_grad, norm_bias_grad = _backward(
            gradient, saved, norm, activation, is_output, norm_wanted
        )
        maps_grad = weight_grad = None
        if convolved_grad is not None:
            maps_grad, weight_grad = backward_by_plan(convolved_grad, maps, weight, window, plan, (wants_maps, wants_weight))
        return maps_grad, weight_grad, norm_weight_grad, norm_bias_grad, *[None] * 6


def stored_norm_and_activation(maps: torch.Tensor, norm: StoredNorm, activation: str) -> torch.Tensor:
    """``activation(weight * (maps - mean) / sqrt(variance + eps) + bias)``.

    Args:
        maps: (N, C, H, W) bfloat16, channels-last; not changed.
        norm: parameters and statistics of the norm.
        activation: one of ``norms.ACTIVATIONS``.
    """
    out: torch.Tensor = _StoredNormActivation.apply(maps, *norm.tensors, norm.eps, activation)  # type: ignore[no-untyped-call]
    return out


def convolve_and_normalize(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan, norm: StoredNorm, activation: str
) -> torch.Tensor:
    """``stored_norm_and_activation`` of the convolution of bfloat16 channels-last maps (N, C, H, W) with ``weight`` of any floating dtype."""
    out: torch.Tensor = _ConvolutionStoredNormActivation.apply(  # type: ignore[no-untyped-call]
        maps, weight, *norm.tensors, norm.eps, activation, window, plan
    )
    return out


def _forward(maps: torch.Tensor, norm: StoredNorm, activation: str, out: torch.Tensor) -> bool:
    """Write the activated norm of ``maps`` to ``out``, which may be ``maps``; return whether all of ``maps`` was finite."""
    library = kernels()
    assert library is not None, "eligibility requires the kernels"
    is_finite = ctypes.c_int(0)
    kind, threads = ACTIVATIONS.index(activation), torch.get_num_threads()
    affine = norm.affine  # keeps the tensors alive during the call
    inputs = (_address(maps), *_rows(maps), *map(_address, affine))
    check_status(library.visus_stored_norm_forward(*inputs, kind, _address(out), ctypes.byref(is_finite), threads))
    return bool(is_finite.value)


def _backward(
    gradient: torch.Tensor, saved: torch.Tensor, norm: StoredNorm, activation: str, is_output: bool, wanted: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of the norm's input, weight and bias; None for an unwanted one.

    Args:
        gradient: gradient of the activation's output.
        saved: output of the activation if ``is_output``, else input of the norm.
        norm: parameters and statistics of the norm.
        activation: one of ``norms.ACTIVATIONS``.
        is_output: what ``saved`` is.
        wanted: whether to compute each of the three gradients.
    """
    library = kernels()
    assert library is not None, "eligibility requires the kernels"
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    wants_maps, wants_weight, wants_bias = wanted
    out = torch.empty_like(saved) if wants_maps else None
    sums = saved.new_empty(2 * saved.shape[1], dtype=torch.float64) if wants_weight or wants_bias else None
    numbers = (*norm.affine, *norm.normalization(is_output))
    check_status(
        library.visus_stored_norm_backward(
            *(_address(gradient), _address(saved), int(is_output), *_rows(saved), *map(_address, numbers)),
            *(ACTIVATIONS.index(activation), _address(out), _address(sums), torch.get_num_threads()),
        )
    )
    bias_grad, weight_grad = (None, None) if sums is None else sums.float().chunk(2)
    return out, weight_grad if wants_weight else None, bias_grad if wants_bias else None


def _is_invertible(norm: StoredNorm) -> bool:
    """Whether the norm's input follows accurately from its output: no channel has a bias that is large relative to its weight."""
    return bool((norm.bias.detach().abs() <= _MAX_BIAS * norm.weight.detach().abs()).logical_and(norm.weight != 0).all())


def _rows(maps: torch.Tensor) -> tuple[ctypes.c_int64, int]:
    """Number of positions of all samples, and number of channels."""
    return ctypes.c_int64(maps.numel() // maps.shape[1]), maps.shape[1]


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
