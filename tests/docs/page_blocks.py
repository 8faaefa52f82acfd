"""The fenced blocks of a written page, what they should print, and one shell session that runs them all.

A page means by its fences:

- ``sh``: commands that succeed. ``python``: a script in a process of its own. A ``text`` fence directly after either is what it prints.
- ``console``: commands after ``$ ``, which may fail, each followed by what it prints.
- ``pycon``: a doctest; all of one page share their names.

In printed text, a line of ``...`` alone stands for any text, and line breaks may differ, since terminals wrap differently. On a page that trains, numbers
may differ too, since machines round differently.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.M | re.S)
_WAITING = re.compile(r"^loading PyTorch +\d+ s\n", re.M)
"""A line that a command prints every ten seconds while a slow machine loads PyTorch."""
_NUMBER = re.compile(r"\d[\d,.]*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fence of a page.

    Args:
        language: the word after the backticks.
        content: the lines between them.
        line: number of its first line in the page.
        printed: what it prints, as the page quotes it; None if the page does not.
    """

    language: str
    content: str
    line: int
    printed: str | None = None


def blocks_of(page: str) -> list[Block]:
    """The fences of a page, in order; a ``text`` fence directly after code becomes what that code prints.

    >>> blocks_of("```sh\\nls\\n```\\n\\n```text\\na.png\\n```\\n")
    [Block(language='sh', content='ls\\n', line=2, printed='a.png\\n')]
    """
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(page):
        language, content = fence.groups()
        is_output = language == "text" and found and found[-1].language in {"sh", "python"}
        if is_output and not page[end : fence.start()].strip():
            found[-1] = Block(found[-1].language, found[-1].content, found[-1].line, content)
        else:
            found.append(Block(language, content, page.count("\n", 0, fence.start()) + 2))
        end = fence.end()
    return found


def commands_of(block: Block) -> list[tuple[str, str]]:
    """(command, what it prints) for each command of a ``console`` fence.

    >>> commands_of(Block("console", "$ ls\\na.png\\n$ true\\n", 1))
    [('ls', 'a.png\\n'), ('true', '')]
    """
    pieces = re.split(r"^\$ ", block.content, flags=re.M)[1:]
    return [(command, printed) for command, _, printed in (piece.partition("\n") for piece in pieces)]


def trains(blocks: list[Block]) -> bool:
    """Whether a page trains a network, so that its numbers depend on the machine."""
    return any(re.search(r"\bvisus(\.| )(train|experiment)\b", block.content) for block in blocks)


def plain(text: str, *, has_numbers: bool = True) -> str:
    """Text with every run of white space as one space and, without numbers, every number as ``#``.

    >>> plain("p = 4.8e-07 on 1,000 images,\\n  and 3 more", has_numbers=False)
    'p = # on # images, and # more'
    """
    return " ".join((text if has_numbers else _NUMBER.sub("#", text)).split())


def first_difference(expected: str, printed: str, *, has_numbers: bool = True) -> str | None:
    """The first quoted piece that does not occur in the output, behind the piece before it; None if all occur.

    Args:
        expected: what the page quotes.
        printed: what was printed.
        has_numbers: whether numbers must be equal too.

    >>> first_difference("class bag\\n...\\n12 samples", "class bag\\nclass boot\\n12 samples")
    >>> first_difference("class bag\\n...\\n12 samples", "36 samples\\nclass bag")
    '12 samples'
    >>> first_difference("12 samples", "36 samples", has_numbers=False)
    >>> first_difference("runs/a\\n12 samples", "runs/a\\nloading PyTorch  10 s\\n12 samples")
    """
    rest = plain(_WAITING.sub("", printed), has_numbers=has_numbers)
    for piece in re.split(r"^\.\.\.$", expected, flags=re.M):
        wanted = plain(piece, has_numbers=has_numbers)
        if wanted and wanted not in rest:
            return wanted
        rest = rest.partition(wanted)[2] if wanted else rest
    return None


def run_doctests(blocks: list[Block], name: str) -> str:
    """Run the ``pycon`` fences of a page in one namespace; the report of failures, empty if there are none."""
    names: dict[str, object] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    for block in blocks:
        if block.language == "pycon":
            test = doctest.DocTestParser().get_doctest(block.content, names, name, name, block.line - 1)
            assert test.examples, f"{name}:{block.line}: a pycon fence without >>>"
            runner.run(test, out=report.append, clear_globs=False)
            names = test.globs
    return "".join(report)


def run_page(blocks: list[Block], folder: Path) -> Iterator[tuple[Block, str, str]]:
    """Run the ``sh``, ``console`` and ``python`` fences of a page in one shell; yields each with what it should print and what it printed.

    Args:
        blocks: the fences of a page.
        folder: where they run; its folder ``.bin`` receives the commands ``visus``, ``python`` and ``torchrun`` of this interpreter.

    Raises:
        AssertionError: a command failed; the message has its output.
    """
    steps, outputs = ["set -euo pipefail"], []
    for block in blocks:
        if block.language == "console":
            for command, printed in commands_of(block):
                outputs.append((block, printed))
                steps += [f"{{ {command}\n}} > .out/{len(outputs)} 2>&1 || true"]
        elif block.language in {"sh", "python"}:
            outputs.append((block, block.printed or "..."))
            content = block.content.rstrip("\n")
            body = content if block.language == "sh" else f"python - <<'END_OF_PYTHON'\n{content}\nEND_OF_PYTHON"
            steps += [f"{{ {body}\n}} > .out/{len(outputs)} 2>&1"]
    (folder / ".out").mkdir()
    script = folder / ".out" / "script"
    script.write_text("\n".join([*steps, "touch .out/done"]), encoding="utf-8")
    subprocess.run(
        ["bash", str(script)], cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, timeout=900, check=False
    )
    written = [path for number in range(1, len(outputs) + 1) if (path := folder / ".out" / str(number)).exists()]
    assert (folder / ".out" / "done").exists(), (
        f"line {outputs[len(written) - 1][0].line} failed:\n{written[-1].read_text('utf-8')[-3000:]}"
    )
    for path, (block, expected) in zip(written, outputs, strict=True):
        yield block, expected, path.read_text("utf-8")


def _environment(folder: Path) -> dict[str, str]:
    """The environment in which the commands of a page mean this interpreter and this checkout."""
    commands = folder / ".bin"
    commands.mkdir()
    for name, words in {"visus": "-m visus", "python": "", "torchrun": "-m torch.distributed.run"}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        (commands / name).chmod(0o755)
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(root / "src"), "COLUMNS": "120"}
