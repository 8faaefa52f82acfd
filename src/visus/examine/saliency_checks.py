"""When not to believe a saliency map: random weights, deletion and insertion.

This file knows maps, weights and scores. It must not know how a map is made, training or drawing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.examine.explained import Explained, Saliency, Target, Unit
from visus.examine.layer_calls import Array, Inputs, as_batch, at_rest, called_layers, frozen, unwrapped
from visus.examine.saliency import gradient_saliency

REMAINS: Final = 0.5  # rank correlation with the map of random weights from which on a map is said to remain
NUM_RANDOM: Final = 3

Method = Callable[[nn.Module, Inputs, Target], Saliency]


@dataclass(frozen=True, eq=False)
class RandomWeights:
    """How alike a map stays while the weights become random, from the last layer to the first.

    Args:
        layers: paths of the layers in the order in which they became random; each step keeps the earlier ones random.
        similarity: for each step the rank correlation of the map's sizes with those of the trained network, mean over items.
    """

    layers: tuple[str, ...]
    similarity: Array

    @property
    def is_sensitive(self) -> bool:
        """Whether the map is destroyed where all weights are random: its rank correlation is then below 0.5."""
        return bool(self.similarity[-1] < REMAINS)

    @property
    def sentence(self) -> str:
        """What it means."""
        last = float(self.similarity[-1])
        if self.is_sensitive:
            return f"With all weights random the map is another one (rank correlation {last:.2f}): it tells of what was learned."
        return (
            f"With all weights random the map stays much the same (rank correlation {last:.2f}): it shows the picture's edges or the network's "
            "build, not what was learned. Do not believe it."
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """The score while the pixels that matter most are taken away first, or come first; means over items.

    Args:
        shares: share of the pixels that was taken away, or that came, at each step; from 0 to 1.
        deletion: the score while they are taken away.
        insertion: the score while they come.
        random_deletion, random_insertion: the same in random order.
    """

    shares: Array
    deletion: Array
    insertion: Array
    random_deletion: Array
    random_insertion: Array

    @property
    def deletion_area(self) -> float:
        """Area below the deletion curve: small where the map is right."""
        return _area(self.shares, self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area below the insertion curve: large where the map is right."""
        return _area(self.shares, self.insertion)

    @property
    def is_better_than_random(self) -> bool:
        """Whether both areas say more than a random order of the pixels."""
        deleted = self.deletion_area < _area(self.shares, self.random_deletion)
        return deleted and self.insertion_area > _area(self.shares, self.random_insertion)

    @property
    def sentence(self) -> str:
        """What it means."""
        areas = (
            f"deletion {self.deletion_area:.2f} (in random order {_area(self.shares, self.random_deletion):.2f}), "
            f"insertion {self.insertion_area:.2f} ({_area(self.shares, self.random_insertion):.2f})"
        )
        if self.is_better_than_random:
            return f"The pixels that the map names matter more than others: {areas}."
        return f"The pixels that the map names matter no more than others: {areas}. Do not believe it."


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
        inputs: scaled items (N, C, *).
        target: a class, a class for each item, or a ``Unit``; None for the class that the trained module gives, also later.
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
    random = copy.deepcopy(module)
    parts = dict(random.named_modules())
    paths = [path for path in layers or called_layers(module, batch[:1])[::-1] if path in parts]
    paths = [path for path in dict.fromkeys(paths) if parts[path]._parameters]
    if not paths:
        raise UsageError("there is no layer whose weights could become random.")
    similarity = []
    for place, path in enumerate(paths):
        _reset(parts[path], seed + place)
        if only_last and place < len(paths) - 1:
            continue
        again = method(random, batch, first.target)
        pairs = zip(first.map, again.map, strict=True)
        similarity.append(float(np.mean([rank_correlation(np.abs(one), np.abs(other)) for one, other in pairs])))
    return RandomWeights(tuple(paths[-len(similarity) :]), frozen(np.array(similarity)))


def deletion_and_insertion(
    module: nn.Module,
    inputs: Inputs,
    saliency: Saliency,
    *,
    steps: int = 16,
    baseline: float = 0.0,
    seed: int = 0,
) -> Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018, arXiv:1806.07421, section 3.3) of a map.

    The score is the class's probability by softmax, or a unit's value as it is.

    Args:
        module: the module that the map is of.
        inputs: the items that the map is of.
        saliency: the map.
        steps: from no pixel to all of them.
        baseline: the value of a pixel that is taken away; 0 is the mean of the training items where they were scaled by it.
        seed: of the random orders.

    Raises:
        UsageError: the map is of other items, or there is no step.
    """
    if steps < 1:
        raise UsageError(f"curves need at least 1 step, not {steps}.")
    module = unwrapped(module)
    batch = as_batch(module, inputs)
    if saliency.map.shape != (len(batch), *batch.shape[2:]):
        raise UsageError(
            f"the map has the shape {saliency.map.shape} and the items {tuple(batch.shape)}: give the items that it was made of."
        )
    num_pixels = saliency.map[0].size
    counts = np.unique(np.linspace(0, num_pixels, steps + 1).round().astype(int))
    rng = np.random.default_rng(seed)
    orders = np.argsort(-saliency.map.reshape(len(batch), -1), axis=1, kind="stable")
    curves = _curves(module, batch, saliency.target, orders, counts, baseline)
    random = [
        _curves(module, batch, saliency.target, rng.permuted(orders, axis=1), counts, baseline) for _ in range(NUM_RANDOM)
    ]
    means = np.mean(random, axis=0)
    return Curves(frozen(counts / num_pixels), *(frozen(each) for each in (*curves, *means)))


@torch.no_grad()
def _curves(
    module: nn.Module, batch: Tensor, target: tuple[int, ...] | Unit, orders: Array, counts: Array, baseline: float
) -> Array:
    """Deletion and insertion, (2, steps): the pixels in the order given."""
    ranks = torch.from_numpy(np.argsort(orders, axis=1)).to(batch.device).reshape(len(batch), 1, *batch.shape[2:])
    explained = Explained(module, batch, target)
    found = np.zeros((2, len(counts)))
    with at_rest(module):
        for step, count in enumerate(counts):
            is_named = ranks < int(count)
            for row, plain in enumerate((is_named, ~is_named)):
                found[row, step] = float(_score(explained, torch.where(plain, baseline, batch)).mean())
    return found


def _score(explained: Explained, x: Tensor) -> Tensor:
    """The probability of the class, or the value of the unit."""
    if isinstance(explained.settled, Unit):
        return explained.scores(x)
    return explained.classed(torch.softmax(explained.module(x), 1))


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's rank correlation of two arrays, ties ranked by their mean; 0 where one of them is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0, 9.0]), np.array([4.0, 5.0, 5.5, 6.0]))
    1.0
    """
    first, second = (_ranks(each.ravel()) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length else 0.0


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
