"""The cores and the memory that this process may use, within the limits of its container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_QUOTAS: Final = Path("/sys/fs/cgroup")  # Linux, cgroup version 2


def usable_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, limited by the container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _quota("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, -(-int(quota) // int(period))))
    return cores


def memory_bytes() -> int | None:
    """Memory of the machine, limited by the container's limit; None if the system does not report it."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    limit = _quota("memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def _quota(name: str) -> str:
    try:
        return (_QUOTAS / name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
