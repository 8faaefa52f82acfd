"""Losses that are read together, as on a GPU, are those that are read one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.training.diverging_module import Broken

import visus
from visus.errors import TrainingError
from visus.training.recipe import Recipe
from visus.training.steps import TrainingSteps

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


def on_another_device(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Losses are left unread as on a device that is not to wait."""
    monkeypatch.setattr(TrainingSteps, "is_async", True)
    monkeypatch.setattr("visus.training.step_metrics.MAX_PENDING_STEPS", num_steps)


def test_losses_read_together_give_the_same_rows_and_the_same_weights(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = visus.train(squares, NETWORK, quick, output=tmp_path, name="near")
    on_another_device(monkeypatch, 4)
    far = visus.train(squares, NETWORK, quick, output=tmp_path, name="far")
    rows = [(run.folder / "results.csv").read_text().splitlines() for run in (near, far)]
    assert [row.split(",")[:6] for row in rows[0]] == [row.split(",")[:6] for row in rows[1]]
    assert (near.folder / "weights" / "last.safetensors").read_bytes()[-400:] == (
        far.folder / "weights" / "last.safetensors"
    ).read_bytes()[-400:]


@pytest.mark.parametrize("num_steps", [1, 4, 50])
def test_losses_read_together_still_refuse_before_anything_is_written(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int
) -> None:
    on_another_device(monkeypatch, num_steps)
    with pytest.raises(TrainingError) as caught:
        visus.train(squares, Broken(from_call=8), quick.replace(checkpoint_every_s=0.0), output=tmp_path)
    assert str(caught.value).startswith("the loss became nan in epoch 2, step 3 (learning rate 0.00")
    for file in (*(tmp_path / "squares" / "weights").iterdir(), tmp_path / "squares" / "checkpoint" / "last.safetensors"):
        values = safetensors.torch.load_file(file)
        assert all(torch.isfinite(value).all() for value in values.values() if value.is_floating_point())
