"""What a training refuses, and the text of its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from tests.training.diverging_module import Broken

import visus
from visus.caller import called_by_command
from visus.errors import TrainingError
from visus.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


@pytest.mark.parametrize(
    ("caller", "remedy"),
    [
        (
            contextlib.nullcontext,
            'a lower learning rate, Recipe(learning_rate=0.0025), with Recipe(clip_norm=1), or with Recipe(precision="float32").',
        ),
        (called_by_command, "a lower learning rate (--lr 0.0025), with --clip-norm 1, or with --precision float32."),
    ],
)
def test_a_loss_that_is_not_a_number_stops_with_the_checkpoint_named(
    squares: Path, quick: Recipe, tmp_path: Path, caller: Callable[[], AbstractContextManager[None]], remedy: str
) -> None:
    with pytest.raises(TrainingError) as caught, caller():
        visus.train(squares, Broken(from_call=8), quick, output=tmp_path)
    folder = tmp_path / "squares"
    assert str(caught.value) == (
        f"the loss became nan in epoch 2, step 3 (learning rate 0.00625). The last good checkpoint is kept: "
        f"{folder / 'checkpoint' / 'last.safetensors'}. The best weights so far are those of epoch 1. "
        f"Train again with {remedy}"
    )
    assert (folder / "weights" / "best.safetensors").is_file()
    assert all(torch.isfinite(value).all() for value in visus.load(folder, network=Broken(0)).module.state_dict().values())


def test_a_loss_that_runs_away_stops_although_it_is_a_number(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        visus.train(
            squares,
            "flatten, linear(classes)",
            quick.replace(epochs=40, optimizer="sgd", learning_rate=100.0, momentum=0.0),
            output=tmp_path,
        )
    assert "the loss diverged in epoch" in str(caught.value)
    assert "and guessing has 1.1" in str(caught.value)
