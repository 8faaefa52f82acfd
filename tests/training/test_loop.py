"""The loop: when it ends, what it refuses, what it tells."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import visus
from visus.data.batches import Batch
from visus.errors import TrainingError
from visus.networks import weights
from visus.training.events import EpochDone, Finished, Started, StepDone
from visus.training.loop import Training
from visus.training.optimizers import make_optimizer
from visus.training.recipe import Recipe
from visus.training.resolve import DataFacts, NetworkFacts, resolve
from visus.training.schedules import rate_factor
from visus.training.selection import SampleResults
from visus.training.weight_average import WeightAverage

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


class Broken(nn.Module):
    """Gives what is not a number from the given call in training mode on."""

    def __init__(self, from_call: int) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)
        self.calls, self.from_call = 0, from_call

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        out: torch.Tensor = self.layer(batch.flatten(1))
        return out * math.nan if self.training and self.calls >= self.from_call else out


def test_a_loss_that_is_not_a_number_stops_with_the_checkpoint_named(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        visus.train(squares, Broken(from_call=8), quick, output=tmp_path)
    folder = tmp_path / "squares"
    assert str(caught.value) == (
        f"the loss became nan in epoch 2, step 3 (learning rate 0.00625). The last good checkpoint is kept: "
        f"{folder / 'checkpoint' / 'last.safetensors'}. The best weights so far are those of epoch 1. "
        f"Train again with a lower learning rate (--lr 0.0025), with --clip-norm 1, or with --precision float32."
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


def test_results_hold_one_row_for_each_epoch_with_the_validation_of_the_averaged_weights(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    events: list[object] = []
    run = visus.train(squares, NETWORK, quick, output=tmp_path, on_event=events.append)
    rows = list(csv.DictReader((run.folder / "results.csv").read_text().splitlines()))
    told = [event.row for event in events if isinstance(event, EpochDone)]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == pytest.approx([row["val_loss"] for row in told], rel=1e-5)
    best = latest_within_one_standard_error(
        [row["val_accuracy"] for row in told], len(visus.open_data(squares).split("val"))
    )
    assert [event.best_epoch for event in events if isinstance(event, Finished)] == [best + 1]
    data = run.open_data()
    logits, labels = run.answers(data, "val"), torch.from_numpy(data.split("val").labels)
    smoothing = run.recipe.label_smoothing or 0.0
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert told[best]["val_loss"] == pytest.approx(float(expected), abs=1e-6)


def latest_within_one_standard_error(accuracies: list[float], num_samples: int) -> int:
    highest = max(accuracies)
    smoothed = (highest * num_samples + 1) / (num_samples + 2)
    bound = highest - (smoothed * (1 - smoothed) / num_samples) ** 0.5
    return max(epoch for epoch, accuracy in enumerate(accuracies) if accuracy >= bound)


@pytest.mark.parametrize(
    ("accuracies", "kept"), [([0.5, 0.9, 0.8], 3), ([0.5, 0.9, 0.7], 2), ([1.0, 0.9, 0.8], 1), ([0.6, 0.5, 1.0], 3)]
)
def test_the_latest_epoch_within_one_standard_error_of_the_best_is_kept(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accuracies: list[float], kept: int
) -> None:
    answers = iter(accuracies)
    events: list[object] = []
    monkeypatch.setattr(Training, "_validate", lambda self, size: (0.5, answered(next(answers))))
    recipe = quick.replace(progressive_resize="1", ema_decay=0.9)
    visus.train(squares, NETWORK, recipe, output=tmp_path, on_event=events.append)
    assert len(visus.open_data(squares).split("val")) == 10
    assert latest_within_one_standard_error(accuracies, 10) == kept - 1
    assert [event.best_epoch for event in events if isinstance(event, Finished)] == [kept]
    assert [event.is_best for event in events if isinstance(event, EpochDone)][kept:] == [False] * (3 - kept)


def answered(accuracy: float, loss: float = 1.0) -> SampleResults:
    """Ten answers, so many of them right."""
    return SampleResults(tuple(place < round(10 * accuracy) for place in range(10)), (loss,) * 10)


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [
        ([(0.4, 1.0), (0.5, 1.0), (0.4, 1.0)], 0),  # one more right may be chance
        ([(0.9, 1.0), (0.9, 1.0), (0.9, 1.0)], 3),  # five more are right, none is lost
        ([(0.4, 0.5), (0.3, 0.5), (0.3, 0.5)], 1),  # as many right, and all surer; then fewer
        ([(0.4, 1.5), (0.4, 1.5), (0.4, 1.5)], 0),
    ],
)
def test_weights_that_it_started_from_stay_unless_an_epoch_is_better_beyond_chance(
    epochs: list[tuple[float, float]],
    kept: int,
    squares: Path,
    quick: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = visus.network(NETWORK, (1, 8, 8), 3)
    weights.save(start, tmp_path / "start.safetensors")
    events = list[object]()
    told = iter([answered(0.4), *(answered(*each) for each in epochs)])
    monkeypatch.setattr(Training, "_validate", lambda self, size: (0.5, next(told)))
    monkeypatch.setattr(
        "visus.workbench.train.head_probe.is_more_often_right", lambda before, after: False
    )  # its own head stays
    run = visus.train(
        squares, NETWORK, quick, weights=tmp_path / "start.safetensors", output=tmp_path, on_event=events.append
    )
    assert [event.best_epoch for event in events if isinstance(event, Finished)] == [kept]
    best = weights.load(run.folder / "weights" / "best.safetensors")[0]
    assert all(torch.equal(best[name], value) for name, value in start.state_dict().items()) == (kept == 0)


def test_a_training_is_validated_at_the_size_of_its_steps_and_compared_at_the_full_one(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, events = list[float](), list[object]()
    accuracies = iter([0.9, 0.9, 0.5, 0.4])

    def validate(self: Training, size: float) -> tuple[float, SampleResults]:
        sizes.append(size)
        return 0.5, answered(next(accuracies))

    monkeypatch.setattr(Training, "_validate", validate)
    recipe = quick.replace(epochs=4, progressive_resize="0.5, 1", ema_decay=0.9)
    run = visus.train(squares, NETWORK, recipe, output=tmp_path, on_event=events.append)
    assert sizes == [0.5, 0.5, 1.0, 1.0]
    assert [event.best_epoch for event in events if isinstance(event, Finished)] == [4]
    rows = list(csv.DictReader((run.folder / "results.csv").read_text().splitlines()))
    assert [row["img_size"] for row in rows] == ["4", "4", "8", "8"]


def test_the_time_that_is_left_is_forecast_before_the_first_epoch_and_after_each(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    events = list[object]()
    visus.train(squares, NETWORK, quick, output=tmp_path, on_event=events.append)
    started = next(event for event in events if isinstance(event, Started))
    assert started.seconds_left > 0
    assert started.epochs_expected == 3
    left = [event.seconds_left for event in events if isinstance(event, EpochDone)]
    assert left[0] > left[1] > left[2] == 0


def test_an_epoch_that_the_time_limit_cut_counts_as_a_part(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, events = Training._take_step, list[object]()
    monkeypatch.setattr(Training, "_take_step", lambda self, batch: (time.sleep(0.3), step(self, batch))[1])
    visus.train(squares, NETWORK, quick.replace(time_limit_s=1.0), output=tmp_path, on_event=events.append)
    (end,) = (event for event in events if isinstance(event, Finished))
    started = next(event for event in events if isinstance(event, Started))
    num_steps = sum(isinstance(event, StepDone) for event in events)
    assert (end.reason, end.num_epochs) == ("time limit", 1)
    assert 0 < end.epochs_trained == num_steps / started.steps_per_epoch < 1


def test_progress_goes_from_nothing_to_all_in_equal_steps(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    events: list[object] = []
    visus.train(squares, NETWORK, quick, output=tmp_path, on_event=events.append)
    started = next(event for event in events if isinstance(event, Started))
    progress = [event.progress for event in events if isinstance(event, StepDone)]
    num_steps = started.num_epochs * started.steps_per_epoch
    assert progress == pytest.approx([step / num_steps for step in range(1, num_steps + 1)])


def test_a_time_limit_ends_the_schedule_with_the_time(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    events: list[object] = []
    visus.train(
        squares,
        NETWORK,
        quick.replace(epochs=100_000, time_limit_s=1.0, min_lr_ratio=0.0),
        output=tmp_path,
        on_event=events.append,
    )
    end = next(event for event in events if isinstance(event, Finished))
    rows = [event.row for event in events if isinstance(event, EpochDone)]
    assert end.reason == "time limit"
    assert 1.0 <= end.seconds < 5.0
    assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-4)
    assert max(row["learning_rate"] for row in rows) > 0.005


def test_early_stopping_ends_after_so_many_epochs_without_a_better_accuracy(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    events: list[object] = []
    frozen = quick.replace(epochs=50, learning_rate=1e-12, ema_decay=0.0, patience=4, weight_decay=0.0)
    visus.train(squares, "flatten, linear(classes)", frozen, output=tmp_path, on_event=events.append)
    end = next(event for event in events if isinstance(event, Finished))
    assert end.reason == "no better validation score"
    assert end.num_epochs == 1 + 4
    assert end.best_epoch == end.num_epochs, "of equal epochs the last is kept"


def test_balanced_class_weights_raise_the_recall_of_a_rare_class(tmp_path: Path, quick: Recipe) -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 10 == 0).astype(int)
    values = rng.normal(size=(300, 1, 8)).astype(np.float32) + labels[:, None, None] * 0.7
    np.savez(tmp_path / "rare.npz", x=values, y=labels)
    recipe = quick.replace(epochs=12, translate=0.0)
    plain, balanced = (
        visus.train(tmp_path / "rare.npz", "flatten, linear(classes)", recipe.replace(class_weights=kind), output=tmp_path)
        for kind in ("none", "balanced")
    )
    recalls = [run.scores.per_class[1].recall or 0.0 for run in (plain, balanced)]
    assert recalls[1] > recalls[0]


def test_weight_decay_leaves_biases_and_norms_alone() -> None:
    module = visus.network(NETWORK, (1, 8, 8), 3)
    groups = make_optimizer(
        module,
        resolve(Recipe(optimizer="adamw"), DataFacts(10, (1, 8, 8)), NetworkFacts()),
    ).param_groups
    assert [(group["weight_decay"], {each.ndim for each in group["params"]}) for group in groups] == [
        (0.5, {2, 4}),
        (0.0, {1}),
    ]


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
) -> tuple[Training, list[float]]:
    """A training, and one of its weights after each step."""
    seen: list[float] = []
    trainings: list[Training] = []
    average = Training._update_average

    def note(self: Training) -> None:
        seen.append(float(self.module.get_parameter("linear1.bias").detach()[0]))
        trainings[:] = [self]
        average(self)

    monkeypatch.setattr(Training, "_update_average", note)
    visus.train(squares, NETWORK, recipe, output=folder)
    return trainings[0], seen


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


def on_another_device(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> None:
    """Losses are left unread as on a device that is not to wait."""
    monkeypatch.setattr(Training, "is_async", True)
    monkeypatch.setattr("visus.training.loop.MAX_PENDING_STEPS", num_steps)


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


def test_sides_of_a_curriculum_take_equal_shares_of_the_training(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    take_step = Training._take_step

    def note(self: Training, batch: Batch) -> None:
        seen.append(batch.inputs.shape[-1])
        take_step(self, batch)

    monkeypatch.setattr(Training, "_take_step", note)
    visus.train(squares, NETWORK, quick.replace(progressive_resize="0.5, 0.75, 1"), output=tmp_path)
    assert seen == [4] * 5 + [6] * 5 + [8] * 5


def test_what_whitening_adds_is_trained_at_first_and_then_stays(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, list[float]]] = []
    average = Training._update_average

    def note(self: Training) -> None:
        bias = self.module.get_parameter("whiten1.bias")
        seen.append((bias.requires_grad, bias.detach().tolist()))
        average(self)

    monkeypatch.setattr(Training, "_update_average", note)
    for optimizer in ("muon", "adamw", "sgd"):
        seen.clear()
        text = "whiten(2), gelu, conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"
        visus.train(squares, text, quick.replace(optimizer=optimizer), output=tmp_path)
        trained = [is_trained for is_trained, _ in seen]
        assert trained == [True] * 6 + [False] * 9  # three eighths of 15 steps
        assert seen[0][1] != seen[5][1] == seen[14][1]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_learning_rate_rises_once_and_falls_to_zero(schedule: str) -> None:
    factors = [rate_factor(step / 200, schedule=schedule, warmup=0.25) for step in range(201)]
    assert factors[0] == 0
    assert factors[50] == 1
    assert factors[200] == pytest.approx(0, abs=1e-12)
    assert factors[:51] == sorted(factors[:51])
    assert factors[50:] == sorted(factors[50:], reverse=True)
