"""Cores and memory that a process may use; containers that are not here are played."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from visus import limits
from visus.limits import memory_bytes, usable_cores


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a container's quotas, on a machine of eight cores."""
    monkeypatch.setattr(limits, "_QUOTAS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def test_this_machine_has_a_core_and_some_memory() -> None:
    assert usable_cores() >= 1
    assert (memory_bytes() or 1) > 0


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("1000 100000", 1), ("9900000 100000", 8), ("max 100000", 8)]
)
def test_a_containers_quota_limits_cores(container: Path, quota: str, cores: int) -> None:
    (container / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores() == cores


def test_a_containers_limit_limits_memory(container: Path) -> None:
    whole = memory_bytes()
    assert usable_cores() == 8  # no container
    (container / "memory.max").write_text("1000000\n")
    assert memory_bytes() == (1_000_000 if whole is not None else None)
    (container / "memory.max").write_text("max\n")
    assert memory_bytes() == whole


def test_a_system_without_affinity_is_asked_for_all_its_cores(container: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_the_processor_is_read_as_its_maker_and_linux_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nmodel name\t: Fast (R) 9000  \nflags\t\t: sse2 avx2 fma\n\nprocessor\t: 1\n")
    monkeypatch.setattr(limits, "_PROCESSORS", listed)
    assert (limits.processor_name(), limits.processor_features()) == ("Fast (R) 9000", ("avx2", "fma", "sse2"))
    monkeypatch.setattr(limits, "_PROCESSORS", tmp_path / "none")
    assert limits.processor_features() == ()
    assert limits.processor_name()
