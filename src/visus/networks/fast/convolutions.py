"""Convolutions with gradients, with a selectable algorithm for each direction.

Shape letters: N samples, C input channels, K output channels, H and W input size, OH and OW output size.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.depthwise import depthwise_forward, depthwise_input_gradient, depthwise_weight_gradient
from visus.networks.fast.gradients import gradients_by_pytorch, is_first_order_eager
from visus.networks.fast.windows import TapGeometry

ONEDNN, WINOGRAD, PER_TAP_GEMM, DEPTHWISE = "onednn", "winograd", "taps", "depthwise"
FORWARDS = (ONEDNN, WINOGRAD, DEPTHWISE)
INPUT_GRADIENTS = (ONEDNN, WINOGRAD, DEPTHWISE)
WEIGHT_GRADIENTS = (ONEDNN, WINOGRAD, PER_TAP_GEMM, DEPTHWISE)
_LANES = 16

MAX_WINOGRAD_ERROR = 1.25
"""Bound on the root mean square (RMS) error of the Winograd kernels, in units of 2^-8 times the norm of the factors.

That norm is: for the output, the filter's norm times the RMS of the input (with its mean); for the input gradient, the norm of the weights of a channel
times the RMS of the gradient; for the weight gradient, both RMS times the square root of the number of positions. ``benchmarks/large_means.py`` measured
1.07 at mean 0, and less at means of 1 to 500 standard deviations; oneDNN, which rounds the weights, has 0.4 to 0.6. If the filters cancel a large mean,
the output becomes small and the error does not, as with oneDNN.
"""


@dataclass(frozen=True)
class Plan:
    """The algorithm of each direction of a convolution.

    Attributes:
        forward: ``onednn`` (PyTorch's own), ``winograd`` or ``depthwise``.
        input_gradient: one of the same.
        weight_gradient: one of the same, or ``taps`` (one GEMM per kernel position).
        is_pooled: whether the convolution includes the 2 x 2 max pooling after it.
    """

    forward: str = ONEDNN
    input_gradient: str = ONEDNN
    weight_gradient: str = ONEDNN
    is_pooled: bool = False


class ConvolutionFunction(torch.autograd.Function):
    """A convolution by a ``Plan``, for bfloat16 channels-last maps, without groups or depthwise."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> torch.Tensor:
        """Convolve ``maps`` (N, C, *) with ``weight`` (K, C, *) of any floating dtype to (N, K, *), in the dtype of ``maps``."""
        out, argmax = forward_by_plan(maps, weight, window, plan)
        ctx.save_for_backward(maps, weight, *([] if argmax is None else [argmax]))
        ctx.window, ctx.plan = window, plan
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the maps and of the weight, in their dtypes."""
        maps, weight, *argmax = ctx.saved_tensors
        window, plan = ctx.window, ctx.plan
        wants_maps, wants_weight = ctx.needs_input_grad[:2]
        if not is_first_order_eager(gradient):

            def by_autograd(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                out = by_pytorch(maps, weight, window)
                return F.max_pool2d(out, 2) if plan.is_pooled else out

            return *gradients_by_pytorch(by_autograd, (maps, weight), (wants_maps, wants_weight), gradient), None, None
        wanted, index = (wants_maps, wants_weight), argmax[0] if argmax else None
        maps_grad, weight_grad = backward_by_plan(gradient, maps, weight, window, plan, wanted, index)
        return maps_grad, weight_grad, None, None


def forward_by_plan(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The output of ``ConvolutionFunction`` without an autograd graph; and with pooling, the index (0 to 3) of each maximum."""
    if plan.forward == WINOGRAD:
        return winograd_forward(maps, weight, window.padding[0], plan.is_pooled)
    if plan.forward == DEPTHWISE:
        return depthwise_forward(maps, weight, window), None
    return by_pytorch(maps, weight, window), None


def backward_by_plan(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    weight: torch.Tensor,
    window: TapGeometry,
    plan: Plan,
    wanted: tuple[bool, bool],
    argmax: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of the maps and of the weight, in their dtypes; None for an unwanted one.

    Args:
        gradient: gradient of the output of ``forward_by_plan``.
        maps, weight, window, plan: arguments of ``forward_by_plan``.
        wanted: whether to compute the gradients of the maps and of the weight.
        argmax: second result of ``forward_by_plan``.
    """
    gradient = gradient.contiguous(memory_format=torch.channels_last) if gradient.ndim == 4 else gradient
    wants_maps, wants_weight = wanted
    maps_grad = weight_grad = None
    by_winograd = (
        wants_maps and plan.input_gradient == WINOGRAD,
        wants_weight and plan.weight_gradient == WINOGRAD,
    )
    if any(by_winograd):
        maps_grad, weight_grad = winograd_backward(gradient, maps, weight, window.padding[0], *by_winograd, argmax=argmax)
    if wants_weight and plan.weight_gradient == PER_TAP_GEMM:
        weight_grad = taps_weight_gradient(gradient, maps, weight.shape, window)
    if wants_maps and plan.input_gradient == DEPTHWISE:
        maps_grad = depthwise_input_gradient(gradient, maps, weight, window)
    if wants_weight and plan.weight_gradient == DEPTHWISE:
        weight_grad = depthwise_weight_gradient(gradient, maps, weight, window)
    remaining = (wants_maps and maps_grad is None, wants_weight and weight_grad is None)
    if any(remaining):
        found = _pytorch_gradients(gradient, maps, weight.to(maps.dtype), window, remaining)
        maps_grad = found[0] if remaining[0] else maps_grad
        weight_grad = found[1] if remaining[1] else weight_grad
    return maps_grad, None if weight_grad is None else weight_grad.to(weight.dtype)


def convolve(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> torch.Tensor:
    """Convolve ``maps`` (N, C, *) with ``weight`` (K, C, *) to (N, K, *), pooled if the plan says so; with gradients."""
    out: torch.Tensor = ConvolutionFunction.apply(maps, weight, window, plan)  # type: ignore[no-untyped-call]
    return out


def by_pytorch(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> torch.Tensor:
    """PyTorch's own convolution, in the dtype of the maps."""
    ones, zeros, groups = *_ones_and_zeros(window), _num_groups(maps, weight)
    out: torch.Tensor = torch.ops.aten.convolution(
        maps, weight.to(maps.dtype), None, window.stride, window.padding, ones, False, zeros, groups
    )
    return out


def _pytorch_gradients(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch's own gradients of the maps and of the weight; None for an unwanted one."""
    ones, zeros, groups = *_ones_and_zeros(window), _num_groups(maps, weight)
    found = torch.ops.aten.convolution_backward(
        gradient, maps, weight, None, window.stride, window.padding, ones, False, zeros, groups, [*wanted, False]
    )
    return found[0], found[1]


def _ones_and_zeros(window: TapGeometry) -> tuple[list[int], list[int]]:
    return [1] * len(window.stride), [0] * len(window.stride)


def _num_groups(maps: torch.Tensor, weight: torch.Tensor) -> int:
    return maps.shape[1] // weight.shape[1]


def taps_weight_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, shape: Sequence[int], window: TapGeometry
) -> torch.Tensor:
    """The weight gradient by one matrix product (GEMM) per kernel position, summed over samples and positions.

    It supports any number of axes, stride and padding. The products are in the dtype of ``maps``, with float32 sums.

    Args:
        gradient: (N, K, *) gradient of the output.
        maps: (N, C, *) input of the forward pass.
        shape: (K, C, *taps) shape of the weight.
        window: stride and padding.

    Returns:
        (K, C, *taps) gradient, in the dtype of ``maps``.
    """
    axes = maps.ndim - 2
    rows = gradient.movedim(1, -1).reshape(-1, gradient.shape[1])
    padded = F.pad(maps.movedim(1, -1), [0, 0, *itertools.chain(*([side, side] for side in reversed(window.padding)))])
    out = maps.new_empty(*shape[2:], shape[0], shape[1])
    for tap in itertools.product(*(range(size) for size in shape[2:])):
        reads = tuple(
            slice(tap[axis], tap[axis] + window.stride[axis] * (gradient.shape[2 + axis] - 1) + 1, window.stride[axis])
            for axis in range(axes)
        )
        out[tap] = rows.T @ padded[(slice(None), *reads)].reshape(-1, shape[1])
    return out.movedim((-2, -1), (0, 1))


# ---------------------------------------------------------------------------------------------------------------- winograd


def winograd_forward(
    maps: torch.Tensor, weight: torch.Tensor, padding: int, is_pooled: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A 3 x 3 convolution with stride 1 by Winograd's F(2 x 2, 3 x 3), optionally with 2 x 2 max pooling.

    ``MAX_WINOGRAD_ERROR`` bounds the error. An infinite or NaN input affects every output that it affects in a direct convolution, and at most the
    rest of the 2 x 2 output tiles that read it.

    Args:
        maps: (N, C, H, W) bfloat16, channels-last.
        weight: (K, C, 3, 3), any floating dtype.
        padding: zero padding on all sides.
        is_pooled: whether to pool; a last row or column without a full 2 x 2 is dropped.

    Returns:
        Output (N, K, OH, OW) bfloat16, channels-last; and with pooling, the index (0 to 3) of each maximum in its 2 x 2.
    """
    library = kernels()
    assert library is not None, "plans without kernels never get here"
    num_samples, channels, height, width = maps.shape
    filters = weight.shape[0]
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    shape = (num_samples, filters, *((side // 2 for side in size) if is_pooled else size))
    out = _empty(shape, torch.bfloat16, torch.channels_last)
    argmax = _empty(shape, torch.uint8, torch.channels_last) if is_pooled else None
    panels = _panels(library, weight.permute(2, 3, 1, 0))
    sizes = (num_samples, height, width, channels, filters, padding, *size, int(is_pooled), torch.get_num_threads())
    check_status(library.visus_winograd_forward(*map(_address, (maps, panels, out, argmax)), *sizes))
    return out, argmax


def winograd_backward(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    weight: torch.Tensor,
    padding: int,
    wants_maps: bool = True,
    wants_weight: bool = True,
    *,
    argmax: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of ``winograd_forward`` with respect to ``maps`` (bfloat16) and ``weight`` (float32), with the same error bound.

    Args:
        gradient: (N, K, OH, OW) bfloat16, channels-last; gradient of the output.
        maps, weight, padding: arguments of ``winograd_forward``.
        wants_maps, wants_weight: whether to compute each gradient; an unwanted one is None.
        argmax: second result of ``winograd_forward``.
    """
    library = kernels()
    assert library is not None, "plans without kernels never get here"
    num_samples, channels, height, width = maps.shape
    filters = weight.shape[0]
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    panels = _panels(library, weight.permute(2, 3, 0, 1)) if wants_maps else None
    maps_grad = torch.empty_like(maps) if wants_maps else None
    weight_grad = _empty((3, 3, channels, filters), torch.float32) if wants_weight else None
    sizes = (num_samples, height, width, channels, filters, padding, *size, int(argmax is not None), torch.get_num_threads())
    tensors = (gradient, argmax, maps, panels, maps_grad, weight_grad)
    check_status(library.visus_winograd_backward(*map(_address, tensors), *sizes))
    return maps_grad, None if weight_grad is None else weight_grad.permute(3, 2, 0, 1)


def _panels(library: ctypes.CDLL, weight: torch.Tensor) -> torch.Tensor:
    """Winograd-transformed weights of (3, 3, in, out), packed for a GEMM that sums over ``in``."""
    _, _, num_in, num_out = weight.shape
    ordered = weight.to(torch.float32).contiguous()
    panels = _empty((16 * (-(-num_in // 2)) * (-(-num_out // _LANES) * _LANES) * 2,), torch.bfloat16)
    check_status(
        library.visus_winograd_weights(_address(ordered), num_in, num_out, _address(panels), torch.get_num_threads())
    )
    return panels


def _empty(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format
) -> torch.Tensor:
    """Uninitialized CPU memory, independent of the default dtype and device."""
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=layout)


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
