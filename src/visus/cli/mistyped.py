"""Better messages for words that typer refuses: commands, options and NAME=VALUE of other tools, unquoted spaces, a missing run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from visus.cli.completion import run_folders
from visus.errors import NO_DOWNLOAD, RecipeError, UsageError, closest_name, unknown_name
from visus.other_libraries import ARGUMENTS, SETTINGS, device_of
from visus.training.recipe import ELSEWHERE, FIELDS, NOT_SETTABLE, Recipe

_COMMANDS: Final = {
    **dict.fromkeys(("eval", "val", "validate", "score", "test"), "evaluate"),
    **dict.fromkeys(("infer", "inference"), "predict"),
    **dict.fromkeys(("fit", "finetune", "fine-tune"), "train"),
    "info": "summary",
}
"""Commands of other tools, with the command of visus that does the same."""
_MODES: Final = {"train": "train", "val": "evaluate", "predict": "predict", "benchmark": "benchmark", "export": "export"}
"""Second words of Ultralytics, as in ``yolo classify train``, with the command of visus."""
_OTHER_TASKS: Final = ("detect", "segment", "pose", "obb", "track")
_PAGE: Final = "docs/how-to/coming-from.md lists the words of other tools."
_IN_COMMANDS: Final = {"network": "model", "num_workers": "workers", "model": "run", "weights": "run"}
"""Arguments of Python, with their names in commands; a command without a network takes a run."""
_SET_APART: Final = {"network": "--model", "num_workers": "--workers", "split": "--split-file"}
_ABSENT: Final = {
    "conf": "visus has no threshold, and each prediction has its probability.",
    **dict.fromkeys(
        ("save-txt", "save-csv", "save-conf"), "predictions are printed, and --out FILE.csv writes them to a table."
    ),
    "exist-ok": "each training gets a folder of its own, and no run is overwritten.",
    "save": "every run is saved in its folder.",
    "cache": "decoded data is always cached, and --cache-dir names the folder.",
}
"""Options of other tools that visus does not have, with the reason."""
_IMAGES: Final = (".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_WEIGHTS: Final = (".pt", ".pth", ".ckpt")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z][\w-]*)=(\S.*)")


@dataclass
class _Line:
    """A command line as it was meant.

    Args:
        command: the command.
        path: the words of the command, such as ``experiment mlp``.
        positional: what was typed without a name.
        arguments: what was typed as NAME=VALUE for an argument, by the argument.
        options: options and their values.
        assignments: the words NAME=VALUE.
        problems: sentences on words that cannot be translated.
        notes: sentences on words that are left out.
    """

    command: Any
    path: list[str]
    positional: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    assignments: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names = [each.name for each in _parameters(self.command, "argument")]
        named = [shlex.quote(self.arguments[name]) for name in names if name in self.arguments and name != "run"]
        plain = [shlex.quote(word) for word in self.positional]
        if "run" in self.arguments:
            plain.insert(0, shlex.quote(self.arguments["run"]))
        if _takes_run(self.command) and self._lacks_run():
            plain.insert(0, _newest_run())
        if "--resume" in self.options:
            plain, named = [], []
        return " ".join(["visus", *self.path, *plain, *named, *map(_quoted, self.options)])

    def _lacks_run(self) -> bool:
        """Whether no run is typed: there is no word, or the first one is a file or folder that is no run."""
        if self.positional and self.command.name == "predict":
            first = self.positional[0]
            return "run" not in self.arguments and not _is_run(first) and (_exists(first) or first.lower().endswith(_IMAGES))
        return not self.positional and "run" not in self.arguments


def refused(message: str, typed: Sequence[str], command: Any) -> str | None:
    """A better message for words that typer refused; None if its own is good enough.

    Args:
        message: the message of typer.
        typed: the words of the command line.
        command: the command that refused them; None if unknown.
    """
    if match := re.match(r"No such command '(.*?)'", message):
        return _unknown_command(match[1], typed, command)
    if match := re.match(r"No such option: (--?([\w-]+))", message):
        if assignment := _as_assignment(match[1], typed, command):
            return f"No such option: {match[1]}. Write: --set {assignment}"
        return _refused_option(match[2], typed, command)
    if match := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        return _extra_words(match[1].split(" "), typed, command)
    if message.startswith("Missing argument") and getattr(command, "name", None) == "predict":
        return _missing(typed, command)
    return None


def refuse_arguments(command: Any, values: dict[str, Any], typed: Sequence[str]) -> None:
    """Raise an error for arguments that other tools take: ``data=photos``, an address, an image in place of a run.

    Args:
        command: the command.
        values: its arguments by name.
        typed: the words of the command line.

    Raises:
        UsageError: there is one.
    """
    words = [str(each) for value in values.values() for each in (value if isinstance(value, (list, tuple)) else [value])]
    if command.name == "solve" and re.match(r"\s*[A-Za-z]\s*=.*[(/+]", formula := str(values.get("network") or "")):
        raise UsageError(
            f"{formula}: solve takes numbers, and finds the one that is left out. Write: visus solve --in 224 --kernel 7 --stride 2 --out 112"
        )
    if address := next((word for word in words if re.match(r"https?:/", word)), None):
        raise UsageError(f"{address}: {NO_DOWNLOAD}")
    if any(_ASSIGNMENT.fullmatch(word) and not _exists(word) for word in words) and (
        sentence := _as_options(typed, command)
    ):
        raise UsageError(sentence)
    first = str(values.get("run") or "")
    if command.name == "predict" and first.lower().endswith(_IMAGES) and not _is_run(first):
        raise UsageError(f"{first}: the run folder comes first. Write: {_meant_line(typed, command)}")


def unknown_setting(name: str, value: str) -> str:
    """The message for a name that ``--set`` does not know.

    >>> unknown_setting("imgsz", "64")
    "--set takes settings of the training, and 'imgsz' is none. Write --img-size 64"
    """
    if (other := name.replace("_", "-")) in _CONVERTED:
        option, text = _CONVERTED[other](value)
        is_setting = option.replace("-", "_") in FIELDS
        written = f"--set {option.replace('-', '_')}={text}" if is_setting else f"--{option} {text}"
        return f"unknown setting {name!r}. Write {written}"
    if name in SETTINGS:
        return f"unknown setting {name!r}. Did you mean {SETTINGS[name]!r}?"
    if sentence := NOT_SETTABLE.get(name):
        return f"unknown setting {name!r}: {sentence}"
    others = set(ELSEWHERE) - {"data", "on_event", "progress"}
    if meant := next((each for each in (name, *ARGUMENTS.get(name, ())) if each in others), None):
        option = _SET_APART.get(meant, f"--{meant.replace('_', '-')}")
        return f"--set takes settings of the training, and {name!r} is none. Write {option} {shlex.quote(value)}"
    return unknown_name("setting", name, sorted(FIELDS))


def _unknown_command(name: str, typed: Sequence[str], group: Any) -> str | None:
    if name in _COMMANDS:
        return f"No such command {name!r}. Did you mean {_COMMANDS[name]!r}?"
    if name not in ("yolo", "classify", *_OTHER_TASKS):
        return _path_as_command(name, group) if _exists(name) else None
    words = [word for word in typed[typed.index(name) :] if word not in ("yolo", "classify", "task=classify")]
    words = [word.removeprefix("mode=").removeprefix("task=") for word in words]
    if words[:1] and words[0] in _OTHER_TASKS:
        return (
            f"No such command {name!r}. visus classifies whole samples: it has no detection, segmentation, pose or tracking."
        )
    has_mode = bool(words) and words[0] in _MODES
    mode = _MODES[words[0]] if has_mode else "predict" if words and not _ASSIGNMENT.fullmatch(words[0]) else "train"
    line = _meant_line(["visus", mode, *words[has_mode:]], group.commands[mode])
    if line.problems:
        return f"No such command {name!r}. Did you mean {mode!r}? {' '.join(line.problems)} {_PAGE}"
    return f"No such command {name!r}. {' '.join([*line.notes, _PAGE])} Write: {line}"


def _path_as_command(name: str, group: Any) -> str:
    """The message where a file or folder was typed in the place of a command."""
    known, path = list(group.commands), shlex.quote(name)
    if "train" in known:
        line = f"visus predict {path} FILES" if _is_run(name) else f"visus train {path}"
        return f"{name} is {'a run' if _is_run(name) else 'data'}, and the command comes first. Write: {line}"
    return f"{name} comes after the name of the experiment. Write: visus {group.name} {known[0]} {path} (known: {', '.join(known)})"


def _output_of_predictions(name: str, typed: Sequence[str], command: Any) -> str | None:
    """The message where a file for predictions was typed as an option."""
    if getattr(command, "name", None) != "predict" or name not in ("output", "save"):
        return None
    files = [word.partition("=")[2] or word for word in typed if word.endswith((".csv", ".parquet"))]
    file = shlex.quote(files[-1]) if files else "answers.csv"
    return (
        f"No such option: --{name}. Predictions are printed; to write them to a table: visus predict RUN FILES --out {file}. "
        "To sort the files into folders: --sort-into FOLDER"
    )


def _refused_option(name: str, typed: Sequence[str], command: Any) -> str | None:
    """The message for an option that a command does not have."""
    is_training = not _takes_run(command)  # a run keeps its settings
    if is_training and (sentence := NOT_SETTABLE.get(name.replace("-", "_"))):
        return f"No such option: --{name}. {sentence[0].upper()}{sentence[1:]}"
    return _output_of_predictions(name, typed, command) or _unknown_option(name, typed, command)


def _as_assignment(option: str, typed: Sequence[str], command: Any) -> str | None:
    """NAME=VALUE of ``--set`` for an option of ``visus train`` that another command takes only so; None for other options."""
    if not any("--set" in each.opts for each in _parameters(command, "option")):
        return None
    options = {form: name for name in FIELDS for form in (f"--{name.replace('_', '-')}", *_forms_of(name))}
    word = option.removeprefix("--").replace("-", "_")
    setting = options.get(option) or SETTINGS.get(word)
    if setting is None or _parameter(setting, command) is not None:
        return None
    for place, each in enumerate(typed):
        name, equals, value = each.partition("=")
        if name == option:
            value = value if equals else next(iter(typed[place + 1 : place + 2]), "")
            return f"{setting}={shlex.quote(value) if value and not value.startswith('--') else 'VALUE'}"
        if len(option) == 2 and each.startswith(option):
            return f"{setting}={shlex.quote(each[2:])}"
    return f"{setting}=VALUE"


def _forms_of(setting: str) -> list[str]:
    """The options of ``visus train`` for a setting, where they differ from its name."""
    facts = FIELDS[setting].metadata
    return [form for form in (facts["option"], facts["short"]) if form]


def _unknown_option(name: str, typed: Sequence[str], command: Any) -> str | None:
    """The message for an option of another tool, or an argument that was typed as an option."""
    if name in _ABSENT:
        return f"No such option: --{name}. Leave it out: {_ABSENT[name]}"
    if command is None or not _is_other_word(name, command):
        return None
    line = _meant_line(list(_without_dashes(typed, command)), command)
    if not line.assignments:
        return None
    if line.problems:
        return f"No such option: --{name}. {' '.join(line.problems)}"
    return f"{' '.join([f'No such option: --{name}.', *line.notes])} Write: {line}"


def _without_dashes(typed: Sequence[str], command: Any) -> Iterator[str]:
    """The words of the command line, with the options of other tools as NAME=VALUE; one without a value is true."""
    known = {name for each in _parameters(command, "option") for name in [*each.opts, *each.secondary_opts]}
    words = list(typed)
    while words:
        option, equals, value = words.pop(0).partition("=")
        name = option.removeprefix("--")
        if option == name or option in known or not _is_other_word(name, command):
            yield option + equals + value
        elif equals or not words or words[0].startswith("-"):
            yield f"{name}={value or True}"
        else:
            yield f"{name}={words.pop(0)}"


def _extra_words(extra: Sequence[str], typed: Sequence[str], command: Any) -> str | None:
    """The message where words are left over: a name with spaces, or options written as NAME=VALUE."""
    for first in range(1, len(typed)):
        for end in range(first + 2, len(typed) + 1):
            name = " ".join(typed[first:end])
            if set(extra) & set(typed[first:end]) and _exists(name):
                return f"unexpected argument {extra[0]!r}. Did you mean {name!r}? Put a name with spaces in quotes."
    return _as_options(typed, command) if all(_ASSIGNMENT.fullmatch(word) for word in extra) else None


def _missing(typed: Sequence[str], command: Any) -> str | None:
    """The message where ``visus predict`` lacks the run or the files."""
    line = _meant_line(typed, command)
    if line.assignments:
        return _as_options(typed, command)
    if not line.positional:
        return f"a run and files are missing. Write: {line} FILES"
    if _is_run(line.positional[0]):
        return f"the files are missing. Write: {line} FILES"
    return f"the run folder is missing. Write: {line}"


def _as_options(typed: Sequence[str], command: Any) -> str | None:
    """How words such as ``epochs=3`` are written; None if there are none."""
    line = _meant_line(typed, command)
    if not line.assignments:
        return None
    words = " ".join(line.assignments)
    if line.problems:
        return f"{words}: {' '.join(line.problems)}"
    known = [_parameter(word.partition("=")[0], command) for word in line.assignments]
    only_arguments = all(each is not None and each.param_type_name == "argument" for each in known)
    rule = "arguments are written without NAME=" if only_arguments else "options are written --NAME VALUE"
    return " ".join([f"{words}: {rule}.", *line.notes, f"Write: {line}"])


def _meant_line(typed: Sequence[str], command: Any) -> _Line:
    """The command line with every NAME=VALUE as visus writes it."""
    start = typed.index(command.name) + 1 if command.name in typed else 1
    line = _Line(command, list(typed[1:start]))
    words = iter(typed[start:])
    for word in words:
        if word.startswith("-") and len(word) > 1:
            line.options += [word, *_value_after(word, words, command)]
        elif (match := _ASSIGNMENT.fullmatch(word)) and not _exists(word):
            line.assignments.append(word)
            _translate(match[1], match[2], line)
        else:
            line.positional.append(word)
    if "--resume" in line.options and line.assignments:
        place = line.options.index("--resume")
        line.options = line.options[place : place + 2]
    return line


def _value_after(option: str, words: Iterator[str], command: Any) -> list[str]:
    """The value that follows an option; empty for a flag."""
    known = next((each for each in _parameters(command, "option") if option in each.opts), None)
    return [value for value in [next(words, None)] if value is not None] if known and not known.is_flag else []


def _translate(name: str, text: str, line: _Line) -> None:
    """Add an option, an argument, a note or a problem for NAME=VALUE to a line."""
    name = name.replace("_", "-")
    if name in _ABSENT:
        line.notes.append(f"Leave {name}= out: {_ABSENT[name]}")
        return
    if name in _CONVERTED:
        name, text = _CONVERTED[name](text)
    known = _parameter(name, line.command)
    if known is None and _is_other_word(name, line.command) and _takes_run(line.command):
        line.notes.append(f"Leave {name} out: a run keeps the preprocessing and the settings of its training.")
    elif known is None:
        guess = closest_name(name, _option_names(line.command))
        hint = f" Did you mean --{guess} {shlex.quote(text)}?" if guess else ""
        if sentence := NOT_SETTABLE.get(name.replace("-", "_")):
            hint = f" {sentence[0].upper()}{sentence[1:]}"
        line.problems.append(f"there is no --{name}.{hint}")
    elif known.param_type_name == "argument":
        if known.name != "run" or _is_run(text):
            line.arguments[known.name] = text
    elif known.name == "resume" and text.lower() in _BOOLEANS:
        line.options += ["--resume", _newest_run()] if _BOOLEANS[text.lower()] else []
    elif known.name == "model" and text.lower().endswith((*_WEIGHTS, ".yaml")):
        _translate_model_file(text, line)
    elif known.is_flag:
        line.options += _flag(known, text)
    elif problem := _wrong(known, text := str(device_of(text)) if known.name == "device" else text):
        line.problems.append(problem)
    else:
        line.options += [_long(known), text]


def _translate_model_file(text: str, line: _Line) -> None:
    """Add what a weights file or a YAML file of another tool as model stands for."""
    if text.lower().endswith(_WEIGHTS) and _exists(text):
        line.options += ["--weights", text]
    elif text.lower().endswith(_WEIGHTS):
        line.notes.append(f"{text} is not here; --pretrained starts from ImageNet weights.")
        line.options.append("--pretrained")
    else:
        line.notes.append(f"Leave {text} out: visus chooses the network, or -m takes a design.")


def _flag(known: Any, text: str) -> list[str]:
    """The word of a flag that is to be on or off."""
    names = known.opts if _BOOLEANS.get(text.lower(), True) else known.secondary_opts
    return [name for name in names if name.startswith("--")][:1]


def _wrong(known: Any, text: str) -> str | None:
    """The sentence for a value that an option does not take."""
    if known.name == "device" and "," in text:
        return "several GPUs: start visus by torchrun, see docs/how-to/several-processes.md."
    if known.name == "frozen" and re.fullmatch(r"[\d.,\s]+", text):
        return '--frozen takes the paths of layers, such as "stage1, stage2.*"; visus summary lists them.'
    if known.name not in FIELDS:
        return None
    value: Any = text
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE) and known.name != "progressive_resize":
        value = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    try:
        Recipe(**{known.name: value})
    except RecipeError as error:
        return str(error)
    return None


_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CONVERTED: Final[dict[str, Callable[[str], tuple[str, str]]]] = {
    "time": lambda text: ("time-limit", f"{text}h"),
    "cos-lr": lambda text: ("schedule", "cosine" if _BOOLEANS.get(text.lower(), True) else "linear"),
    "fliplr": lambda text: ("flip", "none" if re.fullmatch(r"0(\.0*)?", text) else "random"),
    "half": lambda text: ("precision", "float16" if _BOOLEANS.get(text.lower(), True) else "float32"),
    "amp": lambda text: ("precision", "auto" if _BOOLEANS.get(text.lower(), True) else "float32"),
}
"""Settings of Ultralytics whose values visus writes differently: the option and its value."""


def _parameter(name: str, command: Any) -> Any:
    """The parameter of a command that a word of visus or of another tool means; None if there is none."""
    word = name.replace("-", "_")
    words = [word, *([SETTINGS[word]] if word in SETTINGS else []), *ARGUMENTS.get(word, ())]
    candidates = [each for found in words for each in (found, _IN_COMMANDS.get(found)) if each]
    known = getattr(command, "params", ())
    return next(
        (
            each
            for candidate in candidates
            for each in known
            if each.name == candidate or f"--{candidate.replace('_', '-')}" in each.opts
        ),
        None,
    )


def _is_other_word(name: str, command: Any) -> bool:
    """Whether a word is one of another tool, or a parameter of the command."""
    word = name.replace("-", "_")
    return name in _CONVERTED or word in SETTINGS or word in ARGUMENTS or _parameter(name, command) is not None


def _takes_run(command: Any) -> bool:
    """Whether the first argument of a command is a run folder."""
    return [each.name for each in _parameters(command, "argument")][:1] == ["run"]


def _parameters(command: Any, kind: str) -> list[Any]:
    """The arguments or the options of a command."""
    return [each for each in getattr(command, "params", ()) if each.param_type_name == kind]


def _long(option: Any) -> str:
    """The long name of an option."""
    return str(next(name for name in option.opts if name.startswith("--")))


def _option_names(command: Any) -> list[str]:
    """The long options of a command, without their dashes."""
    return sorted(name[2:] for each in _parameters(command, "option") for name in each.opts if name.startswith("--"))


def _quoted(word: str) -> str:
    return shlex.quote(word) if word != "RUN" else word


def _is_run(name: str) -> bool:
    """Whether a path is a run folder, or lies in one."""
    path = Path(name)
    try:
        return any((each / "recipe.yaml").is_file() for each in (path, *path.parents))
    except (OSError, ValueError):  # too long for a name
        return False


def _newest_run() -> str:
    """The newest run in ``runs``; RUN if there is none."""
    runs = run_folders("runs/")
    return shlex.quote(max(runs, key=os.path.getmtime)) if runs else "RUN"


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a name
        return False
