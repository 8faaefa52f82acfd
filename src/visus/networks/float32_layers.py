"""Convolutions computed in float32 inside bfloat16, where PyTorch's kernels on processors are slow or wrong at their gradients.

This file knows kinds of layers and where PyTorch's kernels for them fall short. It must not know designs, data or training.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

VOLUME_SIDE: Final = 2.0
"""Sides of a volume's map, in extents of the kernel, from which bfloat16 was right in all that was tried."""
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_wrong_in_bfloat16(layer: Any, x: Tensor) -> bool:
    """Whether PyTorch's gradients of a convolution's weights may be wrong in bfloat16 for these maps on a processor.

    With torch 2.13 on a processor with AVX-512 BF16, they were left unwritten in part, so that they held whatever the memory held (NaN among
    it): with one and two axes where a side of the map is smaller than the stride; with three for kernels of 3 on maps of side 2, with a
    stride of 2 on side 1, and for kernels of 5 on maps of sides 1, 3 and 4; kernels of 7 wrote beyond their memory. Of a transposed
    convolution the output takes the part of the map.

    Args:
        layer: a convolution, transposed or not.
        x: (N, C, *), its input.
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
    least = tuple(VOLUME_SIDE * extent for extent in extents) if len(kernel) == 3 else stride
    return any(side < bound for side, bound in zip(sides, least, strict=True))


def is_slow_in_bfloat16(layer: Any, x: Tensor) -> bool:
    """Whether PyTorch's gradients of a convolution are slower in bfloat16 than in float32 on a processor: single channels with a stride, or wider
    than 3.

    On a processor with AVX-512 BF16 (torch 2.13, one core, 32 maps, channels last) they took 70 ms instead of 22 (96 channels, 3 x 3, stride 2,
    64 px), 80 instead of 2 (144, 5 x 5, stride 2, 32 px) and 28 instead of 8 (1152, 5 x 5, 4 px); the forward passes take as long in both.
    """
    is_depthwise = isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    return x.device.type == "cpu" and is_depthwise and (max(layer.kernel_size) > 3 or max(layer.stride) > 1)


def in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``forward`` gives with autocast off: numbers go in and out in autocast's format, and are float32 in between."""
    kind = x.device.type
    with torch.autocast(kind, enabled=False):
        y = forward(x.float())
    return y.to(torch.get_autocast_dtype(kind))


@contextlib.contextmanager
def float32_where_needed(module: nn.Module) -> Iterator[None]:
    """Inside the ``with``, convolutions compute in float32 where bfloat16 is slow or wrong; afterwards all is as it was.

    Layers that ``speed_up`` has changed see to it themselves. Weights, names and what is printed stay.

    >>> network = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2))
    >>> with float32_where_needed(network), torch.autocast("cpu", torch.bfloat16):
    ...     type(network[0]) is nn.Conv2d, network(torch.zeros(1, 4, 8, 8)).dtype
    (False, torch.bfloat16)
    >>> type(network[0]) is nn.Conv2d
    True
    """
    changed: list[tuple[Any, Any]] = []
    for part in module.modules():
        if isinstance(part, (*_CONVOLUTIONS, *_TRANSPOSED)) and not isinstance(part, SeesToFloat32):
            kind: Any = type(part)
            changed.append((part, kind))
            part.__class__ = _derived(kind)  # type: ignore[assignment]
    try:
        yield
    finally:
        for part, kind in changed:
            if type(part) is _derived(kind):
                part.__class__ = kind


class SeesToFloat32:
    """A convolution that computes in float32 where that is needed. Abstract."""

    def plain_forward(self: Any, *args: Any, **options: Any) -> Tensor:
        """What PyTorch's own layer gives, but in float32 where bfloat16 would be wrong or slow."""
        above = super().forward  # type: ignore[misc]
        x = args[0] if len(args) == 1 and not options else None
        if isinstance(x, Tensor) and torch.is_autocast_enabled(x.device.type) and self.needs_float32(x):
            return in_float32(above, x)
        return above(*args, **options)  # type: ignore[no-any-return]

    def needs_float32(self, x: Tensor) -> bool:
        """Whether these maps are to be computed in float32."""
        return is_wrong_in_bfloat16(self, x) or is_slow_in_bfloat16(self, x)


class _Derived(SeesToFloat32):
    """What stands before the class of a layer for a while. Abstract."""

    _visus_plain: type[nn.Module]
    forward = SeesToFloat32.plain_forward

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return copyreg._reconstructor, (self._visus_plain, object, None), self.__dict__  # type: ignore[attr-defined]


@functools.cache
def _derived(kind: type[nn.Module]) -> type[nn.Module]:
    """A class of a layer's name that computes as the layer does, in float32 where that is needed; copies are of the layer's own class."""
    return type(kind.__name__, (_Derived, kind), {"_visus_plain": kind, "__module__": kind.__module__})
