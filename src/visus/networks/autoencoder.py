"""Autoencoder: the layers of a network up to one of its maps, and a small head that reconstructs the input from this map."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.errors import UsageError
from visus.networks.initialize import initialize

HEAD_CHANNELS = 32
_CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Autoencoder(nn.Module):
    """A network and a head of two convolutions that reconstructs the input from one of its maps.

    The head upsamples the map between its convolutions, so the reconstruction has no more detail than the map.

    Args:
        network: a convolutional network; trained in place, with its paths below ``network``.
        layer: path of the layer whose map the head reads; default: the last map with more than one position.
        input_shape: (channels, *spatial) of one sample.
        seed: seed of the head's initial weights.

    Attributes:
        layer: path of the layer whose map the head reads.

    Raises:
        UsageError: the layer, or every layer, has no map.

    >>> stack = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 2))
    >>> autoencoder = Autoencoder(stack, None, (3, 8, 8), seed=0)
    >>> autoencoder.layer, autoencoder(torch.zeros(5, 3, 8, 8)).shape
    ('2', torch.Size([5, 3, 8, 8]))
    """

    def __init__(self, network: nn.Module, layer: str | None, input_shape: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.network = network
        rank = len(input_shape) - 1
        channels = self._channels_of_maps(input_shape)
        if not channels or (layer is not None and layer not in channels):
            raise UsageError(
                "an autoencoder needs a layer with a map, and this layer has none. Name a convolution or a pool."
            )
        self.layer = layer if layer is not None else list(channels)[-1]
        convolution = _CONVS[rank]
        self.near_map = convolution(channels[self.layer], HEAD_CHANNELS, 3, padding=1)
        self.near_sample = convolution(HEAD_CHANNELS, input_shape[0], 3, padding=1)
        initialize(nn.ModuleList([self.near_map, self.near_sample]), seed)
        nn.init.zeros_(self.near_sample.weight)  # so that the first reconstruction is the mean sample for any map
        self._map: Tensor | None = None
        network.get_submodule(self.layer).register_forward_hook(self._keep)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct (N, C, *), in the same shape."""
        self.network(x)
        kept, self._map = self._map, None
        assert kept is not None, "the layer was called"
        upsampled = F.interpolate(
            F.relu(self.near_map(kept)), size=x.shape[2:], mode=_LINEAR_MODES[x.dim() - 2], align_corners=False
        )
        output: Tensor = self.near_sample(upsampled)
        return output

    def _keep(self, layer: nn.Module, args: Any, output: Tensor) -> None:
        self._map = output

    def _channels_of_maps(self, input_shape: tuple[int, ...]) -> dict[str, int]:
        """Path and number of channels of each layer with a map of more than one position, in the order of execution."""
        channels: dict[str, int] = {}
        handles = []
        for path, part in self.network.named_modules():
            if path and not part._modules:

                def note(layer: nn.Module, args: Any, output: Any, path: str = path) -> None:
                    is_map = isinstance(output, Tensor) and output.dim() == len(input_shape) + 1
                    if is_map and any(length > 1 for length in output.shape[2:]):
                        channels.pop(path, None)
                        channels[path] = output.shape[1]

                handles.append(part.register_forward_hook(note))
        was_training = self.network.training
        device = next(self.network.parameters()).device
        try:
            with torch.no_grad():
                self.network.eval()(torch.zeros(1, *input_shape, device=device))
        finally:
            self.network.train(was_training)
            for handle in handles:
                handle.remove()
        return channels
