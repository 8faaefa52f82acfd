"""The measurements of a report beyond the scores: calibration, shifts, mistakes, saliency, receptive fields, costs, advice.

If a user's module does not allow a part, the report names it as missing with the reason. A run never fails because of its
report.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from visus.caller import called_by_command
from visus.data.batches import Part
from visus.data.opened import Data
from visus.design import Account
from visus.errors import CanceledError, DesignError, UsageError, VisusError
from visus.evaluation.calibration import Calibration, TemperatureFit, calibrate
from visus.evaluation.equivariance import measure_equivariance
from visus.evaluation.shifts import WAYS, measure_shifts
from visus.examine.layer_calls import Array, called_layers
from visus.examine.mistake_report import MistakeReport
from visus.networks.own_code import describe_failure
from visus.pages.report.measurements import (
    FieldGrowth,
    FirstFilters,
    LayerField,
    ReportMeasurements,
    SaliencyMaps,
    ShiftResults,
)
from visus.progress import SILENT, Monitor
from visus.units import write_bytes, write_count, write_duration
from visus.workbench.look.measures import kernels_of
from visus.workbench.modules import BuiltNetwork
from visus.workbench.report.saliency import saliencies_of
from visus.workbench.runs.largest_errors import run_errors
from visus.workbench.runs.mistakes import MAX_TRAINING, AnsweringNetwork, may_gain, named_mistakes, with_training_labels
from visus.workbench.runs.saved import SavedRun
from visus.workbench.runs.shift_remedies import remedies, shift_trade_off
from visus.workbench.runs.shifts import MAP_SAMPLES, reach_of, reading, shuffled_words, some_samples
from visus.workbench.summaries import Summary, summarize, training_of

SHARE: Final = 0.06
"""Forward passes that the report may take, as a share of the samples that the training went through, each of which took three times as long."""

MIN_MACS: Final = 3 * 10**10
"""It may always take so many multiply-adds: a few seconds on two processor cores."""

_FEW_SHIFTS, _MANY_SHIFTS = 5, 9
_MIN_SAMPLES, _MAX_SAMPLES = 8, 128
_ENOUGH_SAMPLES: Final = 32
_MIN_TRAINING: Final = 200
_SHOWN: Final = 6
_MAX_KERNELS: Final = 64
_SENTENCE: Final = 240

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with the results of its scoring.

    Args:
        run: the run.
        data: its data.
        made: its network.
        answers: logits (samples, classes) for the scored split.
        num_epochs: epochs of the training.
        batch_size: its batch size.
        scoring_s: duration of the scoring, in seconds.
        until: value of ``time.perf_counter`` at which the measurements that take long end; infinity for no limit.
    """

    run: SavedRun
    data: Data
    made: BuiltNetwork
    answers: Tensor
    num_epochs: int
    batch_size: int
    scoring_s: float
    until: float = math.inf

    @property
    def is_late(self) -> bool:
        """Whether no time is left for measurements that take long."""
        return time.perf_counter() >= self.until

    @property
    def part(self) -> Part:
        """The scored samples."""
        return self.data.split(self.data.scored_split)

    def num_forwards(self, macs: int) -> int:
        """Maximum number of forward passes for the report."""
        trained = self.num_epochs * len(self.data.split("train"))
        return max(int(SHARE * trained), MIN_MACS // max(1, macs))


_LONG: Final = ("alike", "shifts", "saliency")
_OF_CLASSES: Final = ("mistakes", "alike", "calibration", "shifts", "saliency")
LATE: Final = "the time limit left no time for it; visus report measures it"


@called_by_command()  # a page names commands, whoever has it written
def measure_inside(finished: FinishedRun, monitor: Monitor = SILENT) -> ReportMeasurements:
    """Measure everything in the report except the scores. The result is the same for the same run, except the scoring
    time, and what a time limit leaves out."""
    missing: dict[str, str] = {}
    asked = monitor
    monitor = Monitor(asked.on_event, lambda: finished.is_late or (asked.should_stop is not None and asked.should_stop()))

    def part(name: str, make: Callable[[], Found]) -> Found | None:
        if name in _OF_CLASSES and finished.run.task.name != "single-label":
            missing[name] = (
                f"this part compares one class for each sample, and this network predicts {finished.run.task.name}"
            )
            return None
        if name in _LONG and finished.is_late:
            missing[name] = LATE
            return None
        asked.step(f"measuring {name}", 0, 1)
        try:
            return make()
        except CanceledError:
            if not finished.is_late or (asked.should_stop is not None and asked.should_stop()):
                raise
            missing[name] = LATE
            return None
        except (
            Exception
        ) as error:  # whatever a person's own module raises where it is run in another way than in its training
            sentence = error.message if isinstance(error, VisusError) else describe_failure(error, finished.run.module)
            words = " ".join(sentence.split())
            missing[name] = words if len(words) <= _SENTENCE else f"{words[:_SENTENCE]}\u2026"
            return None

    run, made = finished.run, finished.made
    shape, num_classes = run.preprocessing.input_shape, len(run.classes)
    summary = part("sight", lambda: _summary(made, run.module, shape, num_classes))
    if summary is None:
        missing["advice"] = missing["sight"]
    costs = summary.account if summary else None
    budget = finished.num_forwards(costs.macs if costs else 10**9)
    mistakes = part("mistakes", lambda: _mistakes(finished, 0, asked))
    if mistakes is not None:
        mistakes = part("alike", lambda: _mistakes(finished, budget, monitor)) or mistakes
    errors = (
        None
        if run.task.name == "single-label"
        else part("largest errors", lambda: run_errors(finished.run, finished.part, finished.answers, _SHOWN))
    )
    places = _imaged(mistakes) if mistakes else [each.place for each in errors.errors] if errors else []
    shown = {place: finished.part.rows(np.array([place]))[0].numpy() for place in places}
    near = sorted({each.place for sample in mistakes.shown() for each in sample.alike}) if mistakes else []
    if mistakes is not None and mistakes.training_labels is not None:
        near = sorted({*near, *(each.place for each in mistakes.training_labels.suspicious)})
    near_samples = {place: finished.data.split("train").rows(np.array([place]))[0].numpy() for place in near}
    return ReportMeasurements(
        calibration=part("calibration", lambda: _calibration(finished)),
        shifts=part("shifts", lambda: _moves(finished, costs, budget, monitor)),
        mistakes=mistakes,
        saliency=part("saliency", lambda: _saliencies(finished, mistakes, budget)) if mistakes else None,
        samples=shown,
        training_samples=near_samples,
        value_range=_value_range(run.preprocessing.dtype, [*shown.values(), *near_samples.values()]),
        field_growth=part("sight", lambda: sight_of(costs)) if costs else None,
        first_filters=part("filters", lambda: _kernels(finished)),
        costs=_costs(finished, costs),
        advice=tuple(each.text for each in summary.advice) if summary else (),
        missing=missing,
        largest_errors=errors,
    )


def _summary(made: BuiltNetwork, module: nn.Module, shape: tuple[int, ...], num_classes: int) -> Summary:
    found = summarize(made.design or module, shape, num_classes)
    if found.error is not None:
        raise found.error
    return found


def _calibration(finished: FinishedRun) -> Calibration:
    labels, fit = torch.from_numpy(finished.part.labels), finished.run.calibration
    assert isinstance(fit, TemperatureFit), "this part is measured of single labels"
    return calibrate(finished.answers, labels, finished.data.scored_split, fit)


def _moves(finished: FinishedRun, costs: Account | None, budget: int, monitor: Monitor) -> ShiftResults:
    run, shape = finished.run, finished.run.preprocessing.input_shape
    allowed = budget // 2
    is_rich = allowed >= _ENOUGH_SAMPLES * len(WAYS) * _MANY_SHIFTS
    names, num_shifts = (tuple(WAYS), _MANY_SHIFTS) if is_rich else (("roll", "edge"), _FEW_SHIFTS)
    num_samples = min(_MAX_SAMPLES, max(_MIN_SAMPLES, allowed // (len(names) * num_shifts)))
    samples, _ = some_samples(run, finished.part, num_samples)
    reach = reach_of(shape[1:])
    module, device = reading(run), run.machine.device
    ways = tuple(
        measure_shifts(module, samples, reach, way, limit=num_shifts, device=device, monitor=monitor) for way in names
    )
    layers, notes = None, []
    command = f"visus evaluate {shlex.quote(str(run.folder))} --shifts"
    if run.preprocessing.shuffle_seed is not None:
        notes.append(shuffled_words(run.preprocessing.noun))
    elif costs is not None:
        try:
            layers = measure_equivariance(
                run.module, samples[:MAP_SAMPLES].to(device), (1,) * len(reach), "roll", account=costs
            )
        except Exception as error:  # also of a person's own module, whose parts may take no hooks
            sentence = error.message if isinstance(error, VisusError) else f"{describe_failure(error, run.module)}."
            notes.append(f"Which layer breaks it could not be found: {sentence}")
    helps = tuple((each.name, each.sentence, each.command) for each in remedies(run))
    return ShiftResults(finished.part.name, len(samples), ways, layers, helps, tuple(notes), command, shift_trade_off(run))


def _mistakes(finished: FinishedRun, budget: int, monitor: Monitor) -> MistakeReport:
    """The answers worth reviewing; with a budget, each has the training samples that are most similar to it."""
    run, data = finished.run, finished.data
    limit = min(MAX_TRAINING, max(_MIN_TRAINING, 2 * budget // 5))
    network = AnsweringNetwork(run.module, run.classes, run.preprocessing)
    training = data.split("train") if budget else None
    probabilities = run.probabilities(finished.answers)
    found = named_mistakes(
        network,
        finished.part,
        probabilities,
        training,
        limit=_SHOWN,
        max_training=limit,
        are_labels_apart=True,
        is_unfinished=may_gain(run),
        monitor=monitor,
    )
    return with_training_labels(run, data, data.scored_split, found, _SHOWN)


def _imaged(mistakes: MistakeReport) -> list[int]:
    """Places of the samples that the report draws, the surest wrong ones first."""
    return list(dict.fromkeys(each.place for each in mistakes.shown()))


def _saliencies(finished: FinishedRun, mistakes: MistakeReport, budget: int) -> SaliencyMaps:
    """Where the network looked for the answers that are shown in full."""
    places = list(dict.fromkeys(each.place for each in (*mistakes.confident_wrong, *mistakes.unsure_right)))
    module, noun = reading(finished.run), finished.data.noun
    has_layers = finished.run.preprocessing.shuffle_seed is None
    return saliencies_of(
        module, finished.part, lambda some: _scaled(finished, some), places, noun, budget, has_layers=has_layers
    )


def _scaled(finished: FinishedRun, places: list[int]) -> tuple[Tensor, list[int]]:
    """Samples as ``reading`` wants them, and the predicted classes."""
    batch = finished.run.preprocessing.scale_values(finished.part.rows(np.array(places)))
    return batch, finished.answers[places].argmax(1).tolist()


def sight_of(costs: Account) -> FieldGrowth:
    """The receptive field of each layer, from a network's account.

    Raises:
        GeometryError: the exact receptive field is unknown.
    """
    size, gates = costs.input_shape[1:], ""
    layers: list[LayerField] = []
    last: tuple[str, tuple[int, ...], tuple[tuple[int, int], ...] | None] = ("", (), None)
    for row in costs.rows:
        if len(row.fields) != len(size):
            continue
        is_all = all(field.stride == 0 for field in row.fields)
        is_map = len(row.output_shape) == len(costs.input_shape)
        reach = LayerField(row.path, row.layer, size if is_all else tuple(field.size for field in row.fields), is_all)
        if not layers or reach.size_px != layers[-1].size_px or reach.is_all != layers[-1].is_all:
            layers.append(reach)
        if is_map and not is_all and not gates and any(field.is_whole for field in row.fields):
            gates = row.path
        if is_map and not is_all and math.prod(row.output_shape[1:]) > 1:
            middle = tuple(length // 2 for length in row.output_shape[1:])
            ends = [field.interval(place) for field, place in zip(row.fields, middle, strict=True)]
            box = tuple(each for each in ends if each is not None)
            last = (row.path, middle, box if len(box) == len(size) else None)
    return FieldGrowth(size, tuple(layers), *last, gates)


def _kernels(finished: FinishedRun) -> FirstFilters | None:
    """The filters of the first layer that has any; None if they have no form that could be drawn."""
    run = finished.run
    batch, _ = _scaled(finished, [0])
    found = kernels_of(run.module, called_layers(run.module, batch.to(run.machine.device)))
    if found is None:
        return None
    shape, is_shuffled = run.preprocessing.input_shape, run.preprocessing.shuffle_seed is not None
    values = found.as_maps(shape) if found.noun == "filter" or not is_shuffled else None
    if values is None or values.ndim != len(shape) + 1 or math.prod(values.shape[2:]) == 1:
        return None
    return FirstFilters(found.path, found.layer, len(values), values[:_MAX_KERNELS], found.noun)


def _costs(finished: FinishedRun, costs: Account | None) -> tuple[tuple[str, str], ...]:
    """The costs of the network, except its training."""
    noun, count = finished.data.noun, len(finished.part)
    rows = [
        (
            "Predictions",
            f"{count:,} {noun}s in {write_duration(finished.scoring_s)}, {count / max(finished.scoring_s, 1e-9):,.0f} per second",
        )
    ]
    if costs is None:
        return tuple(rows)
    rows.append(("Parameters", f"{costs.num_parameters:,}"))
    rows.append((f"Multiply-adds for one {noun}", write_count(costs.macs)))
    try:
        rows.append((f"Memory for one {noun}", f"{write_bytes(costs.bytes_inference())} (computed, float32)"))
        step = training_of(costs, finished.batch_size)
        if step.bytes_training is not None:
            sentence = f"{write_bytes(step.bytes_training)} (computed, float32, with AdamW's state)"
            rows.append((f"Memory of a training step of {finished.batch_size}", sentence))
    except (UsageError, DesignError):
        return tuple(rows)  # what answers for the bytes ended early; the other figures stand
    return tuple(rows)


def _value_range(dtype: str, samples: list[Array]) -> tuple[float, float]:
    """Lowest and highest value that samples are drawn with."""
    if dtype == "uint8" or not samples:
        return 0.0, 255.0
    return min(float(each.min()) for each in samples), max(float(each.max()) for each in samples)
