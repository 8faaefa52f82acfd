"""The processor, and the cores and the memory that this process may use, within the limits of its container."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

_QUOTAS: Final = Path("/sys/fs/cgroup")  # Linux, cgroup version 2
_PROCESSORS: Final = Path("/proc/cpuinfo")  # Linux


def usable_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, limited by the container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _quota("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, -(-int(quota) // int(period))))
    return cores


def processor_name() -> str:
    """Name of the processor, as its maker writes it."""
    try:
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def processor_features() -> tuple[str, ...]:
    """Instruction sets of the processor, as Linux lists them, sorted; empty on other systems."""
    try:
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return tuple(sorted(match[1].split())) if match else ()


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
