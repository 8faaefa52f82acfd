"""The saliency maps of a report. The method is chosen once per run on held-out samples, and each map is checked before it is
shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor, nn

from visus.data.batches import Part
from visus.examine.layer_calls import Array
from visus.examine.saliency_checks import weight_randomization
from visus.examine.saliency_choice import best_of, check_methods, choice_sentence
from visus.pages.report.measurements import SaliencyMaps
from visus.workbench.look.map_methods import TriedMethod, tried_methods

SHARE: Final = 0.25
"""Share of the report's forward passes for the choice of a saliency method."""

MIN_SAMPLES, MAX_SAMPLES = 6, 32
"""Samples on which the choice is made."""

_RICH_STEPS, _RICH_RANDOM, _STEPS, _RANDOM = 8, 8, 4, 6
_PASSES_OF_MAPS: Final = 3 * 32 + 225 + 8
"""What the maps of all methods of one sample take, in forwards: integrated gradients in 32 steps, 225 windows of occlusion, and the cheap ones."""
_NUM_CHEAP, _NUM_ALL = 3, 5
_MAPS_AT_ONCE: Final = 8
_CHECKED_SAMPLES: Final = 4


@dataclass(frozen=True)
class _Plan:
    """How much is tested.

    Args:
        num_samples: held-out samples.
        steps, num_random: of deletion and insertion.
        is_rich: whether integrated gradients and occlusion are tried too.
    """

    num_samples: int
    steps: int
    num_random: int
    is_rich: bool


def _plan(budget: int, num_samples: int) -> _Plan:
    """What ``budget`` forwards allow; at least ``MIN_SAMPLES`` samples, by cheap methods, are tested in any case.

    >>> _plan(100_000, 500)
    _Plan(num_samples=32, steps=8, num_random=8, is_rich=True)
    >>> _plan(100, 500)
    _Plan(num_samples=6, steps=4, num_random=6, is_rich=False)
    """
    rich = _PASSES_OF_MAPS + 2 * _RICH_STEPS * (_NUM_ALL + 1 + _RICH_RANDOM)
    if budget >= rich * MIN_SAMPLES:
        return _Plan(min(MAX_SAMPLES, num_samples, budget // rich), _RICH_STEPS, _RICH_RANDOM, is_rich=True)
    cheap = 2 * _STEPS * (_NUM_CHEAP + 1 + _RANDOM) + 8
    return _Plan(min(MAX_SAMPLES, num_samples, max(MIN_SAMPLES, budget // cheap)), _STEPS, _RANDOM, is_rich=False)


def saliencies_of(
    module: nn.Module,
    part: Part,
    scaled: Callable[[list[int]], tuple[Tensor, list[int]]],
    places: list[int],
    noun: str,
    budget: int,
    *,
    has_layers: bool = True,
) -> SaliencyMaps:
    """Saliency maps of the method that passes on held-out samples; only maps that pass their own checks.

    Args:
        module: reads scaled samples.
        part: the scored split.
        scaled: from sample indices to scaled samples and their predicted classes.
        places: indices of the samples to draw.
        noun: word for one sample.
        budget: maximum number of forward passes.
        has_layers: whether the layers' maps align with the samples; False if the network reads shuffled positions.
    """
    plan = _plan(int(SHARE * budget), len(part))
    drawn = np.sort(np.random.default_rng(0).permutation(len(part))[: plan.num_samples]).tolist()
    x, classes = scaled(drawn)
    tried, missing = tried_methods(
        module, x, classes, is_costly=not plan.is_rich, only_cheap=not plan.is_rich, has_layers=has_layers
    )
    tested = check_methods(module, x, [each for _, each in tried], steps=plan.steps, num_random=plan.num_random)
    chosen = best_of(tested)
    reason = " ".join(part for part in (choice_sentence(tested, chosen, noun), missing) if part)
    facts = tuple(each.to_json() for each in tested)
    if chosen is None:
        return SaliencyMaps("", "", reason, {}, tested=facts, hidden=frozenset(places))
    method = tried[tested.index(chosen)][0]
    maps = _maps_that_pass(module, scaled, places, method, plan)
    check, is_believable = "", None
    if method.is_cheap:
        again = weight_randomization(module, *scaled(places[:_CHECKED_SAMPLES]), method=method.make, only_last=True)
        check, is_believable = again.sentence, again.is_sensitive
    hidden = frozenset(place for place in places if place not in maps)
    return SaliencyMaps(chosen.method, chosen.layer, reason, maps, check, is_believable, tested=facts, hidden=hidden)


def _maps_that_pass(
    module: nn.Module,
    scaled: Callable[[list[int]], tuple[Tensor, list[int]]],
    places: list[int],
    method: TriedMethod,
    plan: _Plan,
) -> dict[int, Array]:
    """The maps of these samples that beat random order in deletion and in insertion on their own sample."""
    maps: dict[int, Array] = {}
    for start in range(0, len(places), _MAPS_AT_ONCE):
        some = places[start : start + _MAPS_AT_ONCE]
        x, classes = scaled(some)
        found = method.make(module, x, classes)
        (own,) = check_methods(module, x, [found], steps=plan.steps, num_random=plan.num_random, center=False)
        maps |= {place: each for place, each, is_passed in zip(some, found.map, own.passes_on, strict=True) if is_passed}
    return maps
