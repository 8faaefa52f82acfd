"""What a training step of a network costs on this machine: measured once, remembered on the disk.

This file knows seconds.

A price holds for one processor, version of PyTorch and set of kernels, as the choices of ``networks.fast`` do, and lies beside them; it is measured
with the algorithms that the training will use. It is a figure of a quiet moment: what is done around the steps is not in it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from visus.networks.fast import Autotuner, Plan, cache, speed_up
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, memory_format

MAX_SAMPLES = 128  # in a measured step: what a larger batch would save for each sample is left out
_REPEATS = 9
_MAX_S = 0.6  # of the repeats of one measurement; one is always made


@dataclass(frozen=True)
class Work:
    """The steps of a training, as one process takes them.

    Attributes:
        network: a text that says all of the network, such as that of its design.
        input_shape: (channels, *spatial) of a whole sample.
        batch_size: samples of this process in one step.
        sides: parts of the whole side at which samples are seen, in equal shares of the training.
        machine: device, precision and layout.
        optimizer: its name.
        is_sped_up: whether convolutions are computed by the fastest algorithm for each shape (``networks.fast``).
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
class Price:
    """What a step costs.

    Attributes:
        sample_s: seconds of the forward and backward pass for one sample, for each side of progressive resizing.
        update_s: seconds in which the optimizer moves the weights once.
    """

    sample_s: tuple[float, ...]
    update_s: float

    def steps_s(self, num_steps: int, batch_size: int) -> float:
        """Seconds of so many steps, an equal share of them at each side.

        >>> Price((0.01, 0.03), 0.5).steps_s(10, 100)
        25.0
        """
        return num_steps * (batch_size * sum(self.sample_s) / len(self.sample_s) + self.update_s)


class Prices:
    """The price list of this machine, on the disk.

    Args:
        file: where it is kept; None for the user's cache folder.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or cache.cache_file("prices")

    def price(self, work: Work, make: Callable[[], tuple[nn.Module, torch.optim.Optimizer]]) -> Price:
        """What this work costs; measured now if that was never done.

        Args:
            work: the steps.
            make: gives the network where it is to be trained, and its optimizer; both are used up. Called only where something is measured.
        """
        known = cache.read(self.file, _as_price)
        if (key := str(work)) not in known:
            devices = [work.machine.device] if work.machine.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
                found = measured(work, *make())
            known = cache.read(self.file, _as_price) | {key: found}  # with what other processes found meanwhile
            cache.write(self.file, known)
        return known[key]


def measured(work: Work, module: nn.Module, optimizer: torch.optim.Optimizer) -> Price:
    """The price of some steps, by the shortest of a few repeats of each part; the first, which warms up, does not count."""
    if work.is_sped_up:
        speed_up(module, _ChoicesOfWholeBatches(work.batch_size))
    module.train()
    num_samples = min(work.batch_size, MAX_SAMPLES)
    with float32_where_needed(module, work.machine.precision):
        at = {
            side: _shortest_s(_passes(work, module, num_samples, side), work.machine) / num_samples
            for side in set(work.sides)
        }
    sample_s = tuple(at[side] for side in work.sides)
    return Price(sample_s, _shortest_s(optimizer.step, work.machine))


class _ChoicesOfWholeBatches(Autotuner):
    """Measured steps hold fewer samples than those of the training, and are computed by the algorithms that it will use."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size

    def plan(self, case: ConvProblem) -> Plan:
        """The plan for the same convolution of a whole batch."""
        return super().plan(dataclasses.replace(case, maps=(self._batch_size, *case.maps[1:])))


def _passes(work: Work, module: nn.Module, num_samples: int, side: float) -> Callable[[], object]:
    """Forward and backward pass for some samples at one side."""
    channels, *size = work.input_shape
    shape = (num_samples, channels, *(max(1, round(side * length)) for length in size))
    inputs = torch.randn(shape).to(work.machine.device)
    if work.machine.channels_last:
        inputs = inputs.contiguous(memory_format=memory_format(inputs.ndim))

    def passes() -> None:
        module.zero_grad(set_to_none=True)
        with work.machine.autocast():
            logits = module(inputs).float()
        labels = torch.arange(num_samples, device=logits.device) % logits.shape[1]
        F.cross_entropy(logits, labels, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]

    return passes


def _shortest_s(run: Callable[[], object], machine: Machine) -> float:
    """Seconds of the shortest of a few runs."""
    finish = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(machine.device.type, lambda: None)
    shortest, spent = math.inf, 0.0
    for repeat in range(1 + _REPEATS):
        finish()
        began = time.perf_counter()
        run()
        finish()
        seconds = time.perf_counter() - began
        if repeat:
            shortest, spent = min(shortest, seconds), spent + seconds
        if spent >= _MAX_S:
            break
    return shortest


def _as_price(value: dict[str, Any]) -> Price:
    """A price from its stored fields.

    Raises:
        ValueError: one that cannot have been measured.
    """
    price = Price(tuple(float(each) for each in value["sample_s"]), float(value["update_s"]))
    if not price.sample_s or not all(math.isfinite(each) and each >= 0 for each in (*price.sample_s, price.update_s)):
        raise ValueError(price)
    return price
