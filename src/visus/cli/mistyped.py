"""Better messages for words that typer refuses: commands of other tools, options written as NAME=VALUE, unquoted spaces."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from visus.errors import UsageError, closest_name

_COMMANDS: Final = {
    **dict.fromkeys(("eval", "val", "validate", "score", "test"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "detect", "classify"), "predict"),
    **dict.fromkeys(("fit", "finetune", "fine-tune"), "train"),
}
"""Commands of other tools, with the command of visus that does the same."""
_NO_EXPORT: Final = (
    "there is no export yet. The weights of a run are in RUN/weights/best.safetensors, its network is in RUN/design.txt, "
    "and visus.load(RUN).module is the trained torch.nn.Module."
)
_LOSSES: Final = ("loss", "criterion", "loss-fn")
_OWN_LOSS: Final = (
    "No such option: --{}. visus trains with cross-entropy (--label-smoothing, --class-weights). For a loss of your own, write the loop yourself: "
    "see the how-to page on an own augmentation or loss."
)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z][\w-]*)=(\S.*)")


def refused(message: str, typed: Sequence[str], command: Any) -> str | None:
    """A better message for words that typer refused; None if its own is good enough.

    Args:
        message: the message of typer.
        typed: the words of the command line.
        command: the command that refused them; None if unknown.
    """
    if match := re.match(r"No such command '(.*?)'", message):
        return _unknown_command(match[1])
    if match := re.match(r"No such option: --?([\w-]+)", message):
        if match[1] in _LOSSES:
            return _OWN_LOSS.format(match[1])
        return _output_of_predictions(match[1], typed, command) or _option_for_argument(match[1], typed, command)
    if match := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        return _extra_words(match[1].split(" "), typed, command)
    return None


def refuse_assignments(command: Any, arguments: Iterable[object]) -> None:
    """Raise an error for an argument such as ``data=photos`` that is not the name of a file.

    Raises:
        UsageError: there is one.
    """
    for value in arguments:
        if sentence := _as_options([str(value)], command):
            raise UsageError(sentence)


def _unknown_command(name: str) -> str | None:
    if name == "export":
        return _NO_EXPORT
    return f"No such command {name!r}. Did you mean {_COMMANDS[name]!r}?" if name in _COMMANDS else None


def _output_of_predictions(name: str, typed: Sequence[str], command: Any) -> str | None:
    """The message where a file for predictions was typed as an option."""
    if getattr(command, "name", None) != "predict" or name not in ("o", "out", "output", "save"):
        return None
    files = [word.partition("=")[2] or word for word in typed if word.endswith((".csv", ".json", ".txt", ".tsv"))]
    file = shlex.quote(files[-1]) if files else "answers.csv"
    dashes = "-" if len(name) == 1 else "--"
    return (
        f"No such option: {dashes}{name}. Predictions are printed; to write them to a file: visus predict RUN FILES > {file}. "
        "To sort the files into folders: --sort-into FOLDER"
    )


def _option_for_argument(name: str, typed: Sequence[str], command: Any) -> str | None:
    """The message where an argument was typed as an option."""
    if name not in _arguments(command):
        return None
    word = f"--{name}"
    place = next((number for number, each in enumerate(typed) if each == word or each.startswith(f"{word}=")), None)
    if place is None:
        return None
    value = typed[place].partition("=")[2] or (typed[place + 1] if place + 1 < len(typed) else name.upper())
    return f"No such option: {word}. {name.upper()} is an argument: visus {command.name} {shlex.quote(value)}"


def _extra_words(extra: Sequence[str], typed: Sequence[str], command: Any) -> str | None:
    """The message where words are left over: a name with spaces, or options written as NAME=VALUE."""
    for first in range(1, len(typed)):
        for end in range(first + 2, len(typed) + 1):
            name = " ".join(typed[first:end])
            if set(extra) & set(typed[first:end]) and _exists(name):
                return f"unexpected argument {extra[0]!r}. Did you mean {name!r}? Put a name with spaces in quotes."
    return _as_options(extra, command)


def _as_options(words: Sequence[str], command: Any) -> str | None:
    """How words such as ``epochs=3`` are written; None if one of them is something else, or a file."""
    sentences, written = [], []
    for word in words:
        match = _ASSIGNMENT.fullmatch(word)
        if match is None or _exists(word):
            return None
        name, value = match[1].replace("_", "-"), shlex.quote(match[2])
        options = _options(command)
        if name in _arguments(command):
            sentences.append(f"{name.upper()} is an argument: visus {command.name} {value}")
        elif f"--{name}" in options:
            written.append(f"--{name} {value}")
        else:
            guess = closest_name(f"--{name}", options)
            hint = f" Did you mean {guess} {value}?" if guess else ""
            sentences.append(f"options are written --NAME VALUE, and there is no --{name}.{hint}".removesuffix("."))
    if written:
        sentences.insert(0, f"options are written {' '.join(written)}")
    return f"{' '.join(words)}: {'; '.join(sentences)}{'' if sentences[-1].endswith('?') else '.'}" if sentences else None


def _arguments(command: Any) -> set[str]:
    """The names of a command's arguments."""
    return {each.name for each in getattr(command, "params", ()) if each.param_type_name == "argument"}


def _options(command: Any) -> list[str]:
    """The long options of a command."""
    options = (each for each in getattr(command, "params", ()) if each.param_type_name == "option")
    return sorted(name for each in options for name in each.opts if name.startswith("--"))


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a name
        return False
