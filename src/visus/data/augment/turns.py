"""Vertical flip, quarter turns and rotation of images, and of volumes within the plane of their last two axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from visus.data.augment.moves import sampled
from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.transform import Drawn, SampleFacts, Transform, Values, cut_boxes, mirrored_boxes


@dataclass(frozen=True)
class VerticalFlip(Transform):
    """Mirror half of the samples along their second-last axis, top to bottom."""

    settings: ClassVar = ("vertical_flip",)
    num_axes: ClassVar = (2, 3)

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls() if settings.get("vertical_flip", "none") != "none" else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return ["upside down (half of them)"]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return (random.uniform() < 0.5,)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        return torch.where(_by_sample(drawn[0], batch), batch.flip(-2), batch)

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        return mirrored_boxes(boxes, drawn[0], -2, size[-2])


@dataclass(frozen=True)
class QuarterTurns(Transform):
    """Turn samples counterclockwise by a random multiple of 90 degrees, within the plane of their last two axes, which are equally long."""

    settings: ClassVar = ("rotate90",)
    num_axes: ClassVar = (2, 3)

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls() if settings.get("rotate90", "none") != "none" else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return ["turned by 0, 90, 180 or 270 degrees"]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return (random.integers(4),)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        assert batch.shape[-1] == batch.shape[-2], "resolve refuses other samples"
        (turns,) = drawn  # one turn is a transposition and a flip, two are two flips, three are a flip and a transposition
        batch = torch.where(_by_sample(turns % 2 == 1, batch), batch.transpose(-1, -2), batch)
        batch = torch.where(_by_sample((turns == 1) | (turns == 2), batch), batch.flip(-2), batch)
        return torch.where(_by_sample((turns == 2) | (turns == 3), batch), batch.flip(-1), batch)

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        (turns,) = drawn
        swapped = boxes[..., [*range(boxes.shape[-1] - 2), -1, -2]]
        boxes = torch.where((turns % 2 == 1).to(boxes.device).reshape(-1, 1, 1, 1), swapped, boxes)
        boxes = mirrored_boxes(boxes, (turns == 1) | (turns == 2), -2, size[-2])
        return mirrored_boxes(boxes, (turns == 2) | (turns == 3), -1, size[-1])


@dataclass(frozen=True)
class Rotation(Transform):
    """Rotate samples about their middle, within the plane of their last two axes, by linear interpolation with reflection at the edges.

    Args:
        degrees: maximum angle in degrees, in both directions.
    """

    degrees: float
    settings: ClassVar = ("rotate",)
    num_axes: ClassVar = (2, 3)
    values: ClassVar = Values.INPUTS

    @classmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        return cls(settings["rotate"]) if settings.get("rotate") else None

    def sentences(self, size: Sequence[int]) -> list[str]:
        return [f"rotated by up to {self.degrees:g} degrees"]

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        return ((2 * random.uniform() - 1) * math.radians(self.degrees),)

    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        angle, axes = drawn[0], batch.ndim - 2
        affine = torch.zeros(len(batch), axes, axes + 1)
        affine[:, range(axes), range(axes)] = 1
        affine[:, :2, :2] = plane_rotation(angle, batch.shape[-2] / batch.shape[-1])
        return sampled(batch, affine)

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        """The smallest boxes around the rotated ones."""
        cosine, sine = (each.to(boxes.device)[:, None, None, None] for each in (drawn[0].cos(), drawn[0].sin()))
        middle = torch.tensor(size[-2:], dtype=boxes.dtype, device=boxes.device) / 2
        y, x = (boxes[..., axis] - middle[axis] for axis in (-2, -1))
        corners_y, corners_x = y[..., :, None], x[..., None, :]  # of each combination of edges
        moved = (corners_y * cosine - corners_x * sine, corners_x * cosine + corners_y * sine)
        rotated = boxes.clone()
        for axis, corners in zip((-2, -1), moved, strict=True):
            flat = corners.flatten(2)
            rotated[..., axis] = torch.stack([flat.amin(2), flat.amax(2)], 2) + middle[axis]
        return cut_boxes(rotated, size)


def plane_rotation(angle: Tensor, ratio: float) -> Tensor:
    """Matrices (N, 2, 2) from positions in the rotated image to those in the image, in normalized coordinates (x, y).

    Args:
        angle: (N,) in radians.
        ratio: height divided by width.
    """
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine * ratio], 1), torch.stack([sine / ratio, cosine], 1)], 1)


def _by_sample(chosen: Tensor, batch: Tensor) -> Tensor:
    """Flags (N,) with the number of axes of the batch, on its device."""
    return chosen.to(batch.device).reshape(-1, *[1] * (batch.ndim - 1))
