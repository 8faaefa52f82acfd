"""The measurements that a report shows beyond the scores, as plain values and arrays: calibration, shifts, mistakes, saliency, receptive
fields, first filters, costs, advice.

``to_json`` is the format of ``inside.json`` in a run; its keys are older than the names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from visus.evaluation.calibration import Calibration
from visus.evaluation.equivariance import Equivariance
from visus.evaluation.shifts import ShiftFigures
from visus.examine.largest_errors import LargestErrors
from visus.examine.layer_calls import Array, Box
from visus.examine.mistake_report import MistakeReport


@dataclass(frozen=True)
class ShiftResults:
    """The changes of predictions under shifts.

    Attributes:
        split: the split of the samples.
        num_samples: samples that were shifted.
        ways: figures for each kind of shift.
        layers: the equivariance error of every layer for a shift of one pixel; None if positions are permuted.
        remedies: changes that would improve it, each as (name, price, command).
        notes: notes for the reader.
        command: the command that measures more; empty if none does.
        trade_off: why the default network is not more consistent, and what that would cost; empty for other networks.
    """

    split: str
    num_samples: int
    ways: tuple[ShiftFigures, ...]
    layers: Equivariance | None = None
    remedies: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    trade_off: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "split": self.split,
            "num_samples": self.num_samples,
            "ways": [each.to_json() for each in self.ways],
            "layers": self.layers.to_json() if self.layers else None,
            "remedies": [dict(zip(("name", "price", "command"), each, strict=True)) for each in self.remedies],
            "notes": list(self.notes),
            "command": self.command,
            "trade_off": self.trade_off,
        }


@dataclass(frozen=True)
class LayerField:
    """The receptive field of one layer.

    Attributes:
        path: the layer's path.
        layer: the definition of the layer.
        size_px: its theoretical receptive field on each axis; the length of the axis where it reads everything.
        is_all: whether every position reads the whole sample.
    """

    path: str
    layer: str
    size_px: tuple[int, ...]
    is_all: bool


@dataclass(frozen=True)
class FieldGrowth:
    """The growth of the receptive field, and the exact receptive field of the middle unit of the last feature map.

    Attributes:
        size_px: lengths of the input's axes.
        layers: in the order of computation; only those that change the receptive field.
        last_path: path of the last layer whose map has more than one position; empty if there is none.
        last_position: the middle of its map.
        box: first and last pixel on each axis of its exact receptive field; None if unknown.
        gates: path of the first layer that reads everything beside its windows, as a squeeze-and-excite gate does; empty if none does.
    """

    size_px: tuple[int, ...]
    layers: tuple[LayerField, ...]
    last_path: str = ""
    last_position: tuple[int, ...] = ()
    box: Box | None = None
    gates: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FirstFilters:
    """The first filters of the first layer.

    Attributes:
        path: the layer's path.
        layer: the definition of the layer.
        num_filters: filters of the layer.
        values: (filters, channels, *spatial); for a linear layer its weights in the shape of a sample.
        noun: word for one of them, ``filter`` or ``unit``.
    """

    path: str
    layer: str
    num_filters: int
    values: Array
    noun: str = "filter"


@dataclass(frozen=True, eq=False)
class SaliencyMaps:
    """Saliency maps of the samples that are shown.

    Attributes:
        method: the method that passes on held-out samples, such as ``Grad-CAM``; empty if none does.
        layer: the layer that Grad-CAM weights; empty for methods of the whole network.
        reason: why this method, or why none.
        maps: by index in the split, one number for each pixel, (*).
        check: the result of weight randomization, as a sentence; empty if it was not run.
        is_believable: whether random weights destroy the maps; None if that was not tried or is undecided.
        tested: the results of deletion and insertion for each method on held-out samples, as plain data.
        hidden: indices of samples whose map does not pass deletion and insertion and is not drawn.
    """

    method: str
    layer: str
    reason: str
    maps: Mapping[int, Array]
    check: str = ""
    is_believable: bool | None = None
    tested: tuple[Mapping[str, Any], ...] = ()
    hidden: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class ReportMeasurements:
    """All of them. The report drops a part that is None or empty, and names it as missing where ``missing`` says why.

    Attributes:
        calibration: reliability of the probabilities before and after calibration.
        shifts: how predictions change under shifts.
        largest_errors: the largest errors of a network that predicts sets of classes or numbers.
        mistakes: misclassified samples, uncertain ones, confusions and possible label errors.
        saliency: saliency maps of the samples that are shown.
        samples: the samples that are shown, in the units in which they are stored, (C, *), by index in the evaluated split.
        training_samples: the same for the training split.
        value_range: lowest and highest value that a sample is drawn with.
        field_growth: the receptive field of each layer.
        first_filters: the filters of the first layer.
        costs: costs of inference, as label and value.
        advice: advice on the design.
        missing: why a part is missing, by its name in ``inside.json``.
    """

    calibration: Calibration | None = None
    shifts: ShiftResults | None = None
    mistakes: MistakeReport | None = None
    saliency: SaliencyMaps | None = None
    samples: Mapping[int, Array] = field(default_factory=dict)
    training_samples: Mapping[int, Array] = field(default_factory=dict)
    value_range: tuple[float, float] = (0.0, 255.0)
    field_growth: FieldGrowth | None = None
    first_filters: FirstFilters | None = None
    costs: tuple[tuple[str, str], ...] = ()
    advice: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    largest_errors: LargestErrors | None = None

    def to_json(self) -> dict[str, Any]:
        """The measurements as plain data, without samples, maps and filters."""
        shown = self.saliency
        return {
            "calibration": self.calibration.to_json() if self.calibration else None,
            "moves": self.shifts.to_json() if self.shifts else None,
            "mistakes": self.mistakes.to_json() if self.mistakes else None,
            "saliency": {
                "method": shown.method or None,
                "layer": shown.layer or None,
                "check": shown.check,
                "is_believable": shown.is_believable,
                "reason": shown.reason,
                "tested": [dict(each) for each in shown.tested],
                "hidden": sorted(shown.hidden),
            }
            if shown
            else None,
            "sight": self.field_growth.to_json() if self.field_growth else None,
            "costs": dict(self.costs),
            "advice": list(self.advice),
            **({"largest_errors": self.largest_errors.to_json()} if self.largest_errors else {}),
            "missing": dict(self.missing),
        }
