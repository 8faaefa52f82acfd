"""The code blocks of a document: their commands, how the command line parses them, and their Python."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path


def fences(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fence, in order."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", text, re.M | re.S)


def shell_lines(language: str, content: str) -> list[str]:
    """The commands of a fence, continued lines joined."""
    content = content.replace("\\\n", " ")
    if language == "console":
        return [line[2:] for line in content.splitlines() if line.startswith("$ ")]
    return [line for line in content.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def visus_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of visus in a line of shell, also within ``$(...)``, pipes and lists.

    >>> list(visus_calls("RUN=$(visus train photos) && .venv/bin/visus doctor --json | cat"))
    [['train', 'photos'], ['doctor', '--json']]
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&`")
    lexer.whitespace_split = True
    call: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&`"):
            if call and Path(call[0]).name == "visus":
                yield call[1:]
            call = []
        else:
            call.append(token)


def parse_call(arguments: list[str]) -> None:
    """Parse arguments as the command line does, and do nothing; raises what it would answer to a mistake."""
    import typer

    command = typer.main.get_command(importlib.import_module("visus.cli.app").app)
    doing_nothing: Callable[..., None] = lambda **_: None  # noqa: E731
    parts = [command]
    while parts:
        part = parts.pop()
        part.callback = doing_nothing
        parts += getattr(part, "commands", {}).values()
    command.main(arguments, prog_name="visus", standalone_mode=False)


def missing_names(block: str) -> list[str]:
    """The names of visus that a block of Python uses and that do not exist.

    >>> missing_names("import visus; visus.train(); visus.trane()")
    ['visus.trane']
    """
    used: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(block)):
        match node:
            case ast.Attribute(value=ast.Name(id="visus"), attr=name):
                used.append(("visus", name))
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "visus":
                used += [(module, alias.name) for alias in names]
    return [f"{module}.{name}" for module, name in used if not hasattr(importlib.import_module(module), name)]
