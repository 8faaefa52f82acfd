"""The training loop: when it ends, which epoch it keeps, what it reports."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import visus
from visus.networks import weights
from visus.training.events import EpochDone, Finished, Started, StepDone
from visus.training.recipe import Recipe
from visus.training.selection import SampleResults
from visus.training.steps import TrainingSteps
from visus.training.validation import Validation

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"


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
    monkeypatch.setattr(Validation, "validate", lambda self, module, size: (0.5, answered(next(answers))))
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
    monkeypatch.setattr(Validation, "validate", lambda self, module, size: (0.5, next(told)))
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

    def validate(self: Validation, module: nn.Module, size: float) -> tuple[float, SampleResults]:
        sizes.append(size)
        return 0.5, answered(next(accuracies))

    monkeypatch.setattr(Validation, "validate", validate)
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


@pytest.mark.long
def test_an_epoch_that_the_time_limit_cut_counts_as_a_part(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, events = TrainingSteps.take, list[object]()
    monkeypatch.setattr(TrainingSteps, "take", lambda *given: (time.sleep(0.3), step(*given))[1])
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.parametrize("patience", [None, 1])
def test_a_finished_training_that_is_resumed_times_nothing(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None
) -> None:
    accuracies = iter([0.9, 0.2, 0.2])
    if patience:
        monkeypatch.setattr(Validation, "validate", lambda self, module, size: (0.5, answered(next(accuracies))))
    recipe = quick.replace(patience=patience, progressive_resize="1", ema_decay=0.0, final_ema=0.0, optimizer="adamw")
    run = visus.train(squares, NETWORK, recipe, output=tmp_path, progress=False)
    events = list[object]()
    monkeypatch.setattr("visus.training.loop.measure_step_times", _refused)
    visus.resume(run.folder, on_event=events.append, progress=False)
    (started,) = (event for event in events if isinstance(event, Started))
    assert started.is_over
    assert started.seconds_left == 0
    assert not any(isinstance(event, StepDone) for event in events)


def _refused(*_: object, **__: object) -> None:
    raise AssertionError("a step was timed")
