"""The properties of this machine, its fastest settings, and the folder of decoded data."""

from __future__ import annotations

import dataclasses
from typing import Any

from visus.data.cache import cache_folder
from visus.networks.fast import why_no_kernels
from visus.networks.machine import choose, describe, quick_speed
from visus.tables import Table, Text
from visus.units import write_bytes


def examine_machine() -> dict[str, Any]:
    """Versions and devices, the measured speed of each precision and layout, the default choice of visus, and the cache.

    Returns:
        ``machine`` (see ``networks.machine.describe``), ``speeds`` (name, samples_per_second, ratio to plain float32), ``choice``
        (one sentence), ``kernels`` (``ready``, or the reason why the kernels of visus are not used) and ``cache`` (folder,
        bytes).
    """
    cache = cache_folder()
    num_bytes = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.is_dir() else 0
    return {
        "machine": describe(cache),
        "speeds": [dataclasses.asdict(speed) | {"name": speed.name} for speed in quick_speed()],
        "choice": choose().reason,
        "kernels": why_no_kernels() or "ready",
        "cache": {"folder": str(cache), "bytes": num_bytes},
    }


def machine_text(facts: dict[str, Any]) -> Text:
    """The facts of ``examine_machine`` as text."""
    speeds = ((speed["name"], f"{speed['samples_per_second']:,.0f}", f"{speed['ratio']:.2f} x") for speed in facts["speeds"])
    return (
        Table(tuple((name, _listed(value)) for name, value in facts["machine"].items())),
        Table(tuple(speeds), ("way of computing", "images/s", "to plain float32")),
        f"visus trains here in {facts['choice']}",
        f"kernels of visus: {facts['kernels']}",
        f"decoded data: {facts['cache']['folder']} ({write_bytes(facts['cache']['bytes'])})",
    )


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each or 'not installed'}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value)
