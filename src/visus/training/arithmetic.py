"""The autotuner of a training, with one choice for all processes, and the facts that decide how its numbers are rounded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from visus.networks.fast import Autotuner, Plan
from visus.networks.fast.autotuner import ConvProblem, is_supported
from visus.networks.fast.compiler import kernels, source
from visus.networks.machine import Machine, describe
from visus.training.distribution import Group

WITHOUT_KERNELS: Final = ("kernels", "pytorch")
"""The setting and its value with which no kernels are compiled and timed."""


def make_autotuner(group: Group, record: Path, batch_size: int, until: float = math.inf) -> Autotuner:
    """The autotuner of one training.

    Args:
        group: the processes of the training.
        record: the run's file of chosen algorithms.
        batch_size: number of samples of a whole batch.
        until: value of ``time.perf_counter`` after which nothing is measured.
    """
    if group.is_alone:
        return Autotuner(record=record, until=until)
    return _SharedAutotuner(group, record, -(-batch_size // group.size), until)


def uses_kernels(machine: Machine, kernels_setting: str) -> bool:
    """Whether a training chooses between PyTorch's kernels and those of visus, which are then compiled and timed.

    Args:
        machine: device and precision of the training.
        kernels_setting: the recipe's ``kernels``.
    """
    return (machine.device.type, machine.precision, kernels_setting) == ("cpu", "bfloat16", "auto")


def rounding_facts(machine: Machine, kernels_setting: str) -> dict[str, str]:
    """The facts that decide how the numbers of a training are rounded, by name, for ``environment.json``.

    Args:
        machine: device and precision of the training.
        kernels_setting: the recipe's ``kernels``.
    """
    is_fast = uses_kernels(machine, kernels_setting) and kernels() is not None
    own = hashlib.blake2b(source(), digest_size=4).hexdigest() if is_fast else ""
    return {
        "device": machine.device.type,
        "precision": machine.precision,
        "processor": str(describe()["processor"]),
        "PyTorch": str(torch.__version__),
        "kernels": f"those of visus ({own})" if own else "PyTorch's own",
    }


def rounding_warning(began: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The warning for a resumed training that rounds differently from its start; empty if it rounds equally.

    >>> rounding_warning({"kernels": "those of visus (1f)"}, {"kernels": "those of visus (1f)", "device": "cpu"})
    ''
    """
    changes = [f"{name}: {before}, now {now[name]}" for name, before in began.items() if name in now and before != now[name]]
    if not changes:
        return ""
    return (
        f"this run started with different arithmetic ({'; '.join(changes)}), so rounding will make its result differ from that of an "
        "uninterrupted training. Resume it where it started to get the same numbers."
    )


class _SharedAutotuner(Autotuner):
    """An autotuner for several processes: the first one measures and writes, and the others wait for its choice.

    All processes must ask for the same problems in the same order. Slices of a batch may differ by one sample; each problem gets the size of the
    largest slice, so that it has the same key in all processes.
    """

    def __init__(self, group: Group, record: Path, num_samples: int, until: float) -> None:
        super().__init__(record=record if group.is_first else None, until=until)
        self._group, self._num_samples = group, num_samples
        self._shared: dict[str, Plan] = {}

    def plan(self, problem: ConvProblem) -> Plan:
        """The first process's plan; PyTorch's own kernels if this machine does not support it."""
        problem = dataclasses.replace(problem, maps=(self._num_samples, *problem.maps[1:]))
        if not problem.is_worth_a_choice:
            return Plan()
        key = str(problem)
        if key not in self._shared:
            own = super().plan(problem) if self._group.is_first else Plan()
            self._shared[key] = Plan(**json.loads(self._group.broadcast_text(json.dumps(dataclasses.asdict(own)))))
        shared = self._shared[key]
        return shared if is_supported(shared, problem) else Plan()
