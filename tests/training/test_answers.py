"""Answers to events: what each does to the training, what a resumed one knows of them, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import visus
from visus.errors import StorageError, UsageError
from visus.events import (
    Answered,
    CheckpointWritten,
    EpochDone,
    Finish,
    Finished,
    KeepWeights,
    SaveWeights,
    ScaleLearningRate,
    Scored,
    Started,
    StepDone,
    Stop,
    Stopped,
)
from visus.progress import Progress
from visus.training import loop
from visus.training.answers import Answer, from_text, to_text
from visus.training.checkpoints import read_position
from visus.training.inbox import Inbox
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, dropout(0.2), globalpool, linear(classes)"
InProcesses = Callable[..., list[Any]]


def weights_of(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights" / f"{which}.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def rates(run: visus.Run) -> list[float]:
    return [row["learning_rate"] for row in run.history]


factors = st.floats(1e-3, 1e3)
answers = st.lists(
    st.one_of(
        st.just(Stop()),
        st.just(Finish()),
        st.just(KeepWeights()),
        st.builds(ScaleLearningRate, factors),
        st.just(SaveWeights("a.safetensors")),
    )
)


@given(answers)
def test_answers_survive_their_text(given: list[Answer]) -> None:
    assert from_text(to_text(given)) == given


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleLearningRate(0), "the factor of a learning rate must be a number above 0, such as 0.5, and not 0."),
        (
            lambda: ScaleLearningRate(float("nan")),
            "the factor of a learning rate must be a number above 0, such as 0.5, and not nan.",
        ),
        (
            lambda: ScaleLearningRate(True),
            "the factor of a learning rate must be a number above 0, such as 0.5, and not True.",
        ),
        (
            lambda: SaveWeights("."),
            "weights are saved to a file, such as 'middle.safetensors', and not to the folder '.'.",
        ),
        (
            lambda: SaveWeights("a/b.pt"),
            "weights are saved as a safetensors file, and not as 'b.pt'. Name it b.safetensors.",
        ),
        (
            lambda: Inbox().put_returned(Stop),
            "on_event returned the class Stop. Return an answer: visus.events.Stop(...).",
        ),
        (
            lambda: Inbox().put_returned([ScaleLearningRate(0.5), Stop]),
            "on_event returned the class Stop. Return an answer: visus.events.Stop(...).",
        ),
        (
            lambda: Inbox().put_returned([Stop(), "stop"]),
            "on_event returned answers and 'stop' in one list. Return an answer, a list of answers, or None.",
        ),
        (
            lambda: put_at(Finished("all epochs", 1, 1, 1.0, 1.0), Stop()),
            "this training is over, so Stop comes too late. Answer an earlier event.",
        ),
        (
            lambda: put_after(Finished("all epochs", 1, 1, 1.0, 1.0), Stop()),
            "this training is over, so Stop comes too late. Answer an earlier event.",
        ),
        (
            lambda: put_after(Stopped(Path("last"), 0, 1), Finish()),
            "this training is over, so Finish comes too late. Answer an earlier event.",
        ),
        (
            lambda: put_at(StepDone(0, 0, 1.0, 0.5, 0.1, 1.0, 1.0), KeepWeights()),
            "KeepWeights answers EpochDone alone, and this is an answer to StepDone. Use SaveWeights for a file.",
        ),
    ],
)
def test_a_wrong_answer_is_refused_in_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make()


def put_at(event: object, answer: Answer) -> None:
    inbox = Inbox()
    inbox.event = event
    inbox.put(answer)


def put_after(event: object, answer: Answer) -> None:
    """Answer an event that follows this one."""
    inbox = Inbox()
    for each in (event, Progress("writing the report", 0)):
        inbox.event = each
    inbox.put(answer)


def test_a_stopped_training_may_be_stopped_again() -> None:
    put_after(Stopped(Path("last"), 0, 1), Stop())


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_a_factor_is_any_real_number(number: Any) -> None:
    answer = ScaleLearningRate(number)
    assert answer == ScaleLearningRate(0.5)
    assert from_text(to_text([answer])) == [answer]


def test_an_answer_to_the_last_event_is_refused_and_the_run_stays(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.train(
            squares,
            NETWORK,
            quick,
            output=tmp_path,
            progress=False,
            on_event=lambda event: Stop() if isinstance(event, Scored) else None,
        )
    assert str(caught.value) == "this training is over, so Stop comes too late. Answer an earlier event."
    assert visus.load(tmp_path / "squares").scores.num_samples == 24


def test_a_late_answer_does_not_remove_a_run_without_steps(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    first = visus.train(squares, NETWORK, quick, output=tmp_path, name="first", progress=False)
    with pytest.raises(UsageError):
        visus.train(
            squares,
            None,
            Recipe(epochs=0, device="cpu"),
            weights=first.folder,
            output=tmp_path,
            progress=False,
            on_event=lambda event: Stop() if isinstance(event, Finished) else None,
        )
    assert visus.resume(tmp_path / "squares", progress=False).scores.num_samples == 24


def unwritable(folder: Path) -> Path:
    """A file below a file."""
    (folder / "taken").touch()
    return folder / "taken" / "middle.safetensors"


def test_weights_that_cannot_be_saved_are_refused_and_the_run_goes_on_bit_for_bit(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    file = unwritable(tmp_path)
    plain = visus.train(squares, NETWORK, quick, output=tmp_path, name="plain", progress=False)
    with pytest.raises(StorageError) as caught:
        visus.train(
            squares,
            NETWORK,
            quick,
            output=tmp_path,
            progress=False,
            on_event=lambda event: SaveWeights(file) if isinstance(event, StepDone) and event.epoch == 1 else None,
        )
    assert str(caught.value) == f"{file}: weights cannot be saved here: File exists. Choose a folder that can be written."
    run = visus.resume(tmp_path / "squares", progress=False)
    assert same(weights_of(run.folder), weights_of(plain.folder))


def test_the_body_of_a_loop_may_save_the_weights_elsewhere(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    file = unwritable(tmp_path)
    training = visus.Training(squares, NETWORK, quick, output=tmp_path, progress=False)
    for event in training:
        if isinstance(event, EpochDone) and event.epoch == 0:
            with pytest.raises(StorageError):
                training.save(file)
            training.save(tmp_path / "other.safetensors")
    assert training.run.scores.num_samples == 24
    assert (tmp_path / "other.safetensors").is_file()


def test_a_full_disk_while_an_answer_saves_weights_leaves_a_checkpoint(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = visus.train(squares, NETWORK, quick, output=tmp_path, name="plain", progress=False)

    def full(*_: object) -> None:
        raise StorageError("this file could not be written: no space.", where="a.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(loop.weights, "save", full)
        patch.setattr(RunFolder, "write_weights", lambda *_: None)
        with pytest.raises(StorageError) as caught:
            visus.train(
                squares,
                NETWORK,
                quick,
                output=tmp_path,
                progress=False,
                on_event=lambda event: (
                    SaveWeights(tmp_path / "a.safetensors") if isinstance(event, StepDone) and event.epoch == 1 else None
                ),
            )
    assert str(caught.value) == (
        "a.safetensors: this file could not be written: no space. The training stopped here; continue with: "
        f"visus.resume({str(tmp_path / 'squares')!r})"
    )
    at = read_position(tmp_path / "squares" / "checkpoint" / "last.safetensors")
    assert (at.epoch, at.step) == (1, 1)
    run = visus.resume(tmp_path / "squares", progress=False)
    assert same(weights_of(run.folder), weights_of(plain.folder))


def test_values_that_are_no_answers_are_not_taken_for_some() -> None:
    inbox = Inbox()
    for value in (None, True, "stop", 3, [], [None, 3]):
        inbox.put_returned(value)
    assert inbox.take() == []


def test_a_list_of_answers_is_all_of_them_in_order() -> None:
    inbox, answers = Inbox(), [ScaleLearningRate(0.5), SaveWeights("a.safetensors"), Stop()]
    inbox.put_returned(answers)
    inbox.put_returned(tuple(answers))
    assert inbox.take() == [*answers, *answers]


def test_factors_multiply_and_hold_from_the_next_step_on(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    plain = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False)
    half = visus.train(
        squares,
        NETWORK,
        quick,
        output=tmp_path,
        progress=False,
        on_event=lambda event: ScaleLearningRate(0.5) if isinstance(event, EpochDone) else None,
    )
    assert np.allclose(np.array(rates(half)) / rates(plain), [1, 0.5, 0.25], rtol=1e-5)
    assert not same(weights_of(plain.folder), weights_of(half.folder))
    changes = json.loads((half.folder / "changes.json").read_text())
    assert [(each["answer"], each["place"], each["factor"]) for each in changes] == [
        ("ScaleLearningRate", f"after epoch {epoch}", 0.5) for epoch in (1, 2, 3)
    ]
    assert (
        "Changed while it ran (changes.json): learning rate times 0.5 after epoch 1; "
        in (half.folder / "report.html").read_text()
    )
    assert not (plain.folder / "changes.json").exists()


@pytest.mark.long
def test_a_factor_of_one_changes_no_bit(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    plain = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False)
    answered = visus.train(
        squares,
        NETWORK,
        quick,
        output=tmp_path,
        progress=False,
        on_event=lambda event: ScaleLearningRate(1.0) if isinstance(event, StepDone) else None,
    )
    assert same(weights_of(plain.folder), weights_of(answered.folder))


@pytest.mark.parametrize("stop_at", [6, 8])
@pytest.mark.long
def test_a_resumed_training_goes_on_with_the_factor_bit_for_bit(
    stop_at: int, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    def answers_until(last: int | None) -> Callable[[object], list[Answer] | Answer | None]:
        seen = 0

        def answer(event: object) -> Answer | None:
            nonlocal seen
            seen += isinstance(event, StepDone)
            if isinstance(event, StepDone) and seen == 6:
                return ScaleLearningRate(0.3)
            return Stop() if isinstance(event, StepDone) and seen == last else None

        return answer

    whole = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answers_until(None))
    cut = (
        {"on_event": answers_until(stop_at)}
        if stop_at > 6
        else {"on_event": answers_until(None), "should_stop": stops_after(6)}
    )
    stopped = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, **cut)
    assert read_position(stopped.folder / "checkpoint" / "last.safetensors").lr_scale == 0.3
    resumed = visus.resume(stopped.folder, progress=False)
    assert same(weights_of(whole.folder), weights_of(resumed.folder))
    assert rates(whole) == rates(resumed)


def stops_after(num: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= num


def test_an_answer_is_in_a_checkpoint_at_once(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    scales = []

    def answer(event: object) -> Answer | None:
        if isinstance(event, CheckpointWritten):
            scales.append(read_position(event.path).lr_scale)
        return ScaleLearningRate(0.5) if isinstance(event, StepDone) and event.epoch == event.step == 1 else None

    visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
    assert scales == [1, 1, 0.5, 0.5, 0.5]  # the start, epoch 1, the answer, epochs 2 and 3


def test_stop_ends_at_once_and_resume_goes_on_bit_for_bit(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    events: list[object] = []

    def answer(event: object) -> Answer | None:
        events.append(event)
        return Stop() if isinstance(event, EpochDone) else None

    whole = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False)
    stopped = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
    assert isinstance(events[-1], Stopped)
    assert (events[-1].epoch, events[-1].step) == (1, 0)
    assert not (stopped.folder / "scores.json").exists()
    assert same(weights_of(whole.folder), weights_of(visus.resume(stopped.folder, progress=False).folder))


def test_stop_before_the_first_step_leaves_a_run_that_resumes(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    whole = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False)
    stopped = visus.train(
        squares,
        NETWORK,
        quick,
        output=tmp_path,
        progress=False,
        on_event=lambda event: Stop() if isinstance(event, Started) else None,
    )
    assert same(weights_of(whole.folder), weights_of(visus.resume(stopped.folder, progress=False).folder))


@pytest.mark.parametrize(("kind", "trained"), [(EpochDone, [1]), (StepDone, [0.2]), (Started, [0.2])])
def test_finish_validates_scores_and_reports(
    kind: type, trained: list[float], squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    events: list[object] = []

    def answer(event: object) -> Answer | None:
        events.append(event)
        return Finish() if isinstance(event, kind) else None

    run = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
    assert [event.reason for event in events if isinstance(event, Finished)] == ["on request"]
    assert [row["epoch"] for row in run.history] == trained
    assert run.scores.num_samples == 24
    report = (run.folder / "report.html").read_text()
    assert f"The training was ended on request after {trained[0]:.1f} of 3 epochs." in report
    again = visus.resume(run.folder, progress=False)
    assert [row["epoch"] for row in again.history] == trained


def test_kept_weights_stay_whatever_later_epochs_reach(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    kept: list[dict[str, torch.Tensor]] = []

    def answer(event: object) -> Answer | None:
        if isinstance(event, Answered):
            kept.append(weights_of(tmp_path / "squares", "best"))
        return KeepWeights() if isinstance(event, EpochDone) and event.epoch == 0 else None

    run = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
    assert same(kept[0], weights_of(run.folder, "best"))
    assert not same(kept[0], weights_of(run.folder, "last"))
    assert read_position(run.folder / "checkpoint" / "last.safetensors").best_epoch == 0


def test_saved_weights_are_those_of_that_moment_and_start_another_training(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "middle.safetensors"
    found: list[dict[str, torch.Tensor]] = []

    def answer(event: object) -> Answer | None:
        if isinstance(event, EpochDone) and event.epoch == 1:
            found.append(weights_of(tmp_path / "squares", "last"))
            return SaveWeights(file)
        return None

    visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
    assert same(found[0], safetensors.torch.load_file(file))
    further = visus.train(squares, NETWORK, Recipe(epochs=1, device="cpu"), weights=file, output=tmp_path, progress=False)
    assert further.scores.num_samples == 24


@pytest.mark.slow
def test_the_answers_of_the_first_process_hold_for_all(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    def train() -> list[float]:
        from visus.training.distribution import join_group

        first = join_group().is_first

        def answer(event: object) -> Answer | None:
            if isinstance(event, EpochDone):
                return ScaleLearningRate(0.5 if first else 7.0)
            return Finish() if first and isinstance(event, StepDone) and event.epoch == 2 else None

        run = visus.train(squares, NETWORK, quick, output=tmp_path, progress=False, on_event=answer)
        return [row["learning_rate"] for row in run.history]

    first, second = in_processes(2, train)
    assert first == second
    assert len(first) == 3
    changes = json.loads((tmp_path / "squares" / "changes.json").read_text())
    assert [each.get("factor") for each in changes] == [0.5, 0.5, None, 0.5]


@pytest.mark.parametrize("file", [None, 5])
def test_weights_are_saved_to_a_path(file: Any) -> None:
    with pytest.raises(UsageError) as caught:
        SaveWeights(file)
    assert str(caught.value) == f"weights are saved to a path, such as 'middle.safetensors', and not to {file!r}."


def test_a_run_that_is_stopped_before_its_first_epoch_has_an_empty_history(
    squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    run = visus.train(
        squares,
        NETWORK,
        quick,
        output=tmp_path,
        progress=False,
        on_event=lambda event: Stop() if isinstance(event, StepDone) else None,
    )
    assert len(run.history) == 0
