"""Which algorithms compute the convolutions of a training: those that this machine is fastest with, the same in all of its processes.

This file knows processes, plans, and what decides how numbers are rounded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from visus.networks.fast import Autotuner, Plan
from visus.networks.fast.autotuner import ConvProblem, suits
from visus.networks.fast.compiler import kernels, source
from visus.networks.machine import Machine, describe
from visus.training.distribution import Group


def choices_for(group: Group, record: Path, batch_size: int) -> Autotuner:
    """The choices of one training.

    Args:
        group: the processes that train.
        record: the training's own file of what was chosen.
        batch_size: samples of a whole batch.
    """
    return Autotuner(record=record) if group.is_alone else _AgreedChoices(group, record, -(-batch_size // group.size))


def rounding(machine: Machine, convolutions: str) -> dict[str, str]:
    """What decides how the numbers of a training are rounded, by name, for ``environment.json``.

    Args:
        machine: what it is trained on.
        convolutions: the recipe's setting.
    """
    is_fast = (machine.device.type, machine.precision, convolutions) == ("cpu", "bfloat16", "auto")
    own = hashlib.blake2b(source(), digest_size=4).hexdigest() if is_fast and kernels() is not None else ""
    return {
        "device": machine.device.type,
        "precision": machine.precision,
        "processor": str(describe()["processor"]),
        "PyTorch": str(torch.__version__),
        "kernels": f"those of visus ({own})" if own else "PyTorch's own",
    }


def rounding_differs(began: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The warning for a training that goes on with other rounding than it began with; empty where it is the same.

    >>> rounding_differs({"kernels": "those of visus (1f)"}, {"kernels": "those of visus (1f)", "device": "cpu"})
    ''
    """
    changes = [f"{name}: {before}, now {now[name]}" for name, before in began.items() if name in now and before != now[name]]
    if not changes:
        return ""
    return (
        f"this run began with other arithmetic ({'; '.join(changes)}), so its result will differ in rounding from that of a training "
        "without interruption. Go on where it began for the same numbers."
    )


class _AgreedChoices(Autotuner):
    """The first process measures and writes while the others wait; all of them ask for the same cases in the same order.

    Slices of a batch differ by a sample; a case is that of the largest slice, so that it has one name in all processes.
    """

    def __init__(self, group: Group, record: Path, num_samples: int) -> None:
        super().__init__(record=record if group.is_first else None)
        self._group, self._num_samples = group, num_samples
        self._agreed: dict[str, Plan] = {}

    def plan(self, case: ConvProblem) -> Plan:
        """The first process's plan; PyTorch's own kernels where this machine lacks what it needs."""
        case = dataclasses.replace(case, maps=(self._num_samples, *case.maps[1:]))
        if not case.is_worth_a_choice:
            return Plan()
        key = str(case)
        if key not in self._agreed:
            own = super().plan(case) if self._group.is_first else Plan()
            self._agreed[key] = Plan(**json.loads(self._group.text(json.dumps(dataclasses.asdict(own)))))
        agreed = self._agreed[key]
        return agreed if suits(agreed, case) else Plan()
