"""The Tab key offers commands, options, the words of an option, and run folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = "import sys; sys.argv = ['visus']; from visus.cli import main; main()"


def offered(folder: Path, line: str) -> list[str]:
    """What bash gets for a line whose last word is not finished."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_VISUS_COMPLETE": "complete_bash",
    }
    answer = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stderr == ""
    return answer.stdout.split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("runs/cats", "runs/dogs", "elsewhere/cats-2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.yaml").touch()
    (tmp_path / "runs" / "no run").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("visus ev", ["evaluate"]),
        ("visus experiment a", ["antialias"]),
        ("visus train --opt", ["--optimizer"]),
        ("visus train --optimizer ", ["adamw", "muon", "sgd"]),
        ("visus train --precision f", ["float16", "float32"]),
        ("visus evaluate runs/cats --split ", ["train", "val", "test"]),
        ("visus evaluate runs/cats --device c", ["cpu", "cuda"]),
        ("visus look runs/cats x.png --saliency g", ["grad-cam", "gradient"]),
        ("visus evaluate ", ["runs/cats", "runs/dogs"]),
        ("visus evaluate r", ["runs/cats", "runs/dogs"]),
        ("visus compare runs/d", ["runs/dogs"]),
        ("visus train --resume elsewhere/", ["elsewhere/cats-2"]),
        ("visus check run", []),  # files are the shell's own matter
    ],
)
def test_what_is_offered(folder: Path, line: str, expected: list[str]) -> None:
    assert offered(folder, line) == expected


def test_the_script_that_is_installed_is_for_the_command(folder: Path) -> None:
    script = "import sys; sys.argv = ['visus', '--show-completion', 'bash']; from visus.cli import main; main()"
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "complete -o default -F _visus_completion visus" in answer.stdout
    assert "_VISUS_COMPLETE=complete_bash" in answer.stdout


def test_completion_loads_no_torch(folder: Path) -> None:
    script = f"""
import atexit, sys
atexit.register(lambda: print("torch" in sys.modules))
{ASK}
"""
    environment = {**os.environ, "COMP_WORDS": "visus evaluate ", "COMP_CWORD": "2", "_VISUS_COMPLETE": "complete_bash"}
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout.split() == ["runs/cats", "runs/dogs", "False"]
