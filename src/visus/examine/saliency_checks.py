"""When not to trust a saliency map: weight randomization, deletion and insertion."""

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
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.examine.deletion import masked_scores, orders_of, random_orders, step_counts
from visus.examine.layer_calls import Array, Inputs, as_batch, called_layers, plain_module, read_only
from visus.examine.saliency import gradient_saliency
from visus.examine.saliency_types import Saliency, Target
from visus.networks.own_code import copied
from visus.tables import ShortFields
from visus.units import rank_words

UNCHANGED: Final = 0.5  # rank correlation with the map of random weights from which on a map counts as unchanged
NUM_RANDOM: Final = 16
BEYOND: Final = 3.0
"""Standard deviations of random orders by which an area must differ from their mean: about 1 of 200 random maps does in one area."""
ROUNDING: Final = 1e-6

Method = Callable[[nn.Module, Inputs, Target], Saliency]


@dataclass(frozen=True, eq=False, repr=False)
class WeightRandomization(ShortFields):
    """The similarity of a map to the original while weights are randomized from the last layer to the first.

    Args:
        layers: paths of the layers in the order of randomization; it is cumulative.
        similarity: for each step the rank correlation of the absolute map with that of the trained network, mean over samples; NaN if one
            of the two maps is constant and so ranks no pixel above another.
        is_map_flat: whether the maps of the trained network are constant.
    """

    layers: tuple[str, ...]
    similarity: Array
    is_map_flat: bool = False

    @property
    def is_sensitive(self) -> bool | None:
        """Whether random weights change the map: its rank correlation falls below 0.5; None if a map is constant."""
        last = float(self.similarity[-1])
        return None if math.isnan(last) else last < UNCHANGED

    @property
    def sentence(self) -> str:
        """The result in words."""
        last = float(self.similarity[-1])
        if self.is_sensitive is None:
            whose = "The map" if self.is_map_flat else "With random weights, the map"
            return f"{whose} is constant, so there is nothing to compare."
        if self.is_sensitive:
            return f"With random weights, the map changes (rank correlation {last:.2f}): it depends on what the network learned."
        return (
            f"With random weights, the map stays almost the same (rank correlation {last:.2f}): it shows edges of the sample or the architecture, "
            "not what the network learned. Do not trust it."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Curves(ShortFields):
    """The score while the pixels with the highest saliency are removed first, or added first; means over samples.

    Args:
        shares: share of the pixels that is removed, or added, at each step; from 0 to 1.
        deletion: the score while they are removed.
        insertion: the score while they are added.
        random_deletion, random_insertion: the same in random order, means over several orders.
        random_areas: (2, orders), the areas below deletion and insertion of each random order; None if they were not kept.
        is_map_flat: whether the map is constant, and so ranks no pixels.
        place: word for one position: pixel, sample or voxel.
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
        """Area under the deletion curve: small for a good map."""
        return _area(self.shares, self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve: large for a good map."""
        return _area(self.shares, self.insertion)

    @property
    def gains(self) -> tuple[float, float]:
        """Areas by which deletion falls and insertion rises earlier than in random order: positive for a good map."""
        return (
            _area(self.shares, self.random_deletion) - self.deletion_area,
            self.insertion_area - _area(self.shares, self.random_insertion),
        )

    @property
    def margins(self) -> tuple[float, float]:
        """The smallest significant gain: three standard deviations of the areas of random orders."""
        if self.random_areas is None or self.random_areas.shape[1] < 2:
            return ROUNDING, ROUNDING
        deletion, insertion = (max(ROUNDING, BEYOND * float(each.std(ddof=1))) for each in self.random_areas)
        return deletion, insertion

    @property
    def is_better_than_random(self) -> bool | None:
        """Whether both areas beat random orders of the pixels; None if the difference is not significant, or they disagree."""
        if self.is_map_flat or self.is_contradictory:
            return None
        pairs = list(zip(self.gains, self.margins, strict=True))
        if any(gain < -margin for gain, margin in pairs):
            return False
        return True if all(gain > margin for gain, margin in pairs) else None

    @property
    def is_contradictory(self) -> bool:
        """Whether one area beats random orders and the other is worse than they are."""
        pairs = list(zip(self.gains, self.margins, strict=True))
        return any(gain < -margin for gain, margin in pairs) and any(gain > margin for gain, margin in pairs)

    @property
    def sentence(self) -> str:
        """The result in words."""
        if self.is_map_flat:
            return f"The map is constant, so it ranks no {self.place} above another."
        found = (self.deletion_area, self.insertion_area)
        random = (_area(self.shares, self.random_deletion), _area(self.shares, self.random_insertion))
        words = [
            f"{name} {area:.3f} (in random order {other:.3f} \u00b1 {margin:.3f})"
            for name, area, other, margin in zip(("deletion", "insertion"), found, random, self.margins, strict=True)
        ]
        areas = ", ".join(words)
        if self.is_contradictory:
            return f"Deletion and insertion disagree on whether the {self.place}s that the map marks matter more than others: {areas}."
        if self.is_better_than_random is None:
            return f"Whether the {self.place}s that the map marks matter more than others is undecided: {areas}."
        if self.is_better_than_random:
            return f"The {self.place}s that the map marks matter more than others: {areas}."
        return f"The {self.place}s that the map marks matter less than others: {areas}. Do not trust it."


def weight_randomization(
    module: nn.Module,
    inputs: Inputs,
    target: Target = None,
    *,
    method: Method = gradient_saliency,
    layers: Sequence[str] | None = None,
    only_last: bool = False,
    seed: int = 0,
) -> WeightRandomization:
    """Whether the map of a method changes when weights are randomized, layer by layer from the last (Adebayo et al. 2018, arXiv:1810.03292, section 3.1).

    The weights of a layer are drawn again: by its ``reset_parameters`` if it has one, else from a normal distribution with
    their mean and standard deviation. The module itself is not changed.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the class that the trained module predicts.
        method: takes module, inputs and target, such as ``gradient_saliency``.
        layers: paths of the layers, in the order of randomization; None for all that have weights.
        only_last: compare only the last step, when all of them are random: one map instead of one for each layer.
        seed: seed of the random weights.

    Raises:
        UsageError: no layer has weights, or a method stands in the place of the target.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    >>> weight_randomization(module, torch.rand(2, 1, 8, 8)).layers
    ('3', '0')
    """
    if callable(target):
        name = getattr(target, "__name__", "METHOD")
        raise UsageError(f"the target is a class, and not the function {name}. Give the method by its name: method={name}.")
    module = plain_module(module)
    batch = as_batch(module, inputs)
    first = method(module, batch, target)
    random = copied(module)
    parts = dict(random.named_modules())
    paths = [path for path in layers or called_layers(module, batch[:1])[::-1] if path in parts]
    paths = [path for path in dict.fromkeys(paths) if parts[path]._parameters]
    if not paths:
        raise UsageError("there is no layer with weights to randomize.")
    is_flat = all(_is_flat(each) for each in first.map)
    similarity = []
    for place, path in enumerate(paths):
        _reset(parts[path], seed + place)
        if only_last and place < len(paths) - 1:
            continue
        again = method(random, batch, first.target)
        pairs = zip(first.map, again.map, strict=True)
        correlations = [
            rank_correlation(np.abs(one), np.abs(other)) for one, other in pairs if not _is_flat(one) and not _is_flat(other)
        ]
        similarity.append(float(np.mean(correlations)) if correlations else math.nan)
    return WeightRandomization(tuple(paths[-len(similarity) :]), read_only(np.array(similarity)), is_flat)


def deletion_and_insertion(
    module: nn.Module,
    inputs: Inputs,
    saliency: Saliency,
    *,
    steps: int = 16,
    baseline: float = 0.0,
    seed: int = 0,
    num_random: int = NUM_RANDOM,
    random_from: Curves | None = None,
    calibrator: Calibrator | Sigmoid = UNCALIBRATED,
) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018, arXiv:1806.07421, section 3.3) of a map.

    The score is the probability of the class, or the value of the unit. Pixels of equal saliency are in random order.

    Args:
        module: the module of the map.
        inputs: the samples of the map.
        saliency: the map.
        steps: number of steps from no pixel to all of them.
        baseline: the value of a removed pixel; 0 is the mean of the training set where samples are normalized by it.
        seed: seed of the random orders.
        num_random: random orders of the pixels.
        random_from: curves of another map of the same samples, target and steps, whose random orders are reused; this saves most of the time.
        calibrator: turns outputs into probabilities.

    Raises:
        UsageError: the map is of other samples, or there is no step.

    >>> from visus.examine import gradient_saliency
    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    >>> x = torch.rand(2, 1, 8, 8)
    >>> curves = deletion_and_insertion(module, x, gradient_saliency(module, x), steps=4)
    >>> curves.shares.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if steps < 1:
        raise UsageError(f"curves need at least 1 step, not {steps}.")
    module = plain_module(module)
    batch = as_batch(module, inputs)
    if saliency.map.shape != (len(batch), *batch.shape[2:]):
        raise UsageError(
            f"the map has the shape {saliency.map.shape} and the samples {tuple(batch.shape)}: give the samples of the map."
        )
    counts = step_counts(saliency.map[0].size, steps)
    rng = np.random.default_rng(seed)
    orders = [orders_of(saliency.map, rng)]
    shares = counts / counts[-1]
    is_shared = random_from is not None and np.array_equal(random_from.shares, shares)
    if not is_shared:
        orders += [random_orders(rng, *orders[0].shape) for _ in range(num_random)]
    with torch.inference_mode(False):
        curves = masked_scores(module, batch, saliency.target, orders, counts, baseline, calibrator).mean(-1)
    if is_shared and random_from is not None:
        means: Sequence[Array] = (random_from.random_deletion, random_from.random_insertion)
        areas = random_from.random_areas
    else:
        means = [read_only(each) for each in curves[1:].mean(0)]
        areas = read_only(np.array([[_area(shares, curve) for curve in curves[1:, row]] for row in (0, 1)]))
    return Curves(
        read_only(shares),
        read_only(curves[0, 0].copy()),
        read_only(curves[0, 1].copy()),
        means[0],
        means[1],
        areas,
        all(_is_flat(each) for each in saliency.map),
        rank_words(batch.dim() - 2).place,
    )


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's rank correlation of two arrays, ties ranked by their mean; 0 if one of them is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0, 9.0]), np.array([4.0, 5.0, 5.5, 6.0]))
    1.0
    """
    first, second = (_ranks(each.ravel()) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length else 0.0


def _is_flat(values: Array) -> bool:
    """Whether a map is constant, up to rounding."""
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
    """Draw the weights of a layer again, in place; the global random state does not change."""
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
