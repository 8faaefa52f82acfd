"""Random resized crop of images and volumes, with antialiasing.

Shape letters: N samples, C channels, * the spatial axes, O and I positions of an axis after and before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor

from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values, cut_boxes
from visus.units import write_shape

ASPECT: Final = 4 / 3  # maximum ratio of two sides of a window, relative to that of the sample
MAX_ENLARGED: Final = 2.0
"""Images are stored at up to twice the input's side for crops, which is four times the memory; smaller windows are enlarged."""


@dataclass(frozen=True)
class RandomCrop(Transform):
    """Cut out a random window, and resize it to the input's size (Szegedy et al. 2015, arXiv:1409.4842, section 6).

    Its area is uniform between ``area`` and 1 of the whole, and its sides have a ratio of 3/4 to 4/3. A position of the result is the mean of the
    values around it, weighted by a triangle as wide as a step between two positions, as Pillow and PyTorch resize with antialiasing.

    Args:
        area: smallest area (of volumes: volume) of a window, as a fraction of the whole.
        size: lengths of the spatial axes of the result.
    """

    area: float
    size: tuple[int, ...]
    stored_size: tuple[int, ...] = ()
    settings: ClassVar = ("crop",)
    num_axes: ClassVar = (2, 3)
    values: ClassVar = Values.STORED_FLOAT

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls(settings["crop"], samples.size, samples.stored_size) if settings.get("crop") else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        what = "area" if len(size) == 2 else "volume"
        source = f", from {write_shape(self.stored_size)}" if self.stored_size not in ((), tuple(size)) else ""
        return [f"cropped to {self.area:.0%} to 100 % of the {what}{source}".replace("%", " %").replace("  ", " ")]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        """The first edge and the length of the windows (N, D), as fractions of each axis."""
        axes = len(size)
        area = self.area + (1 - self.area) * random.uniform(1)
        stretch = math.log(ASPECT) * (random.uniform(axes) - 0.5)
        sides = (area ** (1 / axes) * torch.exp(stretch - stretch.mean(1, keepdim=True))).clamp(max=1)
        return random.uniform(axes) * (1 - sides), sides

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        first, sides = (values.to(batch.device) for values in drawn)
        batch = batch.to(torch.float32)
        for axis in reversed(range(len(self.size))):
            weights = window_weights(first[:, axis], sides[:, axis], batch.shape[axis + 2], self.size[axis])
            moved = batch.movedim(axis + 2, -1)
            batch = (
                torch.bmm(moved.flatten(1, -2), weights.transpose(1, 2)).reshape(*moved.shape[:-1], -1).movedim(-1, axis + 2)
            )
        return batch.contiguous()

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        first, sides = (values.to(boxes.device)[:, None, None] for values in drawn)
        lengths, wanted = (torch.tensor(each, dtype=boxes.dtype, device=boxes.device) for each in (size, self.size))
        return cut_boxes((boxes / lengths - first) / sides * wanted, self.size)

    def size_after(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.size


def window_weights(first: Tensor, side: Tensor, length: int, wanted: int) -> Tensor:
    """Weight (N, O, I) of each of ``length`` values in each of ``wanted`` values of a window; rows add up to 1.

    Args:
        first, side: first edge and length of the windows (N,), as fractions of the axis.
        length: number of values along the axis.
        wanted: number of values along the result.
    """
    step = side * length / wanted
    places = torch.arange(wanted, device=first.device) + 0.5
    centers = first[:, None] * length + places * step[:, None]
    old = torch.arange(length, device=first.device) + 0.5
    reach = step.clamp(min=1)[:, None, None]
    weights = (1 - (old - centers[:, :, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def stored_size_for(size: tuple[int, ...], area: float) -> tuple[int, ...]:
    """Size at which images are stored for crops down to ``area``: the smallest window then has as many pixels as the input, up to a limit.

    >>> stored_size_for((128, 128), 0.25), stored_size_for((128, 128), 0.08), stored_size_for((128, 128), 0.0)
    ((256, 256), (256, 256), (128, 128))
    """
    if not area:
        return size
    times = min(MAX_ENLARGED, area ** (-1 / len(size)))
    return tuple(math.ceil(times * length - 1e-6) for length in size)
