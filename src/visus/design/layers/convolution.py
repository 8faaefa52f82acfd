"""Convolutions: over all channels, over each channel alone, whitening, and transposed."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from visus.design.arguments import (
    PerAxis,
    Shape,
    check_count,
    check_flag,
    check_whole,
    classes,
    largest,
    need_number,
    per_axis,
)
from visus.design.layers.layer import Layer, Windowed, spatial_size
from visus.design.memory.convolution_buffers import ConvolutionBuffers
from visus.design.memory.saved import BYTES_PER_VALUE, Bytes, SavedForBackward, num_bytes
from visus.errors import DesignError
from visus.geometry import AxisOp, TransposedWindow, Window, same_padding

MAX_WHITENED: Final = 2_048  # channels; their patches' covariance has a quarter of this number squared


__all__ = ["Conv", "Convolution", "Depthwise", "Transposed", "Whiten", "conv", "depthwise", "transposed", "whiten"]


@dataclass(frozen=True, repr=False)
class _AnyConvolution(Windowed):
    """Common base of all convolutions. Abstract."""

    if TYPE_CHECKING:  # fields of the final classes, in their own order there

        @property
        def kernel_size(self) -> PerAxis: ...
        @property
        def stride(self) -> PerAxis: ...
        @property
        def padding(self) -> PerAxis | Literal["same"]: ...
        @property
        def dilation(self) -> PerAxis: ...
        @property
        def bias(self) -> bool | None: ...

    def _numbers(self, name: str, num_axes: int) -> tuple[int, ...]:
        """An argument with one number for each axis."""
        return per_axis(name, getattr(self, name), num_axes)

    @abstractmethod
    def num_groups(self, in_channels: int) -> int:
        """Number of groups of channels: an output channel reads the input channels of its own group."""

    def resolved(self, num_classes: int | None, *, norm_follows: bool) -> Layer:
        changes: dict[str, Any] = {}
        if getattr(self, "out_channels", None) == classes and num_classes is not None:
            changes["out_channels"] = num_classes
        if self.bias is None:
            changes["bias"] = not norm_follows
        return dataclasses.replace(self, **changes) if changes else self

    @property
    def has_bias(self) -> bool:
        """Whether each output channel has a bias; an undecided bias counts as one."""
        return self.bias is not False

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        kernels, dilations = self._numbers("kernel_size", num_axes), self._numbers("dilation", num_axes)
        if self.padding == "same":
            pads = tuple(same_padding(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=True))
        else:
            pads = tuple((pad, pad) for pad in self._numbers("padding", num_axes))
        return tuple(map(Window, kernels, self._numbers("stride", num_axes), pads, dilations))

    def num_parameters(self, input_shape: Shape) -> int:
        return self._out_channels(input_shape) * (self._taps(input_shape) + self.has_bias)

    def largest_weight(self, input_shape: Shape) -> int:
        return self._out_channels(input_shape) * self._taps(input_shape)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * self._taps(input_shape)

    def _taps(self, input_shape: Shape) -> int:
        """Number of products that are added for one output value."""
        kernel = self._numbers("kernel_size", len(spatial_size(input_shape, self.word)))
        return input_shape[0] // self.num_groups(input_shape[0]) * math.prod(kernel)

    def _buffers(self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool) -> ConvolutionBuffers:
        """The buffers of the convolution while it is computed."""
        axis_ops: Any = self.axis_ops(len(input_shape) - 1)
        return ConvolutionBuffers(
            input_shape,
            output_shape,
            BYTES_PER_VALUE * self.num_parameters(input_shape),
            num_taps=math.prod(axis_op.kernel_size for axis_op in axis_ops),
            num_groups=self.num_groups(input_shape[0]),
            is_strided=any(axis_op.stride > 1 for axis_op in axis_ops),
            is_channels_last=is_channels_last,
        )

    def _check_groups(self, in_channels: int, out_channels: int) -> None:
        """Raise if the groups do not divide the channels on both sides."""
        groups = self.num_groups(in_channels)
        if in_channels % groups or out_channels % groups:
            common = math.gcd(in_channels, out_channels)
            fitting = [str(groups) for groups in range(1, common + 1) if common % groups == 0]
            shown = fitting if len(fitting) <= 6 else [*fitting[:5], "..", fitting[-1]]
            raise DesignError(
                f"groups={groups} must divide the {in_channels} channels that come in and the {out_channels} "
                f"that go out. Groups that do: {', '.join(shown)}."
            )

    def _mistakes(self) -> list[str]:
        mistakes = super()._mistakes()
        mistakes += check_whole("kernel_size", self.kernel_size, least=1, axes=True)
        mistakes += check_whole("stride", self.stride, least=1, axes=True)
        mistakes += self._padding_mistakes()
        mistakes += check_whole("dilation", self.dilation, least=1, axes=True)
        return mistakes + check_flag("bias", self.bias, none_allowed=True)

    def _padding_mistakes(self) -> list[str]:
        if isinstance(self.padding, str):
            if self.padding != "same":
                return [f'padding is a number, a tuple of numbers or "same", not {self.padding!r}.']
            if largest(self.stride) > 1:
                return [
                    f'padding="same" needs a stride of 1, and the stride is {self.stride}. Give the padding as a number.'
                ]
            return []
        return check_whole("padding", self.padding, least=0, axes=True)


@dataclass(frozen=True, repr=False)
class Convolution(_AnyConvolution):
    """Common base of conv and depthwise: trained filters in a sliding window, with adjustable arguments. Abstract."""

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        buffers = self._buffers(input_shape, output_shape, is_channels_last=is_channels_last)
        forward, backward = buffers.forward(), buffers.backward()
        pads = [sum(window.padding) for window in self.windows(len(input_shape) - 1)]
        if all(window.padding[0] == window.padding[1] for window in self.windows(len(input_shape) - 1)):
            return SavedForBackward(True, forward=forward, backward=backward, to_input=buffers.to_input(), copies=True)
        padded = num_bytes((input_shape[0], *map(sum, zip(input_shape[1:], pads, strict=True))))  # torch pads a copy first
        backward = tuple(Bytes(each.fixed, each.sample + padded) for each in backward)
        return SavedForBackward(extra=Bytes(0, padded), forward=forward, backward=backward, copies=True)


@dataclass(frozen=True, repr=False)
class Conv(Convolution):
    """A convolution. The input's channels are never written: they are inferred.

    Args:
        out_channels: number of filters; ``classes`` for one per class.
        kernel_size, stride, padding, dilation: as in torch, one number for all axes or a tuple with one for each;
            ``padding="same"`` keeps the size (stride 1 only; an odd pixel goes to the far edge).
        groups: number of groups of channels; an output channel reads the input channels of its own group.
        bias: whether each output channel has a trained offset. Default: no bias if a ``norm`` (batch norm) follows directly,
            since
            that subtracts it again; else a bias.

    >>> Conv(64, 3, padding=1, bias=False).output_shape((3, 32, 32))
    (64, 32, 32)
    """

    prefix = word = "conv"
    positional = 2

    out_channels: int | Literal["classes"]
    kernel_size: PerAxis = 3
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    groups: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        mistakes = check_count("out_channels", self.out_channels, or_classes=True) + super()._mistakes()
        return mistakes + check_count("groups", self.groups)

    def num_groups(self, in_channels: int) -> int:
        return self.groups

    def output_shape(self, input_shape: Shape) -> Shape:
        out_channels = self._out_channels(input_shape)
        shape = super().output_shape(input_shape)
        self._check_groups(input_shape[0], out_channels)
        return shape

    def _out_channels(self, input_shape: Shape) -> int:
        return need_number("out_channels", self.out_channels)


@dataclass(frozen=True, repr=False)
class Depthwise(Convolution):
    """A convolution of each channel alone: ``depth_multiplier`` filters for each channel.

    Args:
        kernel_size, stride, padding, dilation, bias: as for ``conv``.
        depth_multiplier: output channels for each input channel.

    >>> Depthwise(3, padding=1, bias=False).num_parameters((32, 8, 8))
    288
    """

    prefix = word = "depthwise"
    positional = 1

    kernel_size: PerAxis = 3
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    depth_multiplier: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_count("depth_multiplier", self.depth_multiplier)

    def num_groups(self, in_channels: int) -> int:
        return in_channels

    def _out_channels(self, input_shape: Shape) -> int:
        return input_shape[0] * self.depth_multiplier


@dataclass(frozen=True, repr=False)
class Whiten(_AnyConvolution):
    """A convolution with fixed filters computed from the training data: the principal axes of its patches, and their negatives.

    Each filter is an eigenvector of the covariance of the patches, divided by the standard deviation along it, so that the output has
    deviation 1 and channels of different axes are uncorrelated. There are two filters for each value of a patch. Only the bias is
    trained.

    Args:
        kernel_size: of the patches, one number for all axes or a tuple with one for each.
        stride, padding: as for ``conv``.

    >>> Whiten(2).output_shape((3, 32, 32)), Whiten(2).num_parameters((3, 32, 32))
    ((24, 31, 31), 24)
    """

    prefix = word = "whiten"
    positional = 1
    dilation: ClassVar[int] = 1
    bias: ClassVar[bool] = True

    kernel_size: PerAxis = 2
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = super().output_shape(input_shape)
        num_values = self._taps(input_shape)
        if 2 * num_values > MAX_WHITENED:
            raise DesignError(
                f"whiten makes two channels for each of the {num_values:,} values of a patch; at most {MAX_WHITENED:,} channels are "
                "allowed. Use a smaller kernel_size."
            )
        return shape

    def num_groups(self, in_channels: int) -> int:
        return 1

    def num_parameters(self, input_shape: Shape) -> int:
        return self._out_channels(input_shape)

    def largest_weight(self, input_shape: Shape) -> int:
        return self.num_parameters(input_shape)

    def bytes_weights(self, input_shape: Shape) -> int:
        num_values = self._taps(input_shape)
        return BYTES_PER_VALUE * 2 * num_values * (num_values + 1)

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        """Nothing: its filters are fixed, and the gradient of the bias is a sum over the gradient of the output."""
        filter_bytes = self.bytes_weights(input_shape) - BYTES_PER_VALUE * self.num_parameters(input_shape)
        buffers = self._buffers(input_shape, output_shape, is_channels_last=is_channels_last)._replace(
            weight_bytes=filter_bytes
        )
        return SavedForBackward(forward=buffers.forward(), to_input=buffers.to_input())

    def _out_channels(self, input_shape: Shape) -> int:
        return 2 * self._taps(input_shape)


@dataclass(frozen=True, repr=False)
class Transposed(_AnyConvolution):
    """A transposed convolution: each input position is written to a window of the output, so the map grows.

    Args:
        out_channels, kernel_size, dilation, groups, bias: as for ``conv``.
        stride: output positions from the window of one input position to that of the next; the map grows by about this factor.
        padding: positions removed from both ends of the output.
        output_padding: positions added at the far end; less than the stride or the dilation.

    >>> Transposed(8, 4, stride=2, padding=1).output_shape((16, 7, 7))
    (8, 14, 14)
    """

    prefix = word = "transposed"
    positional = 2

    out_channels: int | Literal["classes"]
    kernel_size: PerAxis
    stride: PerAxis = 1
    padding: PerAxis = 0
    output_padding: PerAxis = 0
    dilation: PerAxis = 1
    groups: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        mistakes = check_count("out_channels", self.out_channels, or_classes=True) + super()._mistakes()
        mistakes += check_whole("output_padding", self.output_padding, least=0, axes=True)
        if not mistakes and self._pads_too_much():
            mistakes.append(
                f"output_padding={self.output_padding} must be less than stride={self.stride} or dilation={self.dilation}, "
                "as torch demands."
            )
        return mistakes + check_count("groups", self.groups)

    def _pads_too_much(self) -> bool:
        values = [self.output_padding, self.stride, self.dilation]
        num_axes = max(len(value) if isinstance(value, tuple) else 1 for value in values)
        rows = [value if isinstance(value, tuple) else (value,) * num_axes for value in values]
        return any(pad >= max(stride, dilation) for pad, stride, dilation in zip(*rows, strict=False))

    def _padding_mistakes(self) -> list[str]:
        return check_whole("padding", self.padding, least=0, axes=True)

    def num_groups(self, in_channels: int) -> int:
        return self.groups

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        return ()

    def axis_ops(self, num_axes: int) -> tuple[AxisOp, ...]:
        names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
        return tuple(map(TransposedWindow, *(self._numbers(name, num_axes) for name in names)))

    def output_shape(self, input_shape: Shape) -> Shape:
        out_channels = self._out_channels(input_shape)
        shape = super().output_shape(input_shape)
        self._check_groups(input_shape[0], out_channels)
        return shape

    def macs(self, input_shape: Shape) -> int:
        return math.prod(input_shape[1:]) * self._out_channels(input_shape) * self._taps(input_shape)

    def saved_for_backward(
        self, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False
    ) -> SavedForBackward:
        buffers = self._buffers(input_shape, output_shape, is_channels_last=is_channels_last)._replace(
            is_transposed=True, num_groups=1
        )
        return SavedForBackward(True, forward=buffers.forward(), backward=buffers.backward(), copies=True)

    def paddings_to_try(self) -> Many[int]:
        """Smaller paddings, since the padding of a transposed convolution removes positions."""
        return range(self.padding - 1, -1, -1) if isinstance(self.padding, int) else ()

    def _out_channels(self, input_shape: Shape) -> int:
        return need_number("out_channels", self.out_channels)


conv, depthwise, transposed, whiten = Conv, Depthwise, Transposed, Whiten
