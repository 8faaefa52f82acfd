"""What a report tells beyond the scores: calibration, shifts, mistakes, what the network sees, costs, advice; and what is missing and why.

This file knows these facts as plain values and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from visus.evaluation.calibration import Calibration
from visus.evaluation.equivariance import Equivariance
from visus.evaluation.shifts import ShiftFigures
from visus.examine.layer_calls import Array, Box
from visus.examine.named_mistakes import NamedMistakes


@dataclass(frozen=True)
class Moves:
    """How the answers change when samples move, measured on a few of them.

    Attributes:
        split: what the samples are of.
        num_samples: samples that were moved.
        ways: figures for each way to move a sample.
        layers: every layer's error for a shift of one pixel; None where the layers see no image.
        remedies: what would help, each as (name, price, command).
        notes: what a reader must know.
        command: what measures more; empty where nothing does.
    """

    split: str
    num_samples: int
    ways: tuple[ShiftFigures, ...]
    layers: Equivariance | None = None
    remedies: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""

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
        }


@dataclass(frozen=True)
class Reach:
    """How far one layer sees.

    Attributes:
        path: the layer's path.
        layer: the layer as it is written.
        size_px: its receptive field on each axis in theory; where it sees everything, the length of the axis.
        is_all: whether each of its positions sees everything.
    """

    path: str
    layer: str
    size_px: tuple[int, ...]
    is_all: bool


@dataclass(frozen=True)
class FieldGrowth:
    """How the receptive field grows, and what the middle unit of the last map really reads.

    Attributes:
        size_px: lengths of the input's axes.
        layers: in the order of computation; those that change nothing are left out.
        last_path: path of the last layer whose map has more than one place; empty where there is none.
        last_position: the middle of its map.
        box: first and last pixel on each axis that this unit really reads; None where that is not known.
        gates: path of the first layer that sees everything beside its windows, as a squeeze-and-excite gate does; empty where none does.
    """

    size_px: tuple[int, ...]
    layers: tuple[Reach, ...]
    last_path: str = ""
    last_position: tuple[int, ...] = ()
    box: Box | None = None
    gates: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Kernels:
    """The filters of the first layer, some of them where there are many.

    Attributes:
        path: the layer's path.
        layer: the layer as it is written.
        num_filters: filters in all.
        values: (filters, channels, *spatial); for a perceptron its weights in the shape of a sample.
        noun: what one of them is called, ``filter`` or ``unit``.
    """

    path: str
    layer: str
    num_filters: int
    values: Array
    noun: str = "filter"


@dataclass(frozen=True, eq=False)
class Saliencies:
    """Where the network looked, for the samples that are shown.

    Attributes:
        method: the method that passes on held-out samples, such as ``Grad-CAM``; empty where none does.
        layer: the layer that it looked at; empty for methods of the whole network.
        reason: why this method, or why none.
        maps: for each place in the split, one number for each pixel, (*).
        check: what random weights do to the maps, as a sentence; empty where that was not tried.
        is_believable: whether random weights destroy the maps; None where that was not tried or cannot be judged.
        tested: what deletion and insertion gave for each method on held-out samples, as plain data.
        hidden: places whose map does not pass deletion and insertion, so that none is drawn.
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
class Inside:
    """All of it; a part that is None or empty is left out of the report, or told as missing where ``missing`` says why.

    Attributes:
        calibration: reliability of the network's own probabilities and of the calibrated ones.
        moves: what shifts do to the answers.
        mistakes: the answers worth a look.
        saliencies: where the network looked.
        samples: the samples that are shown, in the units that they are stored in, (C, *), by their place in the scored split.
        training_samples: the same for the training split.
        value_range: lowest and highest value that a sample is drawn with.
        sight: how far each layer sees.
        kernels: the filters of the first layer.
        costs: what the network costs in use, as label and value.
        advice: what follows from the network's figures.
        missing: why a part is missing, by its name.
    """

    calibration: Calibration | None = None
    moves: Moves | None = None
    mistakes: NamedMistakes | None = None
    saliencies: Saliencies | None = None
    samples: Mapping[int, Array] = field(default_factory=dict)
    training_samples: Mapping[int, Array] = field(default_factory=dict)
    value_range: tuple[float, float] = (0.0, 255.0)
    sight: FieldGrowth | None = None
    kernels: Kernels | None = None
    costs: tuple[tuple[str, str], ...] = ()
    advice: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The measured facts as plain data; what is drawn from them is left out."""
        shown = self.saliencies
        return {
            "calibration": self.calibration.to_json() if self.calibration else None,
            "moves": self.moves.to_json() if self.moves else None,
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
            "sight": self.sight.to_json() if self.sight else None,
            "costs": dict(self.costs),
            "advice": list(self.advice),
            "missing": dict(self.missing),
        }
