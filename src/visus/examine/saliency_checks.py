"""When not to believe a saliency map: random weights, deletion and insertion.

This file knows maps, weights and scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from visus.errors import UsageError
from visus.evaluation.calibration import UNCALIBRATED, Calibrator
from visus.examine.deletion import masked_scores, orders_of, random_orders, step_counts
from visus.examine.layer_calls import Array, Inputs, as_batch, called_layers, frozen, unwrapped
from visus.examine.saliency import gradient_saliency
from visus.examine.saliency_types import Saliency, Target
from visus.networks.own_code import copied
from visus.units import rank_words

REMAINS: Final = 0.5  # rank correlation with the map of random weights from which on a map is said to remain
NUM_RANDOM: Final = 16
BEYOND: Final = 3.0
"""Standard deviations of random orders by which an area must differ from their mean: of 200 maps of chance about one does in one area."""
ROUNDING: Final = 1e-6

Method = Callable[[nn.Module, Inputs, Target], Saliency]


@dataclass(frozen=True, eq=False)
class RandomWeights:
    """How alike a map stays while the weights become random, from the last layer to the first.

    Args:
        layers: paths of the layers in the order in which they became random; each step keeps the earlier ones random.
        similarity: for each step the rank correlation of the map's sizes with those of the trained network, mean over samples; not a number
            where one of the two maps is the same everywhere, for then it ranks no pixel above another.
        is_map_flat: whether the trained network's own maps are the same everywhere.
    """

    layers: tuple[str, ...]
    similarity: Array
    is_map_flat: bool = False

    @property
    def is_sensitive(self) -> bool | None:
        """Whether the map is destroyed where all weights are random: its rank correlation is then below 0.5; None where that cannot be judged."""
        last = float(self.similarity[-1])
        return None if math.isnan(last) else last < REMAINS

    @property
    def sentence(self) -> str:
        """What it means."""
        last = float(self.similarity[-1])
        if self.is_sensitive is None:
            whose = "The map" if self.is_map_flat else "With all weights random the map"
            return f"{whose} is the same everywhere, so there is nothing to compare."
        if self.is_sensitive:
            return f"With all weights random the map is another one (rank correlation {last:.2f}): it tells of what was learned."
        return (
            f"With all weights random the map stays much the same (rank correlation {last:.2f}): it shows the sample's edges or the network's "
            "build, not what was learned. Do not believe it."
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """The score while the pixels that matter most are taken away first, or come first; means over samples.

    Args:
        shares: share of the pixels that was taken away, or that came, at each step; from 0 to 1.
        deletion: the score while they are taken away.
        insertion: the score while they come.
        random_deletion, random_insertion: the same in random order, means over several orders.
        random_areas: (2, orders), the areas below deletion and insertion of each random order; None where they were not kept.
        is_map_flat: whether the map is the same everywhere, and so names no pixels.
        place: what one position is called: pixel, sample or voxel.
    """

    shares: Array
    deletion: Array
    insertion: Array
    random_deletion: Array
    random_insertion: Array
    random_areas: Array | None = None
    is_map_flat: bool = False
    place: str = "pixel"

    @property
    def deletion_area(self) -> float:
        """Area below the deletion curve: small where the map is right."""
        return _area(self.shares, self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area below the insertion curve: large where the map is right."""
        return _area(self.shares, self.insertion)

    @property
    def gains(self) -> tuple[float, float]:
        """By how much deletion falls and insertion rises earlier than in random order, as areas: more than 0 where the map is right."""
        return (
            _area(self.shares, self.random_deletion) - self.deletion_area,
            self.insertion_area - _area(self.shares, self.random_insertion),
        )

    @property
    def margins(self) -> tuple[float, float]:
        """What a gain must be larger than to say anything: three standard deviations of the areas of random orders."""
        if self.random_areas is None or self.random_areas.shape[1] < 2:
            return ROUNDING, ROUNDING
        deletion, insertion = (max(ROUNDING, BEYOND * float(each.std(ddof=1))) for each in self.random_areas)
        return deletion, insertion

    @property
    def is_better_than_random(self) -> bool | None:
        """Whether both areas say more than a random order of the pixels; None where that cannot be told from chance, or they disagree."""
        if self.is_map_flat or self.is_at_odds:
            return None
        pairs = list(zip(self.gains, self.margins, strict=True))
        if any(gain < -margin for gain, margin in pairs):
            return False
        return True if all(gain > margin for gain, margin in pairs) else None

    @property
    def is_at_odds(self) -> bool:
        """Whether one area says more than a random order, and the other less."""
        pairs = list(zip(self.gains, self.margins, strict=True))
        return any(gain < -margin for gain, margin in pairs) and any(gain > margin for gain, margin in pairs)

    @property
    def sentence(self) -> str:
        """What it means."""
        if self.is_map_flat:
            return f"The map is the same everywhere, so it names no {self.place}s that could be taken away first."
        found = (self.deletion_area, self.insertion_area)
        random = (_area(self.shares, self.random_deletion), _area(self.shares, self.random_insertion))
        words = [
            f"{name} {area:.3f} (in random order {other:.3f} \u00b1 {margin:.3f})"
            for name, area, other, margin in zip(("deletion", "insertion"), found, random, self.margins, strict=True)
        ]
        areas = ", ".join(words)
        if self.is_at_odds:
            return f"Deletion and insertion disagree on whether the {self.place}s that the map names matter more than others: {areas}."
        if self.is_better_than_random is None:
            return (
                f"Whether the {self.place}s that the map names matter more than others cannot be told from chance: {areas}."
            )
        if self.is_better_than_random:
            return f"The {self.place}s that the map names matter more than others: {areas}."
        return f"The {self.place}s that the map names matter less than others: {areas}. Do not believe it."


def randomised_weights(
    module: nn.Module,
    inputs: Inputs,
    target: Target = None,
    *,
    method: Method = gradient_saliency,
    layers: Sequence[str] | None = None,
    only_last: bool = False,
    seed: int = 0,
) -> RandomWeights:
    """Whether a method's map changes when weights become random, layer by layer from the last (Adebayo et al. 2018, arXiv:1810.03292, section 3.1).

    A layer's weights become those of a new layer: by its ``reset_parameters`` where it has one, else normal with the mean and the deviation
    that they had. The module itself is left alone.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the class that the trained module gives, also later.
        method: takes module, inputs and target, such as ``gradient_saliency``.
        layers: paths of the layers, in the order in which they become random; None for all that have weights.
        only_last: compare once, when all of them are random, which saves a map for each layer but one.
        seed: of the random weights.

    Raises:
        UsageError: no layer has weights.
    """
    module = unwrapped(module)
    batch = as_batch(module, inputs)
    first = method(module, batch, target)
    random = copied(module)
    parts = dict(random.named_modules())
    paths = [path for path in layers or called_layers(module, batch[:1])[::-1] if path in parts]
    paths = [path for path in dict.fromkeys(paths) if parts[path]._parameters]
    if not paths:
        raise UsageError("there is no layer whose weights could become random.")
    is_flat = all(_is_flat(each) for each in first.map)
    similarity = []
    for place, path in enumerate(paths):
        _reset(parts[path], seed + place)
        if only_last and place < len(paths) - 1:
            continue
        again = method(random, batch, first.target)
        pairs = zip(first.map, again.map, strict=True)
        alike = [
            rank_correlation(np.abs(one), np.abs(other)) for one, other in pairs if not _is_flat(one) and not _is_flat(other)
        ]
        similarity.append(float(np.mean(alike)) if alike else math.nan)
    return RandomWeights(tuple(paths[-len(similarity) :]), frozen(np.array(similarity)), is_flat)


def deletion_and_insertion(
    module: nn.Module,
    inputs: Inputs,
    saliency: Saliency,
    *,
    steps: int = 16,
    baseline: float = 0.0,
    seed: int = 0,
    num_random: int = NUM_RANDOM,
    beside: Curves | None = None,
    calibrator: Calibrator = UNCALIBRATED,
) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018, arXiv:1806.07421, section 3.3) of a map.

    The score is the class's probability, or a unit's value as it is. Pixels that the map holds to be equal come in random order.

    Args:
        module: the module that the map is of.
        inputs: the samples that the map is of.
        saliency: the map.
        steps: from no pixel to all of them.
        baseline: the value of a pixel that is taken away; 0 is the mean of the training samples where they were scaled by it.
        seed: of the random orders.
        num_random: random orders of the pixels.
        beside: curves of another map of the same samples, target and steps, whose random orders are taken over, which saves most of the time.
        calibrator: what makes probabilities of the outputs.

    Raises:
        UsageError: the map is of other samples, or there is no step.
    """
    if steps < 1:
        raise UsageError(f"curves need at least 1 step, not {steps}.")
    module = unwrapped(module)
    batch = as_batch(module, inputs)
    if saliency.map.shape != (len(batch), *batch.shape[2:]):
        raise UsageError(
            f"the map has the shape {saliency.map.shape} and the samples {tuple(batch.shape)}: give the samples that it was made of."
        )
    counts = step_counts(saliency.map[0].size, steps)
    rng = np.random.default_rng(seed)
    orders = [orders_of(saliency.map, rng)]
    shares = counts / counts[-1]
    is_shared = beside is not None and np.array_equal(beside.shares, shares)
    if not is_shared:
        orders += [random_orders(rng, *orders[0].shape) for _ in range(num_random)]
    with torch.inference_mode(False):
        curves = masked_scores(module, batch, saliency.target, orders, counts, baseline, calibrator).mean(-1)
    if is_shared and beside is not None:
        means: Sequence[Array] = (beside.random_deletion, beside.random_insertion)
        areas = beside.random_areas
    else:
        means = [frozen(each) for each in curves[1:].mean(0)]
        areas = frozen(np.array([[_area(shares, curve) for curve in curves[1:, row]] for row in (0, 1)]))
    return Curves(
        frozen(shares),
        frozen(curves[0, 0].copy()),
        frozen(curves[0, 1].copy()),
        means[0],
        means[1],
        areas,
        all(_is_flat(each) for each in saliency.map),
        rank_words(batch.dim() - 2).place,
    )


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's rank correlation of two arrays, ties ranked by their mean; 0 where one of them is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0, 9.0]), np.array([4.0, 5.0, 5.5, 6.0]))
    1.0
    """
    first, second = (_ranks(each.ravel()) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length else 0.0


def _is_flat(values: Array) -> bool:
    """Whether a map is the same everywhere, up to rounding."""
    return float(np.ptp(values)) <= ROUNDING * float(np.abs(values).max())


def _ranks(values: Array) -> Array:
    """Ranks from 0 on; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts + 1) / 2)[places]
    return ranks


def _area(shares: Array, curve: Array) -> float:
    return float(np.trapezoid(curve, shares))


@torch.no_grad()
def _reset(layer: nn.Module, seed: int) -> None:
    """Weights of a new layer, in place; the global random state is as before."""
    reset: Any = getattr(layer, "reset_parameters", None)
    if callable(reset):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reset()
        return
    generator = torch.Generator().manual_seed(seed)
    for values in layer.parameters(recurse=False):
        mean, deviation = float(values.mean()), float(values.std(unbiased=False))
        values.copy_(torch.empty(values.shape).normal_(mean, deviation or 1e-3, generator=generator))
