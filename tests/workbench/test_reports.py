"""``visus report RUN``: the report of an old run written anew, equal to that of its training where nothing has changed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.commands import SMALL, Call, StopAfter

import visus
from visus.errors import RunError
from visus.files import write_file
from visus.workbench.report.reports import rewrite_report

OWN = re.compile(r"<tr><th scope=\"row\">(?:Predictions|Training time|Command until this report)</th>.*?</tr>", re.DOTALL)


@pytest.fixture
def old(run: Path, tmp_path: Path) -> Path:
    """A run whose report is gone."""
    folder = tmp_path / run.name
    shutil.copytree(run, folder)
    (folder / "report.html").unlink()
    (folder / "inside.json").unlink()
    return folder


def without_times(page: str, folder: Path) -> str:
    """A report without what differs from machine to machine and from folder to folder."""
    return OWN.sub("", page).replace(str(folder), "RUN")


def test_a_report_written_anew_is_that_of_the_training(visus_command: Call, run: Path, old: Path) -> None:
    kept = {file.name: file.read_bytes() for file in old.iterdir() if file.is_file()}
    answer = visus_command("report", old)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{old / 'report.html'}\n"
    assert {name: (old / name).read_bytes() for name in kept} == kept
    before, after = (without_times((folder / "report.html").read_text("utf-8"), folder) for folder in (run, old))
    assert after == before
    inside, anew = (json.loads((folder / "inside.json").read_text()) for folder in (run, old))
    assert {name: inside[name] for name in ("calibration", "mistakes", "sight", "missing")} == {
        name: anew[name] for name in ("calibration", "mistakes", "sight", "missing")
    }


@pytest.mark.long
def test_the_report_is_named_in_json_and_written_from_python(visus_command: Call, old: Path) -> None:
    assert json.loads(visus_command("report", old, "--json").out)["report"] == str(old / "report.html")
    (old / "report.html").unlink()
    (old / "checkpoint" / "last.safetensors").unlink()  # what it alone knows is left out
    assert rewrite_report(visus.load(old)).path == old / "report.html"
    assert "<h1>" in (old / "report.html").read_text("utf-8")


def test_a_training_that_was_stopped_has_no_report(photos: Path, tmp_path: Path) -> None:
    stop = StopAfter(3)
    recipe = visus.Recipe(epochs=4, batch_size=8, precision="float32")
    run = visus.train(photos, SMALL[1], recipe, output=tmp_path, on_event=stop.follow, should_stop=stop)
    with pytest.raises(RunError) as caught:
        rewrite_report(run)
    assert str(caught.value) == (
        f"{run.folder}: this training was stopped before its end, so there is nothing to report yet. Go on with: "
        f"visus.resume({str(run.folder)!r})"
    )


def test_a_run_that_trained_no_epoch_needs_no_table_of_epochs(old: Path) -> None:
    for name in ("results.csv", "curves.png"):
        (old / name).unlink()
    with pytest.raises(RunError, match=r"results\.csv is missing"):
        rewrite_report(visus.load(old))
    write_file(old / "start.json", '{"source": "the weights in best.safetensors"}')
    rewrite_report(visus.load(old))
    assert "Nothing to do: no epoch was trained" in (old / "report.html").read_text("utf-8")


def test_a_damaged_table_of_epochs_is_named(old: Path) -> None:
    write_file(old / "results.csv", "epoch,train_loss\n1,half\n")
    with pytest.raises(RunError) as caught:
        rewrite_report(visus.load(old))
    assert str(caught.value) == f"{old}: results.csv is damaged. Put it back, or train again with visus.train."
    assert not (old / "report.html").exists()
