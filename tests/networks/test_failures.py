"""Errors in a forward pass: the message names layer, input, line and remedy, in a summary and before a training; the remedy works."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.networks.failures import remedy_for
from visus.networks.trace import TraceError, trace
from visus.networks.trace.module_advice import module_advice
from visus.workbench.module_checks import check_module

IMAGE = (3, 32, 32)


class Small(nn.Module):
    """Convolutions, then a linear layer for images of another size; wrong in one place each."""

    def __init__(self, in_channels: int = 8, in_features: int = 400, way: str = "view") -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(in_channels, 16, 3))
        self.head = nn.Linear(in_features, 10)
        self.way = way

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        x = x.view(-1, 400) if self.way == "view" else x.flatten(1)
        return self.head(x)


def line_of(text: str) -> str:
    """File and line of a statement of ``Small.forward``."""
    lines, first = inspect.getsourcelines(Small.forward)
    return f"{__file__}, line {first + next(place for place, line in enumerate(lines) if text in line)}"


CASES: dict[str, tuple[Callable[[], Small], str]] = {
    "channels": (
        lambda: Small(in_channels=16),
        "features.3: Conv2d(16, 3) fails on an input of shape (8, 15, 15): RuntimeError: Given groups=1, weight of size "
        "[16, 16, 3, 3], expected input[1, 8, 15, 15] to have 16 channels, but got 8 channels instead, "
        f"at {line_of('self.features(x)')}. The layer takes 16 channels, and 8 come in: set its in_channels to 8, or change the "
        "layer before it.",
    ),
    "reshape": (
        Small,
        "Small fails on an input of shape (3, 32, 32): RuntimeError: shape '[-1, 400]' is invalid for input of size 2704, "
        f"at {line_of('x.view')}. A sample has 2,704 values here, and the reshape asks for rows of 400: use x.flatten(1), and "
        "give the next layer 2,704 inputs.",
    ),
    "features": (
        lambda: Small(way="flatten"),
        "head: Linear(10) fails on an input of shape (2704,): RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        f"(1x2704 and 400x10), at {line_of('self.head(x)')}. The layer takes 400 values, and 2,704 come in: "
        "use nn.Linear(2704, 10), or give another input shape.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_summary_names_layer_input_line_and_remedy(name: str) -> None:
    make, message = CASES[name]
    with pytest.raises(TraceError) as caught:
        trace(make(), IMAGE)
    assert str(caught.value) == message


def test_the_remedy_mends_the_module() -> None:
    assert trace(Small(in_features=2704, way="flatten"), IMAGE).output == (10,)


def test_the_check_before_a_training_names_them_too() -> None:
    with pytest.raises(UsageError) as caught:
        check_module(Small(in_channels=16), IMAGE, 10, "mynet:Small", 0)
    place = line_of("self.features(x)").replace(", line", " line")
    assert str(caught.value) == (
        "mynet:Small: this module cannot take an input of 2 x 3 x 32 x 32: RuntimeError: Given groups=1, weight of size "
        "[16, 16, 3, 3], expected input[2, 8, 15, 15] to have 16 channels, but got 8 channels instead, in features.3 (Conv2d), "
        f"at {place}. Its input is 2 x 8 x 15 x 15. The layer takes 16 channels, and 8 come in: set its in_channels to 8, or "
        "change the layer before it."
    )


@pytest.mark.parametrize(
    ("layer", "shape", "remedy"),
    [
        (
            nn.Linear(8, 3),
            (8, 4, 4),
            "The layer takes 8 values in the last dimension, and 4 come in: flatten or pool the map before it.",
        ),
        (nn.BatchNorm2d(8), (4, 5, 5), "The layer takes 8 channels, and 4 come in: set its num_features to 4."),
        (
            nn.Conv2d(4, 8, 7),
            (4, 5, 5),
            "The map is too small for this window here: give larger images, or use fewer strides and pools before it.",
        ),
        (nn.Unflatten(1, (3, 3)), (4, 5), None),
    ],
)
def test_a_remedy_follows_from_the_error_of_torch(layer: nn.Module, shape: tuple[int, ...], remedy: str | None) -> None:
    with pytest.raises(Exception) as caught:
        layer(torch.zeros(2, *shape))
    assert remedy_for(caught.value, layer, shape, num_samples=2) == remedy


def refusal(module: nn.Module, shape: tuple[int, ...] = IMAGE) -> str:
    with pytest.raises(UsageError) as caught:
        check_module(module, shape, 2, "mine", 0)
    return str(caught.value)


class Flattened(nn.Module):
    """Flattens the batch axis away."""

    def __init__(self, num_features: int = 8 * 32 * 32) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(num_features, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten())


def test_a_batch_that_is_flattened_away_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    remedy = "Use x.flatten(1), which keeps the samples apart"
    assert refusal(Flattened()).endswith(
        f" The batch axis was flattened away: the 16,384 values of 2 samples come in as one row. {remedy}."
    )
    assert refusal(Flattened(99)).endswith(f" {remedy}, and nn.Linear(8192, 2) after it.")
    costs = trace(Flattened(), IMAGE)
    (advice,) = module_advice(Flattened(), costs)
    assert (advice.kind, advice.text) == (
        "batch",
        "head: one sample passes, but a batch of 2 fails in this layer. The batch axis was flattened away: the 16,384 values of 2 samples "
        f"come in as one row. {remedy}.",
    )
    with pytest.raises(
        UsageError, match=r"is not known, for a batch of 4 fails: .* the 32,768 values of 4 samples come in as one row"
    ):
        costs.bytes_training(4)
    assert capfd.readouterr() == ("", "")  # no log of torch


class Doubled(nn.Module):
    """Changes a tensor in place that the backward pass needs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).sigmoid()
        z = y * y
        y *= 2
        return (y + z).mean((2, 3))


def test_the_memory_of_a_module_whose_backward_pass_fails_is_unknown_with_the_reason() -> None:
    with pytest.raises(UsageError) as caught:
        trace(Doubled(), IMAGE).bytes_training(2)
    text = str(caught.value)
    assert text.startswith(
        "the memory of this module is not known, for its backward pass fails: one of the variables needed "
    )
    assert text.endswith(". Change no tensor in place that a layer before used: y = y * 2 instead of y *= 2.")
    assert "Hint" not in text


class Asking(nn.Module):
    """Has a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor, meta: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3)) + meta


class Placed(nn.Module):
    """Has learned positions for one size."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, :2] + self.places).mean((2, 3))


def test_other_dtypes_inputs_and_sizes_have_their_own_remedy() -> None:
    conv = nn.Sequential(nn.Conv2d(3, 2, 32), nn.Flatten())
    assert refusal(conv.half()).endswith(
        " Its weights are float16: call .float() on the module; visus chooses the precision of a training itself (--precision)."
    )
    assert " Its weights are float64: call .float() on the module; " in refusal(conv.double())
    assert refusal(Asking()).endswith(
        " visus trains modules with one input: wrap the module in one that makes meta itself, or give meta a default."
    )
    assert refusal(Placed()).endswith(
        " If the module is made for one image size, as with learned positions, give that size: --img-size PX."
    )
