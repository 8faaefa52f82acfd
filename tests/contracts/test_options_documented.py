"""No command, option or setting without words: each is described where a person meets it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from typing import Any

Tree = Any  # the fixture of conftest.py


def commands() -> dict[str, Any]:
    """The commands of the command line by name."""
    import typer

    group: Any = typer.main.get_command(importlib.import_module("visus.cli.app").app)
    found = {name: command for name, command in group.commands.items() if not command.hidden}
    for name, command in list(found.items()):
        found |= {f"{name} {each}": below for each, below in getattr(command, "commands", {}).items()}
    return found


def options_of(command: Any) -> set[str]:
    """Every way to write an option of a command, such as ``-b`` and ``--batch-size``."""
    written = [(*option.opts, *option.secondary_opts) for option in command.params]
    return {way for ways in written for way in ways if way.startswith("-")}


def test_readme_writes_only_options_that_exist(tree: Tree) -> None:
    existing = set().union(*(options_of(command) for command in commands().values()))
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", tree.document("README.md")))
    assert written
    assert written <= existing, sorted(written - existing)


def test_every_command_and_option_has_its_help() -> None:
    silent = [f"visus {name}" for name, command in commands().items() if not command.help]
    for name, command in commands().items():
        options = [option for option in command.params if option.name != "help" and not getattr(option, "hidden", False)]
        silent += [f"visus {name} {option.opts[0]}" for option in options if not getattr(option, "help", None)]
    assert not silent, "without help: " + ", ".join(silent)


def described_fields(kind: type) -> set[str]:
    """The fields of a dataclass that are described: by metadata, under ``Args``, or by a string right below the field."""
    described = {
        field.name for field in dataclasses.fields(kind) if {"help", "describe", "description"} & set(field.metadata)
    }
    arguments = re.split(r"^\s*(?:Args|Attributes):\s*$", inspect.getdoc(kind) or "", maxsplit=1, flags=re.M)[1:]
    described |= {name for text in arguments for name in re.findall(r"^\s+(\w+)(?: \([^)]*\))?: \S", text, re.M)}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            described.add(field.target.id)
    return described


def test_every_setting_of_a_recipe_is_described() -> None:
    recipe = importlib.import_module("visus").Recipe
    silent = {field.name for field in dataclasses.fields(recipe)} - described_fields(recipe)
    assert not silent, f"settings of Recipe without a description: {sorted(silent)}"
