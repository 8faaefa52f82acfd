"""Which algorithm is fastest for a convolution on this machine: measured once, remembered on the disk.

This file knows timings and plans.

cuDNN does this for GPUs (its benchmark mode); processors have had one algorithm for all shapes. Every algorithm here
computes the same sum: they differ by rounding alone, so a choice changes the last digits of a training and nothing else. A
choice that was made is kept, by processor, version of PyTorch, kernels and number of threads, so that the same machine gives
the same numbers again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from visus.networks.fast import cache
from visus.networks.fast.compiler import kernels
from visus.networks.fast.convolutions import (
    DEPTHWISE,
    FORWARDS,
    INPUT_GRADIENTS,
    ONEDNN,
    PER_TAP_GEMM,
    WEIGHT_GRADIENTS,
    WINOGRAD,
    Plan,
    convolve,
)
from visus.networks.fast.depthwise import is_depthwise
from visus.networks.fast.windows import TapGeometry
from visus.networks.machine import memory_format

MIN_MACS = 20_000_000  # of a batch: below it the call costs more than the sum
MIN_DEPTHWISE_MACS = 1_000_000  # the same for single channels, of which a multiply-add takes ten times as long and more
_MEASURED_MACS = 1.5e9  # as many samples are measured as give this work
_MEASURED_DEPTHWISE_MACS = 1.5e7
_AGREEMENT = (
    0.01  # relative error of a compiled depthwise convolution against PyTorch's float32, above which it is never chosen
)
_REPEATS, _MAX_REPEATS = 7, 30
_STEADY = 0.97  # a later run that takes less than this share of the shortest shows that other work disturbed those before
_GAIN = 0.95  # another algorithm must take less than this share of PyTorch's own time
MAX_SHAPES = 24  # of the maps that one kind of convolution meets; for further ones nothing is measured
_MAX_MAP = 2**31 - 1
_MAX_ROOM_BYTES = 2**29  # that a thread of the compiled kernel works in
_Name = TypeVar("_Name")


@dataclass(frozen=True)
class ConvProblem:
    """One convolution that is computed again and again.

    Attributes:
        maps: (N, C, *) that it reads.
        weight: (K, C, *taps).
        window: stride and padding.
        is_pooled: a maximum over 2 x 2 follows.
        threads: that compute it.
        is_learned: gradients are computed too.
    """

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    window: TapGeometry
    is_pooled: bool
    threads: int
    is_learned: bool = True

    @property
    def size(self) -> tuple[int, ...]:
        """Sides of the map out, before pooling; 0 where no tap fits."""
        sides = zip(self.maps[2:], self.weight[2:], self.window.stride, self.window.padding, strict=True)
        return tuple(max(0, (length + 2 * padding - taps) // stride + 1) for length, taps, stride, padding in sides)

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward by the sum over taps."""
        return self.maps[0] * math.prod(self.weight) * math.prod(self.size)

    @property
    def num_groups(self) -> int:
        """1, or as many as there are channels."""
        return self.maps[1] // self.weight[1]

    @property
    def is_worth_a_choice(self) -> bool:
        """Whether the sum takes longer than the call."""
        return self.macs >= (MIN_MACS if self.num_groups == 1 else min(MIN_MACS, MIN_DEPTHWISE_MACS))

    @property
    def suits_depthwise(self) -> bool:
        """Whether the compiled kernel for single channels computes this one."""
        return (
            is_depthwise(self.maps, self.weight, self.window)
            and math.prod(self.maps) <= _MAX_MAP
            and min(self.size, default=0) >= 1
            and kernels() is not None
        )

    @property
    def suits_winograd(self) -> bool:
        """Whether the compiled kernel computes this one."""
        return (
            self.weight[2:] == (3, 3)
            and self.num_groups == 1
            and self.window.stride == (1, 1)
            and self.window.padding[0] == self.window.padding[1] <= 2
            and min(self.size, default=0) >= (2 if self.is_pooled else 1)
            and math.prod(self.maps) <= _MAX_MAP
            and self._room_bytes <= _MAX_ROOM_BYTES
            and kernels() is not None
        )

    @property
    def _room_bytes(self) -> int:
        """Memory that a thread of the compiled kernel works in, about: one sample transformed, and the weights' sums."""
        tiles = math.prod(-(-length // 2) for length in self.size)
        return 64 * (tiles * (self.weight[0] + self.weight[1] // 2 + 80) + self.weight[0] * self.weight[1])

    @property
    def measured(self) -> ConvProblem:
        """The same with as few samples as will do to measure it: a batch of any length is computed in the same way."""
        macs = _MEASURED_MACS if self.num_groups == 1 else _MEASURED_DEPTHWISE_MACS
        fewest = math.ceil(macs * self.maps[0] / max(1, self.macs))
        return dataclasses.replace(self, maps=(max(1, min(self.maps[0], fewest)), *self.maps[1:]))

    def __str__(self) -> str:
        words = [f"{'x'.join(map(str, part))}" for part in (self.maps, self.weight, self.window.stride, self.window.padding)]
        return " ".join([*words, "pooled" if self.is_pooled else "whole", f"{self.threads} threads"])


class Autotuner:
    """The plans of this machine, in memory and on the disk.

    Args:
        file: where they are kept; None for the user's cache folder.
        record: a file of one training's own: what it lists is used before all else, and what is used is listed there, so
            that a training that goes on later computes as it began, whatever the machine has learned since.
    """

    def __init__(self, file: Path | None = None, record: Path | None = None) -> None:
        self.file = file or cache.place("choices")
        self.record = record
        self._used = cache.read(record, _as_plan) if record else {}
        self._num_shapes = Counter(map(_kind, self._used))
        self._plans = cache.read(self.file, _as_plan)

    def __deepcopy__(self, memo: object) -> Autotuner:
        return self  # a copy of a network asks the same memory

    def plan(self, case: ConvProblem) -> Plan:
        """How this convolution is best computed; measured now if that was never done.

        A kind of convolution (its filters, stride, padding and what follows) that has met ``MAX_SHAPES`` shapes of maps is
        PyTorch's own for every other shape: images of ever new sizes would cost more in measurements than they gain.
        """
        if not case.is_worth_a_choice:
            return Plan()
        direction = "" if case.is_learned else " forward"
        keys = [f"{each}{direction}" for each in (case, case.measured)]
        key = next((key for key in keys if key in self._used), keys[-1])
        if key in self._used and suits(self._used[key], case):
            return self._used[key]
        if key not in self._used and self._num_shapes[_kind(key)] >= MAX_SHAPES:
            return Plan()
        if key not in self._plans:
            self._plans[key] = _undisturbed(measured if case.is_learned else measured_forward, case.measured)
            self._plans = cache.read(self.file, _as_plan) | self._plans  # with what other processes found meanwhile
            cache.write(self.file, self._plans)
        if not suits(self._plans[key], case):
            return Plan()
        if key in self._used:  # it cannot be carried out here, and stays listed for where it can
            return self._plans[key]
        self._num_shapes[_kind(key)] += 1
        self._used[key] = self._plans[key]
        if self.record:
            cache.write(self.record, self._used)
        return self._used[key]


def suits(plan: Plan, case: ConvProblem) -> bool:
    """Whether a plan made elsewhere, or for fewer samples, can be carried out."""
    names = dataclasses.astuple(plan)
    return (case.suits_winograd or WINOGRAD not in names) and (case.suits_depthwise or DEPTHWISE not in names)


def _kind(key: str) -> str:
    """All of a case but its maps."""
    return key.partition(" ")[2]


def _undisturbed(measure: Callable[[ConvProblem], Plan], case: ConvProblem) -> Plan:
    """Measure in a thread of its own, where no mode of the caller's holds: autocast, a default device, hooks on tensors."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(measure, case).result()


def measured_forward(case: ConvProblem) -> Plan:
    """The fastest algorithm for a map of which no gradient will be asked for, and the pooling that follows."""
    plans = [Plan()]
    if dataclasses.replace(case, is_pooled=False).suits_winograd:
        plans.append(Plan(forward=WINOGRAD))
    if case.suits_depthwise:
        plans.append(Plan(forward=DEPTHWISE))
    if case.is_pooled and case.suits_winograd:
        plans.append(Plan(WINOGRAD, WINOGRAD, WINOGRAD, is_pooled=True))
    if len(plans) == 1:
        return plans[0]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        maps, weight = _drawn(case)
        if case.suits_depthwise and not _agrees(maps, weight, case.window):
            return plans[0]

        def run(plan: Plan) -> object:
            out = convolve(maps, weight, case.window, plan)
            return F.max_pool2d(out, 2) if case.is_pooled and not plan.is_pooled else out

        times = _times({plan: functools.partial(run, plan) for plan in plans})
    fastest = min(times, key=lambda plan: times[plan])
    return fastest if times[fastest] < _GAIN * times[plans[0]] else plans[0]


def measured(case: ConvProblem) -> Plan:
    """The fastest algorithm of each direction, by the shortest of a few interleaved runs each; pooled where that is faster as a whole."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        maps, weight = _drawn(case)
        whole = _fastest_of_each(case, maps, weight)
        if not (case.is_pooled and case.suits_winograd):
            return whole
        fused = Plan(WINOGRAD, WINOGRAD, WINOGRAD, is_pooled=True)
        times = _times({plan: functools.partial(_step, maps, weight, case.window, plan) for plan in (whole, fused)})
    return fused if times[fused] < _GAIN * times[whole] else whole


def _fastest_of_each(case: ConvProblem, maps: torch.Tensor, weight: torch.Tensor) -> Plan:
    """The plan whose parts are each the fastest for the whole map."""
    allowed = {ONEDNN}
    if case.num_groups == 1:
        allowed |= {PER_TAP_GEMM} | ({WINOGRAD} if dataclasses.replace(case, is_pooled=False).suits_winograd else set())
    elif case.suits_depthwise and _agrees(maps, weight, case.window):
        allowed |= {DEPTHWISE}
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "input_gradient": {}, "weight_gradient": {}}
    for name in (each for each in FORWARDS if each in allowed):
        runs["forward"][name] = functools.partial(convolve, maps, weight, case.window, Plan(forward=name))
    for name in (each for each in INPUT_GRADIENTS if each in allowed):
        runs["input_gradient"][name] = _backward(maps, weight, case.window, Plan(input_gradient=name), True)
    for name in (each for each in WEIGHT_GRADIENTS if each in allowed):
        runs["weight_gradient"][name] = _backward(maps, weight, case.window, Plan(weight_gradient=name), False)
    best: dict[str, Any] = {}
    for direction, candidates in runs.items():
        times = _times(candidates)
        name = min(times, key=lambda name: times[name])
        best[direction] = name if times[name] < _GAIN * times[ONEDNN] else ONEDNN
    return Plan(**best)


def _agrees(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> bool:
    """Whether the compiled depthwise convolution gives on this machine what PyTorch does in float32, each way."""
    maps, weight = maps[:1].detach(), weight.detach()
    found, exact = ([], [])  # type: tuple[list[torch.Tensor], list[torch.Tensor]]
    with torch.enable_grad():
        gradient = None
        for results, kind, plan in (
            (found, maps.dtype, Plan(DEPTHWISE, DEPTHWISE, DEPTHWISE)),
            (exact, torch.float32, Plan()),
        ):
            given = maps.to(kind).requires_grad_(), weight.clone().requires_grad_()
            out = convolve(*given, window, plan)
            gradient = torch.randn_like(out) if gradient is None else gradient.to(kind)
            results += [out.detach(), *torch.autograd.grad(out, given, gradient)]
    pairs = zip(found, exact, strict=True)
    return all(float((mine.float() - theirs).norm()) <= _AGREEMENT * float(theirs.norm()) for mine, theirs in pairs)


def _times(runs: dict[_Name, Callable[[], object]]) -> dict[_Name, float]:
    """Seconds of the shortest of a few runs of each, in turn; the first, which warms up, does not count. On a busy machine they are more."""
    found = dict.fromkeys(runs, math.inf)
    for run in runs.values():
        run()
    least = _REPEATS
    for repeat in range(_MAX_REPEATS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            took = time.perf_counter() - began
            if took < _STEADY * found[name] and repeat:
                least = repeat + _REPEATS  # the runs before were disturbed, so the others may have been as well
            found[name] = min(found[name], took)
        if repeat + 1 >= least:
            break
    return found


def _backward(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan, of_maps: bool
) -> Callable[[], object]:
    """One direction of the backward alone."""
    wanted = (maps if of_maps else weight).detach().requires_grad_()
    out = convolve(wanted if of_maps else maps, weight if of_maps else wanted, window, plan)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, wanted, gradient, retain_graph=True)


def _step(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> object:
    """Forward, the pooling that follows, and both gradients."""
    maps, weight = maps.detach().requires_grad_(), weight.detach().requires_grad_()
    out = convolve(maps, weight, window, plan)
    if not plan.is_pooled:
        out = F.max_pool2d(out, 2)
    return torch.autograd.grad(out, (maps, weight), torch.ones_like(out))


def _drawn(case: ConvProblem) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps in bfloat16, channels last where that exists, and weights."""
    maps = torch.randn(case.maps, dtype=torch.float32, device="cpu")
    weight = torch.randn(case.weight, dtype=torch.float32, device="cpu")
    return maps.to(torch.bfloat16).contiguous(memory_format=memory_format(maps.ndim)), weight


def _as_plan(value: dict[str, Any]) -> Plan:
    """A plan from its stored fields.

    Raises:
        ValueError: one that this version does not know.
    """
    plan = Plan(**value)
    if (
        plan.forward not in FORWARDS
        or plan.input_gradient not in INPUT_GRADIENTS
        or plan.weight_gradient not in WEIGHT_GRADIENTS
    ):
        raise ValueError(plan)
    return plan
