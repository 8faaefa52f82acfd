"""Convolutions of single channels by the compiled kernels: forward and both gradients.

This file knows the calls of the kernels and what they can compute.

Letters: N samples, C channels, H and W the sides of the map in, OH and OW of the map out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.windows import TapGeometry

MAX_TAPS = 7  # on one axis


def is_depthwise(maps: Sequence[int], weight: Sequence[int], window: TapGeometry) -> bool:
    """Whether the kernels compute this convolution: as many filters of one channel as there are channels, at most 7 x 7 taps.

    Args:
        maps: (N, C, H, W).
        weight: (C, 1, *taps); a single channel is an ordinary convolution.
        window: any stride and padding.
    """
    return (
        len(maps) == 4
        and maps[1] == weight[0] > 1
        and weight[1] == 1
        and max(weight[2:]) <= MAX_TAPS
        and len(window.stride) == len(window.padding) == 2
    )


def depthwise_forward(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> torch.Tensor:
    """The convolution: ``maps`` (N, C, H, W) bfloat16, channels last, and ``weight`` (C, 1, *taps) to (N, C, OH, OW) like ``maps``."""
    library = kernels()
    assert library is not None, "planned only where the kernels are"
    sizes = _sizes(maps, weight, window)
    out = torch.empty((*maps.shape[:2], *sizes[4:6]), dtype=torch.bfloat16, device="cpu", memory_format=torch.channels_last)
    taps = _taps(weight)
    check_status(library.visus_depthwise_forward(*map(_address, (maps, taps, out)), *sizes))
    return out


def depthwise_input_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry
) -> torch.Tensor:
    """The gradient of ``maps``, like them, from that of the output, bfloat16, channels last."""
    library = kernels()
    assert library is not None, "planned only where the kernels are"
    out, taps = torch.empty_like(maps), _taps(weight)
    sizes = _sizes(maps, weight, window)
    check_status(library.visus_depthwise_input_gradient(*map(_address, (gradient, taps, out)), *sizes))
    return out


def depthwise_weight_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry
) -> torch.Tensor:
    """The gradient of ``weight``, (C, 1, *taps) float32, from that of the output, bfloat16, channels last.

    Its bits do not depend on the number of threads.
    """
    library = kernels()
    assert library is not None, "planned only where the kernels are"
    out = torch.empty((*weight.shape[2:], maps.shape[1]), dtype=torch.float32, device="cpu")
    sizes = _sizes(maps, weight, window)
    check_status(library.visus_depthwise_weight_gradient(*map(_address, (maps, gradient, out)), *sizes))
    return out.movedim(-1, 0).unsqueeze(1)


def _sizes(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> tuple[int, ...]:
    """N, H, W, C, OH, OW, taps, stride, padding and threads, as the kernels take them."""
    num_samples, channels, *size = maps.shape
    taps = tuple(weight.shape[2:])
    sides = zip(size, taps, window.stride, window.padding, strict=True)
    out = ((length + 2 * padding - num) // stride + 1 for length, num, stride, padding in sides)
    return num_samples, *size, channels, *out, *taps, *window.stride, *window.padding, torch.get_num_threads()


def _taps(weight: torch.Tensor) -> torch.Tensor:
    """(C, 1, *taps) of any floating type as (*taps, C) float32."""
    return weight.detach().squeeze(1).movedim(0, -1).to(torch.float32).contiguous()


def _address(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
