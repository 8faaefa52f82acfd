"""One axis under a sliding window: sizes, spans and borders."""

from __future__ import annotations

import math
from dataclasses import dataclass

from visus.errors import GeometryError, join_messages
from visus.units import write_quotient


@dataclass(frozen=True)
class Window:
    """A window that slides along one axis.

    Args:
        kernel_size: number of pixels that the window reads at once, at least 1.
        stride: pixels from one position of the window to the next, at least 1.
        padding: pixels added before and after the axis, at least 0.
        dilation: distance between two neighboring pixels that are read, at least 1.
        ceil_mode: also count a last position that reaches beyond the padded axis, as in torch's pooling layers.
        reflect: whether the padding mirrors the axis at its first and last pixel, instead of holding zeros.

    Raises:
        GeometryError: a number is out of its range; all such numbers are named.
    """

    kernel_size: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    ceil_mode: bool = False
    reflect: bool = False

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be at least 1, not {value}."
            for name, value in (("kernel_size", self.kernel_size), ("stride", self.stride), ("dilation", self.dilation))
            if value < 1
        ]
        if min(self.padding) < 0:
            mistakes.append(f"padding must be at least 0, not {self.padding}.")
        if mistakes:
            raise GeometryError(join_messages(mistakes))

    @property
    def span(self) -> int:
        """Pixels from the first to the last that the window reads, both counted.

        >>> Window(kernel_size=3, dilation=2).span
        5
        """
        return self.dilation * (self.kernel_size - 1) + 1

    @property
    def jump(self) -> int:
        """Input positions from one output position to the next."""
        return self.stride

    def period(self, period: int) -> int:
        """Number of positions after which the output repeats, if the input repeats after ``period``.

        >>> Window(3, stride=2).period(6)
        3
        """
        return period // math.gcd(period, self.stride)

    def fits(self, input_size: int) -> bool:
        """Whether the window fits an axis of ``input_size`` pixels, and the axis is long enough for mirrored padding."""
        return input_size >= 1 + self.reflect * max(self.padding) and self._places(input_size) >= 1

    def taps(self, position: int) -> range:
        """The input positions that the window reads at one output position; some lie in the padding.

        >>> list(Window(3, stride=2, padding=(1, 1), dilation=2).taps(0))
        [-1, 1, 3]
        """
        start = position * self.stride - self.padding[0]
        return range(start, start + self.span, self.dilation)

    def output_size(self, input_size: int) -> int:
        """Number of positions of the window along an axis of ``input_size`` pixels.

        The last partial step is dropped, as in ``torch.nn.Conv2d``, so up to ``stride - 1`` pixels at the far edge may never
        be read; with ``ceil_mode`` it is kept, unless it would begin in the padding.

        Args:
            input_size: length of the axis before padding, in pixels.

        Returns:
            Length of the output axis, in pixels; at least 1.

        Raises:
            GeometryError: the padded axis is shorter than the window.

        >>> Window(kernel_size=3, stride=2, padding=(1, 1)).output_size(32)
        16
        """
        if self.reflect and 1 <= input_size <= max(self.padding):
            raise GeometryError(
                f"an axis of {input_size} px cannot be mirrored {max(self.padding)} px beyond its ends. "
                f"It needs {max(self.padding) + 1} px, or a smaller kernel."
            )
        if not self.fits(input_size):
            short = self.span - input_size - sum(self.padding)
            raise GeometryError(
                f"a window spanning {self.span} px does not fit an axis of {input_size} px padded by {self.padding}: "
                f"{max(short, 1)} px short. Add {max(short, 1)} px of padding, or use a smaller kernel."
            )
        return self._places(input_size)

    def smallest_input(self, output_size: int = 1) -> int:
        """The shortest axis, in pixels, on which the window has at least ``output_size`` positions.

        >>> Window(kernel_size=3, stride=2, padding=(1, 1)).smallest_input(16)
        31
        """
        before, pads = self.padding[0], sum(self.padding)
        size = (output_size - 1) * self.stride + self.span - pads
        if self.ceil_mode:  # the last place may be cut short, unless it begins in the padding: then one more place is needed
            size = min(size + 1, max(size - self.stride + 1, (output_size - 1) * self.stride - before + 1))
        return max(size, 1 + self.reflect * max(self.padding))

    def unread_border(self, input_size: int) -> int:
        """Pixels at the far edge of the axis that no window reaches. Gaps between windows (a stride beyond the span, a
        dilation) are not counted.

        >>> Window(kernel_size=2, stride=2).unread_border(7)
        1
        """
        end = (self.output_size(input_size) - 1) * self.stride + self.span
        return max(0, self.padding[0] + input_size - end)

    def sum_text(self, input_size: int) -> str:
        """The formula of the output size with its numbers filled in; the span replaces the kernel size.

        >>> Window(kernel_size=5).sum_text(2)
        '(2 - 5 + 2*0)/1 + 1 = -2'
        >>> Window(kernel_size=3, stride=2).sum_text(2)
        '(2 - 3 + 2*0)/2 + 1 = 0.5, rounded down to 0'
        """
        before, after = self.padding
        pads = f"2*{before}" if before == after else f"{before} + {after}"
        steps = input_size - self.span + before + after
        left = f"({input_size} - {self.span} + {pads})/{self.stride} + 1"
        positions = self._places(input_size)
        if steps % self.stride == 0:
            return f"{left} = {steps // self.stride + 1}"
        return f"{left} = {write_quotient(steps + self.stride, self.stride)}, rounded {'up' if self.ceil_mode else 'down'} to {positions}"

    def _places(self, input_size: int) -> int:
        """Number of places by the formula; zero or less where the window does not fit."""
        before, after = self.padding
        steps = input_size + before + after - self.span
        if not self.ceil_mode:
            return steps // self.stride + 1
        positions = -(-steps // self.stride) + 1
        if (positions - 1) * self.stride >= input_size + before:
            positions -= 1
        return positions


def same_padding(kernel_size: int, dilation: int = 1) -> tuple[int, int]:
    """Padding (before, after) that keeps the size at stride 1; an odd pixel goes after, as in torch.

    >>> same_padding(3), same_padding(4)
    ((1, 1), (1, 2))
    """
    total = dilation * (kernel_size - 1)
    return total // 2, total - total // 2
