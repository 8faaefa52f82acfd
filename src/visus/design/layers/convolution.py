"""Convolutions: over all channels, over each channel alone, and transposed.

This file knows one convolution at a time.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from visus.design.arguments import PerAxis, Shape, check_count, check_flag, check_whole, largest, need_number, per_axis
from visus.design.layers.layer import BYTES_PER_VALUE, Windowed, spatial_size
from visus.errors import DesignError
from visus.geometry import AxisOp, TransposedWindow, Window, same_padding

MAX_WHITENED: Final = 2_048  # channels; their patches' covariance has a quarter of this number squared


@dataclass(frozen=True, repr=False)
class _Convolution(Windowed):
    """What conv, depthwise and transposed share. Abstract."""

    def _numbers(self, name: str, num_axes: int) -> tuple[int, ...]:
        """An argument with one number for each axis."""
        return per_axis(name, getattr(self, name), num_axes)

    @abstractmethod
    def num_groups(self, in_channels: int) -> int:
        """Number of groups of channels that do not see each other."""

    @property
    def has_bias(self) -> bool:
        """Whether a number is added for each output channel; None is read as yes."""
        return getattr(self, "bias") is not False  # noqa: B009  # a field of the final classes

    def windows(self, num_axes: int) -> tuple[Window, ...]:
        values: Any = self
        kernels, dilations = self._numbers("kernel_size", num_axes), self._numbers("dilation", num_axes)
        if values.padding == "same":
            pads = tuple(same_padding(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=True))
        else:
            pads = tuple((pad, pad) for pad in self._numbers("padding", num_axes))
        return tuple(map(Window, kernels, self._numbers("stride", num_axes), pads, dilations))

    def num_parameters(self, input_shape: Shape) -> int:
        out_channels = self._out_channels(input_shape[0])
        return out_channels * (self._taps(input_shape) + self.has_bias)

    def macs(self, input_shape: Shape) -> int:
        return math.prod(self.output_shape(input_shape)) * self._taps(input_shape)

    def _taps(self, input_shape: Shape) -> int:
        """Numbers that are multiplied and added for one output value."""
        kernel = self._numbers("kernel_size", len(spatial_size(input_shape, self.word)))
        return input_shape[0] // self.num_groups(input_shape[0]) * math.prod(kernel)

    def _check_groups(self, in_channels: int, out_channels: int) -> None:
        """Raise where the groups do not divide the channels on both sides."""
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
        values: Any = self
        mistakes = super()._mistakes()
        mistakes += check_whole("kernel_size", values.kernel_size, least=1, axes=True)
        mistakes += check_whole("stride", values.stride, least=1, axes=True)
        mistakes += self._padding_mistakes()
        mistakes += check_whole("dilation", values.dilation, least=1, axes=True)
        return mistakes + check_flag("bias", values.bias, none_allowed=True)

    def _padding_mistakes(self) -> list[str]:
        values: Any = self
        if isinstance(values.padding, str):
            if values.padding != "same":
                return [f'padding is a number, a tuple of numbers or "same", not {values.padding!r}.']
            if largest(values.stride) > 1:
                return [
                    f'padding="same" needs a stride of 1, and the stride is {values.stride}. Give the padding as a number.'
                ]
            return []
        return check_whole("padding", values.padding, least=0, axes=True)


@dataclass(frozen=True, repr=False)
class Conv(_Convolution):
    """A convolution. The input's channels are never written: they are inferred.

    Args:
        out_channels: number of filters; ``classes`` for one each class.
        kernel_size, stride, padding, dilation: as in torch, one number for all axes or a tuple with one for each;
            ``padding="same"`` keeps the size (stride 1 only; an odd pixel goes to the far edge).
        groups: number of groups of channels that do not see each other.
        bias: whether a number is added for each output channel. None, the default, means: no bias where a ``norm`` (batch
            norm) follows directly, since that subtracts it again; else a bias.

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
        out_channels = self._out_channels(input_shape[0])
        shape = super().output_shape(input_shape)
        self._check_groups(input_shape[0], out_channels)
        return shape

    def _out_channels(self, in_channels: int) -> int:
        return need_number("out_channels", self.out_channels)


@dataclass(frozen=True, repr=False)
class Depthwise(_Convolution):
    """A convolution that sees each channel alone: ``multiplier`` filters for each channel.

    Args:
        kernel_size, stride, padding, dilation, bias: as for ``conv``.
        multiplier: output channels for each input channel.

    >>> Depthwise(3, padding=1, bias=False).num_parameters((32, 8, 8))
    288
    """

    prefix = word = "depthwise"
    positional = 1

    kernel_size: PerAxis = 3
    stride: PerAxis = 1
    padding: PerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    multiplier: int = 1
    bias: bool | None = None

    def _mistakes(self) -> list[str]:
        return super()._mistakes() + check_count("multiplier", self.multiplier)

    def num_groups(self, in_channels: int) -> int:
        return in_channels

    def _out_channels(self, in_channels: int) -> int:
        return in_channels * self.multiplier


@dataclass(frozen=True, repr=False)
class Whiten(_Convolution):
    """A convolution whose filters are computed from the training data and then stay: principal axes of its patches, and their negatives.

    Each filter is an eigenvector of the covariance of the patches, divided by the deviation along it, so that what goes out has deviation 1
    and channels of different axes do not go together. There are two filters for each value of a patch. The number that is added to each
    channel is trained.

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
        spatial = super().output_shape(input_shape)[1:]
        num_values = self._taps(input_shape)
        if 2 * num_values > MAX_WHITENED:
            raise DesignError(
                f"whiten makes two channels for each of the {num_values:,} values of a patch; at most {MAX_WHITENED:,} channels are "
                "allowed. Use a smaller kernel_size."
            )
        return (2 * num_values, *spatial)

    def num_groups(self, in_channels: int) -> int:
        return 1

    def num_parameters(self, input_shape: Shape) -> int:
        return 2 * self._taps(input_shape)

    def bytes_weights(self, input_shape: Shape) -> int:
        num_values = self._taps(input_shape)
        return BYTES_PER_VALUE * 2 * num_values * (num_values + 1)

    def _out_channels(self, in_channels: int) -> int:
        return in_channels  # ``output_shape`` puts the true number in its place, which depends on the number of axes too


@dataclass(frozen=True, repr=False)
class Transposed(_Convolution):
    """A transposed convolution: each position of what comes in is written to a window of what goes out, which so grows.

    Args:
        out_channels, kernel_size, dilation, groups, bias: as for ``conv``.
        stride: places from the window of one position to that of the next; the map grows by about this factor.
        padding: places taken away at both ends of what goes out.
        output_padding: places added at the far end; less than the stride or the dilation.

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
        out_channels = self._out_channels(input_shape[0])
        shape = super().output_shape(input_shape)
        self._check_groups(input_shape[0], out_channels)
        return shape

    def macs(self, input_shape: Shape) -> int:
        return math.prod(input_shape[1:]) * self._out_channels(input_shape[0]) * self._taps(input_shape)

    def _out_channels(self, in_channels: int) -> int:
        return need_number("out_channels", self.out_channels)
