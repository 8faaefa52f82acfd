"""The buffers of a convolution in float32 on the CPU, as oneDNN allocates them."""

from __future__ import annotations

from typing import Final, NamedTuple

from visus.design.arguments import Shape
from visus.design.memory.saved import Bytes, num_bytes

_BLOCK: Final = 16  # channels that oneDNN puts side by side in memory
_HALF_BLOCK: Final = 8  # of few channels, for the gradients of weights
_MIN_BLOCKED: Final = 4  # for them, a map of fewer channels is read as it is
_MAX_SMALL: Final = 16  # positions of the window of a depthwise convolution that is computed like others
_COPIES: Final = 256  # of the weights of a larger one, so that their gradients are added up in parts


class ConvolutionBuffers(NamedTuple):
    """What the buffers of a convolution follow from.

    oneDNN puts maps and weights into blocks of 16 channels (a map of 4 channels takes the place of 16), and lays what it made in order
    again; what comes in is read as it is where it has fewer channels than a block and the window has neighbors. All of it is seen in
    the allocator's records alone, on a processor with AVX-512. Left out: with one thread and fewer than 16 samples, PyTorch computes a
    window of one position without oneDNN, and needs no buffers. In groups of several channels nothing is filled up to whole blocks.

    Args:
        input_shape, output_shape: without the batch axis.
        weight_bytes: bytes of the trained values.
        num_taps: positions of the window.
        num_groups: groups of channels.
        is_strided, is_transposed: what it is.
        is_turned: whether the channels of what comes in lie side by side in memory; then maps are read as they are.
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
        """What comes in and the weights in blocks beside what goes out in blocks; then that beside what goes out in order."""
        given = num_bytes(self.output_shape)
        if self.is_channels_last:
            return (Bytes(2 * self.weight_bytes, 0),)
        if self._is_in_groups:
            return (Bytes(self.weight_bytes, num_bytes(self.input_shape)), Bytes(0, given))
        if self.is_transposed and self.is_strided and not self.is_depthwise:
            return (Bytes(0, given if self.output_shape[0] == 1 else 2 * given),)
        is_copied = self._is_blocked or self.is_transposed or self.input_shape[0] >= _BLOCK
        read, made = _blocked(self.input_shape) if is_copied else 0, _blocked(self.output_shape)
        return (Bytes(self.weight_bytes, read + made - given), Bytes(0, made))

    def backward(self) -> tuple[Bytes, ...]:
        """The same while the gradients of the weights are computed, after those of what comes in."""
        is_large = self.is_depthwise and self.num_taps > _MAX_SMALL
        if self.is_channels_last:
            copies = _COPIES if is_large else 2 if self.num_taps == 1 else 3
            return (Bytes(copies * self.weight_bytes, 0),)
        if is_large:
            return (Bytes(self.weight_bytes, 0),)
        if self._is_in_groups:
            is_wide = min(self.input_shape[0], self.output_shape[0]) >= _HALF_BLOCK * self.num_groups
            both = num_bytes(self.input_shape) + num_bytes(self.output_shape) if is_wide else 0
        elif self._is_blocked:
            both = _blocked(self.input_shape) + _blocked(self.output_shape)
        else:  # the window of a transposed one moves over the gradient of what went out
            shapes = self.input_shape, self.output_shape
            both = _for_weights(*(reversed(shapes) if self.is_transposed else shapes))
        return (Bytes(0, both), Bytes(self.weight_bytes, 0))

    def to_input(self) -> tuple[Bytes, ...]:
        """The gradient of what went out and that of what came in, in blocks, the latter then beside itself in order; a strided one
        copies it twice instead.

        The gradient of its weights is not there yet.
        """
        if self.is_channels_last or self.is_transposed:
            return ()
        given = num_bytes(self.input_shape)
        if self.is_strided and not self.is_depthwise:
            return (Bytes(-self.weight_bytes, 2 * given),)
        if self._is_in_groups:
            return (Bytes(-self.weight_bytes, given),)
        made = _blocked(self.input_shape)
        return (Bytes(0, _blocked(self.output_shape) + made - given), Bytes(-self.weight_bytes, made))

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a window of its own."""
        return self.num_groups == self.input_shape[0] == self.output_shape[0] > 1

    @property
    def _is_in_groups(self) -> bool:
        return self.num_groups > 1 and not self.is_depthwise

    @property
    def _is_blocked(self) -> bool:
        """Whether all maps are put into blocks, however few channels they have."""
        return self.num_taps == 1 or self.is_depthwise


def _blocked(shape: Shape, block: int = _BLOCK) -> int:
    """Bytes of a copy of one sample in blocks of channels."""
    return num_bytes((-(-shape[0] // block) * block, *shape[1:]))


def _for_weights(read: Shape, other: Shape) -> int:
    """Bytes of the copies of one sample while the gradients of weights are computed.

    Args:
        read: shape of the map over which the window moves.
        other: shape of the one in which each position has a window.
    """
    num_read, num_other = read[0], other[0]
    is_plain = num_read < _MIN_BLOCKED or (num_read <= _HALF_BLOCK and num_other > _BLOCK)
    copied = 0 if is_plain else _blocked(read, _HALF_BLOCK if num_read <= _HALF_BLOCK else _BLOCK)
    is_half = num_other <= _HALF_BLOCK and _MIN_BLOCKED <= num_read < _BLOCK
    return copied + _blocked(other, _HALF_BLOCK if is_half else _BLOCK)
