"""Augmentation of whole batches on their device: flip, shift, zoom and cutout, for recordings, pictures and volumes alike.

This file knows tensors of scaled numbers. It must not know files, labels or networks.

Shape letters: N items, C channels, * the spatial axes, of which the last is the width (or the length of a recording).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from visus.units import write_shape

STRETCH = 0.15  # largest logarithm of the stretch of a side when pictures are zoomed


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the label, drawn anew for every item of every batch.

    Args:
        flip: mirror half of the items along their last axis.
        shift: largest shift along each axis, as a fraction of its length; what enters is the reflection of what is there.
        zoom: items are enlarged by up to ``1 / (1 - zoom)``, each side stretched by up to 16 % more or less; needs two spatial axes or more.
        cutout: a box (interval, square, cube) of this fraction of each axis is set to zero: the training mean, or with min-max
            scaling the lowest value.
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

    def sentences(self, size: Sequence[int]) -> list[str]:
        """What is done to items of this size, in whole pixels, for a reader; a change that rounds to none is said too.

        >>> Augmentation(flip=True, shift=0.05, cutout=0.3).sentences((28, 28))
        ['mirrored left to right (half of them)', 'shifted by up to 1 x 1', 'blanked in a box of 8 x 8']
        >>> Augmentation(shift=0.05, zoom=0.4).sentences((9,))
        ['not shifted (0.05 of 9 rounds to none)']
        """
        said = ["mirrored left to right (half of them)"] if self.flip else []
        if self.zoom and len(size) > 1:
            said.append(f"enlarged by up to 1/{1 - self.zoom:.2g}, each side stretched by up to {math.expm1(STRETCH):.0%}")
            if self.shift:
                said.append(f"moved by up to {self.shift:g} of each side")
        elif self.shift:
            said.append(_in_pixels("shifted by up to", self.shift, size))
        if self.cutout:
            said.append(_in_pixels("blanked in a box of", self.cutout, size))
        return said


def _in_pixels(words: str, share: float, size: Sequence[int]) -> str:
    """A share of each axis in whole pixels, or that it is none."""
    pixels = [min(round(share * length), length - 1) for length in size]
    shown = write_shape(pixels)
    if any(pixels):
        return f"{words} {shown}"
    return f"not {words.split()[0]} ({share:g} of {write_shape(size)} rounds to none)"


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
    stretch = torch.exp(STRETCH * (2 * torch.rand(num_items, axes, generator=generator) - 1))
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
