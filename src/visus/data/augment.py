"""Augmentation of whole batches on their device: flip, shift, zoom, cutout and smaller sides, for signals, images and volumes alike.

This file knows tensors of numbers, stored or scaled.

Shape letters: N samples, C channels, * the spatial axes, of which the last is the width (or the length of a signal).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from visus.units import write_shape

STRETCH = 0.15  # largest logarithm of the stretch of a side when images are zoomed
_FLIPS = {
    "random": "mirrored left to right (half of them)",
    "alternating": "mirrored left to right (each in every second epoch)",
}
_MIRRORED_BY_PADDING = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)


@dataclass(frozen=True)
class BatchRandom:
    """Random numbers for some samples of a batch: drawn for all of them, so that each sample has its own, whoever computes it.

    Args:
        generator: on the CPU, so that devices agree.
        num_samples: of the whole batch.
        mine: the places of the samples at hand.
    """

    generator: torch.Generator
    num_samples: int
    mine: slice

    def uniform(self, *shape: int) -> torch.Tensor:
        """Between 0 and 1, of this shape for each sample."""
        return torch.rand(self.num_samples, *shape, generator=self.generator)[self.mine]

    def whole(self, below: int, *shape: int) -> torch.Tensor:
        """Whole numbers from 0, of this shape for each sample."""
        return torch.randint(0, below, (self.num_samples, *shape), generator=self.generator)[self.mine]


def _numbers(source: torch.Generator | BatchRandom, batch: torch.Tensor) -> BatchRandom:
    """Those of a whole batch where a plain generator is given."""
    return source if isinstance(source, BatchRandom) else BatchRandom(source, len(batch), slice(None))


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the label, drawn anew for every sample of every batch.

    Args:
        flip: mirror samples along their last axis: ``none``, ``random`` (half of them, drawn each time) or ``alternating`` (each in every
            second epoch; Jordan 2024, arXiv:2404.00498, section 3.6).
        translate: largest shift along each axis, as a fraction of its length; what enters is the reflection of what is there.
        zoom: samples are enlarged by up to ``1 / (1 - zoom)``, each side stretched by up to 16 % more or less; needs two spatial axes or more.
        cutout: a box (interval, square, cube) of this fraction of each axis is set to zero: the training mean, or with min-max
            scaling the lowest value.
    """

    flip: str = "none"
    translate: float = 0.0
    zoom: float = 0.0
    cutout: float = 0.0

    def __call__(
        self,
        batch: torch.Tensor,
        generator: torch.Generator | BatchRandom,
        *,
        scale: Callable[[torch.Tensor], torch.Tensor] | None = None,
        mirrored: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A changed copy of ``batch`` (N, C, *); random numbers come from ``generator``, on the CPU, so that devices agree.

        Args:
            batch: stored numbers; scaled ones where ``scale`` is left out.
            generator: of all random numbers; ``BatchRandom`` where the samples at hand are a slice of the batch.
            scale: from stored numbers to new, scaled ones. It is called once, as late as can be: stored numbers are a quarter of the
                bytes, and moving them is exact.
            mirrored: which samples are mirrored (N,), on the CPU, where ``flip`` is ``alternating``.
        """
        if self.flip == "random":
            mirrored = _numbers(generator, batch).uniform() < 0.5
        is_zoomed = bool(self.zoom) and batch.ndim > 3
        if scale is not None and (is_zoomed or batch.dtype not in _MIRRORED_BY_PADDING):
            batch, scale = scale(batch), None
        if is_zoomed:
            batch = zoom_and_shift(mirror(batch, mirrored), self.zoom, self.translate, generator)
        elif self.translate:
            batch = mirror_and_shift(batch, mirrored, self.translate, generator)
        else:
            batch = mirror(batch, mirrored)
        if scale is not None:
            batch = scale(batch)
        return cut_out(batch, self.cutout, generator) if self.cutout else batch

    def sentences(self, size: Sequence[int]) -> list[str]:
        """What is done to samples of this size, in whole pixels, for a reader; a change that rounds to none is said too.

        >>> Augmentation("random", translate=0.05, cutout=0.3).sentences((28, 28))
        ['mirrored left to right (half of them)', 'shifted by up to 1 x 1', 'blanked in a box of 8 x 8']
        >>> Augmentation(translate=0.05, zoom=0.4).sentences((9,))
        ['not shifted (0.05 of 9 rounds to none)']
        >>> Augmentation(cutout=0.3).sentences((1, 40))
        ['not blanked (0.3 of 1 x 40 rounds to none along one axis of 1)']
        """
        said = [_FLIPS[self.flip]] if self.flip in _FLIPS else []
        if self.zoom and len(size) > 1:
            said.append(f"enlarged by up to 1/{1 - self.zoom:.2g}, each side stretched by up to {math.expm1(STRETCH):.0%}")
            if self.translate:
                said.append(f"moved by up to {self.translate:g} of each side")
        elif self.translate:
            reach = [min(round(self.translate * length), length - 1) for length in size]
            said.append(_in_pixels("shifted by up to", self.translate, size, reach))
        if self.cutout:
            sides = [round(self.cutout * length) for length in size]
            said.append(_in_pixels("blanked in a box of", self.cutout, size, sides if all(sides) else []))
        return said


def _in_pixels(words: str, share: float, size: Sequence[int], pixels: Sequence[int]) -> str:
    """A share of each axis in whole pixels, or that it is none; a box that has no side along one axis is none."""
    if any(pixels):
        return f"{words} {write_shape(pixels)}"
    where = "" if round(share * max(size)) == 0 else f" along one axis of {min(size)}"
    return f"not {words.split()[0]} ({share:g} of {write_shape(size)} rounds to none{where})"


def mirror(batch: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
    """The samples (N, C, *) of which ``mirrored`` (N,) says so mirrored along the last axis; the batch itself where there is nothing to say."""
    if mirrored is None:
        return batch
    return torch.where(mirrored.to(batch.device).reshape(-1, *[1] * (batch.ndim - 1)), batch.flip(-1), batch)


def mirror_and_shift(
    batch: torch.Tensor, mirrored: torch.Tensor | None, share: float, generator: torch.Generator | BatchRandom
) -> torch.Tensor:
    """Samples mirrored, then moved by a whole number of pixels of their own, reflected at the edges.

    An axis of length W moves by at most ``round(share * W)`` and never by W or more. Each sample is one window of the batch with a reflected
    border, or of that mirrored: one copy does both.
    """
    size, axes = batch.shape[2:], range(2, batch.ndim)
    reach = [min(round(share * length), length - 1) for length in size]
    if not any(reach):
        return mirror(batch, mirrored)
    windows = F.pad(batch, [side for each in reversed(reach) for side in (each, each)], mode="reflect")
    rows = torch.arange(len(batch))
    if mirrored is not None:
        windows = torch.cat([windows, windows.flip(-1)])
        rows = rows + len(batch) * mirrored
    numbers = _numbers(generator, batch)
    places = [numbers.whole(2 * each + 1) for each in reach]
    for axis, length in zip(axes, size, strict=True):
        windows = windows.unfold(axis, length, 1)
    where: list[torch.Tensor | slice] = [rows.to(batch.device), slice(None), *(each.to(batch.device) for each in places)]
    return windows[tuple(where)]


def zoom_and_shift(batch: torch.Tensor, zoom: float, share: float, generator: torch.Generator | BatchRandom) -> torch.Tensor:
    """Every sample enlarged, stretched and moved by amounts of its own, by linear interpolation, reflected at the edges."""
    num_samples, axes = len(batch), batch.ndim - 2
    numbers = _numbers(generator, batch)
    window = 1 - zoom * numbers.uniform(1)
    stretch = torch.exp(STRETCH * (2 * numbers.uniform(axes) - 1))
    room = 1 - window + 2 * share
    moves = (2 * numbers.uniform(axes) - 1) * room
    affine = torch.zeros(num_samples, axes, axes + 1)
    affine[:, range(axes), range(axes)] = window * stretch
    affine[:, :, -1] = moves
    grid = F.affine_grid(affine.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def cut_out(batch: torch.Tensor, share: float, generator: torch.Generator | BatchRandom) -> torch.Tensor:
    """In every sample one box set to zero, its center anywhere, its side ``round(share * W)`` on an axis of length W."""
    numbers = _numbers(generator, batch)
    inside = torch.ones(len(batch), *[1] * (batch.ndim - 1), dtype=torch.bool)
    for axis, length in enumerate(batch.shape[2:]):
        side = round(share * length)
        first = numbers.whole(length, 1) - side // 2
        position = torch.arange(length)
        hit = (position >= first) & (position < first + side)
        inside = inside & hit.reshape(len(batch), 1, *[length if other == axis else 1 for other in range(batch.ndim - 2)])
    return batch * (~inside).to(batch.device, batch.dtype)


def shrink(batch: torch.Tensor, side: float) -> torch.Tensor:
    """Samples (N, C, *) with each axis at ``side`` times its length, rounded: every new value is the mean over the stretch that it covers.

    >>> shrink(torch.tensor([[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]]), 2 / 3)
    tensor([[[0.3333, 1.6667, 3.3333, 4.6667]]])
    """
    for axis in range(2, batch.ndim):
        length = batch.shape[axis]
        smaller = max(1, round(side * length))
        if smaller < length:
            means = _means(length, smaller).to(batch.device, batch.dtype)
            batch = (batch.movedim(axis, -1) @ means).movedim(-1, axis)
    return batch


@functools.lru_cache(maxsize=64)
def _means(length: int, smaller: int) -> torch.Tensor:
    """(length, smaller): how much of each old value is in each new one; columns add up to 1."""
    step = length / smaller
    starts = torch.arange(smaller, dtype=torch.float64) * step
    old = torch.arange(length, dtype=torch.float64)[:, None]
    overlap = torch.minimum(old + 1, starts + step) - torch.maximum(old, starts)
    return (overlap.clamp(min=0) / step).float()
