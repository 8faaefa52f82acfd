"""The command that trains a run again, with other options."""

from __future__ import annotations

import shlex
from typing import Final

from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.training.runs import RunFolder
from visus.workbench.modules import OBJECT_PREFIX

MAX_COMMAND: Final = 200
"""Letters of a run's own command up to which it is repeated."""


def own_command(run: RunFolder, preprocessing: Preprocessing, options: str, *, is_repeated: bool = True) -> str:
    """The run's own command with more options; where it has no such command, one with its data, network, split, size and recipe.

    Empty for a network that was a Python object.

    Args:
        run: the run folder.
        preprocessing: the preprocessing of the run.
        options: the options that are added, as they are typed.
        is_repeated: whether the run's own command is used if it is short and has none of these options.
    """
    facts = run.read_json("data.json")
    own = facts.get("command") or ""
    if (
        is_repeated
        and own.split()[:2] == ["visus", "train"]
        and len(own) <= MAX_COMMAND
        and not {"--resume", options.split()[0]} & set(own.split())
    ):
        return f"{own} {options}"
    if run.read_text("design.txt").startswith(OBJECT_PREFIX):
        return ""  # no command can make it again
    words = ["visus", "train", *([facts["path"]] if facts["path"] else []), "-m", str(run.path / "design.txt")]
    words += ["-c", str(run.path / "recipe.yaml"), "--split-file", str(run.path / "split.csv")]
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
    return f"{shlex.join(words)} {options}"
