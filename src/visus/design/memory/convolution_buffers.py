"""The buffers of a convolution while it is computed in float32 on an x86 processor: an upper bound of what oneDNN allocates.

oneDNN copies maps and weights into blocks of 16 channels with AVX-512 (8 with AVX2), and the result back, so a map of 4 channels takes
the memory of 16. What it copies in a given case depends on the processor, the number of threads and its version; the bound does not.
For usual networks, the bound of the whole step is 1.00 to 1.02 times the allocated bytes; for networks with fewer than 16
channels, up to three times. With AVX2 and images of 1 to 3 channels it was up to 15 % too low.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from visus.design.arguments import Shape
from visus.design.memory.saved import Bytes, num_bytes

_BLOCK: Final = 16  # channels of a block
_MAX_IMAGE_CHANNELS: Final = 3  # a map of so few channels is read without a copy
_MAX_SMALL_TAPS: Final = 16  # a larger window of a depthwise convolution has gradients for each part of the batch
_MAX_PARTS: Final = 256  # of them at most


class ConvolutionBuffers(NamedTuple):
    """The properties of a convolution that determine its buffers.

    Args:
        input_shape, output_shape: without the batch axis.
        weight_bytes: bytes of the trained values.
        num_taps: positions of the window.
        num_groups: groups of channels.
        is_strided, is_transposed: whether the convolution is strided, or transposed.
        is_channels_last: whether the input is channels-last in memory; then a usual convolution copies no maps.
    """

    input_shape: Shape
    output_shape: Shape
    weight_bytes: int
    num_taps: int = 1
    num_groups: int = 1
    is_strided: bool = False
    is_transposed: bool = False
    is_channels_last: bool = False

    def forward(self) -> tuple[Bytes, ...]:
        """Bytes at the two moments of the forward pass: input, weights and output in blocks; then the output and its
        blocks."""
        if self._copies_no_maps:
            return (Bytes(2 * self.weight_bytes, 0),)
        output = _blocked(self.output_shape)
        if self.is_transposed and self.is_strided:
            return (Bytes(0, 2 * output),)
        if self._is_unusual:  # the output is there from the beginning
            return (Bytes(2 * self.weight_bytes, self._blocked_input() + output),)
        copies = self._blocked_input() + output - num_bytes(self.output_shape)
        return (Bytes(self.weight_bytes, copies), Bytes(0, output))

    def backward(self) -> tuple[Bytes, ...]:
        """Bytes while the weight gradient is computed: input and output gradient in blocks; then the weight gradient in
        blocks."""
        if self._copies_no_maps:
            is_in_parts = self.is_depthwise and self.num_taps > _MAX_SMALL_TAPS
            return (Bytes((_MAX_PARTS if is_in_parts else 3) * self.weight_bytes, 0),)
        return (Bytes(0, self._blocked_input() + _blocked(self.output_shape)), Bytes(self.weight_bytes, 0))

    def to_input(self) -> tuple[Bytes, ...]:
        """Bytes while the input gradient is computed: both gradients in blocks; then the input gradient and its blocks. The
        weight gradient is not allocated yet.
        """
        if self._copies_no_maps or self.is_transposed:
            return ()
        blocked = _blocked(self.input_shape)
        if self.is_strided and not self.is_depthwise:
            return (Bytes(-self.weight_bytes, 2 * blocked),)
        both = _blocked(self.output_shape) + blocked - num_bytes(self.input_shape)
        return (Bytes(0, both), Bytes(-self.weight_bytes, blocked))

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a window of its own."""
        return self.num_groups == self.input_shape[0] == self.output_shape[0] > 1

    @property
    def _is_unusual(self) -> bool:
        return self.is_transposed or (self.num_groups > 1 and not self.is_depthwise)

    @property
    def _copies_no_maps(self) -> bool:
        return self.is_channels_last and not self._is_unusual

    def _blocked_input(self) -> int:
        is_image = self.input_shape[0] <= _MAX_IMAGE_CHANNELS and self.num_taps > 1 and not self.is_depthwise
        return 0 if is_image and not self._is_unusual else _blocked(self.input_shape)


def _blocked(shape: Shape) -> int:
    """Bytes of a copy of one sample in blocks of channels."""
    return num_bytes((-(-shape[0] // _BLOCK) * _BLOCK, *shape[1:]))
