"""Whether items that are mirrored left to right are still items of their class, as far as the data itself can tell.

This file knows stored items and their labels. It must not know networks, or what follows from the answer.

A mirrored cat is a cat; a mirrored 3 is no digit, and a mirrored b is a d. Colour or size do not tell which is which, the items do: the nearest
neighbour of an item has its class more often than chance has it, and where the same holds for the mirrored item, mirroring keeps the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F

from visus.data.batches import Part, random_stream

NUM_ASKED: Final = 2_000
NUM_KNOWN: Final = 8_000
CHUNK: Final = 256
SIDE: Final = {2: 16, 3: 12}  # items are compared at this size, by the number of spatial axes
CLEARLY: Final = 3.0  # standard errors that the neighbours must know more than chance does
LEAST_KEPT: Final = 0.5
"""Share of what neighbours know above chance that must be left for mirrored items. Measured: digits of 8 x 8 0.22, digits shown by hands 0.17,
clothes 0.66, CIFAR-10 0.84."""


@dataclass(frozen=True)
class MirrorTest:
    """What the nearest neighbours of some items say about mirroring.

    Args:
        num_items: that were asked.
        plain: share of them whose nearest other item, by the correlation of their numbers, has their class.
        mirrored: the same for the mirrored items; each item itself is no neighbour of its mirror image.
        chance: share that a neighbour drawn at random would have.
    """

    num_items: int
    plain: float
    mirrored: float
    chance: float

    @property
    def kept(self) -> float | None:
        """Share of what neighbours know above chance that is left for mirrored items; None where they know too little to tell."""
        error = math.sqrt(self.chance * (1 - self.chance) / max(1, self.num_items))
        known = self.plain - self.chance
        return (self.mirrored - self.chance) / known if known > CLEARLY * error else None

    @property
    def keeps_class(self) -> bool | None:
        """Whether mirrored items are still items of their class; None where that cannot be told."""
        return None if self.kept is None else self.kept >= LEAST_KEPT

    def sentence(self, noun: str) -> str:
        """What was found, for a reader; ``noun`` is what an item is called.

        >>> MirrorTest(2000, plain=0.82, mirrored=0.57, chance=0.1).sentence("picture")
        'mirrored left to right, 57 % of 2,000 pictures lie nearest to one of their class (82 % as they are, 10 % by chance): mirroring keeps the class'
        """
        told = {
            True: "mirroring keeps the class",
            False: "mirroring changes the class",
            None: "that tells nothing about mirroring",
        }
        return (
            f"mirrored left to right, {self.mirrored:.0%} of {self.num_items:,} {noun}s lie nearest to one of their class "
            f"({self.plain:.0%} as they are, {self.chance:.0%} by chance): {told[self.keeps_class]}"
        ).replace("%", " %")


def mirror_test(part: Part, seed: int) -> MirrorTest | None:
    """Ask the nearest neighbours of some items of a split, as they are and mirrored along the last axis.

    Args:
        part: the training split; recordings have no mirror image.
        seed: which items are asked follows from it.

    Returns:
        The answer, or None for recordings, for items that are one position wide, and for fewer than two items.

    >>> import numpy as np
    >>> left, right = np.zeros((2, 1, 4, 4), np.uint8)
    >>> left[:, :, 0], right[:, :, 3] = 255, 255
    >>> pixels, labels = np.stack([left, right] * 20), np.array([0, 1] * 20)
    >>> found = mirror_test(Part("train", pixels, np.arange(40), labels, ("",) * 40), seed=0)
    >>> found.plain, found.mirrored, found.keeps_class
    (1.0, 0.0, False)
    """
    size = part.pixels.shape[2:]
    if len(size) not in SIDE or size[-1] < 2 or len(part) < 2:
        return None
    drawn = torch.randperm(len(part), generator=random_stream(seed, "mirrors"))[:NUM_KNOWN].sort().values.numpy()
    chunks = range(0, len(drawn), CHUNK)  # items may be large
    items = torch.cat([_shrunk(part.rows(drawn[start : start + CHUNK])) for start in chunks])
    labels = torch.from_numpy(part.labels[drawn])
    asked = torch.randperm(len(drawn), generator=random_stream(seed, "mirrors asked"))[:NUM_ASKED]
    known = _directions(items)
    plain, mirrored = (_share_with_class(turned[asked], known, labels, asked) for turned in (items, items.flip(-1)))
    of_classes = torch.bincount(labels).double() / len(labels)
    return MirrorTest(len(asked), plain, mirrored, float((of_classes**2).sum()))


def _share_with_class(turned: torch.Tensor, known: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor) -> float:
    """Share of the asked items, turned or not, whose nearest item, of those with ``known`` directions, has their class; an item is no neighbour of itself."""
    likeness = _directions(turned) @ known.T
    likeness[torch.arange(len(asked)), asked] = -math.inf
    return float((labels[likeness.argmax(1)] == labels[asked]).float().mean())


def _shrunk(items: torch.Tensor) -> torch.Tensor:
    """Stored items (N, C, *) as float32, with each longer axis shrunk by area."""
    size = items.shape[2:]
    shrink: Callable[..., torch.Tensor] = F.adaptive_avg_pool2d if len(size) == 2 else F.adaptive_avg_pool3d
    return shrink(items.float(), [min(length, SIDE[len(size)]) for length in size])


def _directions(items: torch.Tensor) -> torch.Tensor:
    """Each item as a vector without its mean, of length 1: products are correlations."""
    flat = items.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True))
