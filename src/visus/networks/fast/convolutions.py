"""Convolutions with gradients, each direction by an algorithm of one's choice.

This file knows the algorithms and their calls.

Letters: N samples, C channels in, K channels out, H and W the sides of the map in, OH and OW of the map out.
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
"""Root mean square error of Winograd's kernels, at most, in units of 2^-8 times the norm of what is multiplied.

For the output that norm is the filter's times the root mean square of the input, its mean included; for the gradient of the input, the norm
of the weights to a channel times the root mean square of the gradient; for that of the weights, the two root mean squares times the square
root of the number of places. Measured by ``benchmarks/large_means.py``: 1.07 at mean 0, less at means of 1 to 500 deviations, where oneDNN,
which rounds the weights, has 0.4 to 0.6. A mean that the filters cancel leaves the error and takes away the output, as for oneDNN.
"""


@dataclass(frozen=True)
class Plan:
    """The algorithm of each direction of one convolution.

    Attributes:
        forward, input_gradient, weight_gradient: ``onednn`` (PyTorch's own), ``winograd``, ``depthwise`` for filters of single
        channels or, for the weights' gradient, ``taps``.
        is_pooled: the maximum over 2 x 2 that follows is computed with it.
    """

    forward: str = ONEDNN
    input_gradient: str = ONEDNN
    weight_gradient: str = ONEDNN
    is_pooled: bool = False


class Convolution(torch.autograd.Function):
    """A convolution of bfloat16 maps, channels last, without groups or of single channels, each direction by the algorithm that its plan names."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> torch.Tensor:
        """``maps`` (N, C, *) and ``weight`` (K, C, *) of any floating type to (N, K, *), in the type of ``maps``."""
        out, where = computed(maps, weight, window, plan)
        ctx.save_for_backward(maps, weight, *([] if where is None else [where]))
        ctx.window, ctx.plan = window, plan
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the maps, in their type, and of the weight, in its own."""
        maps, weight, *rest = ctx.saved_tensors
        window, plan = ctx.window, ctx.plan
        wants_maps, wants_weight = ctx.needs_input_grad[:2]
        if not is_first_order_eager(gradient):

            def again(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
                out = by_pytorch(maps, weight, window)
                return F.max_pool2d(out, 2) if plan.is_pooled else out

            return *gradients_by_pytorch(again, (maps, weight), (wants_maps, wants_weight), gradient), None, None
        where = rest[0] if rest else None
        of_maps, of_weight = gradients(gradient, maps, weight, window, plan, (wants_maps, wants_weight), where)
        return of_maps, of_weight, None, None


def computed(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What ``Convolution`` gives, without a graph; and, where pooled, which of the four of each 2 x 2 it was."""
    if plan.forward == WINOGRAD:
        return winograd_forward(maps, weight, window.padding[0], plan.is_pooled)
    if plan.forward == DEPTHWISE:
        return depthwise_forward(maps, weight, window), None
    return by_pytorch(maps, weight, window), None


def gradients(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    weight: torch.Tensor,
    window: TapGeometry,
    plan: Plan,
    wanted: tuple[bool, bool],
    where: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of the maps, in their type, and of the weight, in its own; None for one that is not wanted.

    Args:
        gradient: of what ``computed`` gave.
        maps, weight, window, plan: as there.
        wanted: for the maps and the weight.
        where: as ``computed`` gave it.
    """
    gradient = gradient.contiguous(memory_format=torch.channels_last) if gradient.ndim == 4 else gradient
    wants_maps, wants_weight = wanted
    of_maps = of_weight = None
    by_winograd = (
        wants_maps and plan.input_gradient == WINOGRAD,
        wants_weight and plan.weight_gradient == WINOGRAD,
    )
    if any(by_winograd):
        of_maps, of_weight = winograd_backward(gradient, maps, weight, window.padding[0], *by_winograd, where=where)
    if wants_weight and plan.weight_gradient == PER_TAP_GEMM:
        of_weight = taps_weight_gradient(gradient, maps, weight.shape, window)
    if wants_maps and plan.input_gradient == DEPTHWISE:
        of_maps = depthwise_input_gradient(gradient, maps, weight, window)
    if wants_weight and plan.weight_gradient == DEPTHWISE:
        of_weight = depthwise_weight_gradient(gradient, maps, weight, window)
    left = (wants_maps and of_maps is None, wants_weight and of_weight is None)
    if any(left):
        found = _gradients(gradient, maps, weight.to(maps.dtype), window, left)
        of_maps = found[0] if left[0] else of_maps
        of_weight = found[1] if left[1] else of_weight
    return of_maps, None if of_weight is None else of_weight.to(weight.dtype)


def convolve(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> torch.Tensor:
    """``Convolution`` as a function: ``maps`` (N, C, *) and ``weight`` (K, C, *) to (N, K, *), pooled where planned."""
    out: torch.Tensor = Convolution.apply(maps, weight, window, plan)  # type: ignore[no-untyped-call]
    return out


def by_pytorch(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> torch.Tensor:
    """PyTorch's own convolution, in the type of the maps."""
    ones, zeros, groups = *_ones_and_zeros(window), _num_groups(maps, weight)
    out: torch.Tensor = torch.ops.aten.convolution(
        maps, weight.to(maps.dtype), None, window.stride, window.padding, ones, False, zeros, groups
    )
    return out


def _gradients(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch's own gradients of the maps and of the weight; None for one that is not wanted."""
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
    """The gradient of the weight, one matrix product for each tap: gradient times what it read, over samples and positions.

    For any number of axes, any stride and padding; products in the type of ``maps``, which PyTorch sums in float32.

    Args:
        gradient: (N, K, *) of the output.
        maps: (N, C, *) that were read.
        shape: (K, C, *taps) of the weight.
        window: stride and padding.

    Returns:
        (K, C, *taps), in the type of ``maps``.
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
    """A convolution of 3 x 3 taps with stride 1 by F(2 x 2, 3 x 3), and the maximum over 2 x 2 that follows it.

    Args:
        maps: (N, C, H, W) bfloat16, channels last.
        weight: (K, C, 3, 3), any floating type.
        padding: zeros around the map on all sides.
        is_pooled: pool, leaving out a last row or column that fills no 2 x 2.

    Returns:
        (N, K, OH, OW) bfloat16, channels last; and, where pooled, which of the four of each 2 x 2 it was (0 to 3). What is
        infinite or no number reaches all that it reaches in the sum over taps, and at most the rest of the 2 x 2 tiles that
        read it. The error is bounded by ``MAX_WINOGRAD_ERROR``.
    """
    library = kernels()
    assert library is not None, "planned only where the kernels are"
    num_samples, channels, height, width = maps.shape
    filters = weight.shape[0]
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    shape = (num_samples, filters, *((side // 2 for side in size) if is_pooled else size))
    out = _empty(shape, torch.bfloat16, torch.channels_last)
    where = _empty(shape, torch.uint8, torch.channels_last) if is_pooled else None
    panels = _panels(library, weight.permute(2, 3, 1, 0))
    sizes = (num_samples, height, width, channels, filters, padding, *size, int(is_pooled), torch.get_num_threads())
    check_status(library.visus_winograd_forward(*map(_address, (maps, panels, out, where)), *sizes))
    return out, where


def winograd_backward(
    gradient: torch.Tensor,
    maps: torch.Tensor,
    weight: torch.Tensor,
    padding: int,
    wants_maps: bool = True,
    wants_weight: bool = True,
    *,
    where: torch.Tensor | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradients of ``winograd_forward`` with respect to ``maps`` (bfloat16) and ``weight`` (float32), by the same error bound.

    Args:
        gradient: (N, K, OH, OW) bfloat16, channels last, of the output.
        maps, weight, padding: as in the forward.
        wants_maps, wants_weight: what is computed; None for the rest.
        where: as the forward gave it, for a pooled one.
    """
    library = kernels()
    assert library is not None, "planned only where the kernels are"
    num_samples, channels, height, width = maps.shape
    filters = weight.shape[0]
    size = (height + 2 * padding - 2, width + 2 * padding - 2)
    panels = _panels(library, weight.permute(2, 3, 0, 1)) if wants_maps else None
    of_maps = torch.empty_like(maps) if wants_maps else None
    of_weight = _empty((3, 3, channels, filters), torch.float32) if wants_weight else None
    sizes = (num_samples, height, width, channels, filters, padding, *size, int(where is not None), torch.get_num_threads())
    tensors = (gradient, where, maps, panels, of_maps, of_weight)
    check_status(library.visus_winograd_backward(*map(_address, tensors), *sizes))
    return of_maps, None if of_weight is None else of_weight.permute(3, 2, 0, 1)


def _panels(library: ctypes.CDLL, weight: torch.Tensor) -> torch.Tensor:
    """Transformed weights for a product that sums over the third axis of (3, 3, in, out)."""
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
    """Memory of the processor, whatever type and device new tensors have by default."""
    return torch.empty(shape, dtype=dtype, device="cpu", memory_format=layout)


def _address(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
