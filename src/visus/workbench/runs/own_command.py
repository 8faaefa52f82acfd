"""The commands that train a run again: exactly, or with other options."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.data.store import MAX_UNREADABLE
from visus.networks.pretrained import BACKBONES
from visus.training.runs import RunFolder
from visus.workbench.callable_names import is_callable_name
from visus.workbench.modules import OBJECT_PREFIX

MAX_COMMAND: Final = 200
"""Letters of a run's own command up to which it is repeated."""

_TRAINING: Final = ["visus", "train"]
_OUTPUT_OPTIONS: Final = {"--name": 1, "--quiet": 0, "-q": 0, "--verbose": 0, "-v": 0, "--json": 0}
"""Options that do not change what is trained, with the number of their values."""

_FILE_OPTIONS: Final = ("-c", "--recipe", "--weights", "--split-file")
"""Options whose value is a file."""


def own_command(run: RunFolder, preprocessing: Preprocessing, options: str, *, is_repeated: bool = True) -> str:
    """The run's own command with more options; where it has no such command, one with its data, network, split, size and recipe.

    Empty for a network that was a Python object.

    Args:
        run: the run folder.
        preprocessing: the preprocessing of the run.
        options: the options that are added, as they are typed; may be empty.
        is_repeated: whether the run's own command is used if it is short and has none of these options.
    """
    own = typed_command(run.read_json("data.json").get("command") or "")
    added = options.split()[:1]
    if (
        is_repeated
        and own.split()[:2] == _TRAINING
        and len(own) <= MAX_COMMAND
        and not {"--resume", *added} & set(own.split())
    ):
        return f"{own} {options}".strip()
    complete = _complete_command(run, preprocessing, with_start="--weights" not in options.split())
    return f"{complete} {options}".strip() if complete else ""


def exact_command(run: RunFolder, preprocessing: Preprocessing) -> str:
    """The command that trains a run again with its own network, split and recipe, whatever was typed, changed on resuming or made from Python.

    The command of an experiment as it was typed, since it makes several runs. Empty for a network that was a Python object.
    """
    typed = run.read_json("data.json").get("command") or ""
    words = typed.split()
    place = words.index("visus") if "visus" in words else 0
    if typed and words[place : place + 2] != _TRAINING:
        return typed
    command = own_command(run, preprocessing, "", is_repeated=False)
    return " ".join([*words[:place], command]) if command else ""


def typed_command(command: str) -> str:
    """A run's command as it is useful again: without names and options of printing, with near paths; empty if a file of it is gone.

    >>> typed_command("visus train 'my photos' --name first --epochs 3 -q")
    "visus train 'my photos' --epochs 3"
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    kept, last = [], ""
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name in _OUTPUT_OPTIONS:
            if not value and _OUTPUT_OPTIONS[name]:
                next(rest, None)
            continue
        is_path = os.path.isabs(word)
        if (is_path or last in _FILE_OPTIONS) and not os.path.exists(word):
            return ""
        kept.append(near_path(word) if is_path else word)
        last = word
    return shlex.join(kept)


def near_path(path: str | Path) -> str:
    """A path relative to the working folder if it lies in it, else as it is."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _complete_command(run: RunFolder, preprocessing: Preprocessing, *, with_start: bool) -> str:
    """The command that names everything that a run was trained with; empty if no command can."""
    network = _network_options(run, with_start)
    if not network:
        return ""
    facts = run.read_json("data.json")
    words = [*_TRAINING, *([near_path(facts["path"])] if facts["path"] else []), *network]
    words += ["-c", near_path(run.path / "recipe.yaml"), "--split-file", near_path(run.path / "split.csv")]
    words += ["--img-size", "x".join(str(length) for length in preprocessing.size)]
    if preprocessing.kind == "images":
        words += [
            "--channels",
            str(preprocessing.channels),
            *(["--resize-mode", preprocessing.resize_mode] if preprocessing.resize_mode != "squash" else []),
        ]
    words += ["--labels", facts["labels"]] if facts.get("labels") else []
    words += Reading.from_json(facts.get("reading")).options()
    words += ["--normalize", preprocessing.normalize] if preprocessing.normalize == "min-max" else []
    limit = facts.get("max_unreadable", MAX_UNREADABLE)
    words += ["--max-unreadable", str(limit)] if limit != MAX_UNREADABLE else []
    return shlex.join(words)


def _network_options(run: RunFolder, with_start: bool) -> list[str]:
    """The options for the network and, where they are wanted, its initial weights; empty if either was a Python object."""
    text = run.read_text("design.txt").strip()
    if text.startswith(OBJECT_PREFIX):
        return []
    design = ["-m", text if is_callable_name(text) and "\n" not in text else near_path(run.path / "design.txt")]
    if not with_start or not (run.path / "start.json").is_file():
        return design
    start = run.read_json("start.json")
    if start.get("file"):
        return [*design, "--weights", near_path(start["file"])]
    named = [each.design for each in BACKBONES.values() if each.source == start["source"]]
    return ["-m", named[0], "--pretrained"] if named else []
