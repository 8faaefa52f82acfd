"""A person's own functions are found again by their names."""

from __future__ import annotations

import pytest

from visus.errors import UsageError
from visus.own_callables import callable_name, load_callable


def own(value: int) -> int:
    return value + 1


def test_a_function_is_found_again_by_its_name() -> None:
    assert load_callable(callable_name(own, "loss"), "loss") is own


def test_a_module_of_the_current_folder_is_found(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_here.py").write_text("def double(value):\n    return 2 * value\n")  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]
    assert load_callable("found_here:double", "loss")(4) == 8


def test_a_text_that_is_no_name_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        load_callable("focal", "loss")
    assert str(caught.value) == "loss must be a name such as mylosses:focal (module, colon, function), not 'focal'."
