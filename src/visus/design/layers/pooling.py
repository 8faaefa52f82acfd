"""Layers without weights that shrink or enlarge maps: pools, blur pooling, upsampling, global pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Final, Literal

from visus.design.arguments import PerAxis, Shape, check_flag, check_whole, largest, per_axis
from visus.design.layers.layer import DoesNotFitError, Layer, Windowed, map_text, smaller_kernels, spatial_size
from visus.design.memory.convolution_buffers import ConvolutionBuffers
from visus.design.memory.saved import BYTES_PER_VALUE, Bytes, SavedForBackward, num_bytes
from visus.design.reference import Reference, torch_call
from visus.geometry import AxisOp, Upsampling, Window, same_padding
from visus.units import write_shape

__all__ = [
    "BLUR_KERNELS",
    "AvgPool",
    "BlurPool",
    "GlobalPool",
    "MaxPool",
    "Pool",
    "Upsample",
    "avgpool",
    "blurpool",
    "globalpool",
    "maxpool",
    "upsample",
]

LENGTH: Final = (
    "min(ceil((L_in + 2*padding - kernel_size)/stride), (L_in + padding - 1)//stride) + 1 "
    "if ceil_mode else (L_in + 2*padding - kernel_size)//stride + 1"
)
MAX_SCALE: Final = 32
_INDEX_BYTES: Final = 8  # a max pool saves the index of each maximum as int64
BLUR_KERNELS: Final = range(3, 8)


@dataclass(frozen=True, repr=False)
class Pool(Windowed):
    """Common base of maxpool and avgpool. Abstract."""

    prefix = "pool"
    positional = 1
    row_kind = "pool"

    kernel_size: PerAxis = 2
    stride: PerAxis | None = None
    padding: PerAxis = 0
    ceil_mode: bool = False

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes()
        mistakes += check_whole("kernel_size", self.kernel_size, least=1, axes=True)
        if self.stride is not None:
            mistakes += check_whole("stride", self.stride, least=1, axes=True)
        mistakes += check_whole("padding", self.padding, least=0, axes=True)
        if not mistakes and self._pads_too_much():
            mistakes.append(
                f"padding={self.padding} is more than half of kernel_size={self.kernel_size}: a window would see only padding. Use less padding or a larger kernel."
            )
        return mistakes + check_flag("ceil_mode", self.ceil_mode)

    def torch_code(self, input_shape: Shape) -> str:
        return torch_call(
            f"{type(self).__name__}{len(input_shape) - 1}d",
            self.kernel_size,
            stride=(self.kernel_size if self.stride is None else self.stride, self.kernel_size),
            padding=(self.padding, 0),
            ceil_mode=(self.ceil_mode, False),
        )

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        kernels = per_axis("kernel_size", self.kernel_size, num_axes)
        strides = kernels if self.stride is None else per_axis("stride", self.stride, num_axes)
        pads = per_axis("padding", self.padding, num_axes)
        return tuple(
            Window(kernel, stride, (pad, pad), ceil_mode=self.ceil_mode)
            for kernel, stride, pad in zip(kernels, strides, pads, strict=True)
        )

    def _pads_too_much(self) -> bool:
        num_axes = max(len(value) if isinstance(value, tuple) else 1 for value in (self.kernel_size, self.padding))
        kernels = self.kernel_size if isinstance(self.kernel_size, tuple) else (self.kernel_size,) * num_axes
        pads = self.padding if isinstance(self.padding, tuple) else (self.padding,) * num_axes
        return any(pad > kernel // 2 for pad, kernel in zip(pads, kernels, strict=False))

    def kernels_to_try(self) -> Many[object]:
        return smaller_kernels(self.kernel_size, min_kernel=2)


@dataclass(frozen=True, repr=False)
class MaxPool(Pool):
    """The maximum of each window.

    Args:
        kernel_size: pixels of the window, one number for all axes or one for each.
        stride: default: the kernel's size, so that windows do not overlap.
        padding: at most half the kernel, as in torch; padding never is the maximum.
        ceil_mode: keep a last window that reaches beyond the map.

    >>> MaxPool(2).output_shape((16, 28, 28))
    (16, 14, 14)
    """

    word = "maxpool"
    reference = Reference(
        "y[c, q] = max(x[c, q*stride - padding + k] for k in range(kernel_size))",
        "Positions outside the map do not count.",
        length=LENGTH,
        example="maxpool(2)",
        drawn=("maxpool(2)", "maxpool(3, stride=2, padding=1)"),
    )

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        return SavedForBackward(input=True, extra=Bytes(0, _INDEX_BYTES * math.prod(output_shape)))


@dataclass(frozen=True, repr=False)
class AvgPool(Pool):
    """The mean of each window.

    Args:
        kernel_size: pixels of the window, one number for all axes or one for each.
        stride: default: the kernel's size, so that windows do not overlap.
        padding: at most half the kernel, as in torch; the mean counts padding as zeros.
        ceil_mode: keep a last window that reaches beyond the map.

    >>> AvgPool(3, stride=2, padding=1).output_shape((16, 28, 28))
    (16, 14, 14)
    """

    word = "avgpool"
    is_affine = True
    reference = Reference(
        "y[c, q] = 1/kernel_size*sum(x[c, q*stride - padding + k] for k in range(kernel_size))",
        "Outside the map, x is 0. With ceil_mode, a last window that reaches beyond the padding is divided by the positions up to its end.",
        length=LENGTH,
        example="avgpool(2)",
        drawn=("avgpool(2)",),
    )
    saved = SavedForBackward(input=True)

    def fits(self, axis_op: AxisOp, length: int, num_axes: int) -> bool:
        return axis_op.fits(length) and (num_axes < 3 or not isinstance(axis_op, Window) or length >= axis_op.kernel_size)

    def output_shape(self, input_shape: Shape) -> Shape:
        size = input_shape[1:]
        windows = self.windows(len(size)) if len(size) == 3 else ()
        for window, length in zip(windows, size, strict=False):
            if window.fits(length) and not self.fits(window, length, len(size)):
                raise DoesNotFitError(
                    f"torch averages volumes only where the map without its padding is as long as the window, "
                    f"{window.kernel_size}, and it is {write_shape(size)}."
                )
        return super().output_shape(input_shape)


@dataclass(frozen=True, repr=False)
class BlurPool(Windowed):
    """A low-pass filter against aliasing, then the stride (Zhang 2019, arXiv:1904.11486).

    It filters each channel separately with fixed weights: a normalized row of Pascal's triangle on each axis. The border is
    mirrored, so
    the size is divided by the stride and rounded up.

    Args:
        kernel_size: 3 to 7 pixels, on every axis; 3 is the filter 1, 2, 1.
        stride: one number for all axes or a tuple with one for each.

    >>> BlurPool(3).output_shape((16, 15, 15))
    (16, 8, 8)
    """

    prefix = word = "blurpool"
    is_affine = True
    positional = 1
    reference = Reference(
        "y[c, q] = 1/2**(kernel_size - 1)*sum(comb(kernel_size - 1, k)*x[c, q*stride - (kernel_size - 1)//2 + k] "
        "for k in range(kernel_size))",
        "comb is the binomial coefficient. Outside the map, x is mirrored at its first and last position.",
        length="ceil(L_in/stride)",
        macs="C_in*prod(L_out)*kernel_size**rank",
        example="blurpool(3)",
        drawn=("blurpool(3)",),
        difference="PyTorch has no blur pooling: it is a mirrored padding and a depthwise convolution with fixed weights.",
    )

    kernel_size: int = 3
    stride: PerAxis = 2

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes()
        if (
            not isinstance(self.kernel_size, int)
            or isinstance(self.kernel_size, bool)
            or self.kernel_size not in BLUR_KERNELS
        ):
            mistakes.append(f"kernel_size of a blurpool must be a whole number from 3 to 7, not {self.kernel_size!r}.")
        return mistakes + check_whole("stride", self.stride, least=1, axes=True)

    @property
    def weights(self) -> tuple[float, ...]:
        """The filter on one axis; its sum is 1.

        >>> BlurPool(3).weights
        (0.25, 0.5, 0.25)
        """
        last = self.kernel_size - 1
        return tuple(math.comb(last, index) / 2**last for index in range(self.kernel_size))

    def torch_code(self, input_shape: Shape) -> str:
        channels, rank = input_shape[0], len(input_shape) - 1
        row = [float(math.comb(self.kernel_size - 1, index)) for index in range(self.kernel_size)]
        axes, pads = "ijk"[:rank], same_padding(self.kernel_size) * rank
        return (
            f"row = torch.tensor({row}) / {2 ** (self.kernel_size - 1)}\n"
            f'filters = torch.einsum("{",".join(axes)}->{axes}"{", row" * rank})\n'
            f"filters = filters.expand({channels}, 1{', -1' * rank})\n"
            f'padded = torch.nn.functional.pad(x, {pads}, mode="reflect")\n'
            f"y = torch.nn.functional.conv{rank}d(padded, filters, stride={self.stride}, groups={channels})"
        )

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        pads = same_padding(self.kernel_size)
        return tuple(
            Window(self.kernel_size, stride, pads, reflect=True) for stride in per_axis("stride", self.stride, num_axes)
        )

    def bytes_weights(self, input_shape: Shape) -> int:
        return int(BYTES_PER_VALUE * self.kernel_size ** len(spatial_size(input_shape, self.word)))

    def macs(self, input_shape: Shape) -> int:
        return int(math.prod(self.output_shape(input_shape)) * self.kernel_size ** (len(input_shape) - 1))

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        num_axes, channels = len(input_shape) - 1, input_shape[0]
        padded = (channels, *(length + self.kernel_size - 1 for length in input_shape[1:]))
        buffers = ConvolutionBuffers(
            padded,
            output_shape,
            BYTES_PER_VALUE * channels * self.kernel_size**num_axes,
            num_taps=self.kernel_size**num_axes,
            num_groups=channels,
            is_strided=largest(self.stride) > 1,
            is_channels_last=is_channels_last,
        )
        gradient = num_bytes(padded)  # of the padded map, from which that of the map itself is made
        unpadding = gradient - num_bytes(input_shape)
        to_padded = tuple(Bytes(max(0, each.fixed), each.sample + unpadding) for each in buffers.to_input())
        return SavedForBackward(
            True, extra=Bytes(0, gradient), forward=buffers.forward(), backward=(Bytes(0, gradient), *to_padded)
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        size, mirrored = spatial_size(input_shape, self.word), max(same_padding(self.kernel_size))
        if min(size) <= mirrored:
            raise DoesNotFitError(
                f"a blurpool of {self.kernel_size} mirrors {mirrored} px at the border and needs {mirrored + 1} px on every "
                f"axis, and gets {map_text(size)}."
            )
        return super().output_shape(input_shape)


@dataclass(frozen=True, repr=False)
class Upsample(Windowed):
    """Enlarges the map: each position is copied (``"nearest"``), or interpolated between neighbors (``"linear"``, on two
    axes bilinear).

    Args:
        scale_factor: 1 to 32, one number for all axes or a tuple with one for each.
        mode: ``"nearest"`` or ``"linear"``; the latter as in torch with ``align_corners=False``.

    >>> Upsample(2).output_shape((16, 7, 7))
    (16, 14, 14)
    """

    prefix = word = "upsample"
    is_affine = True
    positional = 1
    reference = Reference(
        "u = (q + 1/2)/scale_factor - 1/2\n"
        "p = floor(u)\n"
        'y[c, q] = x[c, q//scale_factor] if mode == "nearest" else (1 - u + p)*x[c, p] + (u - p)*x[c, p + 1]',
        "Outside the map, x continues its first and last value.",
        length="L_in*scale_factor",
        example="upsample(2)",
        drawn=("upsample(2)", 'upsample(2, mode="linear")'),
        difference='PyTorch names the linear mode by the number of axes: "linear", "bilinear", "trilinear".',
    )

    scale_factor: PerAxis = 2
    mode: Literal["nearest", "linear"] = "nearest"

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes() + check_whole("scale_factor", self.scale_factor, least=1, axes=True)
        if not mistakes and largest(self.scale_factor) > MAX_SCALE:
            mistakes.append(f"scale_factor must be at most {MAX_SCALE}, not {self.scale_factor}.")
        if self.mode not in ("nearest", "linear"):
            mistakes.append(
                f'mode of upsample is "nearest" or "linear" (on two axes bilinear, on three trilinear), not {self.mode!r}.'
            )
        return mistakes

    def torch_code(self, input_shape: Shape) -> str:
        mode = self.mode if self.mode == "nearest" else ("linear", "bilinear", "trilinear")[len(input_shape) - 2]
        return f'torch.nn.Upsample(scale_factor={self.scale_factor}, mode="{mode}")'

    def axis_ops(self, num_axes: int) -> tuple[AxisOp, ...]:
        return tuple(Upsampling(scale, self.mode) for scale in per_axis("scale_factor", self.scale_factor, num_axes))

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        copies = len(input_shape) == 3 and not is_channels_last  # torch enlarges images channels-last
        return SavedForBackward(forward=(Bytes(0, num_bytes(input_shape) + num_bytes(output_shape) if copies else 0),))


@dataclass(frozen=True, repr=False)
class GlobalPool(Layer):
    """One feature for each channel: the mean (``"avg"``) or the maximum (``"max"``) over all positions.

    Args:
        kind: ``"avg"`` or ``"max"``.

    >>> GlobalPool().output_shape((512, 7, 7))
    (512,)
    """

    prefix = word = "globalpool"
    reference = Reference(
        'y[c] = 1/L_in*sum(x[c, p] for p in range(L_in)) if kind == "avg" else max(x[c, p] for p in range(L_in))',
        length=None,
        example="globalpool",
        drawn=("globalpool",),
        difference="PyTorch's adaptive pools keep axes of length 1, so a flatten follows.",
    )
    context = "global"
    row_kind = "global pool"

    kind: Literal["avg", "max"] = "avg"

    @property
    def text(self) -> str:
        """``globalpool`` or ``globalpool("max")``."""
        parts = [] if self.kind == "avg" else [f'"{self.kind}"']
        parts += [] if self.name is None else [f'name="{self.name}"']
        return f"{self.word}({', '.join(parts)})" if parts else self.word

    def _mistakes(self) -> list[str]:
        known = self.kind in ("avg", "max")
        return super()._mistakes() + ([] if known else [f'a global pool is "avg" or "max", not {self.kind!r}.'])

    def torch_code(self, input_shape: Shape) -> str:
        pool = f"Adaptive{self.kind.title()}Pool{len(input_shape) - 1}d"
        return f"torch.nn.Sequential(torch.nn.{pool}(1), torch.nn.Flatten())"

    def output_shape(self, input_shape: Shape) -> Shape:
        spatial_size(input_shape, self.word)
        return input_shape[:1]

    def output_length(self, length: int, axis: int, num_axes: int) -> int | None:
        return None

    def min_input_length(self, output_length: int, axis: int, num_axes: int) -> int:
        return 1

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        if self.kind == "avg":
            return SavedForBackward()
        return SavedForBackward(input=True, output=True, backward=(Bytes(0, num_bytes(input_shape)),))


maxpool, avgpool, blurpool, globalpool, upsample = MaxPool, AvgPool, BlurPool, GlobalPool, Upsample
