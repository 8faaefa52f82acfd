"""``benchmarks/class_note.py`` and ``docs/class_note.md``: what is computed without a training is on the page as the script writes it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "class_note.md").read_text("utf-8")
COMPUTED = (
    "dense_layers_take_memory", "kernels_have_their_size", "stacks_narrow_and_deepen", "channels_must_be_worked_out",
)  # fmt: skip


@pytest.fixture
def class_note(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("class_note")
    sys.modules.pop("class_note", None)


@pytest.mark.parametrize("name", COMPUTED)
def test_page_has_what_the_script_computes(class_note: Any, name: str, tmp_path: Path) -> None:
    claim = getattr(class_note, name)(class_note.Bench(tmp_path, None, None, epochs=1, tries=50))
    number = [each.__name__ for each in class_note.CLAIMS].index(name) + 1
    assert f"| {number} | {claim.says} | {claim.verdict} |" in PAGE
    assert "\n\n".join([f"## {number}. {claim.says}", f"**{claim.verdict}**", *claim.measured]) in PAGE


def test_sections_and_the_table_have_the_same_verdicts() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \| (.*) \|$", PAGE, re.M)
    assert len(rows) == 14
    for number, says, verdict in rows:
        assert f"## {number}. {says}\n\n**{verdict}**\n" in PAGE
