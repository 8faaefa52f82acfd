"""``reference/commands.md``: every command with its usage, arguments, options, exit codes and an example, from the command line itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from visus.cli.examples import EXAMPLES
from visus.cli.settings import GROUPS
from visus.cli.stopping import CODE
from visus.training.recipe import FIELDS

from .errors import error_classes, exit_codes
from .markdown import escape, summary_of, table

EXIT_NOTES = {
    "predict": "The exit code is 1 if a file could not be read; the others are still labeled.",
    "solve": "The exit code is 1 if there is no solution, or if the five given numbers do not fit together.",
}
"""What an exit code means for one command beyond the table of exit codes."""

_TYPES = {
    word: kind
    for kind, words in {
        "text": ("str", "text"),
        "text, repeatable": ("list[str]",),
        "path": ("path",),
        "whole number": ("int", "int range", "integer", "integer range"),
        "number": ("float", "float range"),
    }.items()
    for word in words
}
"""Types in words by the names that typer's versions print."""


class Parameter(NamedTuple):
    """An argument or an option, as the page shows it.

    Args:
        name: the ways to write it, such as ``-b, --batch-size``.
        group: heading of its table; empty if the command has no groups, or if it is in the last one.
        type: type in words; empty for a switch.
        default: the default in words; empty if there is none.
        meaning: one sentence.
        setting: name of the setting that it sets; empty if it sets none.
    """

    name: str
    group: str
    type: str
    default: str
    meaning: str
    setting: str = ""


def commands() -> dict[str, Any]:
    """Every command of the command line, and every command below it, by its words, such as ``experiment mlp``."""
    import typer

    from visus.cli.app import app

    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if not command.hidden:
            yield f"{words}{name}", command
            yield from _below(command, f"{words}{name} ")


def parameters(command: Any) -> list[Parameter]:
    """The arguments and options of a command, without ``--help``."""
    import typer

    context = typer.Context(command, info_name="")
    return [_parameter(each, context) for each in command.get_params(context) if "--help" not in each.opts]


def _parameter(param: Any, context: Any) -> Parameter:
    is_argument = param.param_type_name == "argument"
    is_hidden, param.hidden = getattr(param, "hidden", False), False
    written, words = param.get_help_record(context)
    param.hidden = is_hidden
    meaning, default, limits = _split_help(words)
    if is_argument:
        name = param.name.upper() if param.metavar is None else param.metavar
    else:
        name = ", ".join([*reversed(param.opts), *reversed(param.secondary_opts)])
    takes_settings = any("--set" in each.opts for each in context.command.params)
    is_setting = takes_settings and param.name in FIELDS
    setting = str(param.name) if is_setting else ""
    group = "Arguments" if is_argument else getattr(param, "rich_help_panel", None) or ""
    if setting and FIELDS[setting].default is not None:
        default = str(FIELDS[setting].default)
    kind = "" if getattr(param, "is_flag", False) else _type_words(written, setting)
    return Parameter(name, group, f"{kind}{limits}", default, meaning, setting)


def _split_help(words: str) -> tuple[str, str, str]:
    """Meaning, default and range of a help text.

    >>> _split_help("Samples in one step.  [default: 64; x>=1]")
    ('Samples in one step.', '64', ', at least 1')
    >>> _split_help("Folder of the runs; default: runs.")
    ('Folder of the runs.', 'runs', '')
    >>> _split_help("Run folder.  [required]")
    ('Run folder.', 'required', '')
    """
    text, _, extra = words.partition("  [")
    facts = [fact.strip() for fact in extra.rstrip("]").split(";")] if extra else []
    default = next((fact.removeprefix("default: ") for fact in facts if fact.startswith("default: ")), "")
    if "required" in facts:
        default = "required"
    limits = next((f", at least {fact.removeprefix('x>=')}" for fact in facts if fact.startswith("x>=")), "")
    meaning, mark, said = text.partition("; default")
    if mark and not default:
        default = said.removeprefix(":").strip().removesuffix(".")
        text = f"{meaning}."
    return text.strip(), default, limits


def _type_words(written: str, setting: str) -> str:
    """The type of a value in words, from the left column of the help."""
    found = re.search(r"<([^<>]+)>$|(?<= )([A-Z=|]+(?: RANGE)?)$", written)
    kind = (found[1] or found[2]) if found else ""
    known = FIELDS[setting].metadata["known"] if setting else ()
    return ", ".join(f"`{word}`" for word in known) or _TYPES.get(kind.lower(), escape(kind))


def pages() -> dict[str, str]:
    """The page of commands.

    Raises:
        ValueError: a command has no example.
    """
    found = commands()
    runnable = [name for name, command in found.items() if not getattr(command, "commands", None)]
    if missing := [name for name in runnable if name not in EXAMPLES]:
        raise ValueError(f"visus {missing[0]} has no line in EXAMPLES of src/visus/cli/examples.py. Add an example.")
    rows = [(f"[`visus {name}`](#visus-{name.replace(' ', '-')})", _help(found[name])) for name in runnable]
    sections = "\n\n".join(_section(name, command) for name, command in found.items())
    text = f"""# Commands

{table(("command", "does"), rows)}

Results go to stdout, messages to stderr, so a script can capture a result. `--json` prints the result as one JSON value. Every command has
`--help`. In scripts, `python -m visus` is the same as `visus`.

## Exit codes

{table(("exit code", "meaning"), _exit_rows())}

[Errors](errors.md) lists every error with what to do.

{sections}
"""
    return {"reference/commands.md": text}


def _exit_rows() -> Iterator[tuple[str, str]]:
    """The exit codes with their meanings, from the error classes."""
    yield "0", "Success."
    classes = error_classes()
    for code, names in sorted(exit_codes().items()):
        same = [classes[name] for name in names]
        parents = [name for name in names if classes[name].__base__ not in same]
        meanings = " ".join(summary_of(inspect.getdoc(classes[name]) or "") for name in parents)
        yield str(code), f"Ctrl-C. {meanings}" if code == CODE else meanings


def _help(command: Any) -> str:
    return escape(" ".join((command.help or "").split()))


def _section(name: str, command: Any) -> str:
    """The section of one command."""
    import typer

    level = "##" if " " not in name else "###"
    parts = [f"{level} visus {name} {{ #visus-{name.replace(' ', '-')} }}", _help(command)]
    if getattr(command, "commands", None):
        return "\n\n".join(parts)
    found = parameters(command)
    arguments = [
        each.name if each.default == "required" else f"[{each.name}]" for each in found if each.group == "Arguments"
    ]
    pieces = command.collect_usage_pieces(typer.Context(command, info_name=""))
    words = [
        piece if piece.startswith("[OPT") else arguments[number - 1] + ("..." if piece.rstrip("]").endswith("...") else "")
        for number, piece in enumerate(pieces)
    ]
    parts.append(f"```text\nvisus {' '.join([name, *words])}\n```")
    lines = "\n".join(EXAMPLES[name])
    parts.append(f"For example:\n\n```sh\n{lines}\n```")
    named = [group for group in GROUPS if any(each.group == group for each in found)]
    for group in ("Arguments", *named, ""):
        if rows := [_row(each) for each in found if each.group == group]:
            head = ("argument" if group == "Arguments" else "option", "type", "default", "meaning")
            parts.append(f"**{group or ('Output' if named else 'Options')}**\n\n{table(head, rows)}")
    if name in EXIT_NOTES:
        parts.append(EXIT_NOTES[name])
    return "\n\n".join(parts)


def _row(each: Parameter) -> tuple[str, str, str, str]:
    name = " ".join(f"`{way}`" for way in each.name.split(", "))
    if each.setting:
        name = f"[{name}](settings.md#{each.setting})"
    return name, each.type, escape(each.default), escape(each.meaning)
