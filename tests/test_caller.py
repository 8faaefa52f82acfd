"""Who called visus decides how the next step is written, and what is written can be called as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.commands import SMALL, Call
from tests.contracts.test_options_documented import commands

import visus
from visus import caller
from visus.caller import called_by_command
from visus.data.reading import Reading, check_call
from visus.workbench.runs.saved import SavedRun

COMMAND = re.compile(rf"\\bvisus ({'|'.join(name.split()[0] for name in commands())})\\b|(?<!\\S)--[a-z]")
"""A command of visus, or an option of one."""

PATHS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1)


@given(PATHS, st.none() | PATHS)
def test_calls_hold_any_path_and_run_as_they_stand(path: str, split: str | None) -> None:
    texts = [
        caller.resume_call(path),
        caller.report_call(path),
        caller.evaluate_call(path, path),
        caller.train_call(path, split),
    ]
    for text in texts:
        compile(text, "call", "eval")
        assert repr(path) in text
    with called_by_command():
        typed = [
            caller.resume_call(path),
            caller.report_call(path),
            caller.evaluate_call(path, path),
            caller.train_call(path, split),
        ]
    for text in typed:
        assert shlex.split(text)[0] == "visus"
        assert path in shlex.split(text)


@given(PATHS, st.none() | st.integers(1, 5), st.booleans(), st.none() | PATHS)
def test_a_check_is_called_with_the_reading_it_names(path: str, depth: int | None, skips: bool, column: str | None) -> None:
    reading = Reading(label_column=column, skip_missing=skips, class_depth=depth)
    called: list[object] = []

    class Recorder:
        def check(self, place: str, **options: object) -> None:
            called.extend((place, Reading(**options)))  # type: ignore[arg-type]

    eval(check_call(path, reading), {"visus": Recorder()})
    assert called == [path, reading]
    with called_by_command():
        assert shlex.split(check_call(path, reading)) == ["visus", "check", path, *reading.options()]


def test_the_caller_is_python_again_after_a_command_and_after_its_error() -> None:
    assert not caller.is_command()
    with pytest.raises(ZeroDivisionError), called_by_command():
        _ = 1 / (not caller.is_command())
    assert not caller.is_command()


@pytest.mark.long
def test_a_training_ends_with_a_call_in_python_and_with_a_command_in_a_terminal(
    photos: Path, tmp_path: Path, visus_command: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    visus.train(photos, SMALL[1], recipe, output=tmp_path)
    shown = capsys.readouterr().err
    assert "next      run.predict(files), run.evaluate(), run.look(sample)" in shown
    assert not COMMAND.search(shown)
    answer = visus_command("train", photos, *SMALL, "--output", tmp_path)
    assert "visus predict " in answer.err.split("next ")[-1]
    assert not caller.is_command()


def test_results_in_python_name_no_command(photos: Path, run: Path) -> None:
    loaded = visus.load(run)
    results = [
        loaded,
        loaded.scores,
        loaded.evaluate(),
        loaded.mistakes(),
        visus.check(photos),
        visus.cached_data(),
        loaded.compare(run),
    ]
    for result in results:
        assert not COMMAND.search(str(result.text())), type(result)
        assert not COMMAND.search(re.sub(r"<style>.*?</style>|<[^>]*>", "", result._repr_html_())), type(result)
    assert not any(COMMAND.search(sentence) for sentence in loaded.predict(np.zeros((3, 10, 10), np.uint8)).sentences())


def test_a_stopped_run_says_how_to_resume_it(run: Path, tmp_path: Path) -> None:
    """Its notes are calls for Python, and commands for a terminal."""
    import shutil

    from visus.workbench.runs.saved import unfinished_notes

    stopped = Path(shutil.copytree(run, tmp_path / "stopped"))
    for name in ("scores.json", "report.html"):
        (stopped / name).unlink(missing_ok=True)
    loaded: SavedRun = visus.load(stopped)
    assert unfinished_notes(loaded) == [
        f"This training was stopped before its end. Go on with: visus.resume({str(stopped)!r})"
    ]
    assert unfinished_notes(loaded)[0] == loaded.text()[-1]
    with called_by_command():
        assert unfinished_notes(loaded)[0].endswith(f"Go on with: visus train --resume {shlex.quote(str(stopped))}")
