"""``visus evaluate RUN --shifts``: whether a trained network's answers move with the image, and what would help at which price.

This file knows which shifts are measured on a run, and which changes of its design there are.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus.data.batches import Part, random_stream
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.data.reading import Reading
from visus.design import Account, Design, account
from visus.design.antialiasing import with_blur_pooling, with_global_pooling
from visus.errors import DataError, DesignError
from visus.evaluation.equivariance import Equivariance, measure_equivariance
from visus.evaluation.placement import PlacementFigures, measure_placement
from visus.evaluation.shifts import WAYS, PhasePattern, ShiftFigures, measure_phases, measure_shifts, total_step
from visus.networks.trace import TraceError, trace
from visus.training.runs import RunFolder
from visus.units import Described, write_count, write_number_of, write_share, write_split
from visus.workbench.modules import OBJECT_PREFIX, count_macs
from visus.workbench.runs.run import Run
from visus.workbench.summaries import design_of

NUM_SHIFTS: Final = 49
MAX_SAMPLES, MIN_SAMPLES = 200, 16
MACS: Final = 10**12  # about a minute on two processor cores
PHASE_SAMPLES, MAP_SAMPLES, MAX_PHASES = 16, 4, 1024
SHIFT_AUGMENTATION: Final = 0.1
CHANGES: Final = (
    ("global pooling instead of flatten", with_global_pooling),
    ("blurred pooling instead of strides", with_blur_pooling),
)
"""What may make the answers move less, in words, and how a design is changed so; what is changed first stands first."""


@dataclass(frozen=True)
class ShiftRemedy:
    """A change that should make the answers move less, with its price.

    Args:
        name: what is changed.
        sentence: what it costs, for people.
        command: what to type to train it beside the run.
        design: the changed design as text; empty where the design stays.
        num_parameters, macs: of the changed network, for one sample; None where it stays.
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


@dataclass(frozen=True, repr=False)
class ShiftReport(Described):
    """What was measured of one run's network.

    Args:
        split: the split that the samples are of.
        num_samples: samples that were moved, of ``num_in_split``.
        num_in_split: samples of the split.
        noun: what a sample is called.
        step_px: the network's step on each axis; None where it has none that could be found.
        ways: figures for each way to move a sample.
        phases: the pattern over the phases of the step, moved round a ring; None where there is one phase, or far too many.
        layers: every layer's error, for a shift of one pixel and for one by the step; empty where the layers see no image.
        placement: accuracy over place and size of the object.
        remedies: what to try; how much it helps is measured by ``visus experiment antialias``.
        notes: what a reader must know.
    """

    split: str
    num_samples: int
    num_in_split: int
    noun: str
    step_px: tuple[int, ...] | None
    ways: tuple[ShiftFigures, ...]
    phases: PhasePattern | None
    layers: tuple[Equivariance, ...]
    placement: PlacementFigures
    remedies: tuple[ShiftRemedy, ...]
    notes: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = f"Shifts of {write_number_of(self.num_samples, self.noun)} of {write_split(self.split)}"
        facts = [(each.way, f"{write_share(each.kept)} keep their label") for each in self.ways]
        facts += [("remedies", ", ".join(each.name for each in self.remedies))] if self.remedies else []
        return title, [*facts, ("next", ".ways, .layers, .placement, .remedies; .to_json() gives all measures")]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "split": self.split,
            "num_samples": self.num_samples,
            "num_in_split": self.num_in_split,
            "step_px": list(self.step_px) if self.step_px else None,
            "ways": [each.to_json() for each in self.ways],
            "phases": self.phases.to_json() if self.phases else None,
            "layers": [each.to_json() for each in self.layers],
            "placement": self.placement.to_json(),
            "remedies": [each.to_json() for each in self.remedies],
            "notes": list(self.notes),
        }


def report_shifts(run: Run, data: Data, split: str | None = None, *, num_samples: int | None = None) -> ShiftReport:
    """Measure how a run's answers change when its samples move.

    All figures are computed in float32: what a shorter number format rounds away would count as a change.

    Args:
        run: the run.
        data: opened data.
        split: which split; None for the one that is scored.
        num_samples: so many samples, drawn with a fixed seed; None for up to 200, fewer where the network is costly.

    Raises:
        DataError: the split is empty.
    """
    part = data.split(split or data.scored_split)
    shape, macs = run.preprocessing.input_shape, count_macs(run.module, run.preprocessing.input_shape)
    affordable = max(MIN_SAMPLES, MACS // max(1, macs * NUM_SHIFTS * (len(WAYS) + 1)))
    samples, labels = some_samples(run, part, num_samples or min(MAX_SAMPLES, affordable))
    module, device = reading(run), run.machine.device
    reach = reach_of(shape[1:])
    ways = tuple(measure_shifts(module, samples, reach, way, limit=NUM_SHIFTS, device=device) for way in WAYS)
    step, costs, notes = _step(run)
    if run.views_sentence:
        notes.append(f"All here is about each {data.noun} as it is. visus predict averages: {run.views_sentence}")
    phases = None
    if step and 1 < math.prod(step) <= MAX_PHASES:
        phases = measure_phases(module, samples[:PHASE_SAMPLES], step, device=device)
    layers: list[Equivariance] = []
    if costs is not None:
        few = samples[:MAP_SAMPLES].to(run.machine.device)
        shifts = dict.fromkeys([(1,) * len(reach), *([step] if step else [])])
        layers = [measure_equivariance(run.module, few, shift, account=costs) for shift in shifts]
    background = 0.0 if run.preprocessing.normalize == "mean-deviation" else samples.mean(dim=(0, *range(2, samples.dim())))
    if run.preprocessing.normalize != "mean-deviation":
        notes.append("Objects were placed on the mean of the samples that were moved.")
    return ShiftReport(
        split="all" if data.is_whole else part.name,
        num_samples=len(samples),
        num_in_split=len(part),
        noun=data.noun,
        step_px=step,
        ways=ways,
        phases=phases,
        layers=tuple(layers),
        placement=measure_placement(module, samples, labels, background=background, device=device),
        remedies=tuple(remedies(run)),
        notes=tuple(notes),
    )


def some_samples(run: Run, part: Part, num_samples: int) -> tuple[Tensor, Tensor]:
    """So many samples of a split, scaled and never shuffled, and their labels; drawn with a fixed seed, in the order of the split.

    Raises:
        DataError: the split is empty.
    """
    if not len(part):
        raise DataError(f"the {part.name} split of this data is empty. Choose another with --split.")
    drawn = torch.randperm(len(part), generator=random_stream(0, "shifts"))[:num_samples].sort().values.numpy()
    return run.preprocessing.normalize_values(part.rows(drawn)), torch.from_numpy(part.labels[drawn])


class _Shuffle(nn.Module):
    """The fixed order of positions that a run was trained with, so that a sample can be moved before it is shuffled."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, x: Tensor) -> Tensor:
        return self.preprocessing.shuffled(x)


def reading(run: Run) -> nn.Module:
    """The run's network as one that reads scaled samples: where it was trained on shuffled ones, they are shuffled in front of it."""
    if run.preprocessing.shuffle_seed is None:
        return run.module
    return nn.Sequential(_Shuffle(run.preprocessing), run.module).eval()


def reach_of(lengths: Sequence[int]) -> tuple[int, ...]:
    """How far samples of these lengths are moved on each axis: an eighth, at least 1, less than the axis.

    >>> reach_of((28, 20)), reach_of((8000,)), reach_of((1, 4))
    ((4, 2), (1000,), (0, 1))
    """
    return tuple(min(length - 1, max(1, round(length / 8))) for length in lengths)


def shuffled_words(noun: str) -> str:
    """Why the layers of a network that reads shuffled positions are not looked at.

    >>> shuffled_words("signal")
    'The network reads shuffled positions, so its layers see no signal that could move.'
    """
    return f"The network reads shuffled positions, so its layers see no {noun} that could move."


def _step(run: Run) -> tuple[tuple[int, ...] | None, Account | None, list[str]]:
    """The network's step and account, and why there is none."""
    if run.preprocessing.shuffle_seed is not None:
        return None, None, [shuffled_words(run.preprocessing.noun)]
    try:
        costs = trace(run.module, run.preprocessing.input_shape)
    except TraceError as error:
        return None, None, [f"The network's layers could not be followed: {error.message}"]
    return total_step(costs), costs, []


def remedies(run: Run) -> list[ShiftRemedy]:
    """What may make the answers of a run move less, each with its price and the command that trains it beside the run.

    None for a run on shuffled positions, whose images no change of the design can put back in order.
    """
    if run.preprocessing.shuffle_seed is not None:
        return []
    found = [
        ShiftRemedy(
            "shift augmentation",
            f"it costs nothing in use; the training {run.preprocessing.noun}s are shifted by up to "
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


def own_design(run: Run) -> Design | None:
    """The design that a run was trained with; None for a module or a callable."""
    text = RunFolder.open(run.folder).read_text("design.txt").strip()
    return None if text.startswith(OBJECT_PREFIX) else design_of(text, run.preprocessing.input_shape, len(run.classes))


def antialiased_design(run: Run) -> tuple[Design, str] | None:
    """The run's design with all structural remedies at once, and what was changed, in words; None where there is none."""
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


def _command(run: Run, design: str, more: str = "") -> str:
    """The command that trains a change beside the run: same data, split, size, scaling and recipe."""
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
