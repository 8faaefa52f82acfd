"""The notebooks of the tutorials: their outputs belong to their code, they run, and they become pages."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docs.generators.notebooks import code_hash, problems, read_notebook, render

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
PIXEL = base64.b64encode(b"\x89PNG pixel").decode()


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    """A notebook whose outputs belong to its code."""
    found: dict[str, Any] = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    found["metadata"]["visus"] = {"code_sha256": code_hash(found)}
    return found


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}, "execution_count": 1}


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(**data: str) -> dict[str, Any]:
    kinds = {"plain": "text/plain", "html": "text/html", "png": "image/png"}
    return {"output_type": "display_data", "metadata": {}, "data": {kinds[name]: text for name, text in data.items()}}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_committed_outputs_can_be_published(file: Path) -> None:
    assert problems(read_notebook(file)) == []


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_notebook_runs(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs the extra docs")
    pytest.importorskip("ipykernel", reason="needs the extra docs")
    from docs.generators.run_notebooks import execute

    executed = execute(file, tmp_path)
    assert problems(executed) == []


def test_code_that_is_newer_than_its_outputs_is_found() -> None:
    changed = notebook(code("print(1)", stream("1\n")))
    assert problems(changed) == []
    changed["cells"][0]["source"] = "print(2)"
    assert problems(changed) == ["its code is newer than its outputs. Run scripts/notebooks."]


def test_text_may_change_without_new_outputs() -> None:
    changed = notebook({"cell_type": "markdown", "source": "# One", "metadata": {}}, code("1"))
    changed["cells"][0]["source"] = "# Two"
    assert problems(changed) == []


def test_errors_and_paths_of_one_machine_are_found() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    paths = [f"/{'home'}/ada/runs", f"/{'tmp'}/visus-notebook-x/runs", f"{'C'}:\\Users"]
    found = problems(notebook(code("raise ValueError", error), *(code("run", stream(f"at {path}\n")) for path in paths)))
    assert found[0] == "cell 1 ends with ValueError: no"
    assert [line.split(":")[0] for line in found[1:]] == [
        f"cell {number} contains a path of one machine" for number in (2, 3, 4)
    ]


def test_relative_paths_and_addresses_are_allowed() -> None:
    assert problems(notebook(code("run", stream("runs/tmp/a.html, ./var/b, 3/work/4, https://example.org/home/x\n")))) == []


def test_cells_and_outputs_become_markdown() -> None:
    found = render(
        notebook(
            {"cell_type": "markdown", "source": "# Title\n\nSee [calibration](../concepts/calibration.md).", "metadata": {}},
            code("print('a')", stream("a\n"), stream("b\n"), shown(plain="3")),
            code("draw()", shown(plain="<Figure size 640x480>", png=PIXEL), shown(html="<table>\n\n<tr></tr></table>")),
            code("", stream("unseen")),
        ),
        "first",
    )
    assert found.images == {"first-1.png": b"\x89PNG pixel"}
    assert found.markdown.split("\n\n") == [
        "# Title",
        "See [calibration](../concepts/calibration.md).",
        "```python\nprint('a')\n```",
        "```{ .text .visus-output }\na\nb\n3\n```",
        "```python\ndraw()\n```",
        "![output of the cell above](first-1.png)",
        '<div class="visus-output-html">\n<table>\n<tr></tr></table>\n</div>\n',
    ]


def test_code_with_fences_stays_one_block() -> None:
    assert render(notebook(code("print('```')", stream("```\n"))), "a").markdown.count("````") == 4


@pytest.mark.slow
def test_scripts_notebooks_executes_in_place(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs the extra docs")
    pytest.importorskip("ipykernel", reason="needs the extra docs")
    file = tmp_path / "a.ipynb"
    file.write_text(
        json.dumps(notebook(code("import visus\nopen('left.txt', 'w').close()\nprint(visus.__version__)", stream("old"))))
    )
    command = [sys.executable, "-m", "docs.generators.run_notebooks", str(file)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    executed = read_notebook(file)
    assert problems(executed) == []
    assert "".join(executed["cells"][0]["outputs"][0]["text"]).strip()[0].isdigit()
    assert not (ROOT / "left.txt").exists()
    assert not (tmp_path / "left.txt").exists()
