"""Convolutions: over all channels, over each channel alone, and whitening. ``transposed`` is in its own file."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
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
from visus.design.reference import Reference, torch_call
from visus.errors import DesignError
from visus.geometry import Window, same_padding

LENGTH: Final = 'L_in if padding == "same" else (L_in + 2*padding - dilation*(kernel_size - 1) - 1)//stride + 1'
OUTSIDE: Final = 'Outside the map, x is 0. "same" stands for padding=dilation*(kernel_size - 1)//2 here.'
MAX_WHITENED: Final = 2_048  # channels; their patches' covariance has a quarter of this number squared


__all__ = ["Conv", "Convolution", "Depthwise", "Whiten", "conv", "depthwise", "whiten"]


@dataclass(frozen=True, repr=False)
class AnyConvolution(Windowed):
    """Common base of all convolutions. Abstract."""

    is_affine = True

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

    def _torch_code(self, input_shape: Shape, **options: tuple[object, object]) -> str:
        """A call of PyTorch's convolution with the window's arguments and more options."""
        rank = len(spatial_size(input_shape, self.word))
        return torch_call(
            f"Conv{rank}d",
            *(input_shape[0], self._out_channels(input_shape), self.kernel_size),
            stride=(self.stride, 1),
            padding=(self.padding, 0),
            dilation=(self.dilation, 1),
            **options,
        )

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
class Convolution(AnyConvolution):
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
    """A convolution: trained filters in a sliding window. The input's channels are never written: they are inferred.

    Each of ``kernel_size``, ``stride``, ``padding`` and ``dilation`` is one number for all axes, or a tuple with one for each.

    Args:
        out_channels: number of filters; ``classes`` for one per class.
        kernel_size: positions of the window.
        stride: positions from one window to the next.
        padding: zeros added at both ends of an axis; ``"same"`` keeps the size (stride 1 only; an odd pixel goes to the far edge).
        dilation: distance between neighboring positions in the window.
        groups: number of groups of channels; an output channel reads the input channels of its own group.
        bias: whether each output channel has a trained offset. Default: no bias if a ``norm`` (batch norm) follows directly,
            since
            that subtracts it again; else a bias.

    >>> Conv(64, 3, padding=1, bias=False).output_shape((3, 32, 32))
    (64, 32, 32)
    """

    prefix = word = "conv"
    positional = 2
    reference = Reference(
        "g = o*groups//C_out\n"
        "y[o, q] = bias[o] + sum(weight[o, i, k]*x[g*C_in/groups + i, q*stride - padding + k*dilation] "
        "for i in range(C_in/groups) for k in range(kernel_size))",
        f"g is the group of channel o. {OUTSIDE}",
        channels="out_channels",
        length=LENGTH,
        parameters="out_channels*(prod(kernel_size)*C_in/groups + bias)",
        macs="C_out*prod(L_out)*prod(kernel_size)*C_in/groups",
        example="conv(32, 3, padding=1)",
        input_shape=(3, 32, 32),
        drawn=("conv(4, 3, padding=1)", "conv(4, 3, stride=2, padding=1)", "conv(4, 3, padding=2, dilation=2)"),
        difference="Only the default of bias differs: PyTorch adds one, visus drops it before a batch norm.",
    )

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

    def torch_code(self, input_shape: Shape) -> str:
        return self._torch_code(input_shape, groups=(self.groups, 1), bias=(self.has_bias, True))

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

    Each of ``kernel_size``, ``stride``, ``padding`` and ``dilation`` is one number for all axes, or a tuple with one for each.

    Args:
        kernel_size: positions of the window.
        stride: positions from one window to the next.
        padding: zeros added at both ends of an axis; ``"same"`` keeps the size (stride 1 only; an odd pixel goes to the far edge).
        dilation: distance between neighboring positions in the window.
        depth_multiplier: output channels for each input channel.
        bias: whether each output channel has a trained offset. Default: no bias if a ``norm`` (batch norm) follows directly;
            else a bias.

    >>> Depthwise(3, padding=1, bias=False).num_parameters((32, 8, 8))
    288
    """

    prefix = word = "depthwise"
    positional = 1
    reference = Reference(
        "y[o, q] = bias[o] + sum(weight[o, k]*x[o//depth_multiplier, q*stride - padding + k*dilation] for k in range(kernel_size))",
        OUTSIDE,
        channels="C_in*depth_multiplier",
        length=LENGTH,
        parameters="C_in*depth_multiplier*(prod(kernel_size) + bias)",
        macs="C_out*prod(L_out)*prod(kernel_size)",
        example="depthwise(3, padding=1)",
        drawn=("depthwise(3, padding=1)",),
        difference="PyTorch has no layer of its own for it: it is a convolution with as many groups as channels.",
    )

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

    def torch_code(self, input_shape: Shape) -> str:
        return self._torch_code(input_shape, groups=(input_shape[0], None), bias=(self.has_bias, True))

    def _out_channels(self, input_shape: Shape) -> int:
        return input_shape[0] * self.depth_multiplier


@dataclass(frozen=True, repr=False)
class Whiten(AnyConvolution):
    """A convolution with fixed filters computed from the training data: the principal axes of its patches, and their negatives.

    Each filter is an eigenvector of the covariance of the patches, divided by the standard deviation along it, so that the output has
    deviation 1 and channels of different axes are uncorrelated. There are two filters for each value of a patch. Only the bias is
    trained.

    Args:
        kernel_size: positions of a patch, one number for all axes or a tuple with one for each.
        stride: positions from one patch to the next, one number for all axes or a tuple with one for each.
        padding: zeros added at both ends of an axis, one number for all axes or a tuple with one for each; ``"same"`` keeps the
            size (stride 1 only; an odd pixel goes to the far edge).

    >>> Whiten(2).output_shape((3, 32, 32)), Whiten(2).num_parameters((3, 32, 32))
    ((24, 31, 31), 24)
    """

    prefix = word = "whiten"
    positional = 1
    reference = Reference(
        "y[o, q] = bias[o] + sum(weight[o, i, k]*x[i, q*stride - padding + k] for i in range(C_in) for k in range(kernel_size))",
        "weight is computed from the training data and fixed. Outside the map, x is 0. "
        '"same" stands for padding=(kernel_size - 1)//2 here.',
        channels="2*C_in*prod(kernel_size)",
        length='L_in if padding == "same" else (L_in + 2*padding - kernel_size)//stride + 1',
        parameters="2*C_in*prod(kernel_size)",
        macs="C_out*prod(L_out)*C_in*prod(kernel_size)",
        example="whiten(2)",
        input_shape=(3, 32, 32),
        drawn=("whiten(2)",),
        difference="PyTorch has no such layer: it is a convolution whose weights are computed from data and then frozen.",
    )
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

    def torch_code(self, input_shape: Shape) -> str:
        """A frozen convolution; its weights come from ``visus.networks.whitening``."""
        layer = self._torch_code(input_shape)
        return f"layer = {layer}\nlayer.weight.requires_grad_(False)  # computed from the training data\ny = layer(x)"

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


conv, depthwise, whiten = Conv, Depthwise, Whiten
