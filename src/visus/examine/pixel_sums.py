"""One output of a convolution, taken apart: patch times kernel plus bias, every term.

Shape letters: C channels in of one group, k the taps on each axis. This file knows the arithmetic of a convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visus.errors import UsageError
from visus.examine.layer_calls import (
    Array,
    Ended,
    Inputs,
    LayerCall,
    at_rest,
    called_layers,
    channel_in,
    frozen,
    heard,
    one_sample,
    position_in,
    run,
    to_array,
    unknown_layer,
    unwrapped,
)
from visus.examine.layer_outputs import first_tensor
from visus.networks.trace.rows import layer_text

PADDING: Final = -1  # the place of a tap that reads padding of zeros


@dataclass(frozen=True, eq=False)
class PixelSum:
    """One output of a layer as a sum.

    Args:
        path: the layer's path.
        layer: the layer as it is written.
        channel: the filter.
        position: the output's place in its map; empty for a linear layer.
        patch: what the layer reads for it, padding included, (C, *k).
        kernel: the filter's weights, (C, *k).
        bias: the filter's bias; 0 where the layer has none.
        value: what the network itself made of it.
        channels_in: the channels of the layer's input that are read, C of them.
        places: for each axis, where in the layer's input each tap reads; -1 for padding of zeros.
    """

    path: str
    layer: str
    channel: int
    position: tuple[int, ...]
    patch: Array
    kernel: Array
    bias: float
    value: float
    channels_in: range
    places: tuple[Array, ...]

    @property
    def products(self) -> Array:
        """Patch times kernel, (C, *k), in float64."""
        return frozen(self.patch.astype(np.float64) * self.kernel.astype(np.float64))

    @property
    def sum(self) -> float:
        """All products and the bias added up in float64; ``value`` to rounding."""
        return float(self.products.sum() + self.bias)


def pixel_sum(
    module: nn.Module, sample: Inputs, layer: str, channel: int, position: Sequence[int] | None = None
) -> PixelSum:
    """Patch x kernel + bias = value for one output of a convolution or of a linear layer, from the module itself.

    Args:
        module: any module.
        sample: one scaled sample, (1, channels, *spatial).
        layer: the layer's path.
        channel: the filter, from 0.
        position: the output's place in its map; None for the middle.

    Returns:
        Every term; ``sum`` and ``value`` are equal to rounding.

    Raises:
        UsageError: no such layer, channel or position; a layer of another kind.

    >>> module = nn.Conv2d(1, 1, 2, bias=False).requires_grad_(False)
    >>> _ = module.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    >>> found = pixel_sum(module, torch.ones(1, 1, 2, 2), "", 0, (0, 0))
    >>> found.products.ravel().tolist(), found.sum, found.value
    ([1.0, 2.0, 3.0, 4.0], 10.0, 10.0)
    """
    module = unwrapped(module)
    batch = one_sample(module, sample)
    found: list[tuple[LayerCall, Tensor]] = []

    def listen(call: LayerCall) -> None:
        if call.path == layer:
            given = first_tensor(call.inputs)
            assert given is not None, "a layer that is called is given a tensor"
            found.append((call, given))
            raise Ended

    with at_rest(module), torch.no_grad(), heard(module, listen):
        run(module, batch)
    if not found:
        raise UsageError(unknown_layer(layer, called_layers(module, batch)))
    call, given = found[0]
    part = call.module
    is_linear = isinstance(part, nn.Linear)
    if not is_linear and (
        not isinstance(part, nn.modules.conv._ConvNd) or isinstance(part, nn.modules.conv._ConvTransposeNd)
    ):
        raise UsageError(
            f"a sum of products is shown for convolutions and linear layers, and this is {layer_text(part)}.", where=layer
        )
    channel = channel_in(call.output.shape[1], channel, layer)
    place = position_in(call.output.shape[2:], position, layer)
    patch, channels_in, places = _of_linear(given, place) if is_linear else _of_convolution(part, given, channel, place)
    weight: Any = part.weight
    own_bias: Any = part.bias
    bias = 0.0 if own_bias is None else float(own_bias.detach()[channel])
    value = float(call.output[(0, channel, *place)])
    kernel = to_array(weight[channel].detach().clone())
    return PixelSum(
        layer, layer_text(part), channel, place, to_array(patch.clone()), kernel, bias, value, channels_in, places
    )


def _of_linear(given: Tensor, place: tuple[int, ...]) -> tuple[Tensor, range, tuple[Array, ...]]:
    """What one output of a linear layer reads: all features, at one place of a map whose channels are last."""
    patch = given[(0, *place)]
    return patch, range(len(patch)), ()


def _of_convolution(
    part: Any, given: Tensor, channel: int, place: tuple[int, ...]
) -> tuple[Tensor, range, tuple[Array, ...]]:
    """The patch that one output of a convolution reads, the channels it reads, and where each tap lies."""
    num_axes = len(part.kernel_size)
    size = part.in_channels // part.groups
    first = channel // (part.out_channels // part.groups) * size
    pads = _pads(part)
    mode = "constant" if part.padding_mode == "zeros" else part.padding_mode
    padded = F.pad(given, pads, mode=mode)[0, first : first + size]
    places = []
    for axis in range(num_axes):
        before, after = pads[2 * (num_axes - 1 - axis) : 2 * (num_axes - axis)]
        taps = place[axis] * part.stride[axis] + np.arange(part.kernel_size[axis]) * part.dilation[axis]
        padded = padded.index_select(axis + 1, torch.from_numpy(taps).to(padded.device))
        inside = np.arange(given.shape[axis + 2])
        if part.padding_mode == "zeros":
            line = np.pad(inside, (before, after), constant_values=PADDING)
        else:
            line = np.pad(inside, (before, after), mode=_NUMPY_MODES[part.padding_mode])
        places.append(frozen(line[taps]))
    return padded, range(first, first + size), tuple(places)


_NUMPY_MODES: Final[dict[str, Any]] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pads(part: Any) -> tuple[int, ...]:
    """Padding before and after each axis, last axis first, as ``torch.nn.functional.pad`` takes it."""
    unlike = getattr(part, "pads", ())
    if unlike:  # the convolutions of visus.networks.blocks that are padded unevenly
        return tuple(unlike)
    return tuple(part._reversed_padding_repeated_twice)
