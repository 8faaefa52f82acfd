"""Choosing a saliency method: maps of several methods against random orders of the pixels, by deletion and insertion.

Shape letters: N samples, * spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.examine.deletion import areas_under, masked_scores, orders_of, random_orders, step_counts
from visus.examine.layer_calls import Array, as_batch, plain_module
from visus.examine.saliency_checks import BEYOND, ROUNDING, Curves
from visus.examine.saliency_types import Saliency
from visus.tables import ShortFields
from visus.units import write_share

CENTER: Final = "center prior"
"""A Gaussian at the center, the same for every sample: the baseline for maps, since photographers center their objects."""


@dataclass(frozen=True, eq=False, repr=False)
class MethodCheck(ShortFields):
    """The maps of one method against random orders.

    Args:
        method: such as ``Grad-CAM``.
        layer: the layer of Grad-CAM; empty for the other methods.
        gains: (2, N) difference of the areas under the deletion and insertion curves from the mean of random orders, for
            each sample; positive is better.
        margins: (2, N) the smallest significant gain: three standard deviations of the areas of random orders.
    """

    method: str
    layer: str
    gains: Array
    margins: Array

    @property
    def passes_on(self) -> Array:
        """(N,) whether both areas of a sample beat random orders."""
        passed: Array = np.all(self.gains > self.margins, axis=0)
        return passed

    @property
    def share(self) -> float:
        """Share of the samples on which the map passes."""
        return float(self.passes_on.mean())

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """95 % intervals (Student's t) of the mean gains of deletion and insertion, paired over the samples."""
        low, high = (self._interval(each) for each in self.gains)
        return low, high

    @staticmethod
    def _interval(gains: Array) -> tuple[float, float]:
        if len(gains) < 2:
            return math.nan, math.nan
        half = student_t(len(gains) - 1) * float(gains.std(ddof=1)) / math.sqrt(len(gains))
        return float(gains.mean()) - half, float(gains.mean()) + half

    @property
    def is_passed(self) -> bool:
        """Whether the method passes: both intervals lie above 0."""
        return all(low > 0 for low, _ in self.intervals)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "method": self.method,
            "layer": self.layer or None,
            "is_passed": self.is_passed,
            "num_samples": self.gains.shape[1],
            "share_of_samples": self.share,
            "deletion_gain": float(self.gains[0].mean()),
            "deletion_interval": list(self.intervals[0]),
            "insertion_gain": float(self.gains[1].mean()),
            "insertion_interval": list(self.intervals[1]),
        }


def check_methods(
    module: nn.Module,
    inputs: Tensor,
    maps: Sequence[Saliency],
    *,
    steps: int = 8,
    num_random: int = 8,
    seed: int = 0,
    center: bool = True,
) -> tuple[MethodCheck, ...]:
    """Deletion and insertion curves for the maps of several methods, on the same samples and random orders.

    A removed pixel becomes 0, the mean of the training set if samples are normalized by it.

    Args:
        module: the module of the maps.
        inputs: the scaled samples (N, C, *) of the maps.
        maps: the maps, at least one, all for the same target.
        steps: number of steps from no pixel to all.
        num_random: number of random orders for each sample.
        seed: seed of the random orders.
        center: check a Gaussian at the center too, as a baseline; it comes last.
    """
    module = plain_module(module)
    batch = as_batch(module, inputs)
    num_samples, spatial = len(batch), batch.shape[2:]
    rng = np.random.default_rng(seed)
    num_pixels = math.prod(spatial)
    counts = step_counts(num_pixels, steps)
    drawn = [each.map for each in maps]
    if center:
        drawn.append(np.broadcast_to(center_prior(tuple(spatial)), (num_samples, *spatial)))
    orders = [orders_of(each, rng) for each in drawn] + [
        random_orders(rng, num_samples, num_pixels) for _ in range(num_random)
    ]
    with torch.inference_mode(False):
        areas = areas_under(masked_scores(module, batch, maps[0].target, orders, counts), counts)  # (K, 2, N)
    random = areas[len(drawn) :]
    margins = np.maximum(ROUNDING, BEYOND * random.std(0, ddof=1))
    sign = np.array([-1.0, 1.0])[:, None]
    flat = np.array([(np.ptp(each.reshape(num_samples, -1), axis=1) > 0) for each in drawn])
    gains = [sign * (each - random.mean(0)) * is_map for each, is_map in zip(areas[: len(drawn)], flat, strict=True)]
    names = [(each.method, each.layer) for each in maps] + [(CENTER, "")] * center
    return tuple(MethodCheck(*name, gain, margins) for name, gain in zip(names, gains, strict=True))


def center_prior(spatial: tuple[int, ...]) -> Array:
    """A Gaussian at the center, its standard deviation a quarter of each axis.

    >>> center_prior((3,)).round(2).tolist()
    [0.41, 1.0, 0.41]
    """
    found: Array = np.ones(spatial)
    for axis, length in enumerate(spatial):
        at = (np.arange(length) - (length - 1) / 2) / (length / 4)
        found = found * np.exp(-(at**2) / 2).reshape([-1 if each == axis else 1 for each in range(len(spatial))])
    return found


def best_of(tested: Sequence[MethodCheck]) -> MethodCheck | None:
    """Of the methods that pass, the one that passes on most samples, the first of equals; None if none passes."""
    passed = [each for each in tested if each.method != CENTER and each.is_passed]
    return max(passed, key=lambda each: each.share) if passed else None


def best_curves(curves: Sequence[Curves]) -> list[int]:
    """The indices of the curves of one sample that pass, the one that beats random orders by most first.

    The measure is the smaller of the two gains, each divided by its margin.
    """
    beyond = {
        place: min(gain / margin for gain, margin in zip(each.gains, each.margins, strict=True))
        for place, each in enumerate(curves)
        if each.is_better_than_random
    }
    return sorted(beyond, key=lambda place: -beyond[place])


def choice_sentence(tested: Sequence[MethodCheck], chosen: MethodCheck | None, noun: str) -> str:
    """The chosen method, and the share of samples on which each method passes."""
    count = tested[0].gains.shape[1]
    methods = [each for each in tested if each.method != CENTER]
    prior = next((each for each in tested if each.method == CENTER), None)
    listed = "; ".join(f"{_name(each)} {write_share(each.share, 0)}" for each in methods)
    baseline = (
        f" A Gaussian at the center, the same for every {noun}, passes on {write_share(prior.share, 0)}." if prior else ""
    )
    share = f"Share of {count} held-out {noun}s whose map beats random orders in both: {listed}.{baseline}"
    if chosen is None:
        return f"No map is shown: no method passes deletion and insertion on held-out {noun}s. {share}"
    return (
        f"{_name(chosen)} passes deletion and insertion on held-out {noun}s (the 95 % intervals of both gains are above 0), and on more of them "
        f"than any other method. {share}"
    )


def _name(each: MethodCheck) -> str:
    return f"{each.method} at '{each.layer}'" if each.layer else each.method


def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: the factor of a 95 % interval. From the normal quantile (Abramowitz and Stegun 1964, 26.7.5); exact for 1 and 2.

    >>> [round(student_t(freedom), 2) for freedom in (1, 2, 5, 30)]
    [12.71, 4.3, 2.57, 2.04]
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z = 1.959963984540054
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
