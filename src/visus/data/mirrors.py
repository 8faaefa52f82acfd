"""Whether samples that are mirrored left to right still belong to their class, as far as the data itself can tell.

This file knows stored samples, their labels and their groups.

A mirrored cat is a cat; a mirrored 3 is no digit, and a mirrored b is a d. Neither color nor size tells which is which, but the samples do: the
nearest neighbor of a sample has its class more often than chance has it. Where the same holds for the mirrored sample, mirroring keeps the class.

Copies would spoil that comparison, since a copy of a sample is its nearest neighbor and has its class. So samples of the same group, and samples
that correlate with the asked one, mirrored or not, by more than ``COPY``, are no neighbors of it. Both comparisons leave out the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visus.data.batches import Part, random_stream

NUM_ASKED: Final = 2_000
NUM_KNOWN: Final = 8_000
CHUNK: Final = 256
CHUNK_VALUES: Final = 2**22
SIDE: Final = {2: 16, 3: 12}  # samples are compared at this size, by the number of spatial axes
COPY: Final = 0.99
"""Correlation above which two samples count as copies. Measured at this size: copies saved again as JPEG (quality 75) or with a little noise lie
above it for photos; of 12,000 different clothes 4 % have such a neighbor, of photos and CIFAR-10 none, and no decision changes by leaving them out."""
CLEARLY: Final = 3.0  # standard errors that the neighbors must know more than chance does
Z: Final = 1.959964  # of a 95 % interval
MIN_KEPT: Final = 0.5
"""Share of what neighbors know above chance that must be left for mirrored samples. Measured: digits of 8 x 8 0.27, digits shown by hands 0.17,
clothes 0.75, CIFAR-10 0.88."""


@dataclass(frozen=True)
class MirrorTest:
    """What the nearest neighbors of some samples say about mirroring.

    Args:
        num_samples: samples that were asked.
        plain: share of them whose nearest other sample, by the correlation of their numbers, has their class.
        mirrored: the same for the mirrored samples.
        chance: share that a neighbor drawn at random would have.
        low, high: 95 % interval of ``kept``; not a number where the neighbors know too little to tell.
        num_copied: asked samples that have a copy, mirrored or not, or another sample of their group among the others; these are no neighbors.
    """

    num_samples: int
    plain: float
    mirrored: float
    chance: float
    low: float = math.nan
    high: float = math.nan
    num_copied: int = 0

    @property
    def kept(self) -> float | None:
        """Share of what neighbors know above chance that is left for mirrored samples; None where they know too little to tell."""
        error = math.sqrt(self.chance * (1 - self.chance) / max(1, self.num_samples))
        known = self.plain - self.chance
        return (self.mirrored - self.chance) / known if known > CLEARLY * error and not math.isnan(self.low) else None

    @property
    def keeps_class(self) -> bool | None:
        """Whether mirrored samples still belong to their class: the whole interval of ``kept`` lies on one side of a half; else None."""
        if self.kept is None or self.low < MIN_KEPT <= self.high:
            return None
        return self.low >= MIN_KEPT

    def sentence(self, noun: str) -> str:
        """What was measured and what follows, for a reader; ``noun`` is what a sample is called.

        >>> MirrorTest(2000, plain=0.82, mirrored=0.57, chance=0.1, low=0.62, high=0.69).sentence("image")
        'the nearest neighbor of 82 % of 2,000 images has their class, of 57 % once they are mirrored, of 10 % by chance; so 65 % (95 % interval 62 % to 69 %) of what neighbors know is left: mirroring keeps the class'
        """
        measured = (
            f"the nearest neighbor of {self.plain:.0%} of {self.num_samples:,} {noun}s has their class, of {self.mirrored:.0%} once they are mirrored, "
            f"of {self.chance:.0%} by chance"
        )
        if self.num_copied:
            measured += f" (copies and {noun}s of one group, which {self.num_copied:,} of them have, are left out)"
        if self.kept is None:
            return f"{measured}; too close to chance to tell anything about mirroring".replace("%", " %")
        told = {
            True: "mirroring keeps the class",
            False: "mirroring changes the class",
            None: "this does not tell whether mirroring keeps the class (half of it must be left)",
        }
        interval = f"95% interval {max(0.0, self.low):.0%} to {max(0.0, self.high):.0%}"
        left = f"so {max(0.0, self.kept):.0%} ({interval}) of what neighbors know is left"
        return f"{measured}; {left}: {told[self.keeps_class]}".replace("%", " %")


def mirror_test(part: Part, seed: int, groups: Sequence[str] | None = None) -> MirrorTest | None:
    """Ask the nearest neighbors of some samples of a split, as they are and mirrored along the last axis.

    Args:
        part: the training split; signals have no mirror image.
        seed: which samples are asked follows from it.
        groups: of each sample, "" for none: samples of one group are no neighbors. None where there are no groups.

    Returns:
        The answer, or None for signals, for samples that are one position wide, and for fewer than two samples.

    >>> pixels = np.random.default_rng(0).integers(0, 50, (40, 1, 8, 8)).astype(np.uint8)
    >>> pixels[:20, :, :, :4] += 150
    >>> pixels[20:, :, :, 4:] += 150
    >>> found = mirror_test(Part("train", pixels, np.arange(40), np.repeat([0, 1], 20), ("",) * 40), seed=0)
    >>> found.plain, found.mirrored, found.keeps_class
    (1.0, 0.0, False)
    """
    size = part.pixels.shape[2:]
    if len(size) not in SIDE or size[-1] < 2 or len(part) < 2:
        return None
    drawn = torch.randperm(len(part), generator=random_stream(seed, "mirrors"))[:NUM_KNOWN].sort().values.numpy()
    num_rows = max(1, min(CHUNK, CHUNK_VALUES // math.prod(part.pixels.shape[1:])))  # samples may be large
    chunks = range(0, len(drawn), num_rows)
    samples = torch.cat([_shrunk(part.rows(drawn[start : start + num_rows])) for start in chunks])
    labels = torch.from_numpy(part.labels[drawn])
    asked = torch.randperm(len(drawn), generator=random_stream(seed, "mirrors asked"))[:NUM_ASKED]
    known = _directions(samples)
    plain, mirrored = (_directions(turned[asked]) @ known.T for turned in (samples, samples.flip(-1)))
    copies = (plain > COPY) | (mirrored > COPY)
    own = torch.zeros_like(copies)
    own[torch.arange(len(asked)), asked] = True
    is_same = copies | own
    units = _first_copies(plain[:, asked])
    if groups is not None:
        grouped = _group_numbers(groups)[torch.from_numpy(drawn)]
        is_same |= grouped[asked][:, None] == grouped[None]
        units = grouped[asked][units]
    has_other = ~is_same.all(dim=1)
    if not has_other.any():
        return None
    right = [
        (labels[likeness.masked_fill_(is_same, -math.inf).argmax(dim=1)] == labels[asked])[has_other].double()
        for likeness in (plain, mirrored)
    ]
    same_class = (labels[asked][:, None] == labels[None]) & ~is_same
    chance = (same_class.sum(dim=1) / (~is_same).sum(dim=1))[has_other].double()
    num_copied = int(((is_same & ~own).any(dim=1) & has_other).sum())
    low, high = _kept_interval(right[0] - chance, right[1] - chance, units[has_other])
    plainly, mirrored_so, by_chance = (float(each.mean()) for each in (*right, chance))
    return MirrorTest(int(has_other.sum()), plainly, mirrored_so, by_chance, low, high, num_copied)


def _kept_interval(plain: Tensor, mirrored: Tensor, units: Tensor) -> tuple[float, float]:
    """95 % interval of the ratio of two paired means, mirrored by plain, by Fieller's theorem (1954, J. R. Stat. Soc. B 16, 175-185).

    Samples of one unit are no independent evidence: the variances are those of sums over units.

    Returns:
        The interval; not a number where the plain mean is not clearly above 0, since the ratio has no bounds then.
    """
    num_samples, means = len(plain), (float(plain.mean()), float(mirrored.mean()))
    _, places = torch.unique(units, return_inverse=True)
    sums = torch.zeros(2, int(places.max()) + 1, dtype=torch.float64)
    for row, (values, mean) in enumerate(zip((plain, mirrored), means, strict=True)):
        sums[row].index_add_(0, places, values - mean)
    least = (
        torch.eye(2, dtype=torch.float64) / sums.shape[1] ** 2
    )  # as if one more unit differed: a share of 1 is never certain
    variance = (sums @ sums.T / num_samples**2 + least).tolist()
    a = means[0] ** 2 - Z**2 * variance[0][0]
    b = means[0] * means[1] - Z**2 * variance[0][1]
    c = means[1] ** 2 - Z**2 * variance[1][1]
    if means[0] <= CLEARLY * math.sqrt(variance[0][0]) or a <= 0:
        return math.nan, math.nan
    root = math.sqrt(max(0.0, b * b - a * c))
    return (b - root) / a, (b + root) / a


def _first_copies(likeness: Tensor) -> Tensor:
    """For each asked sample the place of the first asked one that it is a copy of: itself where there is none."""
    is_copy = likeness > COPY
    is_copy.fill_diagonal_(True)
    return is_copy.int().argmax(dim=1)


def _group_numbers(groups: Sequence[str]) -> Tensor:
    """Equal numbers for samples of one group; a number of its own for each sample without one."""
    numbers: dict[object, int] = {}
    keys = (group or (place,) for place, group in enumerate(groups))
    return torch.from_numpy(np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(groups)))


def _shrunk(samples: Tensor) -> Tensor:
    """Stored samples (N, C, *) as float32, with each longer axis shrunk by area."""
    size = samples.shape[2:]
    shrink: Callable[..., Tensor] = F.adaptive_avg_pool2d if len(size) == 2 else F.adaptive_avg_pool3d
    return shrink(samples.float(), [min(length, SIDE[len(size)]) for length in size])


def _directions(samples: Tensor) -> Tensor:
    """Each sample as a vector without its mean, of length 1: products are correlations."""
    flat = samples.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True))
