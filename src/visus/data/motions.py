"""Whether samples that are mirrored, upside down or turned keep their class, measured by nearest neighbors.

A mirrored cat is a cat; a mirrored 3 is not a digit, a mirrored b is a d, and a 6 upside down is a 9. The test compares each sample with its
nearest neighbor, which has its class more often than chance. If the same holds for the moved sample, the motion keeps the class.

Copies would bias the test, since a copy is the nearest neighbor and has the same class. So samples of the same group, and samples whose
correlation with the query, moved or not, exceeds ``COPY``, are excluded from its neighbors. Both comparisons exclude the same samples.
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
from visus.data.tasks import same_kind

NUM_QUERIES: Final = 2_000
NUM_NEIGHBORS: Final = 8_000
CHUNK: Final = 256
CHUNK_VALUES: Final = 2**22
SIDE: Final = {2: 16, 3: 12}  # samples are compared at this size, by the number of spatial axes
COPY: Final = 0.99
"""Correlation above which two samples count as copies.

Measured at this size: photos saved again as JPEG (quality 75) or with slight noise exceed it. Of 12,000 different clothes 4 % have such a neighbor,
of photos and CIFAR-10 none; excluding them changes no decision."""
MIN_STANDARD_ERRORS: Final = 3.0  # that the neighbors' accuracy must exceed chance by
Z: Final = 1.959964  # of a 95 % interval
_REMEDY: Final = (
    "Color images and volumes are then mirrored, others are not; if you know the answer, set flip to random or none."
)


@dataclass(frozen=True)
class Motion:
    """A motion of samples.

    Args:
        setting: the setting of the recipe that augments with it.
        words: moved samples, with ``{}`` for their noun in the plural.
        unmoved: the samples as they are.
        remedy: what follows where the samples do not show whether they keep their class.
        move: from samples (N, C, *) to moved ones, one tensor for each version.
    """

    setting: str
    words: str
    unmoved: str
    remedy: str
    move: Callable[[Tensor], list[Tensor]]

    def fits(self, size: Sequence[int]) -> bool:
        """Whether samples of this size can be moved so: images and volumes more than one position wide, and square ones for turns."""
        if len(size) not in SIDE or size[-1] < 2:
            return False
        return self.setting != "rotate90" or size[-1] == size[-2]


MIRRORED: Final = Motion("flip", "mirrored {}", "unmirrored", _REMEDY, lambda samples: [samples.flip(-1)])
MOTIONS: Final = {
    each.setting: each
    for each in (
        MIRRORED,
        Motion("vertical_flip", "{} upside down", "upright", "", lambda samples: [samples.flip(-2)]),
        Motion(
            "rotate90",
            "{} turned by 90, 180 and 270 degrees",
            "unturned",
            "",
            lambda samples: [torch.rot90(samples, turns, (-2, -1)) for turns in (1, 2, 3)],
        ),
    )
}
"""The motions of the augmentation that can be tested, by setting."""
MIN_KEPT: Final = 0.5
"""Fraction of the neighbors' accuracy above chance that moved samples must keep. Measured: digits of 8 x 8 0.27, digits shown by hands 0.17,
clothes 0.75, CIFAR-10 0.88."""


@dataclass(frozen=True)
class MotionTest:
    """The result of the nearest-neighbor test of a motion.

    Args:
        num_samples: number of query samples.
        plain: fraction of them whose nearest neighbor, by correlation, has the same class.
        moved: the same fraction for the moved queries.
        chance: the expected fraction for a random neighbor.
        low, high: 95 % interval of ``kept``; NaN if ``plain`` is too close to chance.
        num_copied: number of queries with a copy, moved or not, or a sample of their group, which are excluded from their neighbors.
        setting: the setting of the motion, a key of ``MOTIONS``.
    """

    num_samples: int
    plain: float
    moved: float
    chance: float
    low: float = math.nan
    high: float = math.nan
    num_copied: int = 0
    setting: str = "flip"

    @property
    def kept(self) -> float | None:
        """Fraction of the neighbors' accuracy above chance that moved samples keep; None if ``plain`` is too close to chance."""
        error = math.sqrt(self.chance * (1 - self.chance) / max(1, self.num_samples))
        gain = self.plain - self.chance
        is_clear = gain > MIN_STANDARD_ERRORS * error and not math.isnan(self.low)
        return (self.moved - self.chance) / gain if is_clear else None

    @property
    def keeps_class(self) -> bool | None:
        """Whether moved samples keep their class; None if the interval of ``kept`` includes ``MIN_KEPT``."""
        if self.kept is None or self.low < MIN_KEPT <= self.high:
            return None
        return self.low >= MIN_KEPT

    def sentence(self, noun: str) -> str:
        """The conclusion and the figures, as a sentence.

        Args:
            noun: noun for a sample, such as ``image``.

        >>> MotionTest(2000, plain=0.82, moved=0.57, chance=0.1, low=0.62, high=0.69).sentence("image")
        'mirrored images keep their class: the nearest neighbor has the same class for 57 % of 2,000 mirrored images (unmirrored 82 %, chance 10 %), so 65 % (95 % interval 62 % to 69 %) of the accuracy above chance is kept'
        """
        motion = MOTIONS[self.setting]
        moved, remedy = motion.words.format(f"{noun}s"), f" {motion.remedy}" if motion.remedy else ""
        measured = (
            f"the nearest neighbor has the same class for {self.moved:.0%} of {self.num_samples:,} {moved} "
            f"({motion.unmoved} {self.plain:.0%}, chance {self.chance:.0%}"
        )
        if self.num_copied:
            measured += f"; copies and {noun}s of the same group, which {self.num_copied:,} of them have, are excluded"
        if self.kept is None:
            return f"the training samples do not show whether {moved} keep their class: {measured}), too close to chance.{remedy}".replace(
                "%", " %"
            )
        conclusion = {
            True: f"{moved} keep their class",
            False: f"{moved} change their class",
            None: f"the training samples do not show whether {moved} keep their class",
        }[self.keeps_class]
        interval = f"95% interval {max(0.0, self.low):.0%} to {max(0.0, self.high):.0%}"
        kept = f"so {max(0.0, self.kept):.0%} ({interval}) of the accuracy above chance is kept"
        if self.keeps_class is None:
            kept += f", and {MIN_KEPT:.0%} lies within this interval.{remedy}"
        return f"{conclusion}: {measured}), {kept}".replace("%", " %")


def motion_test(
    part: Part, seed: int, groups: Sequence[str] | None = None, *, motion: Motion = MIRRORED
) -> MotionTest | None:
    """Measure how often the nearest neighbor of a sample has its class, as it is and moved.

    Args:
        part: the training split.
        seed: seed for drawing the queries.
        groups: group of each sample, "" for none. Samples of the same group are excluded from each other's neighbors.
        motion: how samples are moved; by default, mirrored along the last axis.

    Returns:
        The result; None for samples that cannot be moved so, and for fewer than two samples.

    >>> pixels = np.random.default_rng(0).integers(0, 50, (40, 1, 8, 8)).astype(np.uint8)
    >>> pixels[:20, :, :, :4] += 150
    >>> pixels[20:, :, :, 4:] += 150
    >>> found = motion_test(Part("train", pixels, np.arange(40), np.repeat([0, 1], 20), ("",) * 40), seed=0)
    >>> found.plain, found.moved, found.keeps_class
    (1.0, 0.0, False)
    """
    if not motion.fits(part.pixels.shape[2:]) or len(part) < 2:
        return None
    drawn = torch.randperm(len(part), generator=random_stream(seed, "mirrors"))[:NUM_NEIGHBORS].sort().values.numpy()
    num_rows = max(1, min(CHUNK, CHUNK_VALUES // math.prod(part.pixels.shape[1:])))  # samples may be large
    chunks = range(0, len(drawn), num_rows)
    samples = torch.cat([_shrink(part.rows(drawn[start : start + num_rows])) for start in chunks])
    labels = torch.from_numpy(same_kind(part.labels)[drawn])
    queries = torch.randperm(len(drawn), generator=random_stream(seed, "mirrors asked"))[:NUM_QUERIES]
    directions = _unit_vectors(samples)
    plain, *moved = (_unit_vectors(values) @ directions.T for values in (samples[queries], *motion.move(samples[queries])))
    copies = torch.stack([each > COPY for each in (plain, *moved)]).any(0)
    itself = torch.zeros_like(copies)
    itself[torch.arange(len(queries)), queries] = True
    is_excluded = copies | itself
    units = _first_copies(plain[:, queries])
    if groups is not None:
        grouped = _group_numbers(groups)[torch.from_numpy(drawn)]
        is_excluded |= grouped[queries][:, None] == grouped[None]
        units = grouped[queries][units]
    has_neighbor = ~is_excluded.all(dim=1)
    if not has_neighbor.any():
        return None
    correct = [
        (labels[correlation.masked_fill_(is_excluded, -math.inf).argmax(dim=1)] == labels[queries])[has_neighbor].double()
        for correlation in (plain, *moved)
    ]
    correct = [correct[0], torch.stack(correct[1:]).mean(0)]
    same_class = (labels[queries][:, None] == labels[None]) & ~is_excluded
    chance = (same_class.sum(dim=1) / (~is_excluded).sum(dim=1))[has_neighbor].double()
    num_copied = int(((is_excluded & ~itself).any(dim=1) & has_neighbor).sum())
    low, high = _kept_interval(correct[0] - chance, correct[1] - chance, units[has_neighbor])
    means = (float(values.mean()) for values in (*correct, chance))
    plain_share, moved_share, chance_share = means
    num_samples = int(has_neighbor.sum())
    return MotionTest(num_samples, plain_share, moved_share, chance_share, low, high, num_copied, motion.setting)


def _kept_interval(plain: Tensor, moved: Tensor, units: Tensor) -> tuple[float, float]:
    """95 % interval of the ratio of two paired means, moved / plain, by Fieller's theorem (1954, J. R. Stat. Soc. B 16, 175-185).

    Samples of one unit are not independent, so the variances are those of sums over units.

    Returns:
        The bounds of the interval; NaN if the plain mean is not clearly above 0, since the ratio is unbounded then.
    """
    num_samples, means = len(plain), (float(plain.mean()), float(moved.mean()))
    _, places = torch.unique(units, return_inverse=True)
    sums = torch.zeros(2, int(places.max()) + 1, dtype=torch.float64)
    for row, (values, mean) in enumerate(zip((plain, moved), means, strict=True)):
        sums[row].index_add_(0, places, values - mean)
    # The variance of one more, differing unit: a fraction of 1 is never certain.
    min_variance = torch.eye(2, dtype=torch.float64) / sums.shape[1] ** 2
    variance = (sums @ sums.T / num_samples**2 + min_variance).tolist()
    a = means[0] ** 2 - Z**2 * variance[0][0]
    b = means[0] * means[1] - Z**2 * variance[0][1]
    c = means[1] ** 2 - Z**2 * variance[1][1]
    if means[0] <= MIN_STANDARD_ERRORS * math.sqrt(variance[0][0]) or a <= 0:
        return math.nan, math.nan
    root = math.sqrt(max(0.0, b * b - a * c))
    return (b - root) / a, (b + root) / a


def _first_copies(correlation: Tensor) -> Tensor:
    """For each query, the index of the first query that it is a copy of; its own index if there is none."""
    is_copy = correlation > COPY
    is_copy.fill_diagonal_(True)
    return is_copy.int().argmax(dim=1)


def _group_numbers(groups: Sequence[str]) -> Tensor:
    """A number for each sample: equal within a group, unique for a sample without a group."""
    numbers: dict[object, int] = {}
    keys = (group or (place,) for place, group in enumerate(groups))
    return torch.from_numpy(np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(groups)))


def _shrink(samples: Tensor) -> Tensor:
    """Stored samples (N, C, *) as float32, with axes longer than ``SIDE`` reduced to it by averaging areas."""
    size = samples.shape[2:]
    shrink: Callable[..., Tensor] = F.adaptive_avg_pool2d if len(size) == 2 else F.adaptive_avg_pool3d
    return shrink(samples.float(), [min(length, SIDE[len(size)]) for length in size])


def _unit_vectors(samples: Tensor) -> Tensor:
    """Each sample as a vector of mean 0 and length 1, so that inner products are correlations."""
    flat = samples.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True))
