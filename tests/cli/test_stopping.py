"""Ctrl-C at any moment: exit code 130, and one line that says what is safe and how to go on."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.commands import SMALL, Call, StopAfter

import visus
from visus.cli.training import Screen
from visus.networks import weights
from visus.progress import Progress
from visus.training.events import Finished, StepDone
from visus.workbench.train.stop_on_signal import StopOnSignal

pytestmark = pytest.mark.usefixtures("light_pages")


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("visus.cli.training.open_data", "stopped before the training began: nothing is lost. Run the command again."),
        (
            "visus.training.loop.TrainingLoop.events",
            "stopped before the first step: nothing is lost. Run the command again; the folder {run} can be deleted.",
        ),
        (
            "visus.training.steps.TrainingSteps.take",
            "stopped at once; all up to the last checkpoint is safe. next: visus train --resume {run}",
        ),
        (
            "visus.workbench.train.job.write_end",
            "stopped while scoring; the training is done and safe. To score it: visus train --resume {run}",
        ),
    ],
)
@pytest.mark.long
def test_a_training_says_what_is_safe_wherever_it_is_stopped(
    place: str, told: str, photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, interrupt)
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path, "--name", "it")
    folder = tmp_path / "it"
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.splitlines()[-1] == told.format(run=folder)
    monkeypatch.undo()
    if "--resume" in told:
        visus.resume(folder)
        assert (folder / "scores.json").is_file()


def test_a_run_that_is_gone_on_with_is_named(run: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.workbench.train.resumed.open_own_data", interrupt)
    answer = visus_command("train", "--resume", run)
    assert (answer.code, answer.err) == (
        130,
        f"stopped at once; all up to the last checkpoint is safe. next: visus train --resume {run}\n",
    )


@pytest.mark.long
def test_a_fit_of_the_head_can_be_gone_on_with(
    photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(visus.network(SMALL[1], (3, 10, 10), 5), tmp_path / "five.safetensors")
    monkeypatch.setattr("visus.training.loop.TrainingLoop._score_start", interrupt)
    words = ("--weights", tmp_path / "five.safetensors", "-o", tmp_path, "--name", "it")
    answer = visus_command("train", photos, *SMALL, *words)
    assert answer.err.splitlines()[-1].endswith(f"next: visus train --resume {tmp_path / 'it'}")
    monkeypatch.undo()
    assert visus.resume(tmp_path / "it").evaluate().num_samples == 12


def test_a_quiet_training_says_how_to_go_on(
    photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = StopOnSignal.follow

    def follow(self: StopOnSignal, event: object) -> None:
        begun(self, event)
        if isinstance(event, StepDone):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StopOnSignal, "follow", follow)
    answer = visus_command("train", photos, *SMALL, "-o", tmp_path, "--name", "it", "--quiet")
    assert (answer.code, answer.out) == (130, "")
    assert (
        answer.err == f"stopped after a step; everything up to there is safe. next: visus train --resume {tmp_path / 'it'}\n"
    )


@pytest.mark.parametrize("place", ["visus.workbench.runs.run.load"])
def test_other_commands_say_that_they_were_stopped(
    place: str, run: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, interrupt)
    answer = visus_command("evaluate", run)
    assert (answer.code, answer.err) == (130, "stopped. What was finished is kept; run the command again.\n")


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
@pytest.mark.long
def test_an_export_that_is_stopped_has_written_no_bundle_and_says_so(
    name: str, run: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("visus.ship.export.check_in_other_process", interrupt)
    answer = visus_command("export", run, "-o", tmp_path / name, "--format", "onnx", "--samples", 4, "--golden", 1)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.splitlines()[-1] == "stopped. No bundle was written; run the command again."
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_stopped_while_int8_is_measured_has_its_bundle(
    run: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: Any, on_event: Any, **__: Any) -> None:
        for stage in ("checking", "writing", "measuring engines"):
            on_event(Progress(stage, 0))
        raise KeyboardInterrupt

    monkeypatch.setattr(visus.Run, "export", export)
    answer = visus_command("export", run)
    assert (answer.code, answer.err.splitlines()[-1]) == (
        130,
        "stopped. The bundle is checked and written; only the speed of its int8 network is not measured.",
    )


@pytest.mark.parametrize(
    ("trained", "told"), [(3.0, "3 epochs"), (2.37, "2.4 epochs"), (0.42, "0.4 epochs"), (0.004, "0.004 epochs")]
)
def test_an_epoch_that_was_cut_is_reported_as_a_part(trained: float, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=False).show(Finished("time limit", 3, 1, 61.0, trained))
    assert capsys.readouterr().err == f"trained   {told} in 1 min 01 s (time limit); kept: the weights of epoch 1\n"


def test_a_finished_training_that_is_resumed_says_that_nothing_is_left(
    run: Path, photos: Path, visus_command: Call, tmp_path: Path
) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    answer = visus_command("train", "--resume", run, "--time-limit", "30s")
    told = [line for line in answer.err.splitlines() if "this training is finished" in line]
    assert told == [
        "warning   this training is finished, with all of its 12 epochs: nothing is trained; scores and report are rewritten. To train its weights "
        f"further, start a new run: visus train {photos} -m {run / 'design.txt'} -c {run / 'recipe.yaml'} --split-file {run / 'split.csv'} "
        f"--img-size 10x10 --channels 3 --weights {run / 'weights' / 'best.safetensors'} --epochs 12 --optimizer adamw"
    ]
    words = shlex.split(told[0].rpartition("start a new run: visus ")[2])
    typed = visus_command(*words, "--set", "time_limit=1s", "-q", "-o", tmp_path / "more")
    assert (typed.code, typed.err) == (0, "")
    assert "resumed   in epoch" not in answer.err
    assert "\ntrained   already finished: 12 epochs in " in answer.err


@pytest.mark.long
def test_a_fitted_head_that_is_resumed_gets_a_command_that_trains(photos: Path, visus_command: Call, tmp_path: Path) -> None:
    weights.save(visus.network(SMALL[1], (3, 10, 10), 5), tmp_path / "five.safetensors")
    visus_command(
        "train", photos, *SMALL, "--epochs", "0", "--weights", tmp_path / "five.safetensors", "-o", tmp_path, "--name", "it"
    )
    answer = visus_command("train", "--resume", tmp_path / "it")
    (told,) = [line for line in answer.err.splitlines() if "this training is finished: nothing is trained;" in line]
    assert " --epochs 5" in told
    assert "weights   those of the checkpoint at the end of the training; it started from " in answer.err
    typed = visus_command(*shlex.split(told.rpartition("start a new run: visus ")[2]), "-o", tmp_path, "--name", "more")
    assert typed.code == 0
    assert "fine-tuning for 5 epochs" in typed.err


def test_a_resumed_fine_tuning_names_its_checkpoint_and_its_network_as_it_was_asked_for(
    photos: Path, visus_command: Call, tmp_path: Path
) -> None:
    weights.save(visus.network(SMALL[1], (3, 10, 10), 5), tmp_path / "five.safetensors")
    recipe = visus.Recipe(epochs=4, batch_size=8, precision="float32")
    stop = StopAfter(1)
    folder = visus.train(
        photos,
        SMALL[1],
        recipe,
        weights=tmp_path / "five.safetensors",
        output=tmp_path,
        on_event=stop.follow,
        should_stop=stop,
        progress=False,
    ).folder
    facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    (folder / "data.json").write_text(json.dumps(facts | {"network": "a family(7)"}), encoding="utf-8")
    lines = visus_command("train", "--resume", folder).err.splitlines()
    (told,) = [line for line in lines if line.startswith("weights ")]
    assert re.fullmatch(
        r"weights   those of the checkpoint in epoch 1 after step \d; it started from .*five\.safetensors", told
    )
    assert [line.partition(",")[0] for line in lines if line.startswith("network ")] == ["network   a family(7)"]


def test_a_limit_that_leaves_no_time_is_reported(
    photos: Path, visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visus.workbench.train.job.ending_s", lambda data, made: 20.0)
    answer = visus_command("train", photos, *SMALL, "--time-limit", "4s", "-o", tmp_path)
    (told,) = [line for line in answer.err.splitlines() if "leaves no time" in line]
    assert re.fullmatch(
        r"warning   a limit of 4 s leaves no time to train: .* s have passed, and scoring and the report take about 20 s. "
        r"The training gets one second; give at least \d+ s, and more to learn.",
        told,
    )
