"""``visus tune`` passes its options on, prints what it found, and refuses what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commands import Call
from tests.levels import write_levels

pytestmark = pytest.mark.usefixtures("light_pages")

SMALL = ["-m", "conv(4, 3), norm, relu, globalpool, linear(classes)", "--set", "epochs=1", "--set", "batch_size=8"]


def test_a_search_prints_its_trials_and_goes_on(visus_command: Call, tmp_path: Path) -> None:
    levels = write_levels(tmp_path)
    done = visus_command("tune", levels, *SMALL, "--search", "lr=0.01..0.3", "--trials", 2, "-o", tmp_path / "runs")
    assert done.code == 0, done.err
    assert "space     learning_rate 0.01..0.3, logarithmic (default: " in done.err
    assert "trial     1: validation " in done.err
    assert done.out.splitlines()[0].split() == [
        *("trial", "validation", "accuracy", "validation", "loss", "epochs", "time", "outcome", "learning_rate")
    ]
    assert f"visus predict {tmp_path / 'runs' / 'levels-best'} FILES..." in done.out
    again = visus_command("tune", "--resume", tmp_path / "runs" / "levels-tune", "--trials", 3, "--json", "-q")
    found = json.loads(again.out)
    assert (again.code, again.err, len(found["trials"])) == (0, "", 3)


def test_a_space_comes_from_a_file(visus_command: Call, tmp_path: Path) -> None:
    levels = write_levels(tmp_path)
    (tmp_path / "space.yaml").write_text("optimizer: [adamw, sgd]\n")
    done = visus_command(
        *(
            "tune",
            levels,
            *SMALL,
            "--space",
            tmp_path / "space.yaml",
            "--trials",
            2,
            "-o",
            tmp_path / "runs",
            "--name",
            "mine",
            "-q",
        )
    )
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "runs" / "mine" / "space.yaml").read_text() == "optimizer: [adamw, sgd]\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a search needs an end: give a time limit such as 10m, a number of trials, or both."),
        (
            ["--trials", "2", "--space", "a.yaml", "--search", "lr=1..2"],
            "--space and --search state the space twice. Leave one of them out.",
        ),
        (["--resume", "x", "--set", "epochs=1"], "--set cannot be given with --resume. Leave it out."),
    ],
)
def test_what_contradicts_itself_is_refused(visus_command: Call, words: list[str], message: str) -> None:
    done = visus_command("tune", *words)
    assert (done.code, done.err) == (2, f"error: {message}\n")
