"""``visus evaluate RUN --shifts``: how the answers of a trained network change when its samples move by a few pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus.data.batches import Part, random_stream
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.design import Account
from visus.errors import DataError
from visus.evaluation.equivariance import Equivariance, measure_equivariance
from visus.evaluation.placement import PlacementFigures, measure_placement
from visus.evaluation.shifts import WAYS, PhasePattern, ShiftFigures, measure_phases, measure_shifts, total_step
from visus.networks.trace import TraceError, trace
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.units import Described, write_number_of, write_share, write_split
from visus.workbench.modules import count_macs
from visus.workbench.runs.saved import SavedRun, opened
from visus.workbench.runs.shift_remedies import ShiftRemedy, remedies

NUM_SHIFTS: Final = 49
MAX_SAMPLES, MIN_SAMPLES = 200, 16
MACS: Final = 10**12  # about a minute on two processor cores
PHASE_SAMPLES, MAP_SAMPLES, MAX_PHASES = 16, 4, 1024


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
    """Measure how a run's answers change when its samples move.

    All figures are computed in float32, since the rounding of a shorter format would count as a change.

    Args:
        run: the run.
        data, split, cache_dir: as for ``Run.shifts``.
        num_samples: so many samples, drawn with a fixed seed; None for up to 200, fewer where the network is costly.
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
    ways = tuple(
        measure_shifts(module, samples, reach, way, limit=NUM_SHIFTS, device=device, monitor=monitor) for way in WAYS
    )
    step, costs, notes = _step(run)
    if run.views_sentence:
        notes.append(f"All here is about each {data.noun} as it is. visus predict averages: {run.views_sentence}")
    phases = None
    if step and 1 < math.prod(step) <= MAX_PHASES:
        phases = measure_phases(module, samples[:PHASE_SAMPLES], step, device=device, monitor=monitor)
    layers: list[Equivariance] = []
    monitor.check("measuring layers")
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
        placement=measure_placement(module, samples, labels, background=background, device=device, monitor=monitor),
        remedies=tuple(remedies(run)),
        notes=tuple(notes),
    )


def some_samples(run: SavedRun, part: Part, num_samples: int) -> tuple[Tensor, Tensor]:
    """So many samples of a split, scaled and never shuffled, and their labels; drawn with a fixed seed, in the order of the split.

    Raises:
        DataError: the split is empty.
    """
    if not len(part):
        raise DataError(f"the {part.name} split of this data is empty. Choose another with --split.")
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


def _step(run: SavedRun) -> tuple[tuple[int, ...] | None, Account | None, list[str]]:
    """The network's step and account, and why there is none."""
    if run.preprocessing.shuffle_seed is not None:
        return None, None, [shuffled_words(run.preprocessing.noun)]
    try:
        costs = trace(run.module, run.preprocessing.input_shape)
    except TraceError as error:
        return None, None, [f"The network's layers could not be followed: {error.message}"]
    return total_step(costs), costs, []
