"""Which layer's map is both late and fine enough to be laid over an item.

This file knows maps' sizes. It must not know how saliency is computed, training or drawing.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from visus.examine.layer_calls import Call, Inputs, as_batch, at_rest, heard, run, unwrapped
from visus.units import write_shape

FINE: Final = {1: 16, 2: 6, 3: 5}
"""For recordings, pictures and volumes: a map with fewer places than this along its longest axis, laid over an item, colours all of it."""


def fine_layer(module: nn.Module, inputs: Inputs) -> tuple[str, str] | None:
    """The last layer whose map has at least ``FINE`` places along its longest axis, and the reason as a sentence.

    Args:
        module: any module.
        inputs: scaled items (N, C, *); the first is looked at.

    Returns:
        None where no layer has such a map, or where its axes are not those of the item.

    >>> layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2))
    >>> fine_layer(layers, torch.zeros(1, 1, 12, 12))[0]
    '1'
    """
    module = unwrapped(module)
    batch = as_batch(module, inputs[:1])
    least = FINE.get(batch.dim() - 2, max(FINE))
    found: list[tuple[str, tuple[int, ...]]] = []

    def listen(call: Call) -> None:
        spatial = tuple(call.output.shape[2:])
        if len(spatial) == batch.dim() - 2 and spatial and max(spatial) >= least:
            found.append((call.path, spatial))

    with torch.no_grad(), at_rest(module), heard(module, listen):
        run(module, batch)
    if not found:
        return None
    path, spatial = found[-1]
    return path, (
        f"'{path}' is the last layer whose map ({write_shape(spatial)}) has at least {least} places along an axis: a smaller one would "
        f"colour everything."
    )
