"""What every test shares: a cache of its own, one thread, the Hypothesis profile, real data where it is at hand."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.bundles import bundle, forge
from tests.bundles_of_tasks import shipped
from tests.commands import other_photos, photos, run, visus_command

__all__ = ["bundle", "forge", "other_photos", "photos", "run", "shipped", "visus_command"]  # fixtures

# Set before any test imports torch or matplotlib, so that processes started by tests inherit them too.
os.environ["VISUS_KERNELS"] = (
    "off"  # a process that trains would compile them anew for each cache folder; their own tests switch them on
)
os.environ["VISUS_CACHE"] = tempfile.mkdtemp(prefix="visus-test-cache-")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
atexit.register(shutil.rmtree, os.environ["VISUS_CACHE"], ignore_errors=True)

# VISUS_EXAMPLES asks for more examples of each law than the default run has time for.
settings.register_profile("visus", deadline=None, derandomize=True, max_examples=int(os.environ.get("VISUS_EXAMPLES", "30")))
settings.load_profile("visus")

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """One thread, where torch is loaded at all, so that tests side by side do not crowd each other."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


_operators: list[Any] = []


@pytest.fixture(autouse=True)
def _operators_keep_their_addresses() -> None:
    """Scripting in one test does not fail by an operator that was replaced in another.

    ``torch.jit.script`` knows an operator by the address of its object. Where a library replaces one
    (``torch.compile`` loads such a library), the old address stays in PyTorch's table, and an attribute of a
    module that Python puts there is then taken for the operator.
    """
    builtins: Any = sys.modules.get("torch.jit._builtins")
    if builtins is None or _operators:
        return
    register = builtins._register_builtin

    def register_and_keep(operator: Any, name: str) -> None:
        _operators.append(operator)
        register(operator, name)

    _operators.append(register)
    builtins._register_builtin = register_and_keep


@pytest.fixture(autouse=True)
def _progress_is_shown() -> None:
    """Progress in Python is shown, whatever a command in an earlier test has set."""
    live_line = sys.modules.get("visus.workbench.live_line")
    if live_line is not None:
        live_line.speaks.set(True)


@pytest.fixture
def light_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings without the parts of their end that take most of the time of a tiny one: maps of what an answer rests on, and drawn images.

    For tests of what comes before. What those parts hold is the matter of tests/examine and of ``tests/workbench/test_report_measures.py``.
    """
    from visus.errors import VisusError
    from visus.workbench.report import measures as report_measures
    from visus.workbench.train import run_files

    def left_out(*_: Any) -> None:
        raise VisusError("left out in this test.")

    monkeypatch.setattr(report_measures, "_saliencies", left_out)
    for name in ("draw_confusion", "draw_curves"):
        monkeypatch.setattr(run_files, name, lambda *_: None)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Gives the path of a real dataset by its name, or skips the test with the reason where it is absent.

    ``VISUS_REAL_DATA`` names the folder of datasets; without it, ``../shared/data`` beside the repository is tried.
    """
    folder = Path(os.environ.get("VISUS_REAL_DATA") or _BESIDE)

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"needs the real dataset {name}: VISUS_REAL_DATA names no folder that has it")
        return path

    return find


@pytest.fixture(scope="session")
def highest_total() -> Callable[[Callable[[], Any]], int]:
    """``highest_total(work)``: the highest running total of the CPU allocator's records while ``work`` runs, in bytes."""

    def measure(work: Callable[[], Any]) -> int:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
            work()
        events = [event for event in records.profiler.kineto_results.events() if event.name() == "[memory]"]
        total = highest = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            total += event.nbytes()
            highest = max(highest, total)
        return highest

    return measure
