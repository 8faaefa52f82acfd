"""Convolutions in float32 within a bfloat16 network, where PyTorch's bfloat16 gradients on a CPU are wrong or slow."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

VOLUME_SIDE: Final = 2.0
"""Side of a volume's map, relative to the kernel's extent, from which bfloat16 was correct in all experiments."""
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_wrong_in_bfloat16(layer: Any, x: Tensor) -> bool:
    """Whether PyTorch's weight gradients of a convolution may be wrong in bfloat16 on a CPU, for this input.

    With torch 2.13 on a CPU with AVX-512 BF16, parts of them stayed uninitialized memory (with NaN) if a side of the map was smaller than the stride.
    With three axes this also happened for kernels of 3 on maps of side 2, and for kernels of 5 on maps of sides 1, 3 and 4; kernels of 7 wrote out of
    bounds. For a transposed convolution, the output counts as the map.

    Args:
        layer: a convolution, transposed or not.
        x: (N, C, *) input.
    """
    kernel: tuple[int, ...] = layer.kernel_size
    stride: tuple[int, ...] = layer.stride
    dilation: tuple[int, ...] = layer.dilation
    if x.device.type != "cpu" or max(kernel) == 1 or x.ndim != len(kernel) + 2:
        return False
    sides: tuple[int, ...] = tuple(x.shape[2:])
    extents: list[int] = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
    is_transposed = isinstance(layer, _TRANSPOSED)
    if is_transposed:
        borders = [more - 2 * pad for pad, more in zip(layer.padding, layer.output_padding, strict=True)]
        sides = tuple(
            (n - 1) * step + extent + more for n, step, extent, more in zip(sides, stride, extents, borders, strict=True)
        )
    factor = VOLUME_SIDE if len(kernel) == 3 else 0
    return any(side < max(factor * extent, step) for side, extent, step in zip(sides, extents, stride, strict=True))


def is_slow_in_bfloat16(layer: Any, x: Tensor) -> bool:
    """Whether PyTorch's gradients are slower in bfloat16 than in float32 on a CPU: depthwise convolutions with a stride or a kernel above 3.

    On a CPU with AVX-512 BF16 (torch 2.13, one core, 32 maps, channels-last) they took 70 ms instead of 22 (96 channels, 3 x 3, stride 2, 64 px),
    80 instead of 2 (144, 5 x 5, stride 2, 32 px) and 28 instead of 8 (1152, 5 x 5, 4 px). The forward passes take equally long.
    """
    is_depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    return x.device.type == "cpu" and is_depthwise and (max(layer.kernel_size) > 3 or max(layer.stride) > 1)


def in_float32(forward: Callable[..., Any], x: Tensor, *given: Any, **options: Any) -> Any:
    """Call ``forward`` with float32 inputs and without autocast, and convert its output to autocast's dtype.

    An output that is not a tensor is returned unchanged.
    """
    kind = x.device.type
    with torch.autocast(kind, enabled=False):
        found = forward(*map(_float32, (x, *given)), **{name: _float32(value) for name, value in options.items()})
    return found.to(torch.get_autocast_dtype(kind)) if isinstance(found, Tensor) and found.dtype == torch.float32 else found


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def suits_float32(layer: Any, x: Any) -> bool:
    """Whether a convolution under autocast can run in float32: its weights are float32, and PyTorch is not tracing."""
    return (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and layer.weight.dtype == torch.float32
        and torch.is_autocast_enabled(x.device.type)
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


class _Forward:
    """A temporary ``forward`` of a convolution: in float32 if bfloat16 is wrong or slow. Copies of the layer get their own."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, *given: Any, **options: Any) -> Any:
        layer: Any = self.layer
        own = functools.partial(type(layer).forward, layer)
        x: Any = given[0] if given else None
        if suits_float32(layer, x) and (is_wrong_in_bfloat16(layer, x) or is_slow_in_bfloat16(layer, x)):
            return in_float32(own, *given, **options)
        return own(*given, **options)


@contextlib.contextmanager
def float32_where_needed(module: nn.Module, precision: str = "bfloat16") -> Iterator[None]:
    """A context in which convolutions compute in float32 if bfloat16 is slow or wrong.

    It skips layers that ``speed_up`` has changed, which do this themselves, and layers with a ``forward`` on the instance.
    Classes, weights, names and the printed form of the module do not change.

    Args:
        module: any network.
        precision: precision of the network; the context has an effect only with bfloat16.

    >>> network = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2))
    >>> with float32_where_needed(network):
    ...     "forward" in network[0].__dict__
    True
    >>> "forward" in network[0].__dict__
    False
    """
    changed = []
    for part in module.modules() if precision == "bfloat16" else ():
        is_ours = isinstance(part, (*_CONVOLUTIONS, *_TRANSPOSED)) and not hasattr(part, "handles_float32")
        if is_ours and "forward" not in part.__dict__:
            part.__dict__["forward"] = _Forward(part)
            changed.append(part)
    try:
        yield
    finally:
        for part in changed:
            part.__dict__.pop("forward", None)
