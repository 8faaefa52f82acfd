"""A person's own modules at the doors that need no data: what they print, how they are called, and what is said where their code fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import visus
from visus.errors import UsageError

from .conftest import Call

SOURCE = """
import torch
from torch import nn


class Chatty(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        print("made")
        self.linear = nn.Linear(48, num_classes)

    def forward(self, x):
        print("forward")
        return self.linear(x.flatten(1))


class Bare(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def failing(num_classes):
    raise RuntimeError("bad")


def misused(num_classes):
    return nn.Linear(num_classes, "wide")


def silent(num_classes):
    assert num_classes < 0


def greedy(num_classes, depth):
    return nn.Linear(num_classes, depth)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of a person's own in the current folder."""
    (tmp_path / "own_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    return tmp_path / "own_nets.py"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("words", [["summary"], ["diff", "flatten, linear(classes)"]])
def test_what_a_module_prints_is_kept_out_of_the_answer(visus_command: Call, words: list[str]) -> None:
    answer = visus_command(*words, "own_nets:Chatty", "--input", "3,4,4", "--classes", "5", "--json")
    facts = json.loads(answer.out)
    assert (answer.code, (facts.get("right") or facts)["num_parameters"]) == (0, 48 * 5 + 5)
    assert set(answer.err.splitlines()) == {"made", "forward"}


@pytest.mark.usefixtures("own")
def test_a_module_class_without_an_init_is_called_without_arguments() -> None:
    assert visus.summary("own_nets:Bare", (3, 4, 4), 5).output == (48,)


@pytest.mark.parametrize(
    ("name", "told", "line"),
    [
        ("failing", "RuntimeError: bad", 'raise RuntimeError("bad")'),
        ("silent", "AssertionError", "assert num_classes < 0"),
        ("misused", "TypeError: empty(): argument 'size'", 'return nn.Linear(num_classes, "wide")'),
    ],
)
def test_code_that_fails_is_told_from_wrong_arguments(own: Path, name: str, told: str, line: str) -> None:
    number = next(place for place, text in enumerate(SOURCE.splitlines(), 1) if text.strip() == line)
    with pytest.raises(UsageError) as caught:
        visus.summary(f"own_nets:{name}", (3, 4, 4), 5)
    said = str(caught.value)
    assert said.startswith(f"own_nets:{name}: the code of {name} failed with {told}")
    assert said.endswith(f", at {own} line {number}.")


@pytest.mark.usefixtures("own")
def test_a_callable_that_needs_more_is_refused_before_it_is_called() -> None:
    with pytest.raises(UsageError) as caught:
        visus.summary("own_nets:greedy", (3, 4, 4), 5)
    assert str(caught.value) == (
        "own_nets:greedy: greedy cannot be called with num_classes, input_shape or in_channels alone: "
        "missing a required argument: 'depth'."
    )
