"""Ctrl-C and SIGTERM during a training: it ends after its step, and says what is saved and how to go on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.levels import write_levels

import visus
from visus.errors import RunError
from visus.training.events import Finished, Started, StepDone
from visus.training.recipe import Recipe
from visus.training.schedules import Schedule
from visus.workbench.train.events import Prepared

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("data"))


class Interrupts:
    """Presses Ctrl-C, or sends another signal, on the first event of a kind; ``seen`` are the kinds of all events."""

    def __init__(self, kind: type, times: int = 1, number: signal.Signals = signal.SIGINT) -> None:
        self.kind, self.times, self.number = kind, times, number
        self.seen: list[type] = []

    def __call__(self, event: object) -> None:
        self.seen.append(type(event))
        if isinstance(event, self.kind):
            for _ in range(self.times):
                self.times -= 1
                os.kill(os.getpid(), self.number)


def interrupted(*args: Any, **settings: Any) -> str:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        visus.train(*args, **settings)
    assert signal.getsignal(signal.SIGINT) is before
    return str(caught.value)


def weights_of(run: visus.Run) -> list[Any]:
    return [value.tolist() for value in run.module.state_dict().values()]


@pytest.mark.long
def test_the_first_ctrl_c_ends_the_training_after_its_step_with_a_checkpoint(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presses = Interrupts(StepDone)
    said = interrupted(file, NETWORK, RECIPE, output=tmp_path, name="it", on_event=presses)
    folder = tmp_path / "it"
    assert said == f"stopped after a step; everything up to there is safe. next: visus.resume({str(folder)!r})"
    assert presses.seen.count(StepDone) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "stopped   in epoch 1 after step 1; everything up to here is safe",
        f"next      visus.resume({str(folder)!r})",
    ]
    whole = visus.train(file, NETWORK, RECIPE, output=tmp_path, name="whole", progress=False)
    assert weights_of(visus.resume(folder, progress=False)) == weights_of(whole)


def test_a_resumed_training_is_interrupted_alike_and_progress_false_says_nothing_else(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(file, NETWORK, RECIPE, output=tmp_path, name="it", on_event=Interrupts(StepDone), progress=False)
    presses = Interrupts(StepDone)
    with pytest.raises(KeyboardInterrupt) as caught:
        visus.resume(tmp_path / "it", on_event=presses, progress=False)
    assert str(caught.value).endswith(f"next: visus.resume({str(tmp_path / 'it')!r})")
    assert presses.seen.count(StepDone) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "times", "said"),
    [
        (StepDone, 2, "stopped at once; all up to the last checkpoint is safe. next: visus.resume('{folder}')"),
        (Prepared, 1, "stopped before the first step: nothing is lost. Call it again; the folder {folder} can be deleted."),
        (Finished, 1, "stopped while scoring; the training is done and safe. To score it: visus.resume('{folder}')"),
    ],
)
def test_an_interruption_says_what_is_safe_wherever_it_comes(
    kind: type, times: int, said: str, file: Path, tmp_path: Path
) -> None:
    found = interrupted(file, NETWORK, RECIPE, output=tmp_path, name="it", on_event=Interrupts(kind, times), progress=False)
    assert found == said.format(folder=tmp_path / "it")


def test_an_interruption_before_the_run_has_a_folder_loses_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("visus.workbench.train.planning.open_data", interrupt)
    said = interrupted(file, NETWORK, RECIPE, output=tmp_path, progress=False)
    assert said == "stopped before the training began: nothing is lost. Call it again."


def test_another_handler_of_ctrl_c_is_left_alone(file: Path, tmp_path: Path) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        run = visus.train(file, NETWORK, RECIPE, output=tmp_path, on_event=Interrupts(StepDone), progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
    assert run.scores.num_samples == 12


def test_a_training_in_another_thread_is_trained(file: Path, tmp_path: Path) -> None:
    runs: list[visus.Run] = []
    thread = threading.Thread(
        target=lambda: runs.append(visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False))
    )
    thread.start()
    thread.join()
    assert runs[0].scores.num_samples == 12


def test_a_stop_on_request_returns_the_run_as_before(file: Path, tmp_path: Path) -> None:
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, should_stop=lambda: True, progress=False)
    assert not (run.folder / "scores.json").exists()


@pytest.mark.long
def test_sigterm_stops_the_command_like_ctrl_c_with_its_own_exit_code(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it"
    words = ["train", file, "-m", NETWORK, "--epochs", "100000", "-b", "8", "-o", tmp_path, "--name", "it"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "visus", *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line.rstrip())
            if line.startswith("2/"):
                with pytest.raises(RunError, match=rf"is being trained by process {process.pid} on "):
                    visus.resume(folder, progress=False)
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert re.fullmatch(r"stopped +in epoch \d+ after step \d; everything up to here is safe", lines[-2])
    assert lines[-1] == f"next      visus train --resume {folder}"
    assert sorted(path.name for path in (folder / "checkpoint").iterdir()) == ["last.safetensors"]


@pytest.mark.parametrize(("times", "num_steps"), [(1, 1), (2, 1)])
def test_sigterm_ends_a_script_after_its_step_with_a_checkpoint(
    times: int, num_steps: int, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    presses = Interrupts(StepDone, times, signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        visus.train(file, NETWORK, RECIPE, output=tmp_path, name="it", on_event=presses)
    assert caught.value.code == 143
    assert presses.seen.count(StepDone) == num_steps
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if times == 1:
        assert capsys.readouterr().err.splitlines()[-1] == f"next      visus.resume({str(tmp_path / 'it')!r})"


def test_another_handler_of_sigterm_is_left_alone(file: Path, tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        visus.train(file, NETWORK, RECIPE, output=tmp_path, on_event=Interrupts(StepDone, 1, signal.SIGTERM), progress=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


# ---- what a run says of its interruptions ----


def told(run: visus.Run) -> tuple[str, str, str]:
    """What card, report and rewritten report of a run say of its interruptions."""
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    found = re.compile(r"(?:The training was|This command is not) [^<\n]*?\.(?=[\s<]|$)")
    before = [" ".join(found.findall(text)) for text in (page, card)]
    return before[0], before[1], " ".join(found.findall(run.report(progress=False).path.read_text(encoding="utf-8")))


def test_a_time_limit_within_an_epoch_is_said_in_table_results_card_and_report(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[object] = []
    num_steps = visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False, on_event=events.append) and next(
        event.steps_per_epoch for event in events if isinstance(event, Started)
    )
    limit = num_steps + 1
    monkeypatch.setattr(Schedule, "progress", lambda self, at, num_more=0: min(1.0, (at.num_steps + num_more) / limit))
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, name="cut")
    assert run.history["epoch"] == (1.0, round(1 + 1 / num_steps, 2))
    assert f"{1 + 1 / num_steps:.1f}/4 " in capsys.readouterr().err
    sentence = f"The training was stopped by the time limit after {1 + 1 / num_steps:.1f} of 4 epochs."
    other = "This command is not the same training: a time limit cut this one."
    assert told(run) == (f"{sentence} {other}", f"{other} {sentence}", f"{sentence} {other}")


@pytest.mark.long
def test_a_training_that_was_resumed_says_how_often_and_that_alone(file: Path, tmp_path: Path) -> None:
    interrupted(file, NETWORK, RECIPE, output=tmp_path, name="it", on_event=Interrupts(StepDone), progress=False)
    with pytest.raises(KeyboardInterrupt):
        visus.resume(tmp_path / "it", on_event=Interrupts(StepDone), progress=False)
    run = visus.resume(tmp_path / "it", progress=False)
    assert told(run) == ("The training was resumed 2 times.",) * 3
    visus.resume(run.folder, progress=False)  # a finished one
    assert told(run) == ("The training was resumed 2 times.",) * 3


def test_an_uninterrupted_training_says_nothing_of_it(file: Path, tmp_path: Path) -> None:
    assert told(visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False)) == ("", "", "")
