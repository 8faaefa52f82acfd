"""The kernels of a layer as arrays with named axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from visus.errors import UsageError, unknown_layer
from visus.examine.layer_calls import Array, plain_module, read_only, to_array
from visus.networks.trace.rows import layer_text
from visus.tables import ShortFields

AXES: Final = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True, eq=False, repr=False)
class Filters(ShortFields):
    """The kernels of one layer.

    Args:
        path: the layer's path.
        layer: the definition of the layer.
        kernels: (filters, input channels of their group, *spatial).
        axes: the names of these axes.
        bias: one number for each filter; None if the layer has none.
        groups: groups of input channels, of which each filter reads one.
    """

    path: str
    layer: str
    kernels: Array
    axes: tuple[str, ...]
    bias: Array | None
    groups: int

    @property
    def noun(self) -> str:
        """The word for one kernel: a filter, or a unit for a linear layer."""
        return "unit" if self.kernels.ndim == 2 else "filter"

    def as_maps(self, sample_shape: tuple[int, ...]) -> Array | None:
        """The kernels (filters, channels, *spatial); for a linear layer that reads a whole sample, in the shape of the
        sample.

        Args:
            sample_shape: (channels, *spatial) of one sample.

        Returns:
            None if the inputs of a linear layer are not the positions of the sample.

        >>> filters(nn.Sequential(nn.Flatten(), nn.Linear(27, 4)), "1").as_maps((3, 3, 3)).shape
        (4, 3, 3, 3)
        """
        if self.kernels.ndim > 2:
            return self.kernels
        if self.kernels.shape[1] != math.prod(sample_shape):
            return None
        maps: Array = self.kernels.reshape(len(self.kernels), *sample_shape)
        return maps

    def shown(self, *, together: bool = False) -> Array:
        """The kernels between 0 and 1 for drawing, weight 0 at 0.5.

        Args:
            together: scale all filters by the largest weight of the layer; else each by its own, so that weak ones can be seen.
        """
        axes = tuple(range(self.kernels.ndim)) if together else tuple(range(1, self.kernels.ndim))
        largest = np.abs(self.kernels).max(axis=axes, keepdims=True)
        return read_only(0.5 + 0.5 * self.kernels / np.where(largest > 0, largest, 1))


def filters(module: nn.Module, layer: str) -> Filters:
    """The kernels of a convolution, transposed or not, or of a linear layer.

    Args:
        module: any module.
        layer: the layer's path; the number of a call behind it, such as ``#2``, is ignored.

    Raises:
        UsageError: the layer does not exist, or it has no kernels.

    >>> found = filters(nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU()), "0")
    >>> found.kernels.shape, found.axes
    ((8, 3, 5, 5), ('filter', 'input channel', 'height', 'width'))
    """
    layers = {path: part for path, part in plain_module(module).named_modules() if not part._modules}
    path = layer.partition("#")[0]
    if path not in layers:
        raise UsageError(unknown_layer(path, list(layers)))
    part = layers[path]
    if not isinstance(part, (nn.modules.conv._ConvNd, nn.Linear)):
        known = [name for name, each in layers.items() if isinstance(each, (nn.modules.conv._ConvNd, nn.Linear))]
        raise UsageError(f"{layer_text(part)} has no kernels. Layers that have: {', '.join(known) or 'none'}.", where=path)
    groups = 1 if isinstance(part, nn.Linear) else part.groups
    weight = part.weight.detach()
    if isinstance(part, nn.modules.conv._ConvTransposeNd):  # (in, out of a group, *) -> (out, in of a group, *)
        parts = weight.reshape(groups, -1, *weight.shape[1:])
        weight = parts.transpose(1, 2).flatten(0, 1)
    num_axes = weight.dim() - 2
    names = ("unit", "input feature") if isinstance(part, nn.Linear) else ("filter", "input channel", *AXES[num_axes])
    bias = None if part.bias is None else to_array(part.bias.clone())
    kernels = to_array(weight.clone(memory_format=torch.contiguous_format))
    return Filters(path, layer_text(part), kernels, names, bias, groups)
