"""Which algorithm is fastest for a convolution on this machine: measured once, remembered on the disk.

This file knows timings and where they are kept. It must not know modules.

cuDNN does this for GPUs (its benchmark mode); processors have had one algorithm for all shapes. Every algorithm here computes the same sum: they
differ by rounding alone, so a choice changes the last digits of a training and nothing else. A choice that was made is kept, by processor,
version of PyTorch, kernels and number of threads, so that the same machine gives the same numbers again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from visus.errors import StorageError
from visus.files import write_json
from visus.networks.fast.compiler import SOURCE, cache_folder, kernels
from visus.networks.fast.convolutions import (
    FORWARDS,
    INPUT_GRADIENTS,
    ONEDNN,
    TAPS,
    WEIGHT_GRADIENTS,
    WINOGRAD,
    Plan,
    Window,
    convolve,
)

LEAST_MACS = 20_000_000  # of a batch: below it the call costs more than the sum
_MEASURED_MACS = 1.5e9  # as many items are measured as give this work
_REPEATS = 7
_GAIN = 0.95  # another algorithm must take less than this share of PyTorch's own time
_LARGEST_WINOGRAD = 2**31 - 1
_Name = TypeVar("_Name")


@dataclass(frozen=True)
class Case:
    """One convolution that is computed again and again.

    Attributes:
        maps: (N, C, *) that it reads.
        weight: (K, C, *taps).
        window: stride and padding.
        is_pooled: a maximum over 2 x 2 follows.
        threads: that compute it.
    """

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    window: Window
    is_pooled: bool
    threads: int

    @property
    def size(self) -> tuple[int, ...]:
        """Sides of the map out, before pooling."""
        sides = zip(self.maps[2:], self.weight[2:], self.window.stride, self.window.padding, strict=True)
        return tuple((length + 2 * padding - taps) // stride + 1 for length, taps, stride, padding in sides)

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward by the sum over taps."""
        return self.maps[0] * math.prod(self.weight) * math.prod(self.size)

    @property
    def suits_winograd(self) -> bool:
        """Whether the compiled kernel computes this one."""
        return (
            self.weight[2:] == (3, 3)
            and self.window.stride == (1, 1)
            and self.window.padding[0] == self.window.padding[1] <= 2
            and min(self.size, default=0) >= (2 if self.is_pooled else 1)
            and math.prod(self.maps) <= _LARGEST_WINOGRAD
            and kernels() is not None
        )

    def __str__(self) -> str:
        words = [f"{'x'.join(map(str, part))}" for part in (self.maps, self.weight, self.window.stride, self.window.padding)]
        return " ".join([*words, "pooled" if self.is_pooled else "whole", f"{self.threads} threads"])


class Choices:
    """The plans of this machine, in memory and on the disk.

    Args:
        file: where they are kept; None for the user's cache folder.
        record: a file of one training's own: what it lists is used before all else, and what is used is listed there, so that a
            training that goes on later computes as it began, whatever the machine has learned since.
    """

    def __init__(self, file: Path | None = None, record: Path | None = None) -> None:
        self.file = file or cache_folder() / f"choices-{_identity()}.json"
        self.record = record
        self._used = _read(record) if record else {}
        self._plans = _read(self.file)

    def __deepcopy__(self, memo: object) -> Choices:
        return self  # a copy of a network asks the same memory

    def plan(self, case: Case) -> Plan:
        """How this convolution is best computed; measured now if that was never done."""
        if case.macs < LEAST_MACS:
            return Plan()
        key = str(case)
        if key in self._used and (case.suits_winograd or WINOGRAD not in dataclasses.astuple(self._used[key])):
            return self._used[key]
        if key not in self._plans:
            self._plans[key] = measured(case)
            self._plans = _read(self.file) | self._plans  # with what other processes found meanwhile
            _write(self.file, self._plans)
        self._used[key] = self._plans[key]
        if self.record:
            _write(self.record, self._used)
        return self._used[key]


def measured(case: Case) -> Plan:
    """The fastest algorithm of each direction, by the shortest of a few interleaved runs each; pooled where that is faster as a whole."""
    items = max(1, min(case.maps[0], math.ceil(_MEASURED_MACS * case.maps[0] / case.macs)))
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        maps = _laid_out(torch.randn(items, *case.maps[1:]))
        weight = torch.randn(case.weight)
        whole = _fastest_of_each(case, maps, weight)
        if not (case.is_pooled and case.suits_winograd):
            return whole
        fused = Plan(WINOGRAD, WINOGRAD, WINOGRAD, is_pooled=True)
        times = _times({plan: functools.partial(_step, maps, weight, case.window, plan) for plan in (whole, fused)})
    return fused if times[fused] < _GAIN * times[whole] else whole


def _fastest_of_each(case: Case, maps: torch.Tensor, weight: torch.Tensor) -> Plan:
    """The plan whose parts are each the fastest for the whole map."""
    allowed = {ONEDNN, TAPS} | ({WINOGRAD} if dataclasses.replace(case, is_pooled=False).suits_winograd else set())
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "input_gradient": {}, "weight_gradient": {}}
    for name in FORWARDS:
        runs["forward"][name] = functools.partial(convolve, maps, weight, case.window, Plan(forward=name))
    for name in INPUT_GRADIENTS:
        runs["input_gradient"][name] = _backward(maps, weight, case.window, Plan(input_gradient=name), True)
    for name in WEIGHT_GRADIENTS:
        runs["weight_gradient"][name] = _backward(maps, weight, case.window, Plan(weight_gradient=name), False)
    best: dict[str, Any] = {}
    for direction, candidates in runs.items():
        times = _times({name: run for name, run in candidates.items() if name in allowed})
        name = min(times, key=lambda name: times[name])
        best[direction] = name if times[name] < _GAIN * times[ONEDNN] else ONEDNN
    return Plan(**best)


def _times(runs: dict[_Name, Callable[[], object]]) -> dict[_Name, float]:
    """Seconds of the shortest of a few runs of each, in turn; the first, which warms up, does not count."""
    found = dict.fromkeys(runs, math.inf)
    for repeat in range(_REPEATS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if repeat:
                found[name] = min(found[name], time.perf_counter() - began)
    return found


def _backward(maps: torch.Tensor, weight: torch.Tensor, window: Window, plan: Plan, of_maps: bool) -> Callable[[], object]:
    """One direction of the backward alone."""
    wanted = (maps if of_maps else weight).detach().requires_grad_()
    out = convolve(wanted if of_maps else maps, weight if of_maps else wanted, window, plan)
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, wanted, gradient, retain_graph=True)


def _step(maps: torch.Tensor, weight: torch.Tensor, window: Window, plan: Plan) -> object:
    """Forward, the pooling that follows, and both gradients."""
    maps, weight = maps.detach().requires_grad_(), weight.detach().requires_grad_()
    out = convolve(maps, weight, window, plan)
    if not plan.is_pooled:
        out = F.max_pool2d(out, 2)
    return torch.autograd.grad(out, (maps, weight), torch.ones_like(out))


def _laid_out(maps: torch.Tensor) -> torch.Tensor:
    """In bfloat16, channels last where that exists."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return maps.to(torch.bfloat16).contiguous(memory_format=formats.get(maps.ndim, torch.contiguous_format))


def _read(file: Path) -> dict[str, Plan]:
    """The plans in a file; none where it is absent or was spoilt."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {str(key): _as_plan(value.items()) for key, value in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, plans: dict[str, Plan]) -> None:
    """Keep plans in a file; a folder that cannot be written is no reason to stop."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {key: dataclasses.asdict(plan) for key, plan in sorted(plans.items())})
    except (OSError, StorageError):
        return


def _as_plan(items: Iterable[tuple[str, object]]) -> Plan:
    """A plan from its stored fields.

    Raises:
        ValueError: one that this version does not know.
    """
    plan = Plan(**dict(items))  # type: ignore[arg-type]
    if (
        plan.forward not in FORWARDS
        or plan.input_gradient not in INPUT_GRADIENTS
        or plan.weight_gradient not in WEIGHT_GRADIENTS
    ):
        raise ValueError(plan)
    return plan


def _identity() -> str:
    """Names the processor, the version of PyTorch and the kernels: a choice holds for these alone."""
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    facts = (processor, torch.__version__, torch.backends.cpu.get_cpu_capability(), kernels() is not None)
    return hashlib.blake2b(SOURCE.read_bytes() + repr(facts).encode(), digest_size=6).hexdigest()
