"""A person's own functions are found again by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from visus.errors import UsageError
from visus.own_callables import FunctionName, load_function


def own(value: int) -> int:
    return value + 1


class Multiply:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return self.factor * value

    def twice(self, value: int) -> int:
        return 2 * self(value)


def test_a_function_is_found_again_by_its_name() -> None:
    assert FunctionName.of(own) == f"{__name__}:own"
    assert load_function(FunctionName.of(own)) is own


def test_objects_that_no_name_leads_to_have_names_of_their_own() -> None:
    one, other = (lambda value: value), (lambda value: -value)
    names = [FunctionName.of(each) for each in (one, other, one)]
    assert names[0] == names[2] != names[1]
    assert [load_function(name)(1) for name in names] == [1, -1, 1]
    first, second = Multiply(2), Multiply(3)
    kept = [FunctionName.of(each) for each in (first, second, first.twice, second.twice)]
    assert kept[:2] == [f"{__name__}:<Multiply>", f"{__name__}:<Multiply>.2"]
    assert [load_function(name)(5) for name in kept] == [10, 15, 20, 30]


def test_a_module_of_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_here.py").write_text("def double(value):\n    return 2 * value\n")
    monkeypatch.chdir(tmp_path)
    assert load_function("found_here:double")(4) == 8


def test_a_class_by_name_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError) as caught:
        load_function("torch.nn:CrossEntropyLoss")
    assert str(caught.value) == (
        "torch.nn:CrossEntropyLoss: CrossEntropyLoss is a class, and a function is needed. Make an instance in a module of your own, such as "
        "loss = CrossEntropyLoss(), and name that."
    )
