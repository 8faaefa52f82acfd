"""``visus tune`` passes its options on, prints what it found, and refuses what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands import Call
from tests.contracts.test_options_documented import commands
from tests.levels import images, write_levels

from visus.cli.data_options import DATA_OPTIONS
from visus.workbench.tune.search_folder import SearchFolder

pytestmark = pytest.mark.usefixtures("light_pages")

SMALL = ["-m", "conv(4, 3), norm, relu, globalpool, linear(classes)", "--set", "epochs=1", "--set", "batch_size=8"]


@pytest.mark.long
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


@pytest.mark.long
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
        (
            ["--resume", "x", "--task", "regression", "--layout", "NHWC", "--val", "0", "-j", "2"],
            "--val, --layout, --task, --workers cannot be given with --resume. Leave it out.",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(visus_command: Call, words: list[str], message: str) -> None:
    done = visus_command("tune", *words)
    assert (done.code, done.err) == (2, f"error: {message}\n")


def data_options(name: str) -> dict[str, dict[str, Any]]:
    """The options of a command that open the data, each with its names, help, group and default."""
    found = {each.name: each for each in commands()[name].params}
    return {
        each: {fact: getattr(found[each], fact) for fact in ("opts", "help", "rich_help_panel", "hidden", "default")}
        for each in found
        if each in DATA_OPTIONS or getattr(found[each], "rich_help_panel", None) == "Data"
    }


def test_a_search_has_the_data_options_of_a_training() -> None:
    of_training = data_options("train")
    of_training.pop("folds")  # makes several trainings of the data, and does not open it
    assert of_training.keys() == DATA_OPTIONS.keys()
    assert data_options("tune") == of_training


def test_the_short_help_of_a_search_is_short_and_the_long_one_has_all(visus_command: Call) -> None:
    short, whole = visus_command("tune", "--help").out, visus_command("tune", "--help-all").out
    assert ("  --task " in short, "  --layout " in short, "All options: visus tune --help-all." in short) == (
        True,
        False,
        True,
    )
    for each in data_options("tune").values():
        assert f" {max(each['opts'], key=len)}" in whole


def test_a_search_takes_numbers_in_a_layout_that_is_given(visus_command: Call, tmp_path: Path) -> None:
    x, y = images()
    np.savez(tmp_path / "sizes.npz", x=x, y=y + 0.5)
    words = [*SMALL, "--task", "regression", "--layout", "NCHW", "--search", "lr=0.01..0.3", "--trials", 1]
    done = visus_command("tune", tmp_path / "sizes.npz", *words, "--val", 0.25, "-o", tmp_path / "runs", "-q", "--json")
    assert (done.code, done.err) == (0, "")
    best = json.loads(done.out)["best"]
    assert (best["metric"], best["num_validation"]) == ("mae", 12)
    opened = SearchFolder(tmp_path / "runs" / "sizes-tune").read_facts()["data"]
    assert opened["reading"] == {"layout": "NCHW", "task": "regression"}
