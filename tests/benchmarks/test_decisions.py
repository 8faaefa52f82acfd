"""``benchmarks/decisions.py``: rows are found by name, and its tables hold the means of what they measured."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("decisions")
    for name in ("decisions", "decisions_answers", "decisions_training", "measuring"):
        sys.modules.pop(name, None)


def test_a_row_is_one_function_with_a_name(decisions: Any, tmp_path: Path) -> None:
    assert {"saliency-offset", "deletion-insertion", "calibration", "mirroring", "own-weights"} <= set(decisions.ROWS)

    @decisions.row("coins")
    def coins(setting: Any) -> list[Any]:
        """How often heads come up."""
        return [decisions.Figure("fair", "heads, share", share, seed) for seed, share in enumerate((0.4, 0.6))]

    tables = [each["coins"] for each in decisions.measured_rows(["coins"], decisions.Setting(tmp_path, tmp_path))]
    assert [len(each["figures"]) for each in tables] == [1, 2]  # after every figure, so that nothing measured is lost
    found = tables[-1]
    assert (found["says"], found["num_runs"], len(found["figures"])) == ("How often heads come up.", 2, 2)
    facts = {"command": "python benchmarks/decisions.py coins", **decisions.machine_facts(1), "rows": {"coins": found}}
    assert "| fair | heads, share | 0.5 | -0.7706 to 1.771 | 2 |" in decisions.markdown(facts)


def test_offsets_are_distances_from_the_centers(decisions: Any) -> None:
    line = np.interp(np.arange(12), [2.5, 5.5, 8.5], [0, 1, 2])
    assert decisions._offsets(line, [2.5, 5.5, 8.5]) == pytest.approx([0, 0, 0])
    assert decisions._offsets(line, [2.0, 5.5, 9.5]) == pytest.approx([0.5, 0, 1.0])
