"""The buffers of a convolution while it is computed: an upper bound of what oneDNN allocates in float32 on x86 processors.

oneDNN copies maps and weights into blocks of 16 channels (8 without AVX-512) and copies the result back, so a map of 4 channels takes
the memory of 16. What it allocates exactly depends on the processor, the number of threads and its version; the bound does not. It
was held against the allocator's records with AVX-512 and with AVX2 (``tests/design/test_memory.py``). For the usual networks it is
within 2 % of the whole step, for networks of fewer than 16 channels it can be twice too much.
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
    """A convolution, as far as its buffers depend on it.

    Args:
        input_shape, output_shape: without the batch axis.
        weight_bytes: bytes of the trained values.
        num_taps: positions of the window.
        num_groups: groups of channels.
        is_strided, is_transposed: what it is.
        is_channels_last: whether the input is channels-last in memory; then maps are not copied.
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
        """Input, weights and output in blocks, the output itself not yet there; then the output beside its blocks."""
        if self.is_channels_last:
            return (Bytes(2 * self.weight_bytes, 0),)
        output = _blocked(self.output_shape)
        if self.is_transposed and self.is_strided:
            return (Bytes(0, 2 * output),)
        copies = self._blocked_input() + output - num_bytes(self.output_shape)
        return (Bytes(self.weight_bytes, copies), Bytes(0, output))

    def backward(self) -> tuple[Bytes, ...]:
        """Input and gradient of the output in blocks while the gradient of the weights is computed; then that gradient in blocks."""
        if self.is_channels_last:
            is_in_parts = self.is_depthwise and self.num_taps > _MAX_SMALL_TAPS
            return (Bytes((_MAX_PARTS if is_in_parts else 3) * self.weight_bytes, 0),)
        return (Bytes(0, self._blocked_input() + _blocked(self.output_shape)), Bytes(self.weight_bytes, 0))

    def to_input(self) -> tuple[Bytes, ...]:
        """Both gradients in blocks while that of the input is computed; then that gradient beside its blocks.

        The gradient of the weights is not there yet.
        """
        if self.is_channels_last or self.is_transposed:
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

    def _blocked_input(self) -> int:
        is_image = self.input_shape[0] <= _MAX_IMAGE_CHANNELS and self.num_taps > 1
        return 0 if is_image and not self.is_transposed and not self.is_depthwise else _blocked(self.input_shape)


def _blocked(shape: Shape) -> int:
    """Bytes of a copy of one sample in blocks of channels."""
    return num_bytes((-(-shape[0] // _BLOCK) * _BLOCK, *shape[1:]))
