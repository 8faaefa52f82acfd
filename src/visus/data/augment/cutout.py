"""Cutout: a box of each sample is blanked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from visus.data.augment.moves import in_pixels
from visus.data.augment.random_numbers import BatchRandom, batch_random
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values


@dataclass(frozen=True)
class Cutout(Transform):
    """Set a box (interval, square, cube) of every sample to zero, which is the training mean, or the minimum with min-max normalization.

    Its center is random, and its side is ``round(fraction * W)`` on an axis of length W.

    Args:
        fraction: side of the box, as a fraction of each axis.
    """

    fraction: float
    settings: ClassVar = ("cutout",)
    values: ClassVar = Values.INPUTS

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls(settings["cutout"]) if settings.get("cutout") else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        sides = [round(self.fraction * length) for length in size]
        return [in_pixels("blanked in a box of", self.fraction, size, sides if all(sides) else [])]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return tuple(random.integers(length, 1) for length in size)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        sides = [round(self.fraction * length) for length in batch.shape[2:]]
        firsts = [center.to(batch.device) - side // 2 for center, side in zip(drawn, sides, strict=True)]
        inside = box_mask(firsts, [first + side for first, side in zip(firsts, sides, strict=True)], batch.shape[2:])
        return batch * (~inside).to(batch.dtype)


def box_mask(firsts: Sequence[Tensor], ends: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Whether each position lies in its sample's box, (N, 1, *), on the device of the boxes.

    Args:
        firsts, ends: for each axis, the first position (N, 1) of the box and the one after its last.
        size: lengths of the axes.
    """
    device = firsts[0].device
    inside = torch.ones(len(firsts[0]), *[1] * (len(size) + 1), dtype=torch.bool, device=device)
    for axis, (first, end, length) in enumerate(zip(firsts, ends, size, strict=True)):
        position = torch.arange(length, device=device)
        hit = (position >= first) & (position < end)
        inside = inside & hit.reshape(len(hit), 1, *[length if other == axis else 1 for other in range(len(size))])
    return inside


def cut_out(batch: Tensor, fraction: float, generator: torch.Generator | BatchRandom) -> Tensor:
    """Set a box in every sample to zero. Its center is random, and its side is ``round(fraction * W)`` on an axis of length W."""
    change = Cutout(fraction)
    return change.apply(batch, change.draw(batch_random(generator, batch), batch.shape[2:]))
