"""One output of a convolution or a linear layer, term by term: patch times kernel plus bias.

Shape letters: C input channels of one group, k the taps on each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visus.errors import UsageError, unknown_layer
from visus.examine.layer_calls import (
    Array,
    Inputs,
    LayerCall,
    StopForward,
    called_layers,
    check_channel,
    eval_mode,
    hook_layers,
    one_sample,
    plain_module,
    read_only,
    resolve_position,
    run,
    to_array,
)
from visus.examine.layer_outputs import first_tensor
from visus.networks.trace.rows import layer_text
from visus.tables import ShortFields

PADDING: Final = -1  # the input position of a tap that reads zero padding


@dataclass(frozen=True, eq=False, repr=False)
class OutputTerms(ShortFields):
    """One output of a layer as a sum.

    Args:
        path: the layer's path.
        layer: the definition of the layer.
        channel: the filter.
        position: the position of the output in its map; empty for a linear layer.
        patch: the inputs of this output, padding included, (C, *k).
        kernel: the weights of the filter, (C, *k).
        bias: the bias of the filter; 0 if the layer has none.
        value: the output that the network computes.
        channels_in: the input channels that are read, C of them.
        places: for each axis, the input position of each tap; -1 for zero padding.
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
        return read_only(self.patch.astype(np.float64) * self.kernel.astype(np.float64))

    @property
    def sum(self) -> float:
        """The sum of all products and the bias in float64; equal to ``value`` up to rounding."""
        return float(self.products.sum() + self.bias)


def output_terms(
    module: nn.Module, sample: Inputs, layer: str, channel: int, position: Sequence[int] | None = None
) -> OutputTerms:
    """Patch x kernel + bias = value for one output of a convolution or of a linear layer, from the module itself.

    Args:
        module: any module.
        sample: one scaled sample, (1, channels, *spatial).
        layer: the layer's path.
        channel: the filter, from 0.
        position: the position of the output in its map; None for the middle.

    Returns:
        Every term; ``sum`` and ``value`` are equal up to rounding.

    Raises:
        UsageError: the layer, channel or position does not exist; a layer of another kind.

    >>> module = nn.Conv2d(1, 1, 2, bias=False).requires_grad_(False)
    >>> _ = module.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    >>> found = output_terms(module, torch.ones(1, 1, 2, 2), "", 0, (0, 0))
    >>> found.products.ravel().tolist(), found.sum, found.value
    ([1.0, 2.0, 3.0, 4.0], 10.0, 10.0)
    """
    module = plain_module(module)
    batch = one_sample(module, sample)
    found: list[tuple[LayerCall, Tensor]] = []

    def listen(call: LayerCall) -> None:
        if call.path == layer:
            given = first_tensor(call.inputs)
            assert given is not None, "a layer is called with a tensor"
            found.append((call, given))
            raise StopForward

    with eval_mode(module), torch.no_grad(), hook_layers(module, listen):
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
            f"only convolutions and linear layers are sums of products, and this is {layer_text(part)}.", where=layer
        )
    channel = check_channel(call.output.shape[1], channel, layer)
    place = resolve_position(call.output.shape[2:], position, layer)
    patch, channels_in, places = _of_linear(given, place) if is_linear else _of_convolution(part, given, channel, place)
    weight: Any = part.weight
    own_bias: Any = part.bias
    bias = 0.0 if own_bias is None else float(own_bias.detach()[channel])
    value = float(call.output[(0, channel, *place)])
    kernel = to_array(weight[channel].detach().clone())
    return OutputTerms(
        layer, layer_text(part), channel, place, to_array(patch.clone()), kernel, bias, value, channels_in, places
    )


def _of_linear(given: Tensor, place: tuple[int, ...]) -> tuple[Tensor, range, tuple[Array, ...]]:
    """The inputs of one output of a linear layer: all features, at one position of a map whose channels are last."""
    patch = given[(0, *place)]
    return patch, range(len(patch)), ()


def _of_convolution(
    part: Any, given: Tensor, channel: int, place: tuple[int, ...]
) -> tuple[Tensor, range, tuple[Array, ...]]:
    """The patch of one output of a convolution, its input channels, and the input position of each tap."""
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
        places.append(read_only(line[taps]))
    return padded, range(first, first + size), tuple(places)


_NUMPY_MODES: Final[dict[str, Any]] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pads(part: Any) -> tuple[int, ...]:
    """Padding before and after each axis, last axis first, as for ``torch.nn.functional.pad``."""
    uneven = getattr(part, "pads", ())
    if uneven:  # the convolutions of visus.networks.blocks that are padded unevenly
        return tuple(uneven)
    return tuple(part._reversed_padding_repeated_twice)
