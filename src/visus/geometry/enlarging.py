"""Axis operations that enlarge a map: transposed windows and upsampling. Each is described by the input positions that an
output position reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from visus.errors import GeometryError, join_messages
from visus.geometry.window import Window


@dataclass(frozen=True)
class TransposedWindow:
    """A window that writes where a ``Window`` reads, as in a transposed convolution: its stride spreads the positions apart.

    Args:
        kernel_size: output positions that each input position is written to, at least 1.
        stride: output positions from the window of one input position to that of the next, at least 1.
        padding: output positions removed at both ends, at least 0.
        output_padding: output positions added at the far end, at least 0 and less than the stride or the dilation.
        dilation: distance between two neighboring output positions that an input position writes to, at least 1.

    Raises:
        GeometryError: a number is out of its range; all such numbers are named.
    """

    kernel_size: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be at least {least}, not {value}."
            for name, value, least in (
                ("kernel_size", self.kernel_size, 1),
                ("stride", self.stride, 1),
                ("padding", self.padding, 0),
                ("output_padding", self.output_padding, 0),
                ("dilation", self.dilation, 1),
            )
            if value < least
        ]
        if self.output_padding >= max(self.stride, self.dilation, 1):
            mistakes.append(
                f"output_padding={self.output_padding} must be less than the stride ({self.stride}) or the dilation "
                f"({self.dilation}), as torch demands."
            )
        if mistakes:
            raise GeometryError(join_messages(mistakes))

    @property
    def jump(self) -> Fraction:
        """Input positions from one output position to the next."""
        return Fraction(1, self.stride)

    @property
    def span(self) -> int:
        """Maximum of the input positions from the first to the last that one output position reads.

        >>> TransposedWindow(4, stride=2).span, TransposedWindow(3, dilation=2).span
        (2, 5)
        """
        common = math.gcd(self.dilation, self.stride)
        return (self.kernel_size - 1) // (self.stride // common) * (self.dilation // common) + 1

    def period(self, period: int) -> int:
        """Period of the output if that of the input is ``period``."""
        return period * self.stride

    def fits(self, input_size: int) -> bool:
        """Whether an axis of ``input_size`` positions yields at least one output position."""
        return input_size >= 1 and self._places(input_size) >= 1

    def output_size(self, input_size: int) -> int:
        """Number of output positions for an axis of ``input_size`` positions.

        Raises:
            GeometryError: the padding removes all of them.

        >>> TransposedWindow(4, stride=2, padding=1).output_size(7)
        14
        """
        if not self.fits(input_size):
            raise GeometryError(
                f"padding={self.padding} leaves nothing of what a transposed window makes of {input_size} px: "
                f"{self.sum_text(input_size)}. Use less padding."
            )
        return self._places(input_size)

    def smallest_input(self, output_size: int = 1) -> int:
        """The shortest axis that yields at least ``output_size`` output positions.

        >>> TransposedWindow(4, stride=2, padding=1).smallest_input(14)
        7
        """
        return max(1, 1 - (self._places(1) - output_size) // self.stride)

    def sum_text(self, input_size: int) -> str:
        """The formula of the output size with its numbers filled in.

        >>> TransposedWindow(3, stride=2, padding=2).sum_text(1)
        '(1 - 1)*2 - 2*2 + 1*(3 - 1) + 0 + 1 = -1'
        """
        return (
            f"({input_size} - 1)*{self.stride} - 2*{self.padding} + {self.dilation}*({self.kernel_size} - 1) + "
            f"{self.output_padding} + 1 = {self._places(input_size)}"
        )

    def taps(self, position: int) -> range:
        """The input positions that one output position reads; some lie beyond the ends of the axis.

        Output position q reads ``(q + padding - j*dilation) / stride`` for each j below ``kernel_size`` where that is whole:
        a convolution reads ``x*stride - padding + j*dilation``, and this is the same relation solved for x.

        >>> list(TransposedWindow(4, stride=2, padding=1).taps(2)), list(TransposedWindow(1, stride=2).taps(1))
        ([0, 1], [])
        """
        common = math.gcd(self.dilation, self.stride)
        place = position + self.padding
        if place % common:
            return range(0)
        rarity, between = self.stride // common, self.dilation // common
        first = place // common * pow(between, -1, rarity) % rarity
        if first >= self.kernel_size:
            return range(0)
        last = (place - first * self.dilation) // self.stride
        return range(last - (self.kernel_size - 1 - first) // rarity * between, last + 1, between)

    def taps_inside(self, position: int, input_size: int) -> range:
        """``taps`` on an axis of ``input_size`` positions; what lies beyond its ends counts as nothing."""
        return self.taps(position)

    def _places(self, input_size: int) -> int:
        reach = self.dilation * (self.kernel_size - 1)
        return (input_size - 1) * self.stride - 2 * self.padding + reach + self.output_padding + 1


@dataclass(frozen=True)
class Upsampling:
    """Each position becomes ``scale_factor`` positions, copied (``"nearest"``) or linearly interpolated (``"linear"``).

    Pixel centers are those of torch with ``align_corners=False``: position q lies at ``(q + 1/2)/scale_factor - 1/2``.

    Args:
        scale_factor: at least 1.
        mode: ``"nearest"`` or ``"linear"``.

    Raises:
        GeometryError: the factor is out of its range.
    """

    scale_factor: int
    mode: Literal["nearest", "linear"] = "nearest"

    def __post_init__(self) -> None:
        if self.scale_factor < 1:
            raise GeometryError(f"scale_factor must be at least 1, not {self.scale_factor}.")

    @property
    def jump(self) -> Fraction:
        """Input positions from one output position to the next."""
        return Fraction(1, self.scale_factor)

    @property
    def span(self) -> int:
        """Maximum number of input positions that one output position reads."""
        return 2 if self.mode == "linear" and self.scale_factor > 1 else 1

    def period(self, period: int) -> int:
        """Period of the output if that of the input is ``period``."""
        return period * self.scale_factor

    def fits(self, input_size: int) -> bool:
        """Whether the axis has at least one position."""
        return input_size >= 1

    def output_size(self, input_size: int) -> int:
        """Number of output positions.

        >>> Upsampling(2).output_size(7)
        14
        """
        return input_size * self.scale_factor

    def smallest_input(self, output_size: int = 1) -> int:
        """The shortest axis that yields at least ``output_size`` output positions."""
        return max(1, -(-output_size // self.scale_factor))

    def sum_text(self, input_size: int) -> str:
        """The formula of the output size with its numbers filled in."""
        return f"{input_size}*{self.scale_factor} = {self.output_size(input_size)}"

    def taps(self, position: int) -> range:
        """The input positions that one output position depends on; some lie beyond the ends of the axis.

        >>> list(Upsampling(2).taps(3)), list(Upsampling(2, "linear").taps(3)), list(Upsampling(3, "linear").taps(4))
        ([1], [1, 2], [1])
        """
        if self.mode == "nearest":
            first = position // self.scale_factor
            return range(first, first + 1)
        first, rest = divmod(2 * position + 1 - self.scale_factor, 2 * self.scale_factor)
        return range(first, first + (2 if rest else 1))

    def taps_inside(self, position: int, input_size: int) -> range:
        """The positions read on an axis of ``input_size``: two neighbors for ``"linear"``, one of which may have weight 0.

        torch clamps the coordinate to the axis and multiplies that pixel and the next one, whatever their weights.

        >>> list(Upsampling(2, "linear").taps_inside(0, 8)), list(Upsampling(2, "linear").taps_inside(15, 8))
        ([0, 1], [7])
        """
        taps = self.taps(position)
        if self.mode == "nearest" or self.scale_factor == 1:
            return taps
        first = max(0, taps.start)
        return range(first, min(first + 2, input_size))


AxisOp = Window | TransposedWindow | Upsampling
"""The operation of a layer on one axis of a map: a sliding window, or an enlargement."""
