"""Autotuner: measures the fastest algorithm for each convolution on this machine, once, and stores it on the disk.

cuDNN does this on GPUs (its benchmark mode). All algorithms compute the same sum and differ only in rounding. Choices are stored by processor, PyTorch
version, kernels and number of threads, so that the same machine computes the same numbers again.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

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

MIN_MACS = 20_000_000  # per batch; below it, overhead dominates
MIN_DEPTHWISE_MACS = 1_000_000  # the same for depthwise convolutions, whose multiply-adds take over ten times as long
_MEASURED_MACS = 1.5e9  # a measurement uses as many samples as give this work
_MEASURED_DEPTHWISE_MACS = 1.5e7
_MAX_DEPTHWISE_ERROR = (
    0.01  # relative error of the compiled depthwise convolution against PyTorch's float32; above it, it is never chosen
)
_REPEATS, _MAX_REPEATS = 7, 30
_DISTURBED_RATIO = (
    0.97  # if a later run takes less than this fraction of the shortest, other work disturbed the earlier runs
)
_MAX_TIME_RATIO = 0.95  # another algorithm must take less than this fraction of PyTorch's time
MAX_SHAPES = 24  # number of input shapes of one kind of convolution that are measured
_MAX_VALUES = 2**31 - 1
_MAX_SCRATCH_BYTES = 2**29  # per thread of the compiled kernel
TUNING_SHARE: Final = 0.2
"""Share of a time limit that measuring algorithms may take; then PyTorch's own kernels compute the other convolutions."""
_Name = TypeVar("_Name")
_measured_until: ContextVar[float] = ContextVar("measured_until", default=math.inf)


class _OutOfTimeError(Exception):
    """A measurement was ended by its deadline."""


@dataclass(frozen=True)
class ConvProblem:
    """A convolution of given shapes, as the key of a choice.

    Attributes:
        maps: shape (N, C, *) of the input.
        weight: shape (K, C, *taps) of the weight; depthwise: (C, 1, *taps).
        window: stride and padding.
        is_pooled: whether a 2 x 2 max pooling follows.
        threads: number of threads.
        is_learned: whether gradients are computed too.
    """

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    window: TapGeometry
    is_pooled: bool
    threads: int
    is_learned: bool = True

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the output, before pooling; 0 on an axis that the kernel does not fit."""
        sides = zip(self.maps[2:], self.weight[2:], self.window.stride, self.window.padding, strict=True)
        return tuple(max(0, (length + 2 * padding - taps) // stride + 1) for length, taps, stride, padding in sides)

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass, by direct convolution."""
        return self.maps[0] * math.prod(self.weight) * math.prod(self.size)

    @property
    def num_groups(self) -> int:
        """Number of groups: 1, or the number of channels (depthwise)."""
        return self.maps[1] // self.weight[1]

    @property
    def is_worth_a_choice(self) -> bool:
        """Whether it is large enough for a choice to pay."""
        return self.macs >= (MIN_MACS if self.num_groups == 1 else min(MIN_MACS, MIN_DEPTHWISE_MACS))

    @property
    def supports_depthwise(self) -> bool:
        """Whether the compiled depthwise kernel supports it."""
        return (
            is_depthwise(self.maps, self.weight, self.window)
            and math.prod(self.maps) <= _MAX_VALUES
            and min(self.size, default=0) >= 1
            and kernels() is not None
        )

    @property
    def supports_winograd(self) -> bool:
        """Whether the compiled Winograd kernel supports it."""
        return (
            self.weight[2:] == (3, 3)
            and self.num_groups == 1
            and self.window.stride == (1, 1)
            and self.window.padding[0] == self.window.padding[1] <= 2
            and min(self.size, default=0) >= (2 if self.is_pooled else 1)
            and math.prod(self.maps) <= _MAX_VALUES
            and self._scratch_bytes <= _MAX_SCRATCH_BYTES
            and kernels() is not None
        )

    @property
    def _scratch_bytes(self) -> int:
        """Approximate scratch memory of one thread of the Winograd kernel: one transformed sample, and the sums of the weight gradient."""
        tiles = math.prod(-(-length // 2) for length in self.size)
        return 64 * (tiles * (self.weight[0] + self.weight[1] // 2 + 80) + self.weight[0] * self.weight[1])

    @property
    def reduced(self) -> ConvProblem:
        """The same problem with only as many samples as a measurement needs; the batch size does not change the algorithm."""
        macs = _MEASURED_MACS if self.num_groups == 1 else _MEASURED_DEPTHWISE_MACS
        num_samples = math.ceil(macs * self.maps[0] / max(1, self.macs))
        return dataclasses.replace(self, maps=(max(1, min(self.maps[0], num_samples)), *self.maps[1:]))

    def __str__(self) -> str:
        words = [f"{'x'.join(map(str, part))}" for part in (self.maps, self.weight, self.window.stride, self.window.padding)]
        return " ".join([*words, "pooled" if self.is_pooled else "whole", f"{self.threads} threads"])


class Autotuner:
    """Chooses a ``Plan`` for each convolution, and keeps all plans in memory and on the disk.

    Args:
        file: file of the machine's plans; default: in the user's cache folder.
        record: file of one training's plans. Its plans take precedence, and every plan in use is written to it, so that a resumed training computes
            as before even if the machine's plans have changed.
        until: value of ``time.perf_counter`` after which nothing is measured, between two runs: what has no plan then is computed by PyTorch's own
            kernels. That is no plan of the machine, and the record keeps it.
    """

    def __init__(self, file: Path | None = None, record: Path | None = None, until: float = math.inf) -> None:
        self.file = file or cache.cache_file("choices")
        self.record, self.until = record, until
        self._used = cache.read_cached(record, _as_plan) if record else {}
        self._num_shapes = Counter(map(_kind, self._used))
        self._plans = cache.read_cached(self.file, _as_plan)

    def __deepcopy__(self, memo: object) -> Autotuner:
        return self  # copies of a network share it

    def plan(self, problem: ConvProblem) -> Plan:
        """The fastest algorithms for a convolution; measured now unless a stored plan exists.

        After ``MAX_SHAPES`` input shapes of one kind of convolution (filters, stride, padding, pooling), further shapes use PyTorch's own kernels:
        for images of ever new sizes, measurements would cost more than they save.
        """
        if not problem.is_worth_a_choice:
            return Plan()
        direction = "" if problem.is_learned else " forward"
        keys = [f"{each}{direction}" for each in (problem, problem.reduced)]
        key = next((key for key in keys if key in self._used), keys[-1])
        if key in self._used and is_supported(self._used[key], problem):
            return self._used[key]
        if key not in self._used and self._num_shapes[_kind(key)] >= MAX_SHAPES:
            return Plan()
        if key not in self._plans:
            measure = measured if problem.is_learned else measured_forward
            try:
                self._plans[key] = _run_in_thread(measure, problem.reduced, self.until)
            except _OutOfTimeError:
                return self._use(key, Plan())
            self._plans = (
                cache.read_cached(self.file, _as_plan) | self._plans
            )  # other processes may have added plans meanwhile
            cache.write(self.file, self._plans)
        if not is_supported(self._plans[key], problem):
            return Plan()
        if key in self._used:  # the recorded plan is not supported here; the record keeps it for machines that support it
            return self._plans[key]
        return self._use(key, self._plans[key])

    def _use(self, key: str, plan: Plan) -> Plan:
        """Use this plan from now on, and record it."""
        self._num_shapes[_kind(key)] += 1
        self._used[key] = plan
        if self.record:
            cache.write(self.record, self._used)
        return plan


def is_supported(plan: Plan, problem: ConvProblem) -> bool:
    """Whether this machine supports a plan from another machine, or from a measurement with fewer samples."""
    names = dataclasses.astuple(plan)
    return (problem.supports_winograd or WINOGRAD not in names) and (problem.supports_depthwise or DEPTHWISE not in names)


def _kind(key: str) -> str:
    """The key without the shape of the input."""
    return key.partition(" ")[2]


def _run_in_thread(measure: Callable[[ConvProblem], Plan], problem: ConvProblem, until: float) -> Plan:
    """Measure in a separate thread, where the caller's autocast, default device and saved-tensor hooks do not apply.

    Raises:
        _OutOfTimeError: it did not end by this value of ``time.perf_counter``.
    """

    def run() -> Plan:
        _measured_until.set(until)  # of this thread alone
        _check_time()
        return measure(problem)

    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(run).result()


def _check_time() -> None:
    """Raise ``_OutOfTimeError`` after the deadline of this measurement."""
    if time.perf_counter() >= _measured_until.get():
        raise _OutOfTimeError


def measured_forward(problem: ConvProblem) -> Plan:
    """The fastest plan for the forward pass, with the pooling that follows."""
    plans = [Plan()]
    if dataclasses.replace(problem, is_pooled=False).supports_winograd:
        plans.append(Plan(forward=WINOGRAD))
    if problem.supports_depthwise:
        plans.append(Plan(forward=DEPTHWISE))
    if problem.is_pooled and problem.supports_winograd:
        plans.append(Plan(WINOGRAD, WINOGRAD, WINOGRAD, is_pooled=True))
    if len(plans) == 1:
        return plans[0]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        maps, weight = _random_tensors(problem)
        if problem.supports_depthwise and not _is_depthwise_accurate(maps, weight, problem.window):
            return plans[0]

        def run(plan: Plan) -> object:
            out = convolve(maps, weight, problem.window, plan)
            return F.max_pool2d(out, 2) if problem.is_pooled and not plan.is_pooled else out

        times = _times({plan: functools.partial(run, plan) for plan in plans})
    fastest = min(times, key=lambda plan: times[plan])
    return fastest if times[fastest] < _MAX_TIME_RATIO * times[plans[0]] else plans[0]


def measured(problem: ConvProblem) -> Plan:
    """The fastest algorithm of each direction, by the shortest of a few interleaved runs; with fused pooling if a whole step is faster then."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        maps, weight = _random_tensors(problem)
        unfused = _fastest_per_direction(problem, maps, weight)
        if not (problem.is_pooled and problem.supports_winograd):
            return unfused
        fused = Plan(WINOGRAD, WINOGRAD, WINOGRAD, is_pooled=True)
        times = _times({plan: functools.partial(_step, maps, weight, problem.window, plan) for plan in (unfused, fused)})
    return fused if times[fused] < _MAX_TIME_RATIO * times[unfused] else unfused


def _fastest_per_direction(problem: ConvProblem, maps: torch.Tensor, weight: torch.Tensor) -> Plan:
    """The fastest algorithm of each direction, without pooling."""
    allowed = {ONEDNN}
    if problem.num_groups == 1:
        allowed |= {PER_TAP_GEMM} | (
            {WINOGRAD} if dataclasses.replace(problem, is_pooled=False).supports_winograd else set()
        )
    elif problem.supports_depthwise and _is_depthwise_accurate(maps, weight, problem.window):
        allowed |= {DEPTHWISE}
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "input_gradient": {}, "weight_gradient": {}}
    for name in (each for each in FORWARDS if each in allowed):
        runs["forward"][name] = functools.partial(convolve, maps, weight, problem.window, Plan(forward=name))
    for name in (each for each in INPUT_GRADIENTS if each in allowed):
        runs["input_gradient"][name] = _backward(maps, weight, problem.window, Plan(input_gradient=name), True)
    for name in (each for each in WEIGHT_GRADIENTS if each in allowed):
        runs["weight_gradient"][name] = _backward(maps, weight, problem.window, Plan(weight_gradient=name), False)
    best: dict[str, Any] = {}
    for direction, candidates in runs.items():
        times = _times(candidates)
        name = min(times, key=lambda name: times[name])
        best[direction] = name if times[name] < _MAX_TIME_RATIO * times[ONEDNN] else ONEDNN
    return Plan(**best)


def _is_depthwise_accurate(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry) -> bool:
    """Whether the compiled depthwise convolution agrees with PyTorch's float32 on this machine, in every direction."""
    maps, weight = maps[:1].detach(), weight.detach()
    found, exact = ([], [])  # type: tuple[list[torch.Tensor], list[torch.Tensor]]
    with torch.enable_grad():
        gradient = None
        for results, dtype, plan in (
            (found, maps.dtype, Plan(DEPTHWISE, DEPTHWISE, DEPTHWISE)),
            (exact, torch.float32, Plan()),
        ):
            inputs = maps.to(dtype).requires_grad_(), weight.clone().requires_grad_()
            out = convolve(*inputs, window, plan)
            gradient = torch.randn_like(out) if gradient is None else gradient.to(dtype)
            results += [out.detach(), *torch.autograd.grad(out, inputs, gradient)]
    pairs = zip(found, exact, strict=True)
    return all(
        float((mine.float() - theirs).norm()) <= _MAX_DEPTHWISE_ERROR * float(theirs.norm()) for mine, theirs in pairs
    )


def _times(runs: dict[_Name, Callable[[], object]]) -> dict[_Name, float]:
    """Seconds of the shortest of several interleaved runs of each, after one run of warm-up. A busy machine needs more runs."""
    shortest = dict.fromkeys(runs, math.inf)
    for run in runs.values():
        _check_time()
        run()
    num_repeats = _REPEATS
    for repeat in range(_MAX_REPEATS):
        for name, run in runs.items():
            _check_time()
            began = time.perf_counter()
            run()
            seconds = time.perf_counter() - began
            if seconds < _DISTURBED_RATIO * shortest[name] and repeat:
                num_repeats = (
                    repeat + _REPEATS
                )  # other work disturbed the earlier runs, perhaps those of other algorithms too
            shortest[name] = min(shortest[name], seconds)
        if repeat + 1 >= num_repeats:
            break
    return shortest


def _backward(
    maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan, is_maps_gradient: bool
) -> Callable[[], object]:
    """A function that runs one direction of the backward pass."""
    variable = (maps if is_maps_gradient else weight).detach().requires_grad_()
    out = convolve(variable if is_maps_gradient else maps, weight if is_maps_gradient else variable, window, plan)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, variable, gradient, retain_graph=True)


def _step(maps: torch.Tensor, weight: torch.Tensor, window: TapGeometry, plan: Plan) -> object:
    """Run the forward pass, the pooling and both gradients."""
    maps, weight = maps.detach().requires_grad_(), weight.detach().requires_grad_()
    out = convolve(maps, weight, window, plan)
    if not plan.is_pooled:
        out = F.max_pool2d(out, 2)
    return torch.autograd.grad(out, (maps, weight), torch.ones_like(out))


def _random_tensors(problem: ConvProblem) -> tuple[torch.Tensor, torch.Tensor]:
    """Random maps in bfloat16, channels-last if the format exists for them, and a random float32 weight."""
    maps = torch.randn(problem.maps, dtype=torch.float32, device="cpu")
    weight = torch.randn(problem.weight, dtype=torch.float32, device="cpu")
    return maps.to(torch.bfloat16).contiguous(memory_format=memory_format(maps.ndim)), weight


def _as_plan(value: dict[str, Any]) -> Plan:
    """A plan from its stored fields.

    Raises:
        ValueError: the plan names an unknown algorithm.
    """
    plan = Plan(**value)
    if (
        plan.forward not in FORWARDS
        or plan.input_gradient not in INPUT_GRADIENTS
        or plan.weight_gradient not in WEIGHT_GRADIENTS
    ):
        raise ValueError(plan)
    return plan
