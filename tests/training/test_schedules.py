"""Learning rates and input sizes over a training."""

from __future__ import annotations

from pathlib import Path

import pytest

import visus
from visus.data.batches import Batch
from visus.training.checkpoints import Position
from visus.training.events import StepDivided
from visus.training.recipe import Recipe
from visus.training.schedules import rate_factor
from visus.training.steps import TrainingSteps

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_learning_rate_rises_once_and_falls_to_zero(schedule: str) -> None:
    factors = [rate_factor(step / 200, schedule=schedule, warmup=0.25) for step in range(201)]
    assert factors[0] == 0
    assert factors[50] == 1
    assert factors[200] == pytest.approx(0, abs=1e-12)
    assert factors[:51] == sorted(factors[:51])
    assert factors[50:] == sorted(factors[50:], reverse=True)


def test_sides_of_a_curriculum_take_equal_shares_of_the_training(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    take_step = TrainingSteps.take

    def note(self: TrainingSteps, batch: Batch, at: Position) -> StepDivided | None:
        seen.append(batch.inputs.shape[-1])
        return take_step(self, batch, at)

    monkeypatch.setattr(TrainingSteps, "take", note)
    visus.train(squares, NETWORK, quick.replace(progressive_resize="0.5, 0.75, 1"), output=tmp_path)
    assert seen == [4] * 5 + [6] * 5 + [8] * 5
