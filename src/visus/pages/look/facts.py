"""The facts of a look page as plain data: the sample, the prediction, saliency, layers, filters, templates, one output, one unit's fields.

Shape letters: C channels, * the spatial axes of a sample or of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from visus.design.account import Fields
from visus.design.table import write_field
from visus.examine.activation_maps import Activation
from visus.examine.dot_products import OutputTerms
from visus.examine.effective_fields import EffectiveField
from visus.examine.layer_calls import Array, Box
from visus.examine.layer_kernels import Filters
from visus.examine.saliency_checks import Curves, WeightRandomization
from visus.examine.saliency_types import Saliency, Unit
from visus.tables import Brief, ShortFields
from visus.units import rank_words, write_shape, write_share


@dataclass(frozen=True, eq=False, repr=False)
class LookedSample(ShortFields):
    """The sample that is looked at.

    Args:
        name: name of the sample.
        noun: image, signal or volume.
        values: (C, *) as the input of the network, before normalization.
        lowest, highest: values drawn as black and white.
        original: the image of the file, (height, width, 3); None if the sample is a row of an array.
        sentences: the changes between file and input.
        truth: its label; empty if unknown.
    """

    name: str
    noun: str
    values: Array
    lowest: float
    highest: float
    original: npt.NDArray[np.uint8] | None = None
    sentences: tuple[str, ...] = ()
    truth: str = ""

    @property
    def spatial(self) -> tuple[int, ...]:
        """Lengths of its spatial axes."""
        return self.values.shape[1:]

    @property
    def unit(self) -> str:
        """The unit of lengths along its axes."""
        return rank_words(len(self.spatial)).unit

    @property
    def place(self) -> str:
        """Word for one position: sample, pixel or voxel."""
        return rank_words(len(self.spatial)).place


@dataclass(frozen=True, eq=False, repr=False)
class Answer(ShortFields):
    """The prediction of the network.

    Args:
        classes: class names, in the order of the outputs.
        probabilities: probabilities of the classes.
        target: the class of the saliency maps.
        note: the output that was used, if the module has several; empty if there is only one.
    """

    classes: tuple[str, ...]
    probabilities: Array
    target: int
    note: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        """The classes, the most probable first."""
        return tuple(int(place) for place in np.argsort(-self.probabilities, kind="stable"))


@dataclass(frozen=True, eq=False, repr=False)
class Method(ShortFields):
    """One saliency map of the sample with its checks.

    Args:
        saliency: the map.
        curves: deletion and insertion; None if they were not computed.
        weights: weight randomization; None if it was not computed.
    """

    saliency: Saliency
    curves: Curves | None = None
    weights: WeightRandomization | None = None

    @property
    def is_passed(self) -> bool:
        """Whether deletion and insertion both beat random orders significantly."""
        return self.curves is not None and self.curves.is_better_than_random is True


@dataclass(frozen=True, eq=False, repr=False)
class LayerLook(Brief):
    """One layer.

    Args:
        seen: its activations for the sample.
        over: its statistics over many samples; None if there are none.
        fields: its receptive field on each axis of the input; empty if unknown.
    """

    seen: Activation
    over: Activation | None
    fields: Fields

    def _words(self) -> str:
        return f"{self.path}: {write_shape(self.shape)}, receptive field {self.field}, {write_share(self.zero_share)} zeros"

    @property
    def path(self) -> str:
        """The layer's path; ``#2`` is appended if the layer was called before."""
        return self.seen.path

    @property
    def layer(self) -> str:
        """The definition of the layer."""
        return self.seen.layer

    @property
    def shape(self) -> tuple[int, ...]:
        """``(channels, *spatial)`` of one sample."""
        return self.seen.shape

    @property
    def noun(self) -> str:
        """Word for one of its channels: a filter if it outputs a map, a unit if a single number."""
        return "filter" if len(self.shape) > 1 else "unit"

    @property
    def maps(self) -> Array:
        """Its maps of the sample, (C, *)."""
        assert self.seen.values is not None, "maps of the sample are kept"
        maps: Array = self.seen.values[0]
        return maps

    @property
    def zero_share(self) -> float:
        """Share of its units that are exactly 0 for the sample."""
        return float(self.seen.zero_share.mean())

    @property
    def dead(self) -> tuple[int, ...]:
        """Filters or units that are never positive, over many samples where there are some, else for this sample."""
        return (self.over or self.seen).dead

    @property
    def is_rectified(self) -> bool:
        """Whether no value is negative, over the same samples: only then a filter that is never positive is called dead."""
        return (self.over or self.seen).is_rectified

    @property
    def never_positive(self) -> tuple[int, ...]:
        """Filters that are never positive over the same samples, in any layer: dead after a ReLU."""
        return (self.over or self.seen).never_positive

    @property
    def num_dead(self) -> str:
        """Number of dead filters as text; a dash where the layer has negative values."""
        return f"{len(self.dead):,}" if self.is_rectified else "\u2013"

    @property
    def sparse(self) -> tuple[int, ...]:
        """Filters that are 0 at 95 % or more of their positions and not dead, over the same samples."""
        return (self.over or self.seen).sparse

    @property
    def field(self) -> str:
        """The receptive field as ``visus summary`` writes it: size/stride, or ``all``; empty if unknown."""
        texts = [write_field(each) for each in self.fields]
        return texts[0] if len(set(texts)) == 1 else " x ".join(texts)

    def strongest(self, count: int) -> list[int]:
        """At most ``count`` channels, the one with the highest value first."""
        return [int(channel) for channel in np.argsort(-self.seen.statistics.highest, kind="stable")[:count]]

    def to_json(self) -> dict[str, Any]:
        """Its statistics as plain data."""
        return {
            "path": self.path,
            "layer": self.layer,
            "shape": list(self.shape),
            "fields": [{"size": each.size, "stride": str(Fraction(each.stride))} for each in self.fields],
            "zero_share": self.zero_share,
            "dead": list(self.dead) if self.is_rectified else None,
            "never_positive": list(self.never_positive),
            "sparse": list(self.sparse),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Patch(ShortFields):
    """A patch of a sample that activates a filter.

    Args:
        sample: the sample's name.
        position: position of the unit in its map.
        value: its activation.
        box: its exact receptive field; None if it reads only padding.
        pixels: (C, *) inside the box, before normalization.
    """

    sample: str
    position: tuple[int, ...]
    value: float
    box: Box | None
    pixels: Array


@dataclass(frozen=True, eq=False, repr=False)
class LayerPatches(ShortFields):
    """The templates of one layer.

    Args:
        path: the layer's path.
        channels: channel and its patches, the strongest first.
        num_channels: channels of the layer.
    """

    path: str
    channels: tuple[tuple[int, tuple[Patch, ...]], ...]
    num_channels: int


@dataclass(frozen=True, eq=False, repr=False)
class UnitFields(ShortFields):
    """The receptive field of one unit.

    Args:
        unit: the unit with its position.
        box: its exact receptive field; None if it reads only padding.
        theoretical: its theoretical receptive field, with the padding continued; None if unknown.
        now: its effective receptive field in this network.
        before: the same before training; None if unknown.
        how: a sentence on how they were computed.
    """

    unit: Unit
    box: Box | None
    theoretical: Box | None
    now: EffectiveField | None
    before: EffectiveField | None = None
    how: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class LookFacts(Brief):
    """Everything that a look page shows.

    Args:
        name: name of the network.
        is_trained: whether its weights were trained.
        made_with: the version of visus.
        sample: the sample.
        layers: in the order of computation.
        answer: None if the module does not return class scores.
        methods: saliency maps that are shown, the best one first.
        hidden: maps that are not shown: they do not pass deletion and insertion, or others were requested.
        reason: a sentence on the choice of the first map, or on why none is shown.
        kernels: kernels of the first layer that has some; None if none has.
        patches: templates of layers; empty if there is no data.
        patches_of: the samples that were searched for them, as words.
        num_over: number of samples of the statistics of layers; 1 for this sample alone.
        sum: one output term by term; None if no layer is a convolution or a linear one.
        unit: the receptive field of one unit; None if unknown.
        object_px: size of the objects; None if it was not given.
        warning: a warning at the top, for example that the network is untrained; may be empty.
        answer_notes: how the prediction was made.
        missing: why a part is missing, by its name.
    """

    name: str
    is_trained: bool
    made_with: str
    sample: LookedSample
    layers: tuple[LayerLook, ...]
    answer: Answer | None = None
    methods: tuple[Method, ...] = ()
    hidden: tuple[Method, ...] = ()
    reason: str = ""
    kernels: Filters | None = None
    patches: tuple[LayerPatches, ...] = ()
    patches_of: str = ""
    num_over: int = 1
    sum: OutputTerms | None = None
    unit: UnitFields | None = None
    object_px: int | None = None
    warning: str = ""
    answer_notes: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    def _words(self) -> str:
        return f"{self.name}, {self.sample.name}"

    @property
    def channels(self) -> str:
        """What the columns of dead and sparse channels count: filters, units, or both."""
        return " and ".join(dict.fromkeys(f"{noun}s" for noun in sorted(each.noun for each in self.layers)))

    @property
    def dash(self) -> str:
        """The meaning of a dash in the column of dead filters and units; empty if there is none."""
        if all(each.is_rectified for each in self.layers):
            return ""
        return (
            "\u2013: this layer has negative values, such as before an activation, so nothing in it is called dead. "
            f"Where the activation is a function and not a layer, see the {self.channels} that are never positive."
        )

    def to_json(self) -> dict[str, Any]:
        """All measurements as plain data, without maps."""
        answer = self.answer
        return {
            "network": self.name,
            "is_trained": self.is_trained,
            "sample": {
                "name": self.sample.name,
                "shape": list(self.sample.values.shape),
                "truth": self.sample.truth or None,
            },
            "answer": None
            if answer is None
            else {
                "label": answer.classes[answer.order[0]],
                "probabilities": dict(zip(answer.classes, _floats(answer.probabilities), strict=True)),
                "explained": answer.classes[answer.target],
            },
            "saliency": [_method_json(each, is_shown=True) for each in self.methods]
            + [_method_json(each, is_shown=False) for each in self.hidden],
            "saliency_reason": self.reason,
            "num_samples_of_figures": self.num_over,
            "layers": [each.to_json() for each in self.layers],
            "templates": [_patches_json(each) for each in self.patches],
            "sum": None if self.sum is None else _sum_json(self.sum),
            "unit": None if self.unit is None else _unit_json(self.unit),
            "object_px": self.object_px,
            "warning": self.warning,
            "answer_notes": list(self.answer_notes),
            "missing": dict(self.missing),
        }


def _floats(values: Sequence[Any] | Array) -> list[float]:
    return [float(value) for value in values]


def _method_json(method: Method, *, is_shown: bool) -> dict[str, Any]:
    curves, weights = method.curves, method.weights
    return {
        "method": method.saliency.method,
        "is_shown": is_shown,
        "layer": method.saliency.layer or None,
        "outside_box": method.saliency.outside_box,
        "random_weights_correlation": None
        if weights is None or weights.is_sensitive is None
        else float(weights.similarity[-1]),
        "deletion_area": None if curves is None else curves.deletion_area,
        "insertion_area": None if curves is None else curves.insertion_area,
        "is_better_than_random": None if curves is None else curves.is_better_than_random,
        "notes": list(method.saliency.notes),
    }


def _patches_json(layer: LayerPatches) -> dict[str, Any]:
    return {
        "path": layer.path,
        "channels": [
            {
                "channel": channel,
                "patches": [
                    {"sample": each.sample, "position": list(each.position), "value": each.value, "box": _box_json(each.box)}
                    for each in patches
                ],
            }
            for channel, patches in layer.channels
        ],
    }


def _sum_json(found: OutputTerms) -> dict[str, Any]:
    return {
        "layer": found.path,
        "channel": found.channel,
        "position": list(found.position),
        "num_terms": int(found.products.size),
        "products": float(found.products.sum()),
        "bias": found.bias,
        "sum": found.sum,
        "value": found.value,
    }


def _unit_json(found: UnitFields) -> dict[str, Any]:
    return {
        "layer": found.unit.layer,
        "channel": found.unit.channel,
        "position": list(found.unit.position or ()),
        "box": _box_json(found.box),
        "theoretical": _box_json(found.theoretical),
        "effective_deviation_px": None if found.now is None else list(found.now.deviation_px),
        "effective_deviation_before_px": None if found.before is None else list(found.before.deviation_px),
        "num_samples": None if found.now is None else found.now.num_samples,
    }


def _box_json(box: Box | None) -> list[list[int]] | None:
    return None if box is None else [list(ends) for ends in box]
