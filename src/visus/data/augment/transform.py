"""``Transform``: one random change of whole batches, with everything that is known of it.

A transform draws its numbers first and applies them later, so the same numbers move the pixels and the boxes of a sample.

Shape letters: N samples, C channels, * the spatial axes, D their number, M boxes of a sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from visus.data.augment.random_numbers import BatchRandom

Drawn = tuple[Tensor, ...]
"""The random numbers of a transform for every sample of a batch, on the CPU."""


class Values(Enum):
    """The values that a transform can work on."""

    STORED = "stored values of any type that can be padded; they are moved and stay exact"
    STORED_FLOAT = "stored values; the result is float32"
    INPUTS = "normalized values"
    UNIT = "values from 0 (black) to 1 (white)"


@dataclass(frozen=True)
class SampleFacts:
    """Facts about the samples that a transform may depend on.

    Args:
        size: lengths of the spatial axes of the network's input.
        is_8_bit: whether stored values are 8-bit, so that black is 0 and white is 255.
        stored_size: lengths of the spatial axes as stored for the training, which are longer where crops come from larger images.
    """

    size: tuple[int, ...]
    is_8_bit: bool = True
    stored_size: tuple[int, ...] = ()


class Transform(ABC):
    """A random change of whole batches; a frozen value."""

    settings: ClassVar[tuple[str, ...]]
    """The settings of the recipe that decide it; the first one has its name."""
    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)
    """The numbers of spatial axes that it is made for: 1 for signals, 2 for images, 3 for volumes."""
    values: ClassVar[Values] = Values.STORED

    @classmethod
    @abstractmethod
    def of(cls, settings: Mapping[str, Any], samples: SampleFacts) -> Self | None:
        """The transform that a recipe asks for; None if it is off."""

    @abstractmethod
    def sentences(self, size: Sequence[int]) -> list[str]:
        """The changes to samples of this size, as phrases; including those that round to zero."""

    @abstractmethod
    def draw(self, random: BatchRandom, size: Sequence[int]) -> Drawn:
        """The random numbers for samples whose spatial axes have these lengths."""

    @abstractmethod
    def apply(self, batch: Tensor, drawn: Drawn) -> Tensor:
        """The changed batch (N, C, *)."""

    def move_boxes(self, boxes: Tensor, drawn: Drawn, size: Sequence[int]) -> Tensor:
        """The boxes of the changed samples; those that leave the sample are cut at its edges, down to a length of 0.

        Args:
            boxes: (N, M, 2, D), the first and the last edge along each spatial axis, in pixels: position i covers i to i + 1.
            drawn: the numbers that moved the pixels.
            size: lengths of the spatial axes before the change.
        """
        return boxes

    def size_after(self, size: Sequence[int]) -> tuple[int, ...]:
        """Lengths of the spatial axes after the change."""
        return tuple(size)


def cut_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Boxes (N, M, 2, D) cut at the edges of samples of this size.

    >>> cut_boxes(torch.tensor([[[[-2.0], [3.0]]]]), (2,)).flatten().tolist()
    [0.0, 2.0]
    """
    return boxes.clamp(min=0).minimum(torch.tensor(size, dtype=boxes.dtype, device=boxes.device))


def mirrored_boxes(boxes: Tensor, mirrored: Tensor, axis: int, length: int) -> Tensor:
    """Boxes (N, M, 2, D) with those of the marked samples (N,) mirrored along one spatial axis of ``length`` pixels."""
    moved = boxes.clone()
    moved[..., axis] = length - boxes[..., axis].flip(-1)
    return torch.where(mirrored.to(boxes.device).reshape(-1, 1, 1, 1), moved, boxes)
