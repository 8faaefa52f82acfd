"""The settings of a training as options: one for every field of ``Recipe``, and ``--set NAME=VALUE`` for all of them.

Names, help and groups of the options come from ``training.recipe``.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from visus.cli.completion import DEVICES, words
from visus.cli.examples import EXAMPLES
from visus.cli.mistyped import refuse_arguments, unknown_setting
from visus.cli.options import declare
from visus.errors import UsageError
from visus.training.recipe import FIELDS, Recipe
from visus.units import read_duration

GROUPS: Final = ("Data", "Model", "Training", "Augmentation", "Machine", "Output")
OPTIONS: Final = "Options"
"""Heading of what belongs to one command alone; it comes first."""
_GROUP_OF: Final = {
    **dict.fromkeys(
        (
            "path_column",
            "label_column",
            "skip_missing",
            "class_depth",
            "layout",
            "max_unreadable",
            "split",
            "split_seed",
            "task",
            "val",
            "test",
        ),
        "Data",
    ),
    **dict.fromkeys(("device", "cache_dir", "workers"), "Machine"),
    **dict.fromkeys(
        ("as_json", "quiet", "verbose", "output", "name", "resume", "confusion_png", "help", "help_all"), "Output"
    ),
}
"""Group of an option that does not name its own, by the name of its parameter."""
_DURATION: Final = "time_limit_s"


def option_of(setting: str) -> str:
    """The option name of a setting.

    >>> option_of("learning_rate"), option_of("weight_decay")
    ('--lr', '--weight-decay')
    """
    named: str | None = FIELDS[setting].metadata["option"]
    return named or f"--{setting.replace('_', '-')}"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each setting to a command; it receives the options in use as the dict ``given``.

    Its argument ``assignments`` has the values of ``--set``.

    Raises:
        UsageError: a setting is given twice, or a value of ``--set`` cannot be parsed.
    """

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        options = {name: arguments.pop(name) for name in FIELDS}
        given = {name: value for name, value in options.items() if value is not None}
        if _DURATION in given:
            text, given[_DURATION] = given[_DURATION], read_duration(given[_DURATION])
            if re.fullmatch(r"[\d.]+", text.strip()) and given[_DURATION] < 60 and not arguments.get("quiet"):
                number = text.strip()
                sys.stderr.write(f"note: --time-limit {number} is {number} seconds; write {number}m for minutes.\n")
        assigned = read_assignments(arguments.pop("assignments") or ())
        if twice := [option_of(name) for name in FIELDS if name in given and name in assigned]:
            raise UsageError(f"{', '.join(twice)} is also given by --set. Give it once.")
        command(**arguments, given=given | assigned)

    return declare(called, command, "given", map(_parameter, FIELDS))


def _parameter(setting: str) -> inspect.Parameter:
    """The option of a setting, as typer takes it."""
    facts = FIELDS[setting].metadata
    kind: Any = str if setting == _DURATION else _KINDS[setting]
    option = typer.Option(
        option_of(setting),
        *([facts["short"]] if facts["short"] else []),
        help=_sentence(facts["describe"]),
        hidden=not facts["is_basic"],
        rich_help_panel=facts["group"],
        autocompletion=words(*_known(setting)) if _known(setting) else None,
    )
    return inspect.Parameter(
        setting, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _known(setting: str) -> tuple[str, ...]:
    """The words that a setting takes; empty if it takes others too."""
    known: tuple[str, ...] = FIELDS[setting].metadata["known"]
    return DEVICES if setting == "device" else known


def _sentence(text: str) -> str:
    """Words that begin with a small letter, as a sentence."""
    return f"{text[0].upper()}{text[1:]}."


def read_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse settings such as ``weight_decay=0.01``; option names are allowed too.

    Raises:
        UsageError: a value has no ``=``, or a name is unknown or repeated.

    >>> read_assignments(["weight_decay=0.01", "lr-head=2", "time-limit=5m", "flip=none"])
    {'weight_decay': 0.01, 'head_lr': 2, 'time_limit_s': 300.0, 'flip': 'none'}
    """
    names = {name: name for name in FIELDS} | {option_of(name).removeprefix("--").replace("-", "_"): name for name in FIELDS}
    found: dict[str, Any] = {}
    for word in assignments:
        named, equals, text = word.partition("=")
        key = named.strip().removeprefix("--").replace("-", "_")
        if not equals or not text.strip():
            raise UsageError(f"--set takes NAME=VALUE, such as weight_decay=0.01, not {word!r}.")
        if key not in names:
            raise UsageError(unknown_setting(key, text.strip()))
        if (name := names[key]) in found:
            raise UsageError(f"--set gives {name} twice. Give it once.")
        found[name] = _value(name, text.strip())
    return found


def _value(setting: str, text: str) -> Any:
    """A value as its setting has it; text where it is none, for the recipe to refuse."""
    if setting == _DURATION:
        return read_duration(text)
    for kind in (int, float):
        if _KINDS[setting] in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _kind(annotation: Any) -> Any:
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)


_KINDS: Final = {name: _kind(kind) for name, kind in get_type_hints(Recipe).items()}


class GroupedCommand(TyperCommand):
    """A command whose help lists its options in groups, expert options only under ``--help-all``, and ends with examples."""

    shows_all = False

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the words of the command line; an argument such as ``epochs=3`` is refused."""
        typed = [*ctx.command_path.split(), *args]
        rest = super().parse_args(ctx, args)
        given = {each.name: ctx.params.get(each.name) for each in self.params if each.param_type_name == "argument"}
        refuse_arguments(self, {str(name): value for name, value in given.items() if value is not None}, typed)
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options of this command, and the others under the headings of ``GROUPS``."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Arguments", OPTIONS, *GROUPS)}
        for each in self.get_params(ctx):
            is_hidden, each.hidden = getattr(each, "hidden", False), False  # type: ignore[attr-defined]
            record = each.get_help_record(ctx)
            each.hidden = is_hidden  # type: ignore[attr-defined]
            if record is not None and (self.shows_all or not is_hidden):
                group = getattr(each, "rich_help_panel", None) or _GROUP_OF.get(each.name, OPTIONS)
                sections["Arguments" if each.param_type_name == "argument" else group].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the closing sentence and the examples, each in one line that can be copied."""
        super().format_epilog(ctx, formatter)
        if examples := EXAMPLES.get(ctx.command_path.partition(" ")[2]):
            with formatter.section("Examples"):
                for line in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """What the shell offers; expert options too."""
        hidden: list[Any] = [each for each in self.params if getattr(each, "hidden", False)]
        for each in hidden:
            each.hidden = False
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            for each in hidden:
                each.hidden = True


def show_all_help(ctx: typer.Context, value: bool) -> None:
    """Print the help with every option, and exit."""
    if value:
        command: Any = ctx.command
        command.shows_all = True
        try:
            print(command.get_help(ctx))
        finally:
            command.shows_all = False
        raise typer.Exit
