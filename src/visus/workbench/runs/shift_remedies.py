"""Remedies for predictions that change under shifts: changes of design or augmentation, each with its cost."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final

from visus.data.reading import Reading
from visus.design import Design, account
from visus.design.antialiasing import with_blur_pooling, with_global_pooling
from visus.errors import DesignError
from visus.training.runs import RunFolder
from visus.units import write_count
from visus.workbench.modules import OBJECT_PREFIX
from visus.workbench.runs.saved import SavedRun
from visus.workbench.summaries import design_of

SHIFT_AUGMENTATION: Final = 0.1
CHANGES: Final = (
    ("global pooling instead of flatten", with_global_pooling),
    ("blurred pooling instead of strides", with_blur_pooling),
)
"""Changes of a design, in words, with the function that makes each, in the order in which they are made."""


@dataclass(frozen=True)
class ShiftRemedy:
    """A change that should make predictions more stable under shifts, with its cost.

    Args:
        name: name of the change.
        sentence: its cost as a sentence.
        command: command that trains it with the data and recipe of the run.
        design: the changed design as text; empty if the design does not change.
        num_parameters, macs: cost of the changed network, for one sample; None if it does not change.
    """

    name: str
    sentence: str
    command: str
    design: str = ""
    num_parameters: int | None = None
    macs: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The remedy as plain data."""
        return {**self.__dict__}


def remedies(run: SavedRun) -> list[ShiftRemedy]:
    """Each change with its cost and the command that trains it with the run's data and recipe.

    For a run on shuffled positions the list is empty, since no design can restore the order.
    """
    if run.preprocessing.shuffle_seed is not None:
        return []
    found = [
        ShiftRemedy(
            "shift augmentation",
            f"no cost after the training; the training {run.preprocessing.noun}s are shifted by up to "
            f"{100 * SHIFT_AUGMENTATION:.0f} % of each side",
            _command(run, "", f"--translate {SHIFT_AUGMENTATION}"),
        )
    ]
    if (run.recipe.translate or 0.0) >= SHIFT_AUGMENTATION:
        found = []
    shape, num_classes = run.preprocessing.input_shape, len(run.classes)
    design = own_design(run)
    if design is None:
        return found
    before = account(design, shape, num_classes)
    for name, change in reversed(CHANGES):
        changed = change(design)
        try:
            after = account(changed, shape, num_classes) if changed is not None else None
        except DesignError:
            continue
        if changed is not None and after is not None:
            sentence = f"{_price(before.num_parameters, after.num_parameters)} parameters, {_price(before.macs, after.macs)} multiply-adds"
            found.insert(
                0, ShiftRemedy(name, sentence, _command(run, changed.text), changed.text, after.num_parameters, after.macs)
            )
    return found


def own_design(run: SavedRun) -> Design | None:
    """The design that a run was trained with; None for a module or a callable."""
    text = RunFolder.open(run.folder).read_text("design.txt").strip()
    return None if text.startswith(OBJECT_PREFIX) else design_of(text, run.preprocessing.input_shape, len(run.classes))


def antialiased_design(run: SavedRun) -> tuple[Design, str] | None:
    """The run's design with all structural remedies at once, and the names of the changes; None if no remedy applies."""
    design = own_design(run)
    if design is None:
        return None
    done = []
    for name, change in CHANGES:
        changed = change(design)
        try:
            if changed is None:
                continue
            changed.place(run.preprocessing.input_shape, len(run.classes))
        except DesignError:
            continue
        design = changed
        done.append(name)
    return (design, ", ".join(done)) if done else None


def _command(run: SavedRun, design: str, more: str = "") -> str:
    """The command that trains a changed design with the data, split, size, normalization and recipe of the run."""
    folder, prepared = RunFolder.open(run.folder), run.preprocessing
    facts = folder.read_json("data.json")
    asked = " ".join(design.split()) or " ".join(folder.read_text("design.txt").split())
    words = ["visus", "train", *([facts["path"]] if facts["path"] else []), "-m", asked]
    words += ["-c", str(run.folder / "recipe.yaml"), "--split-file", str(run.folder / "split.csv")]
    words += ["--img-size", "x".join(str(length) for length in prepared.size)]
    if prepared.kind == "images":
        words += [
            "--channels",
            str(prepared.channels),
            *(["--resize-mode", prepared.resize_mode] if prepared.resize_mode != "squash" else []),
        ]
    words += ["--labels", facts["labels"]] if facts.get("labels") else []
    words += Reading.from_json(facts.get("reading")).options()
    words += ["--normalize", prepared.normalize] if prepared.normalize == "min-max" else []
    return f"{shlex.join(words)}{f' {more}' if more else ''}"


def _price(before: int, after: int) -> str:
    return f"{write_count(after)} instead of {write_count(before)}" if before != after else f"the same {write_count(after)}"
