"""The moving average of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import visus
from visus.training.checkpoints import Position
from visus.training.loop import TrainingLoop
from visus.training.recipe import Recipe
from visus.training.steps import TrainingSteps
from visus.training.weight_average import WeightAverage

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


def test_average_forgets_its_start_and_then_follows_slowly() -> None:
    module = nn.Linear(1, 1)
    average = WeightAverage(module)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.module.weight.data.zero_()
    average.update(0.1)
    assert float(average.module.weight) == pytest.approx(0.9)
    average.update(0.99)
    assert float(average.module.weight) == pytest.approx(0.9 + 0.01 * 0.1)


def averaged_by_hand(
    squares: Path, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainingLoop, list[float]]:
    """A training, and one of its weights after each step."""
    seen: list[float] = []
    loops: list[TrainingLoop] = []
    begin = TrainingLoop.__post_init__
    average = TrainingSteps._update_average

    def note(self: TrainingSteps, at: Position) -> None:
        seen.append(float(self.module.get_parameter("linear1.bias").detach()[0]))
        average(self, at)

    def begun(self: TrainingLoop) -> None:
        begin(self)
        loops.append(self)

    monkeypatch.setattr(TrainingSteps, "_update_average", note)
    monkeypatch.setattr(TrainingLoop, "__post_init__", begun)
    visus.train(squares, NETWORK, recipe, output=folder)
    return loops[0], seen


def test_the_tail_averages_the_last_steps_alone(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 steps and a horizon of a tenth: an average over 1.5 steps that begins with step 11, three horizons before the end."""
    recipe = quick.replace(ema_decay=0.0, final_ema=0.1)
    training, seen = averaged_by_hand(squares, recipe, tmp_path, monkeypatch)
    assert len(seen) == 15
    expected = seen[10]
    for value in seen[11:]:
        expected += (value - expected) / 1.5
    assert float(training.scored_module.get_parameter("linear1.bias").detach()[0]) == pytest.approx(expected, abs=1e-6)
    assert (training.position.num_averaged, training.scored_module is training.module) == (5, False)


def test_before_the_tail_the_network_itself_is_scored(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = quick.replace(ema_decay=0.0, final_ema=0.01)
    training, seen = averaged_by_hand(squares, recipe, tmp_path, monkeypatch)
    assert training.position.num_averaged == 1
    assert float(training.scored_module.get_parameter("linear1.bias").detach()[0]) == seen[-1]
