"""The command that trains a run again: complete, true and copyable, whatever was typed."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import SMALL, Call

import visus
from visus.files import write_file
from visus.networks.pretrained import DEFAULT
from visus.training.runs import RunFolder
from visus.workbench.modules import OBJECT_PREFIX
from visus.workbench.runs.own_command import exact_command, near_path, own_command, typed_command


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy of a run whose files can be changed."""
    folder = tmp_path / run.name
    shutil.copytree(run, folder)
    return folder


def with_facts(folder: Path, **changed: Any) -> str:
    """The exact command of a run after some facts of its ``data.json`` are changed."""
    facts = json.loads((folder / "data.json").read_text())
    write_file(folder / "data.json", json.dumps(facts | changed))
    return exact_command(RunFolder.open(folder), visus.load(folder).preprocessing)


@pytest.mark.long
def test_the_exact_command_trains_the_same_weights(photos: Path, tmp_path: Path, visus_command: Call) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, seed=3, precision="float32", kernels="pytorch")
    made = visus.train(photos, SMALL[1], recipe, output=tmp_path / "first")
    command = exact_command(RunFolder.open(made.folder), made.preprocessing)
    answer = visus_command(*shlex.split(command)[1:], "-o", tmp_path / "again", "--quiet")
    assert answer.code == 0, answer.err
    again = visus.load(answer.out.strip()).module.state_dict()
    for name, tensor in made.module.state_dict().items():
        assert torch.equal(tensor, again[name]), name


def test_the_exact_command_does_not_depend_on_what_was_typed(copied: Path) -> None:
    expected = with_facts(copied, command="")
    assert f"-m {copied / 'design.txt'} -c {copied / 'recipe.yaml'} --split-file {copied / 'split.csv'}" in expected
    for typed in ("visus train x --no-such-option --name a", "visus train --resume runs/x", "visus train 'unclosed"):
        assert with_facts(copied, command=typed) == expected
    spread = with_facts(copied, command="torchrun --nproc-per-node 2 -m visus train x --quiet")
    assert spread == f"torchrun --nproc-per-node 2 -m {expected}"
    assert with_facts(copied, command="visus experiment mlp runs/a") == "visus experiment mlp runs/a"
    assert with_facts(copied, command="", max_unreadable=0.5) == f"{expected} --max-unreadable 0.5"


def test_the_exact_command_names_the_initial_weights(copied: Path) -> None:
    def command(**start: Any) -> str:
        write_file(copied / "start.json", json.dumps(start))
        return exact_command(RunFolder.open(copied), visus.load(copied).preprocessing)

    assert f"-m {copied / 'design.txt'} --weights /there/best.pt -c " in command(source="best.pt", file="/there/best.pt")
    assert f"-m '{DEFAULT.design}' --pretrained -c " in command(source=DEFAULT.source, file=None)
    assert command(source="a module", file=None) == ""
    further = own_command(
        RunFolder.open(copied), visus.load(copied).preprocessing, "--weights best.pt --epochs 2", is_repeated=False
    )
    assert further.endswith("--weights best.pt --epochs 2")
    assert further.count("--weights") == 1


def test_a_network_of_own_code_is_named_by_its_callable(copied: Path) -> None:
    plan = visus.load(copied).preprocessing
    write_file(copied / "design.txt", "package.module:make\n")
    assert " -m package.module:make -c " in exact_command(RunFolder.open(copied), plan)


def test_a_network_that_was_an_object_has_no_exact_command(copied: Path) -> None:
    plan = visus.load(copied).preprocessing
    write_file(copied / "design.txt", f"{OBJECT_PREFIX}package.Network\n")
    assert exact_command(RunFolder.open(copied), plan) == ""


@pytest.mark.parametrize(
    ("typed", "useful"),
    [
        ("visus train photos --name first --epochs 3 --quiet", "visus train photos --epochs 3"),
        ("visus train photos --name=first -q -v --verbose --json", "visus train photos"),
        ("visus train -m 'conv(4, 3), relu' --name 'my run'", "visus train -m 'conv(4, 3), relu'"),
        ("visus train -c gone.yaml", ""),
        ("visus train photos --weights gone.pt", ""),
        ("visus train /gone/photos", ""),
        ("visus train 'unclosed", ""),
        ("", ""),
    ],
)
def test_a_typed_command_is_repeated_without_names_and_missing_files(typed: str, useful: str) -> None:
    assert typed_command(typed) == useful


def test_paths_in_the_working_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert near_path(tmp_path / "work" / "photos") == "photos"
    assert near_path("runs/a") == "runs/a"
    assert near_path(tmp_path) == str(tmp_path)
    assert typed_command(f"visus train {tmp_path / 'work' / 'photos'}") == "visus train photos"
