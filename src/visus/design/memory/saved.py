"""What autograd saves of a layer for the backward pass, and the buffers that the layer needs while it is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from visus.design.arguments import Shape

BYTES_PER_VALUE: Final = 4  # float32


class Bytes(NamedTuple):
    """Fixed bytes, whatever the batch size, and bytes for each sample."""

    fixed: int
    sample: int

    def of(self, batch_size: int) -> int:
        """Bytes for a batch.

        >>> Bytes(100, 8).of(4)
        132
        """
        return self.fixed + batch_size * self.sample


EMPTY: Final = Bytes(0, 0)


@dataclass(frozen=True)
class SavedForBackward:
    """What autograd saves of a layer, and the layer's buffers.

    Args:
        input, output: whether the layer's input and its output are saved.
        extra: further saved bytes, such as the indices of a max pool.
        is_view: whether the output shares the memory of the input; such a layer needs no memory.
        forward, backward: buffers while the layer is computed, besides input, output and their gradients. Each is one moment;
            the largest of them counts.
        to_input: further moments of the backward pass if the input needs a gradient.
        copies: whether the backward pass needs the gradient of the output in the memory format of the output, and so copies
            it if it has another format, or is a slice of the channels of a concat.
        to_channels_last: whether the output is always channels-last, as after a layer norm of a map.
    """

    input: bool = False
    output: bool = False
    extra: Bytes = EMPTY
    is_view: bool = False
    forward: tuple[Bytes, ...] = ()
    backward: tuple[Bytes, ...] = ()
    to_input: tuple[Bytes, ...] = ()
    copies: bool = False
    to_channels_last: bool = False


def num_bytes(shape: Shape) -> int:
    """Bytes of one sample of this shape, as float32."""
    return BYTES_PER_VALUE * math.prod(shape)
