"""Flip, translation and zoom, for signals, images and volumes.

Shape letters: N samples, C channels, * the spatial axes; the last one is the width (or the length of a signal).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from visus.data.augment.random_numbers import BatchRandom, batch_random
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values, cut_boxes, mirrored_boxes
from visus.units import write_shape

STRETCH = 0.15  # maximum logarithm of the stretch of a side during zoom
FLIPS = {
    "random": "mirrored left to right (half of them)",
    "alternating": "mirrored left to right (each in every second epoch)",
}


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror samples along their last axis.

    Args:
        how: ``random`` (each with probability 0.5) or ``alternating`` (each in every second epoch; Jordan 2024, arXiv:2404.00498,
            section 3.6).
    """

    how: str
    settings: ClassVar = ("flip",)

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls(settings["flip"]) if settings.get("flip", "none") != "none" else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return [FLIPS[self.how]]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        if self.how == "random":
            return (random.uniform() < 0.5,)
        return () if random.mirrored is None else (random.mirrored,)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        return mirror(batch, *drawn) if drawn else batch

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        return mirrored_boxes(boxes, drawn[0], -1, size[-1]) if drawn else boxes


@dataclass(frozen=True)
class Shift(Transform):
    """Shift samples by a random whole number of pixels along each axis, with reflection at the edges.

    Args:
        fraction: maximum shift, as a fraction of the axis.
    """

    fraction: float
    settings: ClassVar = ("translate",)

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        is_zoomed = bool(settings.get("zoom")) and len(samples.size) > 1  # a zoom shifts too
        return cls(settings["translate"]) if settings.get("translate") and not is_zoomed else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return [in_pixels("shifted by up to", self.fraction, size, reach_of(self.fraction, size))]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        reach = reach_of(self.fraction, size)
        return tuple(random.integers(2 * length + 1) for length in reach) if any(reach) else ()

    def apply(self, batch: Tensor, drawn: Drawn, mirrored: Tensor | None = None) -> Tensor:
        """The shifted batch; its marked samples are mirrored before, in the same copy."""
        return (
            shifted(batch, mirrored, reach_of(self.fraction, batch.shape[2:]), drawn) if drawn else mirror(batch, mirrored)
        )

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        if not drawn:
            return boxes
        moved = torch.stack(drawn, 1) - torch.tensor(reach_of(self.fraction, size))
        return cut_boxes(boxes - moved.to(boxes.device)[:, None, None], size)


@dataclass(frozen=True)
class Zoom(Transform):
    """Zoom, stretch and shift samples at random, by linear interpolation with reflection at the edges.

    Args:
        zoom: maximum zoom. Samples are enlarged by up to ``1 / (1 - zoom)``, and each side is stretched or shrunk by up to 16 %.
        translate: maximum shift, as a fraction of each side.
    """

    zoom: float
    translate: float = 0.0
    settings: ClassVar = ("zoom", "translate")
    num_axes: ClassVar = (2, 3)
    values: ClassVar = Values.INPUTS

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        if not settings.get("zoom") or len(samples.size) < 2:
            return None
        return cls(settings["zoom"], settings.get("translate", 0.0))

    def sentences(self, size: Sequence[int]) -> list[str]:
        largest = f"enlarged by up to 1/{1 - self.zoom:.2g}, each side stretched by up to {math.expm1(STRETCH):.0%}"
        return [largest, f"shifted by up to {self.translate:g} of each side"] if self.translate else [largest]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        axes = len(size)
        window = 1 - self.zoom * random.uniform(1)
        stretch = torch.exp(STRETCH * (2 * random.uniform(axes) - 1))
        max_shift = 1 - window + 2 * self.translate
        shift = (2 * random.uniform(axes) - 1) * max_shift
        return window * stretch, shift

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        window, shift = drawn
        axes = batch.ndim - 2
        affine = torch.zeros(len(batch), axes, axes + 1)
        affine[:, range(axes), range(axes)] = window
        affine[:, :, -1] = shift
        return sampled(batch, affine)

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        window, shift = (values.flip(1).to(boxes.device)[:, None, None] for values in drawn)  # affine axes are x, y, z
        lengths = torch.tensor(size, dtype=boxes.dtype, device=boxes.device)
        centered = 2 * boxes / lengths - 1
        return cut_boxes(((centered - shift) / window + 1) / 2 * lengths, size)


def sampled(batch: Tensor, affine: Tensor) -> Tensor:
    """The batch (N, C, *) at affinely moved positions (N, D, D + 1), by linear interpolation with reflection at the edges."""
    grid = F.affine_grid(affine.to(batch.device), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="reflection", align_corners=False)


def mirror(batch: Tensor, mirrored: Tensor | None) -> Tensor:
    """The batch (N, C, *) with the samples marked in ``mirrored`` (N,) mirrored along the last axis; the batch itself for None."""
    if mirrored is None:
        return batch
    return torch.where(mirrored.to(batch.device).reshape(-1, *[1] * (batch.ndim - 1)), batch.flip(-1), batch)


def mirror_and_shift(
    batch: Tensor, mirrored: Tensor | None, fraction: float, generator: torch.Generator | BatchRandom
) -> Tensor:
    """Mirror the marked samples, then shift each sample by a random whole number of pixels, with reflection at the edges.

    An axis of length W is shifted by at most ``min(round(fraction * W), W - 1)``.
    """
    shift = Shift(fraction)
    return shift.apply(batch, shift.draw(batch_random(generator, batch), batch.shape[2:]), mirrored)


def reach_of(fraction: float, size: Sequence[int]) -> list[int]:
    """Maximum shift along each axis, in pixels."""
    return [min(round(fraction * length), length - 1) for length in size]


def shifted(batch: Tensor, mirrored: Tensor | None, reach: Sequence[int], starts: Drawn) -> Tensor:
    """The window of each sample that begins at ``starts`` after padding by ``reach``; marked samples are mirrored before.

    Each sample is a window of the padded batch or of its mirror image, so a single copy does both.
    """
    size, axes = batch.shape[2:], range(2, batch.ndim)
    windows = F.pad(batch, [side for length in reversed(reach) for side in (length, length)], mode="reflect")
    rows = torch.arange(len(batch))
    if mirrored is not None:
        windows = torch.cat([windows, windows.flip(-1)])
        rows = rows + len(batch) * mirrored
    for axis, length in zip(axes, size, strict=True):
        windows = windows.unfold(axis, length, 1)
    index: list[Tensor | slice] = [rows.to(batch.device), slice(None), *(start.to(batch.device) for start in starts)]
    return windows[tuple(index)]


def zoom_and_shift(batch: Tensor, zoom: float, fraction: float, generator: torch.Generator | BatchRandom) -> Tensor:
    """Zoom, stretch and shift every sample at random, by linear interpolation with reflection at the edges."""
    change = Zoom(zoom, fraction)
    return change.apply(batch, change.draw(batch_random(generator, batch), batch.shape[2:]))


def in_pixels(words: str, fraction: float, size: Sequence[int], pixels: Sequence[int]) -> str:
    """A phrase for a fraction of each axis in whole pixels, or that it rounds to zero along all axes or one."""
    if any(pixels):
        return f"{words} {write_shape(pixels)}"
    where = "" if round(fraction * max(size)) == 0 else f" along one axis of {min(size)}"
    return f"not {words.split()[0]} ({fraction:g} of {write_shape(size)} rounds to 0{where})"
