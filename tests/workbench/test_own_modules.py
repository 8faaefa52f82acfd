"""A person's own modules in the commands that need no data: what they print, how they are called, and what is said where their code fails."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands import Call
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import visus
from visus.errors import UsageError

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


class Silent(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(48, num_classes)

    def forward(self, x):
        self.linear(x.flatten(1))


class Rowwise(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.linear(x)


class Early(nn.Module):
    def __init__(self, num_classes):
        self.linear = nn.Linear(48, num_classes)


def failing(num_classes):
    raise RuntimeError("bad")


def misused(num_classes):
    return nn.Linear(num_classes, "wide")


def silent(num_classes):
    assert num_classes < 0


def greedy(num_classes, depth):
    return nn.Linear(num_classes, depth)


def differing(n_classes):
    return nn.Linear(4, n_classes)
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
def test_code_that_fails_is_reported_from_wrong_arguments(own: Path, name: str, told: str, line: str) -> None:
    number = next(place for place, text in enumerate(SOURCE.splitlines(), 1) if text.strip() == line)
    with pytest.raises(UsageError) as caught:
        visus.summary(f"own_nets:{name}", (3, 4, 4), 5)
    said = str(caught.value)
    assert said.startswith(f"own_nets:{name}: the code of {name} failed with {told}")
    assert said.endswith(f", at {own} line {number}.")


def test_layers_before_the_init_of_the_module_are_told_to_come_after_it(own: Path) -> None:
    number = next(place for place, text in enumerate(SOURCE.splitlines(), 1) if text == "class Early(nn.Module):") + 2
    with pytest.raises(UsageError) as caught:
        visus.summary("own_nets:Early", (3, 4, 4), 5)
    assert str(caught.value) == (
        "own_nets:Early: the code of Early failed with AttributeError: cannot assign module before Module.__init__() call, "
        f"at {own} line {number}. Call super().__init__() first."
    )


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("words", [["summary"], ["train", "-m"]])
def test_a_file_with_a_class_is_answered_with_the_name_of_the_module(visus_command: Call, words: list[str]) -> None:
    assert visus_command(*words, "own_nets.py:Chatty").err.splitlines()[-1] == (
        "error: own_nets.py:Chatty: a class or function of a Python module is written with a colon: own_nets:Chatty."
    )


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "warning"),
    [
        (
            "Silent",
            "forward returns no tensor that depends on the input, and a training needs one number for each class. End forward with return.",
        ),
        ("Rowwise", "the network returns 3 x 4 x 5 for a sample, and a training needs 5: one number for each class."),
        ("Chatty", ""),
    ],
)
def test_a_module_without_a_number_for_each_class_is_warned_of(visus_command: Call, name: str, warning: str) -> None:
    answer = visus_command("summary", f"own_nets:{name}", "--input", "3,4,4", "--classes", "5")
    lines = [line for line in answer.err.splitlines() if line.startswith("warning")]
    assert (answer.code, lines) == (0, [f"warning: {warning}"] if warning else [])


@pytest.mark.usefixtures("own")
def test_a_callable_that_needs_more_is_refused_before_it_is_called() -> None:
    with pytest.raises(UsageError) as caught:
        visus.summary("own_nets:greedy", (3, 4, 4), 5)
    assert str(caught.value) == (
        "own_nets:greedy: greedy cannot be called with num_classes, input_shape or in_channels alone: "
        "missing a required argument: 'depth'. Write a function in own_nets that makes the network, and name it instead (own_nets:make): "
        "def make(num_classes): return greedy(num_classes=num_classes, depth=...)."
    )


@pytest.mark.usefixtures("own")
def test_an_argument_with_another_usual_name_is_to_be_renamed() -> None:
    with pytest.raises(UsageError, match=r"missing a required argument: 'n_classes'\. Rename n_classes to num_classes\.$"):
        visus.summary("own_nets:differing", (3, 4, 4), 5)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "ask", [lambda text: visus.summary(text, (3, 4, 4), 5), lambda text: visus.network(text, (3, 4, 4), 5)]
)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "own_nets:greedy(depth=2)",
            "a callable is named without arguments: own_nets:greedy. For other arguments, write a function in own_nets that makes the network, "
            "and name it instead (own_nets:make): def make(num_classes): return greedy(num_classes, depth=2).",
        ),
        (
            "own_nets",
            "a Python file (own_nets.py): write own_nets:CLASS (its classes: Chatty, Bare, Silent, Rowwise, Early).",
        ),
    ],
)
def test_the_name_of_a_file_or_a_call_is_answered_with_the_right_form(text: str, said: str, ask: Any) -> None:
    with pytest.raises(UsageError) as caught:
        ask(text)
    assert str(caught.value) == f"{text}: {said}"


def test_a_class_in_place_of_an_instance_and_a_tensor_in_place_of_a_shape_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        visus.summary(nn.ReLU, (3, 4, 4))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "a network is a module, a design, its text, or the name of a callable (package.module:callable), and not the class ReLU. "
        "Give an instance: call it."
    )
    with pytest.raises(UsageError) as caught:
        visus.summary(nn.ReLU(), torch.zeros(2, 3, 4, 4))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "the input shape is (channels, *lengths), such as (3, 224, 224), and not a Tensor of shape (2, 3, 4, 4); "
        "the shape of one of its samples is (3, 4, 4)."
    )


class _Reader(nn.Module):
    """A small network, whose forward is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.conv(x).relu().mean((2, 3)))
        return out


class _WithoutGradient(_Reader):
    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


class _InPlace(_Reader):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mul_(2))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (_WithoutGradient(), "RuntimeError: element 0 of tensors does not require grad"),
        (_InPlace(), "RuntimeError: a leaf Variable"),
    ],
)
def test_a_module_that_lets_no_gradient_through_is_reported_in_one_sentence(module: nn.Module, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        visus.look(module, np.zeros((1, 8, 8), np.float32))
    assert str(caught.value).startswith(f"{type(module).__qualname__} cannot be analyzed: {said}")
    assert str(caught.value).endswith(". A look needs an output of numbers with a gradient to the input.")


def test_a_module_without_numbers_is_not_looked_into() -> None:
    with pytest.raises(UsageError) as caught:
        visus.look(_Reader().to("meta"), np.zeros((1, 8, 8), np.float32))
    assert str(caught.value) == "this module is on the device meta and has no values. Load its weights first."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"network": _Reader},
            "a network is a module, a design, its text, or the name of a callable (package.module:callable), and not the class _Reader. "
            "Give an instance: call it.",
        ),
        (
            {"network": 3},
            "a network is a module, a design, its text, or the name of a callable (package.module:callable), and not an int. Give one of these.",
        ),
        ({"recipe": {"epochs": 1}}, "the recipe must be a visus.Recipe, and not a dict. Write visus.Recipe(epochs=3)."),
        (
            {"data": ["photos"]},
            "the data must be one folder or file, not a list. For arrays: visus.open_data(x=x, y=y). For a table of pandas: visus.open_data(table). For a dataset of PyTorch or Hugging Face: "
            "visus.open_data(dataset).",
        ),
        (
            {"data": DataLoader(TensorDataset(torch.zeros(2, 4), torch.zeros(2)))},
            "the data must be one folder or file, not a DataLoader. For arrays: visus.open_data(x=x, y=y). For a table of pandas: visus.open_data(table). For a dataset of PyTorch or Hugging Face: "
            "visus.open_data(loader.dataset).",
        ),
    ],
)
def test_what_is_no_network_recipe_or_data_is_reported(
    given: dict[str, Any], message: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        visus.train(**{"data": photos, "output": tmp_path} | given)
    assert str(caught.value) == message


def test_a_number_is_not_taken_for_files(run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        list(visus.load(run).predict(5))  # type: ignore[arg-type]
    assert (
        str(caught.value)
        == "files are paths, arrays or images of Pillow, and not a int. Give one of these, or a list of them."
    )


class Watched(nn.Module):
    """Notes for each pass with gradients whether its convolution is computed where PyTorch is right (``networks.float32_layers``)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = OwnConv(1, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)
        self.seen: list[bool] = []

    def __deepcopy__(self, memo: Any) -> Watched:
        twin = Watched()
        twin.conv, twin.linear, twin.seen = (*copy.deepcopy((self.conv, self.linear), memo), self.seen)
        return twin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (
            torch.is_grad_enabled() and self.training and type(x) is torch.Tensor and not x.is_meta
        ):  # not one without numbers
            self.seen.append("forward" in self.conv.__dict__)
        return self.linear(self.conv(x).mean((2, 3)))


class OwnConv(nn.Conv2d):
    """A person's own convolution."""


@pytest.mark.long
def test_every_pass_with_gradients_is_made_where_pytorch_is_right_and_the_module_is_as_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 90, (60, 8, 8)).astype(np.uint8) + (80 * (np.arange(60) % 2)).astype(np.uint8)[:, None, None]
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(60) % 2)
    module = Watched()
    recipe = visus.Recipe(epochs=1, batch_size=16, precision="bfloat16", device="cpu")
    visus.train(tmp_path / "data.npz", module, recipe, output=tmp_path, progress=False)
    assert len(module.seen) >= 4  # the trial before the run, the guess of the time, the steps
    assert all(module.seen)
    assert "forward" not in module.conv.__dict__
