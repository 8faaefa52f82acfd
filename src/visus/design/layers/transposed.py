"""Transposed convolutions, which enlarge a map."""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Literal

from visus.design.arguments import PerAxis, Shape, check_count, check_whole, need_number
from visus.design.layers.convolution import AnyConvolution
from visus.design.memory.saved import SavedForBackward
from visus.design.reference import Reference, torch_call
from visus.geometry import AxisOp, TransposedWindow, Window

__all__ = ["Transposed", "transposed"]


@dataclass(frozen=True, repr=False)
class Transposed(AnyConvolution):
    """A transposed convolution: each input position is written to a window of the output, so the map grows.

    Args:
        out_channels: number of output channels; ``classes`` for one per class.
        kernel_size: output positions that each input position is written to.
        stride: output positions from the window of one input position to that of the next; the map grows by about this factor.
        padding: positions removed from both ends of the output.
        output_padding: positions added at the far end; less than the stride or the dilation.
        dilation: distance between neighboring output positions that an input position is written to.
        groups: number of groups of channels; an output channel reads the input channels of its own group.
        bias: whether each output channel has a trained offset. Default: no bias if a ``norm`` (batch norm) follows directly;
            else a bias.

    >>> Transposed(8, 4, stride=2, padding=1).output_shape((16, 7, 7))
    (8, 14, 14)
    """

    prefix = word = "transposed"
    positional = 2
    reference = Reference(
        "y[o, q] = bias[o] + sum(weight[i, o, k]*x[i, p] for i in range(C_in) for p in range(L_in) for k in range(kernel_size) "
        "if p*stride - padding + k*dilation == q)",
        "The formula is for groups=1. With more groups, i runs over the channels of the group of o.",
        channels="out_channels",
        length="(L_in - 1)*stride - 2*padding + dilation*(kernel_size - 1) + output_padding + 1",
        parameters="out_channels*(prod(kernel_size)*C_in/groups + bias)",
        macs="C_out*prod(L_in)*prod(kernel_size)*C_in/groups",
        example="transposed(8, 4, stride=2, padding=1)",
        drawn=("transposed(4, 4, stride=2, padding=1)",),
        difference="Only the default of bias differs: PyTorch adds one, visus drops it before a batch norm.",
    )

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

    def torch_code(self, input_shape: Shape) -> str:
        return torch_call(
            f"ConvTranspose{len(input_shape) - 1}d",
            *(input_shape[0], self._out_channels(input_shape), self.kernel_size),
            stride=(self.stride, 1),
            padding=(self.padding, 0),
            output_padding=(self.output_padding, 0),
            dilation=(self.dilation, 1),
            groups=(self.groups, 1),
            bias=(self.has_bias, True),
        )

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


transposed = Transposed
