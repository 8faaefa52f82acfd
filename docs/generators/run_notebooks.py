"""``scripts/notebooks``: executes notebooks in place, and stores the hash of the code that was executed.

Each runs in a new process and in a temporary folder, so it needs no other files than those that come with visus.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from .notebooks import KEY, code_hash, problems, read_notebook

FOLDER = Path(__file__).resolve().parents[1] / "tutorials"
LIMIT_S = 900


def execute(file: Path, folder: Path) -> dict[str, Any]:
    """The notebook with new outputs; the file is not changed.

    Args:
        file: the notebook.
        folder: working folder of its process.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    client.execute()
    executed: dict[str, Any] = notebook
    executed["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    executed["metadata"][KEY] = {"code_sha256": code_hash(executed)}
    return executed


def main(names: list[str]) -> int:
    """Execute the named notebooks, or all; returns the exit code."""
    import nbformat

    files = [Path(name) for name in names] or sorted(FOLDER.glob("*.ipynb"))
    failed = 0
    for file in files:
        print(file.name, file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="visus-notebook-") as folder:
            executed = execute(file, Path(folder))
        nbformat.write(executed, file)  # type: ignore[no-untyped-call]
        for problem in problems(read_notebook(file)):
            print(f"{file.name}: {problem}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
