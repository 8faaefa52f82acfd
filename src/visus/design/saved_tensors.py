"""What PyTorch keeps of each layer until the backward pass, and the buffers that it needs while the layer is computed.

Found by ``torch.autograd.graph.saved_tensors_hooks`` and by the allocator's records of each layer alone (float32, CPU, oneDNN);
tests hold the table against both. This file knows one layer at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from visus.design.arguments import Shape, per_axis
from visus.design.layers.convolution import Conv, Depthwise, Transposed, Whiten
from visus.design.layers.features import Flatten, Linear
from visus.design.layers.layer import BYTES_PER_VALUE, Layer
from visus.design.layers.pooling import AvgPool, BlurPool, GlobalPool, MaxPool, Upsample
from visus.design.layers.values import (
    Dropout,
    DropPath,
    Elu,
    Gelu,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    Norm,
    Relu,
    Relu6,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SqueezeExcite,
    Tanh,
)

_INDEX_BYTES: Final = 8  # max pooling keeps the place of each largest value as int64
_BLOCK: Final = 16  # channels that oneDNN puts side by side in memory
_HALF_BLOCK: Final = 8  # of few channels, for the gradients of weights
_MIN_BLOCKED: Final = 4  # for them, a map of fewer channels is read as it is
_MAX_SMALL: Final = 16  # positions of the window of a depthwise convolution that is computed like others
_COPIES: Final = 256  # of the weights of a larger one, so that their gradients are added up in parts


class Bytes(NamedTuple):
    """Bytes that are there once, whatever the batch, and bytes for each sample of it."""

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
    """What a layer keeps, and its buffers.

    Args:
        input, output: whether it keeps what comes in, and what goes out.
        extra: what it makes and keeps beside them, such as the places of the largest values of a pool.
        is_view: whether what goes out is what comes in, laid out otherwise; such a layer costs nothing.
        forward, backward: buffers while it is computed, beside input, output and their gradients. Each is one moment; the
            largest of them counts.
        to_input: further such moments where the input has a gradient too.
        copies: whether it needs the gradient of what goes out in the memory order of what goes out, and copies it where it comes in
            another order, or as some of the channels of a stack.
        turns: whether the channels of what goes out lie side by side in memory (layer norm of a map does that).
    """

    input: bool = False
    output: bool = False
    extra: Bytes = EMPTY
    is_view: bool = False
    forward: tuple[Bytes, ...] = ()
    backward: tuple[Bytes, ...] = ()
    to_input: tuple[Bytes, ...] = ()
    copies: bool = False
    turns: bool = False


class ConvolutionFacts(NamedTuple):
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


def num_bytes(shape: Shape) -> int:
    """Bytes of one sample of this shape, as float32."""
    return BYTES_PER_VALUE * math.prod(shape)


def keeping(layer: Layer, input_shape: Shape, output_shape: Shape, *, is_channels_last: bool = False) -> SavedForBackward:
    """What a layer keeps in training.

    Args:
        input_shape, output_shape: without the batch axis.
        is_turned: whether the channels of what comes in lie side by side in memory.

    >>> from visus.design import maxpool
    >>> keeping(maxpool(2), (16, 8, 8), (16, 4, 4)).extra  # an int64 for each value
    Bytes(fixed=0, sample=2048)
    """
    return TABLE[type(layer)](layer, input_shape, output_shape, is_channels_last)


def largest_weight(layer: Layer, input_shape: Shape) -> int:
    """Number of values of the largest trained tensor of a layer.

    >>> from visus.design import linear
    >>> largest_weight(linear(10), (64,))
    640
    """
    num_parameters = layer.num_parameters(input_shape)
    if isinstance(layer, (Conv, Depthwise, Transposed)):
        return num_parameters - layer.has_bias * layer.output_shape(input_shape)[0]
    if isinstance(layer, Linear):
        return num_parameters - layer.bias * layer.output_shape(input_shape)[0]
    if isinstance(layer, SqueezeExcite):
        return input_shape[0] * layer.squeeze_channels
    return num_parameters // 2 if isinstance(layer, (Norm, LayerNorm, GroupNorm)) else num_parameters


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


def _convolution(
    layer: Conv | Depthwise, input_shape: Shape, output_shape: Shape, is_channels_last: bool
) -> SavedForBackward:
    windows = layer.windows(len(input_shape) - 1)
    facts = ConvolutionFacts(
        input_shape,
        output_shape,
        BYTES_PER_VALUE * layer.num_parameters(input_shape),
        num_taps=math.prod(window.kernel_size for window in windows),
        num_groups=layer.num_groups(input_shape[0]),
        is_strided=any(window.stride > 1 for window in windows),
        is_channels_last=is_channels_last,
    )
    if all(window.padding[0] == window.padding[1] for window in windows):
        return SavedForBackward(
            True, forward=facts.forward(), backward=facts.backward(), to_input=facts.to_input(), copies=True
        )
    padded = Bytes(
        0, _padded(input_shape, [sum(window.padding) for window in windows])
    )  # torch pads a copy of the map first
    more = tuple(Bytes(each.fixed, each.sample + padded.sample) for each in facts.backward())
    return SavedForBackward(extra=padded, forward=facts.forward(), backward=more, copies=True)


def _whiten(layer: Whiten, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    """Nothing is kept: its filters stay, and the gradient of a number added to a channel is a sum over what arrives."""
    windows = layer.windows(len(input_shape) - 1)
    weight_bytes = layer.bytes_weights(input_shape) - BYTES_PER_VALUE * layer.num_parameters(input_shape)
    facts = ConvolutionFacts(
        input_shape,
        output_shape,
        weight_bytes,
        num_taps=math.prod(window.kernel_size for window in windows),
        is_strided=any(window.stride > 1 for window in windows),
        is_channels_last=is_channels_last,
    )
    return SavedForBackward(forward=facts.forward(), to_input=facts.to_input())


def _transposed(layer: Transposed, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    facts = ConvolutionFacts(
        input_shape,
        output_shape,
        BYTES_PER_VALUE * layer.num_parameters(input_shape),
        num_taps=math.prod(per_axis("kernel_size", layer.kernel_size, len(input_shape) - 1)),
        is_strided=any(step > 1 for step in per_axis("stride", layer.stride, len(input_shape) - 1)),
        is_transposed=True,
        is_channels_last=is_channels_last,
    )
    return SavedForBackward(True, forward=facts.forward(), backward=facts.backward(), copies=True)


def _blurpool(layer: BlurPool, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    num_axes, channels = len(input_shape) - 1, input_shape[0]
    padded = (channels, *(length + layer.kernel_size - 1 for length in input_shape[1:]))
    facts = ConvolutionFacts(
        padded,
        output_shape,
        BYTES_PER_VALUE * channels * layer.kernel_size**num_axes,
        num_taps=layer.kernel_size**num_axes,
        num_groups=channels,
        is_strided=any(step > 1 for step in per_axis("stride", layer.stride, num_axes)),
        is_channels_last=is_channels_last,
    )
    made = num_bytes(padded)  # its gradient, from which that of the map before padding is made
    inside = tuple(Bytes(max(0, each.fixed), each.sample + made - num_bytes(input_shape)) for each in facts.to_input())
    return SavedForBackward(input=True, extra=Bytes(0, made), forward=facts.forward(), backward=(Bytes(0, made), *inside))


def _padded(shape: Shape, added: list[int]) -> int:
    """Bytes of one sample with so many positions added on each axis."""
    return num_bytes((shape[0], *(length + more for length, more in zip(shape[1:], added, strict=True))))


def _maxpool(layer: MaxPool, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    return SavedForBackward(input=True, extra=Bytes(0, _INDEX_BYTES * math.prod(output_shape)))


def _globalpool(layer: GlobalPool, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    if layer.kind == "avg":
        return SavedForBackward()
    return SavedForBackward(input=True, output=True, backward=(Bytes(0, num_bytes(input_shape)),))


def _upsample(layer: Upsample, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    turned_copies = num_bytes(input_shape) + num_bytes(output_shape) if len(input_shape) == 3 and not is_channels_last else 0
    return SavedForBackward(forward=(Bytes(0, turned_copies),))


def _norm(layer: Norm, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    statistics = Bytes(BYTES_PER_VALUE * 2 * input_shape[0], 0)  # a mean and a deviation for each channel
    return SavedForBackward(True, extra=statistics, backward=(Bytes(0, num_bytes(input_shape)),), copies=True)


def _layernorm(layer: LayerNorm, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    statistics = Bytes(0, BYTES_PER_VALUE * 2 * math.prod(input_shape[1:]))
    is_map = len(input_shape) > 1
    copy = Bytes(0, num_bytes(input_shape)) if is_map and not is_channels_last else EMPTY
    return SavedForBackward(True, extra=statistics, forward=(copy,), backward=(copy,), copies=True, turns=is_map)


def _groupnorm(layer: GroupNorm, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    return SavedForBackward(True, extra=Bytes(0, BYTES_PER_VALUE * 2 * layer.num_groups), copies=True)


def _gate(layer: SqueezeExcite, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    """Means, what is between the two linear layers (twice for silu), the factors (and what they are made of for hardsigmoid)."""
    channels, width = input_shape[0], layer.squeeze_channels
    values = channels + width * (2 if layer.activation == "silu" else 1)
    values += channels * (2 if layer.scale_activation == "hardsigmoid" else 1)
    product = Bytes(0, num_bytes(input_shape))
    return SavedForBackward(input=True, extra=Bytes(0, BYTES_PER_VALUE * values), backward=(product,))


def _scale(layer: Scale, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    return SavedForBackward(input=True, backward=(Bytes(0, num_bytes(input_shape)),))


def _dropout(layer: Dropout, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    return SavedForBackward(extra=Bytes(0, num_bytes(input_shape))) if layer.p else SavedForBackward(is_view=True)


def _droppath(layer: DropPath, input_shape: Shape, output_shape: Shape, is_channels_last: bool) -> SavedForBackward:
    return SavedForBackward(extra=Bytes(0, BYTES_PER_VALUE)) if layer.p else SavedForBackward(is_view=True)


def _plainly(kept: SavedForBackward) -> Callable[[Any, Shape, Shape, bool], SavedForBackward]:
    return lambda layer, input_shape, output_shape, is_channels_last: kept


_OF_INPUT, _OF_OUTPUT = _plainly(SavedForBackward(input=True)), _plainly(SavedForBackward(output=True))

TABLE: Final[dict[type[Layer], Callable[[Any, Shape, Shape, bool], SavedForBackward]]] = {
    **dict.fromkeys((Conv, Depthwise), _convolution),
    **dict.fromkeys((Relu, Sigmoid, Tanh, Softmax), _OF_OUTPUT),
    **dict.fromkeys((Relu6, LeakyRelu, Elu, Gelu, Silu, HardSwish, HardSigmoid, AvgPool, Linear), _OF_INPUT),
    Transposed: _transposed,
    Whiten: _whiten,
    MaxPool: _maxpool,
    BlurPool: _blurpool,
    GlobalPool: _globalpool,
    Upsample: _upsample,
    Norm: _norm,
    LayerNorm: _layernorm,
    GroupNorm: _groupnorm,
    SqueezeExcite: _gate,
    Scale: _scale,
    Dropout: _dropout,
    DropPath: _droppath,
    Flatten: _plainly(SavedForBackward(is_view=True)),
}
"""What each layer keeps, by its class."""
