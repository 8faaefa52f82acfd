"""The default network for a time limit: the widest ``compact`` whose default training finishes in time on this machine.

Without a time limit the default network is the same on every machine. With a time limit, it depends on the speed of this
machine. The run saves the chosen design and the reason, so it resumes with the same network on any machine.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from visus.data.motions import MotionTest
from visus.data.opened import Data
from visus.design import account
from visus.design.families.compact import SCALES
from visus.limits import memory_bytes
from visus.networks.machine import Machine
from visus.networks.step_cost import StepConfig, StepCosts
from visus.progress import Monitor
from visus.training.distribution import Group
from visus.training.events import Pricing
from visus.training.optimizers import make_optimizer
from visus.training.recipe import Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.units import write_duration, write_number_of
from visus.workbench.modules import DEFAULT_NETWORK, BuiltNetwork, make_network
from visus.workbench.train.preparing import prepare, resolved, takes_smaller

USUAL: Final = 1.0
WIDEST: Final = 2.0  # no wider scale is taken, however long the limit is
ALLOWANCE: Final = 1.25  # a training takes so many times its steps: validation, batches and checkpoints come on top of them
GAIN: Final = (
    1.5  # so many times faster, at most, each multiply-add of a wider network is taken to be: else it is not worth measuring
)
SEARCH_SHARE: Final = 0.2
"""Share of the available time that measuring may take; then visus estimates the other widths from the usual one."""
MIN_SEARCH_S: Final = 5.0
"""Seconds below which nothing is measured: the narrowest network is taken, unless the usual one was measured before."""
MEMORY_SHARE: Final = 0.5  # of the memory, that the largest step of a wider network may take


@dataclass(frozen=True)
class WidthCandidate:
    """``compact`` at one scale, for some data.

    Args:
        scale: factor of its widths.
        made: the network, with new weights.
        recipe: the recipe resolved for it.
        macs: multiply-adds of one full-size sample.
        step_bytes: peak memory of a training step in one process.
    """

    scale: float
    made: BuiltNetwork
    recipe: ResolvedRecipe
    macs: int
    step_bytes: int


def within_limit(
    usual: BuiltNetwork,
    given: Recipe,
    limit_s: float,
    data: Data,
    machine: Machine,
    group: Group,
    mirrors: MotionTest | None,
    monitor: Monitor,
) -> tuple[BuiltNetwork, ResolvedRecipe]:
    """The network and its resolved recipe for a time limit; the first process measures and decides for all.

    Args:
        usual: ``compact`` at its default scale.
        given: the recipe as the user set it.
        limit_s: seconds left for the training.
        data: opened data.
        machine: device, precision and layout.
        group: the processes that train together.
        mirrors: the test of mirroring by nearest neighbors.
        monitor: receives ``Pricing`` before each measurement, which takes seconds.

    Returns: The network, with the reason for it, and the recipe resolved for it.
    """
    taken, reason = USUAL, ""
    if group.is_first:
        candidates = {candidate.scale: candidate for candidate in _usable(given, data, machine, group, mirrors)}
        search = WidthSearch(candidates, limit_s, data, machine, group, monitor)
        taken, reason = search.choose()
    (taken,) = group.broadcast([taken])
    candidate = _candidate(taken, given, data, group, mirrors)  # new: what was measured is used up
    asked = usual.asked if taken == USUAL else candidate.made.asked
    made = dataclasses.replace(candidate.made, asked=asked, warnings=usual.warnings, reason=group.broadcast_text(reason))
    return made, candidate.recipe


class WidthSearch:
    """Finds the widest candidate for the available time, and spends at most ``SEARCH_SHARE`` of it on measuring.

    Args:
        candidates: from narrow to wide, with the usual one among them.
        limit_s: available seconds, for the search too.
        data, machine, group, monitor: as for ``within_limit``.
    """

    def __init__(
        self,
        candidates: Mapping[float, WidthCandidate],
        limit_s: float,
        data: Data,
        machine: Machine,
        group: Group,
        monitor: Monitor,
    ) -> None:
        self.candidates, self.limit_s = candidates, limit_s
        self._data, self._machine, self._group, self._monitor = data, machine, group, monitor
        self._began = time.perf_counter()
        self._costs, self._known, self._estimated = StepCosts(), dict[float, float](), set[float]()

    def choose(self) -> tuple[float, str]:
        """The scale, and the reason for it."""
        macs = {scale: candidate.macs for scale, candidate in self.candidates.items()}
        if self.limit_s < MIN_SEARCH_S and self._costs.known(self._work(USUAL)) is None:
            narrowest = next(iter(macs))
            return (
                narrowest,
                f"{_named(narrowest)}: the narrowest, since {_limit(self.limit_s)} leave no time to measure a step.",
            )
        taken = widest_within(self.limit_s, macs, self.seconds_of, self._spent_s)
        left_s = self.limit_s - self._spent_s()
        reason = sentence(left_s, taken, self._known, macs, self.candidates[taken].recipe.epochs)
        return taken, f"{reason[:-1]} (estimated, to save time).".replace("..", ".") if taken in self._estimated else reason

    def _spent_s(self) -> float:
        """Seconds that the search has taken so far."""
        return time.perf_counter() - self._began

    def seconds_of(self, scale: float) -> float:
        """Seconds of the whole training at a scale: measured, or estimated from the usual scale if the time for measuring is used up."""
        if scale not in self._known:
            is_free = self._costs.known(self._work(scale)) is not None
            if is_free or scale == USUAL or self._spent_s() < SEARCH_SHARE * self.limit_s:
                self._known[scale] = self._training_s(scale)
            else:  # the time for measuring is used up
                ratio = self.candidates[scale].macs / self.candidates[USUAL].macs
                self._known[scale] = self._known[USUAL] * max(ratio, math.sqrt(ratio) if ratio < 1 else ratio)
                self._estimated.add(scale)
        return self._known[scale]

    def _work(self, scale: float) -> StepConfig:
        made, recipe = self.candidates[scale].made, self.candidates[scale].recipe
        batch_size, is_sped_up = _own_samples(recipe, self._group), recipe.kernels == "auto"
        return StepConfig(
            made.text, self._data.input_shape, batch_size, recipe.sides, self._machine, recipe.optimizer, is_sped_up
        )

    def _training_s(self, scale: float) -> float:
        """Seconds of the whole training at a scale, with what comes on top of its steps; measured unless it is stored."""
        made, recipe = self.candidates[scale].made, self.candidates[scale].recipe
        data, machine = self._data, self._machine

        def make() -> tuple[nn.Module, torch.optim.Optimizer]:
            self._monitor.emit(Pricing(_named(scale)))
            module, _ = prepare(made.module, data, recipe, machine)
            return module, make_optimizer(module, recipe, input_shape=data.input_shape, precision=machine.precision)

        num_steps = recipe.epochs * max(1, len(data.split("train")) // recipe.batch_size)
        cost = self._costs.cost(self._work(scale), make, self._began + SEARCH_SHARE * self.limit_s)
        if cost.is_rough:
            self._estimated.add(scale)
        return ALLOWANCE * cost.steps_s(num_steps, _own_samples(recipe, self._group))


def widest_within(
    limit_s: float,
    macs: Mapping[float, int],
    seconds_of: Callable[[float], float],
    spent_s: Callable[[], float] = lambda: 0.0,
) -> float:
    """The widest scale whose training fits into a limit; the narrowest if none does. As few scales as possible are measured.

    Per multiply-add, a narrower network than the default is no faster, and a wider one at most ``GAIN`` times as fast.
    Scales that cannot fit by these bounds are not measured.

    Args:
        limit_s: available seconds.
        macs: multiply-adds of a sample at each scale, from narrow to wide, with the default among them.
        seconds_of: measures the duration of the training at a scale.
        spent_s: returns the part of ``limit_s`` that measuring has taken so far.

    >>> macs = {0.5: 30, 1.0: 100, 1.5: 210, 2.0: 560}
    >>> [widest_within(limit_s, macs, lambda scale: 8 * scale) for limit_s in (3, 5, 10, 12, 30)]
    [0.5, 0.5, 1.0, 1.5, 2.0]
    """
    scales = list(macs)
    usual_s = seconds_of(USUAL)
    for scale in reversed(scales):
        least_s = usual_s * macs[scale] / macs[USUAL] / (GAIN if scale > USUAL else 1)
        if least_s <= limit_s - spent_s() and seconds_of(scale) <= limit_s - spent_s():
            return scale
    seconds_of(scales[0])
    return scales[0]


def sentence(limit_s: float, taken: float, known: Mapping[float, float], macs: Mapping[float, int], num_epochs: int) -> str:
    """The reason for a scale, with its figures.

    Args:
        limit_s: available seconds.
        taken: the scale.
        known: training seconds at the measured scales.
        macs: multiply-adds of a sample at each scale, from narrow to wide.
        num_epochs: epochs of the training.

    >>> sentence(60, 0.5, {1.0: 118, 0.5: 50}, {0.5: 30, 1.0: 100}, 29)
    'compact(scale=0.5): about 50 s for 29 epochs on this machine, and there are 60 s; compact(scale=1) would take about 1 min 58 s.'
    """
    sentence_so_far = (
        f"{_named(taken)}: about {write_duration(known[taken])} for {write_number_of(num_epochs, 'epoch')} on this machine, "
        f"and {f'there are {_limit(limit_s)}' if limit_s >= 0.05 else 'no time is left'}"
    )
    if known[taken] > limit_s:
        return f"{sentence_so_far}; nothing narrower is left, so the training ends with the time, and its schedule too."
    wider = next((scale for scale in macs if scale > taken), None)
    if wider is None:
        return f"{sentence_so_far}; nothing wider is left."
    if wider in known:
        return f"{sentence_so_far}; {_named(wider)} would take about {write_duration(known[wider])}."
    return f"{sentence_so_far}; {_named(wider)} computes {macs[wider] / macs[taken]:.2g} times as much."


def _limit(limit_s: float) -> str:
    """A limit, in seconds up to two minutes, as it is mostly given."""
    return f"{round(limit_s, 1):g} s" if limit_s < 120 else write_duration(limit_s)


def _named(scale: float) -> str:
    """The call of the family."""
    return f"{DEFAULT_NETWORK}(scale={scale:g})"


def _candidate(scale: float, given: Recipe, data: Data, group: Group, mirrors: MotionTest | None) -> WidthCandidate:
    """``compact`` at a scale, new, with the recipe resolved for it."""
    shape, num_classes, num_samples = data.input_shape, len(data.classes), len(data.split("train"))
    made = make_network(_named(scale), shape, num_classes, num_samples=num_samples, seed=given.seed)
    assert made.design is not None, "a family gives a design"
    recipe = resolved(given, data, made.module, mirrors, design=made.design)
    cost = account(made.design, shape, num_classes)
    return WidthCandidate(scale, made, recipe, cost.macs, cost.bytes_training(_own_samples(recipe, group)))


def _own_samples(recipe: ResolvedRecipe, group: Group) -> int:
    """Samples of one process in one step."""
    return math.ceil(recipe.batch_size / group.size)


def _usable(given: Recipe, data: Data, machine: Machine, group: Group, mirrors: MotionTest | None) -> list[WidthCandidate]:
    """The usual candidate, and those that take the person's own sides of progressive resizing and whose steps, if they are wider, fit into the memory."""
    memory = _memory_bytes(machine)
    usable = []
    for scale in (float(scale) for scale in SCALES if scale <= WIDEST or scale == USUAL):
        candidate = _candidate(scale, given, data, group, mirrors)
        takes_all = (
            given.progressive_resize is None or min(given.sides) == 1 or takes_smaller(candidate.made.module, data, given)
        )
        fits = memory is None or candidate.step_bytes * group.local_size <= MEMORY_SHARE * memory
        if scale == USUAL or (takes_all and (fits or scale < USUAL)):
            usable.append(candidate)
    return usable


def _memory_bytes(machine: Machine) -> int | None:
    """Memory of the device; None if it cannot be asked."""
    if machine.device.type == "cuda":
        return int(torch.cuda.get_device_properties(machine.device).total_memory)
    return memory_bytes()
