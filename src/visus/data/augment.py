"""Augmentation of whole batches on their device: flip, shift, zoom and cutout, for recordings, pictures and volumes alike.

This file knows tensors of scaled numbers. It must not know files, labels or networks.

Shape letters: N items, C channels, * the spatial axes, of which the last is the width (or the length of a recording).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the label, drawn anew for every item of every batch.

    Args:
        flip: mirror half of the items along their last axis.
        shift: largest shift along each axis, as a fraction of its length; what enters is the reflection of what is there.
        zoom: items are enlarged by up to ``1 / (1 - zoom)``, with up to 15 % change of aspect; needs two spatial axes or more.
        cutout: a square (interval, cube) of this fraction of each axis is set to zero, the training mean.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    cutout: float = 0.0

    def __call__(self, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A changed copy of ``batch`` (N, C, *); random numbers come from ``generator``, on the CPU, so that devices agree."""
        if self.flip:
            batch = flip(batch, generator)
        if self.zoom and batch.ndim > 3:
            batch = zoom_and_shift(batch, self.zoom, self.shift, generator)
        elif self.shift:
            batch = shift(batch, self.shift, generator)
        if self.cutout:
            batch = cut_out(batch, self.cutout, generator)
        return batch


def flip(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """About half of the items mirrored along the last axis."""
    mirrored = torch.rand(len(batch), generator=generator) < 0.5
    chosen = mirrored.to(batch.device).reshape(-1, *[1] * (batch.ndim - 1))
    return torch.where(chosen, batch.flip(-1), batch)


def shift(batch: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Every item moved by a whole number of pixels of its own, reflected at the edges.

    An axis of length W moves by at most ``round(share * W)`` and never by W or more.
    """
    positions = []
    for axis, length in enumerate(batch.shape[2:]):
        reach = min(round(share * length), length - 1)
        moves = torch.randint(-reach, reach + 1, (len(batch), 1), generator=generator)
        index = torch.arange(length) + moves
        index = index.abs()
        index = torch.where(index >= length, 2 * (length - 1) - index, index).to(batch.device)
        positions.append(index.reshape(len(batch), *[length if other == axis else 1 for other in range(batch.ndim - 2)]))
    items = torch.arange(len(batch), device=batch.device).reshape(-1, *[1] * (batch.ndim - 2))
    # Two index tensors around a slice put the sliced axis (channels) last: move it back.
    where: list[torch.Tensor | slice] = [items, slice(None), *positions]
    return batch[tuple(where)].movedim(-1, 1)


def zoom_and_shift(batch: torch.Tensor, zoom: float, share: float, generator: torch.Generator) -> torch.Tensor:
    """Every item enlarged, stretched and moved by amounts of its own, by linear interpolation, reflected at the edges."""
    num_items, axes = len(batch), batch.ndim - 2
    window = 1 - zoom * torch.rand(num_items, 1, generator=generator)
    stretch = torch.exp(0.15 * (2 * torch.rand(num_items, axes, generator=generator) - 1))
    room = 1 - window + 2 * share
    moves = (2 * torch.rand(num_items, axes, generator=generator) - 1) * room
    affine = torch.zeros(num_items, axes, axes + 1)
    affine[:, range(axes), range(axes)] = window * stretch
    affine[:, :, -1] = moves
    grid = F.affine_grid(affine.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def cut_out(batch: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """In every item one box set to zero, its centre anywhere, its side ``round(share * W)`` on an axis of length W."""
    inside = torch.ones(len(batch), *[1] * (batch.ndim - 1), dtype=torch.bool)
    for axis, length in enumerate(batch.shape[2:]):
        side = round(share * length)
        first = torch.randint(0, length, (len(batch), 1), generator=generator) - side // 2
        position = torch.arange(length)
        hit = (position >= first) & (position < first + side)
        inside = inside & hit.reshape(len(batch), 1, *[length if other == axis else 1 for other in range(batch.ndim - 2)])
    return batch.masked_fill(inside.to(batch.device), 0.0)
