"""Augmentation of whole batches on their device: flip, translate, zoom, cutout and resizing, for signals, images and volumes.

Shape letters: N samples, C channels, * the spatial axes; the last one is the width (or the length of a signal).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from visus.units import write_shape

STRETCH = 0.15  # maximum logarithm of the stretch of a side during zoom
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
    """Random numbers for a shard of a batch.

    The numbers are drawn for the whole batch, so a sample gets the same numbers on any number of processes.

    Args:
        generator: generator on the CPU, so that all devices get the same numbers.
        num_samples: number of samples of the whole batch.
        shard: slice of the whole batch.
    """

    generator: torch.Generator
    num_samples: int
    shard: slice

    def uniform(self, *shape: int) -> torch.Tensor:
        """Uniform numbers in [0, 1), of this shape for each sample."""
        return torch.rand(self.num_samples, *shape, generator=self.generator)[self.shard]

    def integers(self, below: int, *shape: int) -> torch.Tensor:
        """Integers in [0, ``below``), of this shape for each sample."""
        return torch.randint(0, below, (self.num_samples, *shape), generator=self.generator)[self.shard]


def _batch_random(source: torch.Generator | BatchRandom, batch: torch.Tensor) -> BatchRandom:
    """Random numbers for ``batch``, which is a whole batch if ``source`` is a generator."""
    return source if isinstance(source, BatchRandom) else BatchRandom(source, len(batch), slice(None))


@dataclass(frozen=True)
class Augmentation:
    """Random changes that keep the label, drawn for every sample of every batch.

    Args:
        flip: mirror samples along their last axis: ``none``, ``random`` (each with probability 0.5) or ``alternating`` (each in every
            second epoch; Jordan 2024, arXiv:2404.00498, section 3.6).
        translate: maximum shift along each axis, as a fraction of its length; new pixels are reflected at the edge.
        zoom: maximum zoom. Samples are enlarged by up to ``1 / (1 - zoom)``, and each side is stretched or shrunk by up to 16 %. It needs
            at least two spatial axes.
        cutout: set a box (interval, square, cube) of this fraction of each axis to zero, which is the training mean, or the minimum with
            min-max normalization.
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
        """Augment a batch (N, C, *).

        Args:
            batch: stored values; normalized values if ``scale`` is None.
            generator: random generator on the CPU, so that all devices get the same numbers; a ``BatchRandom`` for a shard of a batch.
            scale: function that normalizes stored values into a new tensor. It is called as late as possible, since stored values have a
                quarter of the bytes, and moving them is exact.
            mirrored: which samples are mirrored (N,), on the CPU, if ``flip`` is ``alternating``.

        Returns:
            The augmented batch; ``batch`` itself if nothing changes.
        """
        if self.flip == "random":
            mirrored = _batch_random(generator, batch).uniform() < 0.5
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
        """The changes to samples of this size, in whole pixels, as phrases; including those that round to zero.

        >>> Augmentation("random", translate=0.05, cutout=0.3).sentences((28, 28))
        ['mirrored left to right (half of them)', 'shifted by up to 1 x 1', 'blanked in a box of 8 x 8']
        >>> Augmentation(translate=0.05, zoom=0.4).sentences((9,))
        ['not shifted (0.05 of 9 rounds to 0)']
        >>> Augmentation(cutout=0.3).sentences((1, 40))
        ['not blanked (0.3 of 1 x 40 rounds to 0 along one axis of 1)']
        """
        phrases = [_FLIPS[self.flip]] if self.flip in _FLIPS else []
        if self.zoom and len(size) > 1:
            phrases.append(
                f"enlarged by up to 1/{1 - self.zoom:.2g}, each side stretched by up to {math.expm1(STRETCH):.0%}"
            )
            if self.translate:
                phrases.append(f"shifted by up to {self.translate:g} of each side")
        elif self.translate:
            reach = [min(round(self.translate * length), length - 1) for length in size]
            phrases.append(_in_pixels("shifted by up to", self.translate, size, reach))
        if self.cutout:
            sides = [round(self.cutout * length) for length in size]
            phrases.append(_in_pixels("blanked in a box of", self.cutout, size, sides if all(sides) else []))
        return phrases

    def words(self, size: Sequence[int]) -> list[str]:
        """The changes to samples of this size, a word or two for each; without those that round to zero.

        >>> Augmentation("random", translate=0.05, cutout=0.3).words((28, 28))
        ['mirrored', 'shifted', 'partly covered']
        >>> Augmentation(translate=0.05, zoom=0.4).words((9,))
        []
        """
        first = [phrase.split()[0] for phrase in self.sentences(size)]
        return [{"blanked": "partly covered"}.get(word, word) for word in first if word != "not"]


def _in_pixels(words: str, fraction: float, size: Sequence[int], pixels: Sequence[int]) -> str:
    """A phrase for a fraction of each axis in whole pixels, or that it rounds to zero along all axes or one."""
    if any(pixels):
        return f"{words} {write_shape(pixels)}"
    where = "" if round(fraction * max(size)) == 0 else f" along one axis of {min(size)}"
    return f"not {words.split()[0]} ({fraction:g} of {write_shape(size)} rounds to 0{where})"


def mirror(batch: torch.Tensor, mirrored: torch.Tensor | None) -> torch.Tensor:
    """The batch (N, C, *) with the samples marked in ``mirrored`` (N,) mirrored along the last axis; the batch itself for None."""
    if mirrored is None:
        return batch
    return torch.where(mirrored.to(batch.device).reshape(-1, *[1] * (batch.ndim - 1)), batch.flip(-1), batch)


def mirror_and_shift(
    batch: torch.Tensor, mirrored: torch.Tensor | None, fraction: float, generator: torch.Generator | BatchRandom
) -> torch.Tensor:
    """Mirror the marked samples, then shift each sample by a random whole number of pixels, with reflection at the edges.

    An axis of length W is shifted by at most ``min(round(fraction * W), W - 1)``. Each sample is a window of the padded batch or of its
    mirror image, so a single copy does both.
    """
    size, axes = batch.shape[2:], range(2, batch.ndim)
    reach = [min(round(fraction * length), length - 1) for length in size]
    if not any(reach):
        return mirror(batch, mirrored)
    windows = F.pad(batch, [side for length in reversed(reach) for side in (length, length)], mode="reflect")
    rows = torch.arange(len(batch))
    if mirrored is not None:
        windows = torch.cat([windows, windows.flip(-1)])
        rows = rows + len(batch) * mirrored
    random = _batch_random(generator, batch)
    starts = [random.integers(2 * length + 1) for length in reach]
    for axis, length in zip(axes, size, strict=True):
        windows = windows.unfold(axis, length, 1)
    index: list[torch.Tensor | slice] = [rows.to(batch.device), slice(None), *(start.to(batch.device) for start in starts)]
    return windows[tuple(index)]


def zoom_and_shift(
    batch: torch.Tensor, zoom: float, fraction: float, generator: torch.Generator | BatchRandom
) -> torch.Tensor:
    """Zoom, stretch and shift every sample at random, by linear interpolation with reflection at the edges."""
    num_samples, axes = len(batch), batch.ndim - 2
    random = _batch_random(generator, batch)
    window = 1 - zoom * random.uniform(1)
    stretch = torch.exp(STRETCH * (2 * random.uniform(axes) - 1))
    max_shift = 1 - window + 2 * fraction
    shift = (2 * random.uniform(axes) - 1) * max_shift
    affine = torch.zeros(num_samples, axes, axes + 1)
    affine[:, range(axes), range(axes)] = window * stretch
    affine[:, :, -1] = shift
    grid = F.affine_grid(affine.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def cut_out(batch: torch.Tensor, fraction: float, generator: torch.Generator | BatchRandom) -> torch.Tensor:
    """Set a box in every sample to zero. Its center is random, and its side is ``round(fraction * W)`` on an axis of length W."""
    random = _batch_random(generator, batch)
    inside = torch.ones(len(batch), *[1] * (batch.ndim - 1), dtype=torch.bool)
    for axis, length in enumerate(batch.shape[2:]):
        side = round(fraction * length)
        first = random.integers(length, 1) - side // 2
        position = torch.arange(length)
        hit = (position >= first) & (position < first + side)
        inside = inside & hit.reshape(len(batch), 1, *[length if other == axis else 1 for other in range(batch.ndim - 2)])
    return batch * (~inside).to(batch.device, batch.dtype)


def shrink(batch: torch.Tensor, side: float) -> torch.Tensor:
    """Resize samples (N, C, *) to ``side`` times the length of each axis, rounded, by averaging areas.

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
    """Weights (length, smaller) of each old value in each new value; columns add up to 1."""
    step = length / smaller
    starts = torch.arange(smaller, dtype=torch.float64) * step
    old = torch.arange(length, dtype=torch.float64)[:, None]
    overlap = torch.minimum(old + 1, starts + step) - torch.maximum(old, starts)
    return (overlap.clamp(min=0) / step).float()
