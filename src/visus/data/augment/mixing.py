"""Mixup and CutMix: each sample is mixed with another one of its batch, and learns both labels by their shares.

Shape letters: N samples, C channels, * the spatial axes, D their number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from visus.data.augment.cutout import box_mask
from visus.data.augment.random_numbers import BatchRandom


@dataclass(frozen=True, eq=False)
class Pairs:
    """How the samples of a whole batch are mixed.

    Args:
        other: (N,) place in the batch of the sample that each is mixed with; every sample is the other one of exactly one.
        share: (N,) share of each sample's own label, 0 to 1; that of the other label is the rest.
        firsts, ends: for each axis, the first position (N, 1) of the box that comes from the other sample, and the one after its last; empty if
            whole samples are blended.
    """

    other: Tensor
    share: Tensor
    firsts: tuple[Tensor, ...] = ()
    ends: tuple[Tensor, ...] = ()

    def of(self, shard: slice | Tensor) -> Pairs:
        """The pairs of the samples in a shard; ``other`` still counts in the whole batch."""
        boxes = (tuple(each[shard] for each in edges) for edges in (self.firsts, self.ends))
        return Pairs(self.other[shard], self.share[shard], *boxes)

    def mix(self, own: Tensor, other: Tensor) -> Tensor:
        """Mix samples (N, C, *) with others (N, C, *)."""
        if self.firsts:
            firsts, ends = ([each.to(own.device) for each in edges] for edges in (self.firsts, self.ends))
            return torch.where(box_mask(firsts, ends, own.shape[2:]), other, own)
        return torch.lerp(other, own, self.share.to(own.device, own.dtype).reshape(-1, *[1] * (own.ndim - 1)))


class Mixing(ABC):
    """A way to mix the samples of a batch; a frozen value."""

    settings: ClassVar[tuple[str, ...]]
    num_axes: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @classmethod
    @abstractmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        """The mixing that a recipe asks for; None if it is off."""

    @abstractmethod
    def sentence(self) -> str:
        """What it does, as a phrase."""

    @abstractmethod
    def draw(self, random: BatchRandom, size: Sequence[int]) -> Pairs:
        """The pairs for a whole batch of samples whose spatial axes have these lengths."""


@dataclass(frozen=True)
class Mixup(Mixing):
    """Blend each sample with another one (Zhang et al. 2018, arXiv:1710.09412).

    Each sample has the larger share of its own blend, so every sample leads once in an epoch.

    Args:
        alpha: parameter of the distribution of the shares, Beta(alpha, alpha), of which the larger one is taken: small values mix little, 1 is uniform.
    """

    alpha: float
    settings: ClassVar = ("mixup",)
    num_axes: ClassVar = (0, 1, 2, 3)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        return cls(settings["mixup"]) if settings.get("mixup") else None

    def sentence(self) -> str:
        return f"blended in pairs (mixup {self.alpha:g})"

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Pairs:
        share = _beta(random, self.alpha)
        return Pairs(_permutation(random), torch.maximum(share, 1 - share))


@dataclass(frozen=True)
class CutMix(Mixing):
    """Replace a box (interval, rectangle, cuboid) of each sample with that of another one (Yun et al. 2019, arXiv:1905.04899).

    The share of the other label is the box's exact share of the positions, after it is cut at the edges.

    Args:
        alpha: parameter of the distribution of the shares before the cut, Beta(alpha, alpha): 1 is uniform.
    """

    alpha: float
    settings: ClassVar = ("cutmix",)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        return cls(settings["cutmix"]) if settings.get("cutmix") else None

    def sentence(self) -> str:
        return f"partly replaced by others (CutMix {self.alpha:g})"

    def draw(self, random: BatchRandom, size: Sequence[int]) -> Pairs:
        other, share = _permutation(random), _beta(random, self.alpha)
        sides = (1 - share) ** (1 / len(size))
        firsts, ends, inside = [], [], torch.ones(random.num_samples, 1)
        for length in size:
            side = (sides * length).round().long()[:, None]
            first = random.integers(length, 1) - side // 2
            firsts.append(first.clamp(min=0))
            ends.append((first + side).clamp(max=length))
            inside = inside * (ends[-1] - firsts[-1]) / length
        return Pairs(other, 1 - inside[:, 0], tuple(firsts), tuple(ends))


MIXINGS: tuple[type[Mixing], ...] = (Mixup, CutMix)
"""Every way of mixing; one is drawn for each batch if a recipe asks for several."""


def draw_pairs(mixings: Sequence[Mixing], random: BatchRandom, size: Sequence[int]) -> Pairs:
    """The pairs of one batch, by one of the mixings at random."""
    chosen = 0 if len(mixings) == 1 else int(torch.randint(len(mixings), (1,), generator=random.generator))
    return mixings[chosen].draw(random, size)


def _permutation(random: BatchRandom) -> Tensor:
    return torch.randperm(random.num_samples, generator=random.generator)


def _beta(random: BatchRandom, alpha: float) -> Tensor:
    """Numbers (N,) from the distribution Beta(alpha, alpha); PyTorch's takes no generator."""
    draws = np.random.default_rng(int(random.seed())).beta(alpha, alpha, random.num_samples)
    return torch.from_numpy(draws).float()
