"""``visus.Training``: the loop over its events is the training, and leaving it, interrupting it or drawing random numbers in it is safe."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.levels import write_levels

import visus
from visus.errors import UsageError
from visus.events import EpochDone, Finished, Prepared, Scored, StepDone, Stopped
from visus.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, dropout(0.2), linear(classes)"
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("data"))


def weights_of(run: visus.Run) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.folder / "weights" / "last.safetensors")


def same(first: visus.Run, second: visus.Run) -> bool:
    one, two = weights_of(first), weights_of(second)
    return all(torch.equal(one[name], two[name]) for name in one)


def looped(file: Path, output: Path) -> visus.Training:
    return visus.Training(file, NETWORK, RECIPE, output=output, progress=False)


@pytest.fixture
def plain(file: Path, tmp_path: Path) -> visus.Run:
    return visus.train(file, NETWORK, RECIPE, output=tmp_path / "plain", progress=False)


def test_the_loop_is_the_training(file: Path, tmp_path: Path) -> None:
    visus.open_data(file, progress=False)  # decoded once, before either
    events: list[object] = []
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False, on_event=events.append)
    training = looped(file, tmp_path)
    own = list(training)
    assert [type(event) for event in own] == [type(event) for event in events]
    assert same(run, training.run)
    assert training.run.scores.num_samples == run.scores.num_samples
    assert repr(training) == f"Training({training.run.name}: done)"


def test_random_numbers_of_the_loop_do_not_change_those_of_the_training(
    file: Path, tmp_path: Path, plain: visus.Run
) -> None:
    torch.manual_seed(3)
    expected = [float(torch.rand(1)) for _ in range(5)]
    torch.manual_seed(3)
    training = looped(file, tmp_path)
    drawn = [float(torch.rand(1)) for event in training if isinstance(event, StepDone)]
    assert same(plain, training.run)
    assert drawn[:5] == expected


@pytest.mark.parametrize("place", [(1, 1), (0, 2), (2, 3)])
def test_a_loop_that_is_left_leaves_a_checkpoint_from_which_it_resumes_bit_for_bit(
    place: tuple[int, int], file: Path, tmp_path: Path, plain: visus.Run
) -> None:
    training = looped(file, tmp_path)
    for event in training:
        if isinstance(event, StepDone) and (event.epoch, event.step) == place:
            break
    assert same_but_not_scored(training.run)
    again = visus.Training.resume(training.run.folder, progress=False)
    steps = [event for event in again if isinstance(event, StepDone)]
    assert len(steps) == len([*range(3 * steps_per_epoch(plain))]) - place[0] * steps_per_epoch(plain) - place[1] - 1
    assert same(plain, again.run)


def steps_per_epoch(run: visus.Run) -> int:
    return len(run.open_data().split("train")) // RECIPE.batch_size  # type: ignore[operator]


def same_but_not_scored(run: visus.Run) -> bool:
    return not (run.folder / "scores.json").exists() and not (run.folder / "checkpoint" / "training.lock").exists()


def test_a_loop_that_is_left_before_the_first_step_leaves_nothing(file: Path, tmp_path: Path) -> None:
    training = looped(file, tmp_path)
    for event in training:
        if isinstance(event, Prepared):
            assert event.folder.is_dir()
            break
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        UsageError, match=re.escape("this training has no run yet. Loop over its events first: for event in training: ...")
    ):
        _ = training.run


def test_a_loop_that_an_error_ended_resumes_while_the_error_is_still_held(
    file: Path, tmp_path: Path, plain: visus.Run
) -> None:
    training = looped(file, tmp_path)

    def loop() -> None:
        for event in training:
            if isinstance(event, EpochDone):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as held:
        loop()
    assert held.value.__traceback__ is not None, "as a notebook holds the last error, and with it the loop"
    assert same(plain, visus.resume(training.run.folder, progress=False))


def test_the_events_are_asked_for_once(file: Path, tmp_path: Path) -> None:
    training = looped(file, tmp_path)
    iter(training)
    expected = "the events of this training were asked for before. Make another visus.Training, or go on with visus.Training.resume(folder)."
    with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
        iter(training)


def test_methods_are_answers(file: Path, tmp_path: Path) -> None:
    training = looped(file, tmp_path)
    seen: list[Any] = []
    for event in training:
        seen.append(event)
        if isinstance(event, EpochDone) and event.epoch == 0:
            training.keep()
            training.scale_learning_rate(0.1)
            training.save(tmp_path / "first.safetensors")
        if isinstance(event, EpochDone) and event.epoch == 1:
            training.finish()
    assert isinstance(seen[-1], Scored)
    assert [event.best_epoch for event in seen if isinstance(event, Finished)] == [1]
    assert len(training.run.history) == 2
    one, two = (row["learning_rate"] for row in training.run.history)
    assert two < 0.11 * one
    best = safetensors.torch.load_file(training.run.folder / "weights" / "best.safetensors")
    saved = safetensors.torch.load_file(tmp_path / "first.safetensors")
    assert all(torch.equal(best[name], saved[name]) for name in best)


def test_stop_ends_without_scores(file: Path, tmp_path: Path) -> None:
    training = looped(file, tmp_path)
    seen = []
    for event in training:
        seen.append(event)
        if isinstance(event, StepDone):
            training.stop()
    assert isinstance(seen[-1], Stopped)
    assert same_but_not_scored(training.run)


def test_ctrl_c_during_a_step_stops_after_it_and_says_how_to_go_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: visus.Run
) -> None:
    from visus.training.steps import TrainingSteps

    whole, presses = TrainingSteps.take, iter([False, False, True])
    before = signal.getsignal(signal.SIGINT)

    def take_step(self: TrainingSteps, *given: Any) -> Any:
        if next(presses, False):
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, *given)

    monkeypatch.setattr(TrainingSteps, "take", take_step)
    training = looped(file, tmp_path)
    seen = []

    def loop() -> None:
        for event in training:
            seen.append(event)
            assert signal.getsignal(signal.SIGINT) is before, "the body of the loop is interrupted as any other code"

    with pytest.raises(KeyboardInterrupt) as caught:
        loop()
    folder = training.run.folder
    assert str(caught.value) == f"stopped after a step; everything up to there is safe. next: visus.resume({str(folder)!r})"
    assert isinstance(seen[-1], Stopped)
    assert len([event for event in seen if isinstance(event, StepDone)]) == 3
    assert same(plain, visus.resume(folder, progress=False))


def test_the_body_of_the_loop_shows_its_own_progress(file: Path, tmp_path: Path) -> None:
    from visus.workbench.live_line import speaks

    assert all(speaks.get() for event in looped(file, tmp_path))


def test_memory_of_events_is_not_held(file: Path, tmp_path: Path) -> None:
    training = looped(file, tmp_path)
    events: Iterator[object] = iter(training)
    next(events)
    del events
    assert training._events is not None
    assert training._events() is None, "a loop that is left ends the training"
