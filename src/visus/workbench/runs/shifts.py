"""``visus evaluate RUN --shifts``: how the predictions of a trained network change when its samples shift by a few
pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from visus.caller import option
from visus.data.batches import Part, random_stream
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.design import Account
from visus.errors import DataError
from visus.evaluation.equivariance import Equivariance, measure_equivariance
from visus.evaluation.number_shifts import NumberShiftFigures, measure_number_shifts
from visus.evaluation.placement import PlacementFigures, measure_placement
from visus.evaluation.shifts import WAYS, PhasePattern, ShiftFigures, measure_phases, measure_shifts, total_step
from visus.evaluation.tasks.regression import Regression
from visus.networks.trace import TraceError, trace
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text, grid, notes
from visus.units import write_number_of, write_share, write_size, write_split
from visus.workbench.modules import count_macs
from visus.workbench.runs.saved import SavedRun, opened, run_evaluation
from visus.workbench.runs.scoring import views_sentence
from visus.workbench.runs.shift_remedies import ShiftRemedy, remedies

NUM_SHIFTS: Final = 49
MAX_SAMPLES, MIN_SAMPLES = 200, 16
MACS: Final = 10**12  # about a minute on two processor cores
PHASE_SAMPLES, MAP_SAMPLES, MAX_PHASES = 16, 4, 1024
MAX_COLUMNS: Final = 16  # of figures that fit into a line of a terminal
MAX_PHASES_SHOWN: Final = 64  # of a larger pattern, only the mean and the maximum are printed
AnyShiftFigures: TypeAlias = ShiftFigures | NumberShiftFigures
STEADY: Final = 0.01  # a layer that changes by less counts as unchanged


@dataclass(frozen=True, repr=False)
class ShiftReport(Described):
    """The shift measurements of one run.

    Args:
        split: split of the samples.
        num_samples: number of shifted samples.
        num_in_split: number of samples in the split.
        noun: word for one sample.
        step_px: the network's stride on each axis, in pixels; None if unknown.
        ways: results for each kind of shift.
        phases: the pattern over the phases of the stride under circular shifts; None if there is one phase, or too many.
        layers: equivariance error of every layer, for a shift of one pixel and of one stride; empty if the network reads
            shuffled positions.
        placement: accuracy by position and size of the object; without sizes for networks that predict something else than one class.
        targets: of regression, names of the targets.
        remedies: changes to try; ``visus experiment antialias`` measures their effect.
        notes: remarks on the results.

    >>> [way.way for way in shifted.ways]
    ['roll', 'zeros', 'edge', 'reflect', 'crop']
    """

    split: str
    num_samples: int
    num_in_split: int
    noun: str
    step_px: tuple[int, ...] | None
    ways: tuple[AnyShiftFigures, ...]
    phases: PhasePattern | None
    layers: tuple[Equivariance, ...]
    placement: PlacementFigures
    remedies: tuple[ShiftRemedy, ...]
    notes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title = f"Shifts of {write_number_of(self.num_samples, self.noun)} of {write_split(self.split)}"
        facts = [(each.way, change_words(each, self.targets)) for each in self.ways]
        facts += [("remedies", ", ".join(each.name for each in self.remedies))] if self.remedies else []
        return title, [*facts, ("next", ".ways, .layers, .placement, .remedies; .to_json() gives all measures")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("ways to shift", _way_table(self.ways, self.targets)),)

    def text(self, title: str = "moved") -> Text:
        """The effect of shifts on the predictions by kind of shift, phase, layer and position, with remedies.

        >>> shifted.text()[0]
        'moved: 12 of 12 images (test), by up to 1 x 1 px, 9 shifts of each'
        """
        ways = self.ways
        lines: list[str | Table] = [
            f"{title}: {self.num_samples:,} of {write_number_of(self.num_in_split, self.noun)} ({self.split}), by up to "
            f"{write_size(ways[0].reach_px)}, {write_number_of(ways[0].num_shifts, 'shift')} of each",
            _way_table(ways, self.targets),
        ]
        if self.step_px is not None:
            lines.append(f"the network's stride is {write_size(self.step_px)}: {self._beyond_the_stride()}")
        lines += _phase_lines(self.phases) if self.phases is not None else []
        lines += _layer_lines(self.layers)
        lines += _placement_lines(self.placement)
        for remedy in self.remedies:
            lines += [f"to try: {remedy.name}: {remedy.sentence}", *([f"  {remedy.command}"] if remedy.command else [])]
        return Text((*lines, *notes(self.notes)))

    def _beyond_the_stride(self) -> str:
        """Whether a shift by the stride itself keeps the answers: it moves maps by whole positions, but not what follows a flattened map."""
        by_step = [each for each in self.layers if each.shift_px == self.step_px]
        last = by_step[0].layers[-1] if by_step and by_step[0].layers else None
        if last is None or last.error is None:
            return f"inside the {self.noun}, a shift by it moves every map by whole positions"
        if last.error < STEADY:
            return f"inside the {self.noun}, only smaller shifts change the predictions"
        return (
            f"inside the {self.noun}, a shift by it moves every map by whole positions, but it changes {last.path} by {write_share(last.error)}, "
            "since the border, or the layers after the maps, depend on the position"
        )

    def to_json(self) -> dict[str, Any]:
        """The report as plain data.

        >>> shifted.to_json()["num_samples"]
        12
        """
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


def change_words(figures: AnyShiftFigures, targets: Sequence[str]) -> str:
    """How much the predictions change, in words."""
    if isinstance(figures, ShiftFigures):
        return f"{write_share(figures.kept)} keep their label"
    return ", ".join(f"{name} changes by {value:.4g}" for name, value in zip(targets, figures.mean_change, strict=True))


def _way_table(ways: Sequence[AnyShiftFigures], targets: Sequence[str]) -> Table:
    numbers = [each for each in ways if isinstance(each, NumberShiftFigures)]
    if numbers:
        cells = tuple(
            (each.way, name, f"{mean:.4g}", f"{largest:.4g}", WAYS[each.way])
            for each in numbers
            for name, mean, largest in zip(targets, each.mean_change, each.largest_change, strict=True)
        )
        return Table(cells, ("way", "target", "mean change", "worst shift", "what enters"), (2, 3))
    headings = (
        "way",
        "two shifts agree",
        "95 % interval",
        "label kept",
        "never changes",
        "logits change",
        "max",
        "what enters",
    )
    rows = []
    for each in ways:
        assert isinstance(each, ShiftFigures), "all ways have figures of one kind"
        interval = f"{write_share(each.consistency_low)} to {write_share(each.consistency_high)}"
        shares = (each.kept, each.always, each.logit_change, each.largest_logit_change)
        rows.append((each.way, write_share(each.consistency), interval, *map(write_share, shares), WAYS[each.way]))
    return Table(tuple(rows), headings, (1, 3, 4, 5, 6))


def _phase_lines(phases: PhasePattern) -> list[str | Table]:
    """How much the logits change over the phases of the stride, with a grid where it is small enough to read."""
    lines: list[str | Table] = [
        f"shifts by less than the stride ({phases.way}) change the logits by {write_share(phases.mean_logit_change)} on average and by "
        f"{write_share(max(phases.logit_change))} at most"
    ]
    num_columns = min(phases.step_px[-1], MAX_COLUMNS)  # a longer row of a signal goes on in the next line
    is_cut = len(phases.step_px) > 1 and num_columns < phases.step_px[-1]
    if len(phases.logit_change) <= MAX_PHASES_SHOWN and len(phases.step_px) <= 2 and not is_cut:
        lines.append(grid([write_share(value) for value in phases.logit_change], num_columns))
    return lines


def _layer_lines(layers: Sequence[Equivariance]) -> list[str | Table]:
    """The error of every layer for each shift, inside the image and everywhere, and which layer breaks equivariance."""
    if not layers:
        return []
    headings = [heading for each in layers for heading in (f"by {write_size(each.shift_px)}", "inside")]
    rows = []
    for same in zip(*(each.layers for each in layers), strict=True):
        errors = [_error(value) for row in same for value in (row.error, row.interior_error)]
        rows.append((same[0].path, " x ".join(map(str, same[0].step_px)), *errors))
    table = Table(tuple(rows), ("layer", "stride", *headings), tuple(range(2, 2 + len(headings))))
    return [table, *(each.sentence() for each in layers)]


def _placement_lines(placement: PlacementFigures) -> list[str | Table]:
    """The accuracy over places, as a grid for each size of the object."""
    lines: list[str | Table] = []
    for each in placement.sizes:
        size, shares = write_size(each.object_px), [write_share(value) for value in each.accuracy]
        if len(shares) == 1:
            lines.append(f"objects of {size} fill the canvas: {shares[0]} right")
            continue
        canvas, range_ = write_size(placement.canvas_px), f"{write_share(each.lowest)} to {write_share(each.highest)}"
        lines.append(f"objects of {size} on an empty canvas of {canvas}: {range_} right by place")
        lines += [grid(shares, each.shape[-1])] if len(each.shape) <= 2 else []
    return lines


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value >= 5e-5 else "0"


def report_shifts(
    run: SavedRun,
    data: str | Path | Data | None = None,
    *,
    split: str | None = None,
    num_samples: int | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> ShiftReport:
    """Measure how a run's predictions change when its samples shift.

    It computes in float32, since the rounding of a lower precision would count as a change.

    Args:
        run: the run.
        data, split, cache_dir: as for ``Run.shifts``.
        num_samples: number of samples, drawn with a fixed seed; default: up to 200, fewer if the network is costly.
        on_event, should_stop: as for ``Run.shifts``.

    Raises:
        DataError: the split is empty.
    """
    monitor = Monitor(on_event, should_stop)
    data = opened(run, data, cache_dir=cache_dir, monitor=monitor)
    part = data.split(split or data.scored_split)
    shape, macs = run.preprocessing.input_shape, count_macs(run.module, run.preprocessing.input_shape)
    affordable = max(MIN_SAMPLES, MACS // max(1, macs * NUM_SHIFTS * (len(WAYS) + 1)))
    samples, labels = some_samples(run, part, num_samples or min(MAX_SAMPLES, affordable))
    module, device = reading(run), run.machine.device
    reach = reach_of(shape[1:])
    ways = tuple(shift_figures(run, samples, reach, way, monitor) for way in WAYS)
    step, costs, notes = _step(run)
    if sentence := views_sentence(run):
        notes.append(f"These figures are about each unchanged {data.noun}. In a prediction: {sentence}")
    phases = None
    is_regression = isinstance(run.task, Regression)
    if step and 1 < math.prod(step) <= MAX_PHASES and not is_regression:
        few, how = samples[:PHASE_SAMPLES], _predicting(run)
        phases = measure_phases(module, few, step, device=device, monitor=monitor, **how)
    layers: list[Equivariance] = []
    monitor.check("measuring layers")
    if costs is not None:
        few = samples[:MAP_SAMPLES].to(run.machine.device)
        shifts = dict.fromkeys([(1,) * len(reach), *([step] if step else [])])
        layers = [measure_equivariance(run.module, few, shift, account=costs) for shift in shifts]
    background = 0.0 if run.preprocessing.normalize == "mean-deviation" else samples.mean(dim=(0, *range(2, samples.dim())))
    is_placed = run.task.name == "single-label"
    if run.preprocessing.normalize != "mean-deviation" and is_placed:
        notes.append("Objects were placed on the mean of the shifted samples.")
    return ShiftReport(
        split="all" if data.is_whole else part.name,
        num_samples=len(samples),
        num_in_split=len(part),
        noun=data.noun,
        step_px=step,
        ways=ways,
        phases=phases,
        layers=tuple(layers),
        placement=measure_placement(module, samples, labels, background=background, device=device, monitor=monitor)
        if is_placed
        else PlacementFigures(shape[1:], len(samples), ()),
        remedies=tuple(remedies(run)),
        notes=tuple(notes),
        targets=run.classes if is_regression else (),
    )


def shift_figures(run: SavedRun, samples: Tensor, reach_px: Sequence[int], way: str, monitor: Monitor) -> AnyShiftFigures:
    """How the predictions of a run change under shifts of one way.

    Args:
        run: the run.
        samples: scaled samples, as ``some_samples`` returns them.
        reach_px: largest shift on each axis.
        way: a key of ``WAYS``.
        monitor: receives the progress, and can cancel.
    """
    where: dict[str, Any] = {"limit": NUM_SHIFTS, "device": run.machine.device, "monitor": monitor}
    if isinstance(run.task, Regression):
        return measure_number_shifts(reading(run), samples, reach_px, way, values=run.task.values, **where)
    return measure_shifts(reading(run), samples, reach_px, way, **where, **_predicting(run))


def _predicting(run: SavedRun) -> dict[str, Any]:
    """How the predictions of a run are numbered, for ``measure_shifts``: by the class, or by the set of classes."""
    evaluation = run_evaluation(run)
    if not evaluation.thresholds:
        return {}
    thresholds = torch.tensor(evaluation.thresholds)

    def sets(logits: Tensor) -> Tensor:
        rows = (evaluation.calibrator(logits) >= thresholds).reshape(-1, logits.shape[-1])
        numbers: Tensor = torch.unique(rows, dim=0, return_inverse=True)[1]
        return numbers.reshape(logits.shape[:-1])

    return {"predict": sets, "is_centered": False}


def some_samples(run: SavedRun, part: Part, num_samples: int) -> tuple[Tensor, Tensor]:
    """A subset of a split, scaled and never shuffled, with labels. It is drawn with a fixed seed and keeps the order of the
    split.

    Raises:
        DataError: the split is empty.
    """
    if not len(part):
        raise DataError(f"the {part.name} split of this data is empty. Choose another with {option('split')}.")
    drawn = torch.randperm(len(part), generator=random_stream(0, "shifts"))[:num_samples].sort().values.numpy()
    return run.preprocessing.scale_values(part.rows(drawn)), torch.from_numpy(part.labels[drawn])


class _Shuffle(nn.Module):
    """The fixed order of positions that a run was trained with, so that a sample can be moved before it is shuffled."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, x: Tensor) -> Tensor:
        return self.preprocessing.shuffled(x)


def reading(run: SavedRun) -> nn.Module:
    """The run's network for scaled samples; if it was trained on shuffled samples, a shuffle comes before it."""
    if run.preprocessing.shuffle_seed is None:
        return run.module
    return nn.Sequential(_Shuffle(run.preprocessing), run.module).eval()


def reach_of(lengths: Sequence[int]) -> tuple[int, ...]:
    """Maximum shift on each axis for samples of this size: an eighth, at least 1, less than the axis.

    >>> reach_of((28, 20)), reach_of((8000,)), reach_of((1, 4))
    ((4, 2), (1000,), (0, 1))
    """
    return tuple(min(length - 1, max(1, round(length / 8))) for length in lengths)


def shuffled_words(noun: str) -> str:
    """The reason why the layers of a network on shuffled positions are not measured.

    >>> shuffled_words("signal")
    'The network reads shuffled positions, so its layers see no signal that could shift.'
    """
    return f"The network reads shuffled positions, so its layers see no {noun} that could shift."


def _step(run: SavedRun) -> tuple[tuple[int, ...] | None, Account | None, list[str]]:
    """The network's step and account, and why there is none."""
    if run.preprocessing.shuffle_seed is not None:
        return None, None, [shuffled_words(run.preprocessing.noun)]
    try:
        costs = trace(run.module, run.preprocessing.input_shape)
    except TraceError as error:
        return None, None, [f"The network's layers could not be followed: {error.message}"]
    return total_step(costs), costs, []
