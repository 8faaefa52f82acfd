"""Remedies for predictions that change under shifts: changes of design or augmentation, each with its cost."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Final

from visus.design import Design, account
from visus.design.antialiasing import with_blur_pooling, with_global_pooling
from visus.design.families.compact import is_compact
from visus.errors import DesignError
from visus.training.runs import RunFolder
from visus.units import write_count, write_number_of, write_share
from visus.workbench.modules import OBJECT_PREFIX
from visus.workbench.runs.own_command import own_command
from visus.workbench.runs.saved import SavedRun
from visus.workbench.summaries import design_of

SHIFT_AUGMENTATION: Final = 0.1

CHANGES: Final = (
    ("global pooling instead of flatten", with_global_pooling),
    ("blurred pooling instead of strides", with_blur_pooling),
)
"""Changes of a design, in words, with the function that makes each, in the order in which they are made."""


@dataclass(frozen=True)
class MeasuredPrice:
    """What a change of ``compact`` or of its training changes on the images that come with visus: means over the seeds that have both.

    Attributes:
        variant: its name in ``MEASUREMENTS``.
        num_seeds: seeds with which it was trained.
        plain, changed: share of pairs of shifts with the same label, for the worst kind of shift, without and with the change.
        accuracy_gain: difference of the accuracies.
        step_time: time of a training step, relative to that of ``compact``.
    """

    variant: str
    num_seeds: int
    plain: float
    changed: float
    accuracy_gain: float
    step_time: float


MEASUREMENTS: Final = "benchmarks/results/2026-11-29-default_network.json"
BLUR_PRICE: Final = MeasuredPrice("blurred", 2, 0.791, 0.799, 0.005, 5.2)
SHIFT_PRICE: Final = MeasuredPrice("translated", 2, 0.791, 0.857, 0.002, 1.0)


@dataclass(frozen=True)
class ShiftRemedy:
    """A change that should make predictions more stable under shifts, with its cost.

    Args:
        name: name of the change.
        sentence: its cost as a sentence.
        command: command that trains it with the data and recipe of the run; empty for a network that was a Python object.
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
    """All changes of the design at once, and shift augmentation, each with its cost and a command that trains it with the run's data and recipe.

    For a run on shuffled positions the list is empty, since no design can restore the order. For a run that started from trained weights the
    design stays, since the weights belong to it.
    """
    if run.preprocessing.shuffle_seed is not None:
        return []
    found = [
        ShiftRemedy(
            "shift augmentation",
            f"no cost after the training; the training {run.preprocessing.noun}s are shifted by up to "
            f"{100 * SHIFT_AUGMENTATION:.0f} % of each side",
            own_command(RunFolder.open(run.folder), run.preprocessing, f"--translate {SHIFT_AUGMENTATION}"),
        )
    ]
    if (run.recipe.translate or 0.0) >= SHIFT_AUGMENTATION or run.task.name == "regression":  # a shift may change a number
        found = []
    shape, num_classes = run.preprocessing.input_shape, len(run.classes)
    design = own_design(run)
    if design is None or (run.folder / "start.json").is_file():
        return found
    changed = antialiased_design(run)
    if changed is None:
        return found
    before, (antialiased, names) = account(design, shape, num_classes), changed
    after = account(antialiased, shape, num_classes)
    sentence = (
        f"{_price(before.num_parameters, after.num_parameters)} parameters, {_price(before.macs, after.macs)} multiply-adds"
    )
    if is_compact(design, shape):
        sentence += f"; a training step takes {BLUR_PRICE.step_time:.1f} times as long"
    command = shlex.join(["visus", "experiment", "antialias", str(run.folder)])
    return [ShiftRemedy(names, sentence, command, antialiased.text, after.num_parameters, after.macs), *found]


def shift_trade_off(run: SavedRun) -> str:
    """Why the default network is not more consistent under shifts, with the measured price of the alternative; empty for other networks."""
    shape = run.preprocessing.input_shape
    design = own_design(run)
    if design is None or run.preprocessing.shuffle_seed is not None or not is_compact(design, shape):
        return ""
    blur, shift = BLUR_PRICE, SHIFT_PRICE
    seeds = write_number_of(min(blur.num_seeds, shift.num_seeds), "seed")
    return (
        f"The default network pools with a stride, which is a trade-off. On the images that come with visus ({seeds}), blurred pooling changed the worst "
        f"consistency from {write_share(blur.plain)} to {write_share(blur.changed)}, but a training step took {blur.step_time:.1f} times as long; shift "
        f"augmentation of {100 * SHIFT_AUGMENTATION:.0f} % changed it to {write_share(shift.changed)}."
    )


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


def _price(before: int, after: int) -> str:
    return f"{write_count(after)} instead of {write_count(before)}" if before != after else f"the same {write_count(after)}"
