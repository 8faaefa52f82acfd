"""README.md does what it says: its commands parse, its names exist, and all of it runs from top to bottom.

Fences of ``sh`` hold commands; those of ``console`` hold commands after ``$ `` and what they print; those of ``python`` run
in one process each; ``text`` and ``yaml`` are never run. The folder ``photos`` that README.md speaks of is made here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.documents import fences, missing_names, parse_call, shell_lines, visus_calls

from visus.training.run_files import RUN_FILES, is_run_file

Tree = Any  # the fixture of conftest.py


def calls_of(tree: Tree) -> list[list[str]]:
    """Every call of visus in README.md."""
    shell = [
        (language, content) for language, content in fences(tree.document("README.md")) if language in {"sh", "console"}
    ]
    return [call for fence in shell for line in shell_lines(*fence) for call in visus_calls(line)]


def test_it_is_short(tree: Tree) -> None:
    text = tree.document("README.md")
    assert len(text.split()) <= 900
    [python] = [content for language, content in fences(text) if language == "python"]
    assert len([line for line in python.splitlines() if line.strip()]) <= 8


def test_every_fence_has_a_known_language(tree: Tree) -> None:
    assert {language for language, _ in fences(tree.document("README.md"))} <= {"sh", "console", "python", "text", "yaml"}


def test_every_command_line_parses(tree: Tree) -> None:
    calls = calls_of(tree)
    assert calls, "README.md calls visus nowhere"
    for call in calls:
        parse_call(call)


def test_a_misspelled_option_does_not_parse() -> None:
    with pytest.raises(Exception, match="--epocks"):
        parse_call(["train", "photos", "--epocks", "3"])


def test_every_public_name_in_python_exists(tree: Tree) -> None:
    blocks = [content for language, content in fences(tree.document("README.md")) if language == "python"]
    assert blocks, "README.md shows no Python"
    assert [name for block in blocks for name in missing_names(block)] == []


def test_ci_ends_with_the_test_command_of_the_readme(tree: Tree) -> None:
    shell = [
        line for fence in fences(tree.document("README.md")) if fence[0] in {"sh", "console"} for line in shell_lines(*fence)
    ]
    assert "scripts/test" in shell
    called = {name: (tree.root / name).read_text("utf-8").splitlines()[-1] for name in (".ci/run", "scripts/check")}
    assert called == {".ci/run": "scripts/check", "scripts/check": 'scripts/test --long "$@"'}
    for name in (".ci/run", *(f"scripts/{path.name}" for path in (tree.root / "scripts").iterdir())):
        assert os.access(tree.root / name, os.X_OK), f"{name} cannot be executed"


def make_photos(folder: Path) -> None:
    """Two classes that color tells apart, with noise, as small JPEG files."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, color in (("cat", (190, 90, 60)), ("dog", (60, 90, 190))):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            pixels = np.clip(generator.normal(color, 40, size=(48, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}-{number:02d}.jpg")


@pytest.mark.slow
def test_readme_runs_from_top_to_bottom(tree: Tree, tmp_path: Path) -> None:
    project = tmp_path / "visus"
    leave = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info")
    made = {"runs", "dist", "site", "photos"}  # by users, beside the sources

    def ignored(folder: str, names: list[str]) -> set[str]:
        return leave(folder, names) | (made & set(names) if Path(folder) == tree.root else set())

    shutil.copytree(tree.root, project, ignore=ignored)
    make_photos(project / "photos")
    steps = ["set -euxo pipefail", 'PATH="$PWD/.venv/bin:$PATH"', "trap 'jobs -p | xargs -r kill' EXIT"]
    steps += [
        'curl() { command curl --retry 60 --retry-delay 1 --retry-connrefused "$@"; }'
    ]  # a person waits until it is served
    for language, content in fences(tree.document("README.md")):
        if language in {"sh", "console"}:
            steps += shell_lines(language, content)
        elif language == "python":
            steps += ["python - <<'END_OF_PYTHON'", content.rstrip("\n"), "END_OF_PYTHON"]
    environment = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment["PATH"] = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != Path(sys.executable).parent
    )
    answer = subprocess.run(
        ["bash", "-c", "\n".join(steps)],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    assert '{"predictions":[{"name":"14.png","label":' in answer.stdout
    left = {path.name for path in (project / "runs" / "photos").iterdir()}
    assert {file.path.partition("/")[0] for file in RUN_FILES if not file.condition} <= left
    assert {name for name in left if not is_run_file(name)} <= {"weights", "checkpoint"}
