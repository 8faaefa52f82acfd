"""A person's own functions are found again by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from visus.own_callables import FunctionName, load_function


def own(value: int) -> int:
    return value + 1


def test_a_function_is_found_again_by_its_name() -> None:
    assert FunctionName.of(own) == f"{__name__}:own"
    assert load_function(FunctionName.of(own)) is own


def test_a_module_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_here.py").write_text("def double(value):\n    return 2 * value\n")
    monkeypatch.chdir(tmp_path)
    assert load_function("found_here:double")(4) == 8
