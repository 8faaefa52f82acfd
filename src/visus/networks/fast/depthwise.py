"""Depthwise convolutions by the compiled kernels: forward pass and both gradients.

Shape letters: N samples, C channels, H and W input size, OH and OW output size.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from visus.networks.fast.compiler import check_status, kernels
from visus.networks.fast.windows import TapGeometry

MAX_TAPS = 7  # on one axis


def is_depthwise(maps: Sequence[int], weight: Sequence[int], window: TapGeometry) -> bool:
    """Whether the kernels support this convolution: depthwise, with one filter per channel and a kernel of at most 7 x 7.

    Args:
        maps: shape (N, C, H, W); with a single channel, the convolution is an ordinary one.
        weight: shape (C, 1, *taps).
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
    """Convolve ``maps`` (N, C, H, W), bfloat16 and channels-last, with ``weight`` (C, 1, *taps) to (N, C, OH, OW), in the same format."""
    library = kernels()
    assert library is not None, "plans without kernels never get here"
    sizes = _sizes(maps, weight, window)
    out = torch.empty((*maps.shape[:2], *sizes[4:6]), dtype=torch.bfloat16, device="cpu", memory_format=torch.channels_last)
    taps = _taps(weight)
    check_status(library.visus_depthwise_forward(*map(_address, (maps, taps, out)), *sizes))
    return out


def depthwise_input_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry
) -> torch.Tensor:
    """The gradient of ``maps`` from ``gradient`` of the output; all are bfloat16 and channels-last."""
    library = kernels()
    assert library is not None, "plans without kernels never get here"
    out, taps = torch.empty_like(maps), _taps(weight)
    sizes = _sizes(maps, weight, window)
    check_status(library.visus_depthwise_input_gradient(*map(_address, (gradient, taps, out)), *sizes))
    return out


def depthwise_weight_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry
) -> torch.Tensor:
    """The gradient of ``weight``, (C, 1, *taps) float32, from ``gradient`` of the output, bfloat16 and channels-last.

    It is bit-identical for any number of threads.
    """
    library = kernels()
    assert library is not None, "plans without kernels never get here"
    out = torch.empty((*weight.shape[2:], maps.shape[1]), dtype=torch.float32, device="cpu")
    sizes = _sizes(maps, weight, window)
    check_status(library.visus_depthwise_weight_gradient(*map(_address, (maps, gradient, out)), *sizes))
    return out.movedim(-1, 0).unsqueeze(1)


def _sizes(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> tuple[int, ...]:
    """The kernels' size arguments: N, H, W, C, OH, OW, taps, stride, padding and threads."""
    num_samples, channels, *size = maps.shape
    taps = tuple(weight.shape[2:])
    sides = zip(size, taps, window.stride, window.padding, strict=True)
    out = ((length + 2 * padding - num) // stride + 1 for length, num, stride, padding in sides)
    return num_samples, *size, channels, *out, *taps, *window.stride, *window.padding, torch.get_num_threads()


def _taps(weight: torch.Tensor) -> torch.Tensor:
    """Convert (C, 1, *taps) of any floating dtype to (*taps, C) float32."""
    return weight.detach().squeeze(1).movedim(0, -1).to(torch.float32).contiguous()


def _address(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
