"""The layer for Grad-CAM: the deepest one whose map is still fine enough to lay over a sample."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from visus.errors import UsageError
from visus.examine.layer_calls import Inputs, LayerCall, TracedFields, as_batch, eval_mode, hook_layers, plain_module, run
from visus.examine.map_placement import MapPlacements
from visus.units import write_shape

FINE: Final = {1: 16, 2: 6, 3: 5}
"""For signals, images and volumes: the minimum of cells along the longest axis of a map; a coarser one would color the whole sample."""


def fine_layer(module: nn.Module, inputs: Inputs) -> tuple[str, str] | None:
    """The last layer after an activation whose map has at least ``FINE`` cells along its longest axis, and the reason as a sentence.

    A layer whose cells have receptive fields of their own is preferred to one whose cells read everything. Where no such layer is after an
    activation, the last of all is taken.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *); only the first is used.

    Returns:
        None if no layer has such a map, or where none can be laid over the sample.

    >>> layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride=2))
    >>> fine_layer(layers, torch.zeros(1, 1, 12, 12))[0]
    '2'
    """
    module = plain_module(module)
    batch = as_batch(module, inputs[:1])
    places = MapPlacements(TracedFields(module, tuple(batch.shape[1:]))).trace_now()
    minimum = FINE.get(batch.dim() - 2, max(FINE.values()))
    found: list[tuple[tuple[int, bool], str, tuple[int, ...]]] = []

    def listen(call: LayerCall) -> None:
        if call.output.dim() < 3:
            return
        try:
            placement = places.of(call.path, tuple(call.output.shape[2:]))
        except UsageError:
            return
        spatial = tuple(map(len, placement.centers))
        if max(spatial) >= minimum:
            found.append(((placement.quality, call.is_active and call.output.shape[1] > 1), call.path, spatial))

    with torch.no_grad(), eval_mode(module), hook_layers(module, listen, functions=True):
        run(module, batch)
    if not found:
        return None
    rank, path, spatial = max(reversed(found), key=lambda each: each[0])
    behind = "after an activation " if rank[1] else ""
    return path, (
        f"'{path}' is the last layer {behind}whose map ({write_shape(spatial)}) has at least {minimum} cells along an axis: a smaller one would "
        f"color the whole sample."
    )
