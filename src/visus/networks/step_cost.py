"""The time of a training step on this machine, measured once and stored on the disk.

A measurement holds for one processor, PyTorch version and set of kernels, like the plans of ``networks.fast``, and uses the algorithms of the training. It
excludes all work between steps.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.networks.fast import Autotuner, Plan, cache, speed_up
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, memory_format
from visus.timing import Work, timed

MAX_SAMPLES = 128  # per measured step; the saving per sample of larger batches is ignored
_REPEATS = 9
_MAX_S = 0.6  # for all repeats of one measurement, after the first
_FEW = 8  # samples of the first pass before a deadline
_PASSES = 3  # whole passes that must fit before a deadline: the warm-up, a repeat, and as much again


@dataclass(frozen=True)
class StepConfig:
    """The configuration of a training's steps in one process, as the key of a measurement.

    Attributes:
        network: text that describes the whole network, such as its design.
        input_shape: (channels, *spatial) of a sample at full size.
        batch_size: number of samples per step in this process.
        sides: input sizes of equally long phases, as fractions of the full side.
        machine: device, precision and memory format.
        optimizer: name of the optimizer.
        is_sped_up: whether convolutions use the fastest algorithm for each shape (``networks.fast``).
    """

    network: str
    input_shape: tuple[int, ...]
    batch_size: int
    sides: tuple[float, ...]
    machine: Machine
    optimizer: str
    is_sped_up: bool

    def __str__(self) -> str:
        machine = self.machine
        where = torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else machine.device.type
        words = [
            "x".join(map(str, self.input_shape)),
            f"batches of {self.batch_size}",
            f"sides {', '.join(f'{side:g}' for side in self.sides)}",
            f"{where} {machine.precision} {'channels last' if machine.channels_last else 'channels first'}",
            f"{torch.get_num_threads()} threads",
            self.optimizer,
            "fastest convolutions" if self.is_sped_up else "PyTorch's convolutions",
            " ".join(self.network.split()),
        ]
        return "; ".join(words)


@dataclass(frozen=True)
class StepCost:
    """The time of a training step.

    Attributes:
        sample_s: seconds of forward and backward pass for one sample, at each size of progressive resizing.
        update_s: seconds of one optimizer step.
        is_rough: whether the time for measuring ended before the measurement, so that some of it is estimated; never stored.
    """

    sample_s: tuple[float, ...]
    update_s: float
    is_rough: bool = False

    def steps_s(self, num_steps: int, batch_size: int) -> float:
        """Seconds of ``num_steps`` steps, divided equally between the sizes.

        >>> StepCost((0.01, 0.03), 0.5).steps_s(10, 100)
        25.0
        """
        return num_steps * (batch_size * sum(self.sample_s) / len(self.sample_s) + self.update_s)


class StepCosts:
    """Measured step times of this machine, on the disk.

    Args:
        file: file of the measurements; default: in the user's cache folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or cache.cache_file("prices")

    def known(self, work: StepConfig) -> StepCost | None:
        """The stored time of these steps; None if it was never measured."""
        return cache.read_cached(self.file, _as_cost).get(str(work))

    def cost(
        self, work: StepConfig, make: Callable[[], tuple[nn.Module, torch.optim.Optimizer]], until: float = math.inf
    ) -> StepCost:
        """The time of these steps; measured now unless it is stored.

        Args:
            work: configuration of the steps.
            make: makes the network on its device, and its optimizer; the measurement changes both. Called only to measure.
            until: value of ``time.perf_counter`` at which the measurement ends, with estimates for the rest.
        """
        known = cache.read_cached(self.file, _as_cost)
        if (key := str(work)) not in known:
            devices = [work.machine.device] if work.machine.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
                found = measured(work, *make(), until)
            if found.is_rough:
                return found
            known = cache.read_cached(self.file, _as_cost) | {key: found}  # other processes may have added measurements
            cache.write(self.file, known)
        return known[key]


def measured(work: StepConfig, module: nn.Module, optimizer: torch.optim.Optimizer, until: float = math.inf) -> StepCost:
    """Measure the time of a step: the shortest of several repeats of each part, after a warm-up.

    With a deadline, a pass of a few samples comes first. Where it shows that whole batches would take too long, or once the deadline has passed, the
    other sizes are estimated by their numbers of values.

    Args:
        work, module, optimizer: the steps; both are changed.
        until: value of ``time.perf_counter`` at which no further measurement begins.
    """
    module.train()
    num_samples, at = min(work.batch_size, MAX_SAMPLES), dict[float, float]()
    smallest, *others = sorted(set(work.sides))
    is_whole = True
    with float32_where_needed(module, work.machine.precision):
        if math.isfinite(until):
            few = min(_FEW, num_samples)
            at[smallest] = _shortest_s(_passes(work, module, few, smallest), work.machine, -math.inf) / few
        if work.is_sped_up:
            speed_up(module, _WholeBatchAutotuner(work.batch_size, until))
        for side in (smallest, *others):
            if at and time.perf_counter() + _PASSES * num_samples * _at_side(side, at, work) >= until:
                is_whole = False
                break
            passes = _passes(work, module, num_samples, side)
            at[side] = _shortest_s(passes, work.machine, until) / num_samples
    is_rough = not is_whole or time.perf_counter() >= until
    update_s = _shortest_s(optimizer.step, work.machine, until)
    return StepCost(tuple(_at_side(side, at, work) for side in work.sides), update_s, is_rough)


def _at_side(side: float, at: Mapping[float, float], work: StepConfig) -> float:
    """Seconds at a size: measured, or in proportion to the values of the largest measured size."""
    largest = max(at)
    return at[side] if side in at else at[largest] * (side / largest) ** (len(work.input_shape) - 1)


class _WholeBatchAutotuner(Autotuner):
    """An autotuner for measured steps with fewer samples, which chooses the algorithms for the training's batch size."""

    def __init__(self, batch_size: int, until: float) -> None:
        super().__init__(until=until)
        self._batch_size = batch_size

    def plan(self, problem: ConvProblem) -> Plan:
        """The plan for the same convolution of a whole batch."""
        return super().plan(dataclasses.replace(problem, maps=(self._batch_size, *problem.maps[1:])))


def _passes(work: StepConfig, module: nn.Module, num_samples: int, side: float) -> Callable[[], object]:
    """A function that runs forward and backward pass for ``num_samples`` samples at one size."""
    channels, *size = work.input_shape
    shape = (num_samples, channels, *(max(1, round(side * length)) for length in size))
    inputs = torch.randn(shape).to(work.machine.device)
    if work.machine.channels_last:
        inputs = inputs.contiguous(memory_format=memory_format(inputs.ndim))
    return training_passes(module, inputs, work.machine)


def training_passes(module: nn.Module, inputs: Tensor, machine: Machine) -> Work:
    """A function that runs the forward and the backward pass of a training step.

    Args:
        module: returns logits (samples, classes).
        inputs: (samples, channels, *spatial), on the device; the labels are the classes in turn.
        machine: device and precision.
    """

    def passes() -> None:
        module.zero_grad(set_to_none=True)
        with machine.autocast():
            logits = module(inputs).float()
        labels = torch.arange(len(logits), device=logits.device) % logits.shape[1]
        F.cross_entropy(logits, labels, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]

    return passes


def _shortest_s(run: Callable[[], object], machine: Machine, until: float = math.inf) -> float:
    """Seconds of the shortest of several runs; the first one after the warm-up is the last one after a deadline."""
    shortest, spent = math.inf, 0.0
    for repeat in range(1 + _REPEATS):
        seconds = timed(run, machine.wait)
        if repeat:
            shortest, spent = min(shortest, seconds), spent + seconds
        if spent >= _MAX_S or (repeat and time.perf_counter() >= until):
            break
    return shortest


def _as_cost(value: dict[str, Any]) -> StepCost:
    """A step cost from its stored fields.

    Raises:
        ValueError: a time is negative or not finite.
    """
    cost = StepCost(tuple(float(each) for each in value["sample_s"]), float(value["update_s"]))
    if not cost.sample_s or not all(math.isfinite(each) and each >= 0 for each in (*cost.sample_s, cost.update_s)):
        raise ValueError(cost)
    return cost
