"""``visus.doctor``: the properties of this machine, its fastest settings, and the folder of decoded data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.data.cache import cache_folder
from visus.networks.fast import why_no_kernels
from visus.networks.machine import Speed, choose, describe, quick_speed
from visus.tables import Described, Table, Text
from visus.units import write_bytes
from visus.workbench.live_line import working


@dataclass(frozen=True, repr=False)
class MachineReport(Described):
    """Versions and devices of this machine, and what is fast on it.

    Args:
        machine: facts about the machine; see ``visus.networks.machine.describe``.
        speeds: the measured speed of a small network in each precision and layout; plain float32 is first.
        choice: precision and layout of trainings on this machine, with the reason.
        kernels: ``ready``, or the reason why the kernels of visus are not used.
        cache: folder of decoded data.
        cache_bytes: size of this folder.

    >>> machine.machine["cores"] >= 1
    True
    """

    machine: dict[str, Any]
    speeds: tuple[Speed, ...]
    choice: str
    kernels: str
    cache: Path
    cache_bytes: int

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        facts, fastest = self.machine, max(self.speeds, key=lambda speed: speed.samples_per_second)
        devices = [each["name"] for each in facts["cuda"]] + (["mps"] if facts["mps"] else [])
        rows = [
            ("versions", f"visus {facts['visus']}, torch {facts['packages']['torch']}, Python {facts['python']}"),
            ("processor", f"{facts['processor']}, {facts['cores']} cores"),
            ("GPU", ", ".join(devices) or "none"),
            ("training", self.choice),
            ("fastest", f"{fastest.name}, {fastest.ratio:.2f} times as fast as plain float32 in training a small network"),
            ("kernels", self.kernels),
            ("next", ".text() has all of it, .to_json() as plain data"),
        ]
        return "This machine", rows

    def _speed_table(self) -> Table:
        rows = ((each.name, f"{each.samples_per_second:,.0f}", f"{each.ratio:.2f} x") for each in self.speeds)
        return Table(tuple(rows), ("way of computing", "images/s", "to plain float32"), (1, 2))

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("training steps of a small network", self._speed_table()),)

    def text(self) -> Text:
        """All facts, the measured speeds, and the folder of decoded data.

        >>> machine.text()[-1].startswith("decoded data: ")
        True
        """
        return Text(
            (
                Table(tuple(_row(name, value) for name, value in self.machine.items())),
                self._speed_table(),
                f"visus trains here in {self.choice}",
                f"kernels of visus: {self.kernels}",
                f"decoded data: {self.cache} ({write_bytes(self.cache_bytes)})",
            )
        )

    def to_json(self) -> dict[str, Any]:
        """The report as plain data.

        >>> list(machine.to_json())
        ['machine', 'speeds', 'choice', 'kernels', 'cache']
        """
        return {
            "machine": self.machine,
            "speeds": [dataclasses.asdict(speed) | {"name": speed.name} for speed in self.speeds],
            "choice": self.choice,
            "kernels": self.kernels,
            "cache": {"folder": str(self.cache), "bytes": self.cache_bytes},
        }


def doctor(*, seconds: float = 2.0, progress: bool | None = None) -> MachineReport:
    """Examine this machine: versions, devices, and what is fast.

    Args:
        seconds: duration of the speed measurement.
        progress: False shows nothing on stderr.

    >>> machine = visus.doctor(seconds=0.2)
    >>> machine.speeds[0].name, machine.speeds[0].ratio
    ('float32', 1.0)
    """
    cache = cache_folder()
    num_bytes = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    with working("measuring this machine", progress):
        speeds = quick_speed(seconds=seconds)
    return MachineReport(describe(cache), speeds, choose().reason, why_no_kernels() or "ready", cache, num_bytes)


def _row(name: str, value: Any) -> tuple[str, str]:
    """A fact as a row of the table; memory and free disk space with their unit."""
    label = {"memory_bytes": "memory", "free_bytes": "free disk space"}.get(name)
    if label is None:
        return name, _listed(value)
    return label, "unknown" if value is None else write_bytes(value)


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each or 'not installed'}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)
