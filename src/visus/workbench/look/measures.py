"""The measurements of a look. Each needs a module, one sample and a pool of samples, and has a limited number of
multiply-adds.

Shape letters: N samples, C channels, * spatial axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.data.batches import Part
from visus.errors import UsageError, closest_name, unknown_layer, unknown_name
from visus.evaluation.calibration import UNCALIBRATED, Calibrator
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.examine.activation_maps import Activation, activations
from visus.examine.dot_products import OutputTerms, output_terms
from visus.examine.effective_fields import EffectiveField, effective_field, effective_field_sampled
from visus.examine.layer_calls import called_layers, check_channel, eval_mode, find_operations, resolve_position
from visus.examine.layer_kernels import Filters, filters
from visus.examine.saliency_checks import (
    NUM_RANDOM,
    Curves,
    WeightRandomization,
    deletion_and_insertion,
    weight_randomization,
)
from visus.examine.saliency_choice import best_curves
from visus.examine.saliency_types import Saliency, Target, Unit, class_scores
from visus.examine.strongest_patches import templates
from visus.networks.trace import trace
from visus.pages.look.facts import Answer, LayerLook, LayerPatches, Method, Patch, UnitFields
from visus.units import rank_words, write_number_of
from visus.workbench.look.inputs import SamplePool
from visus.workbench.look.map_methods import ALL, TriedMethod, tried_methods

# Multiply-adds that a part may take, about: 3 x 10^10 in a second of one processor core, fewer for small maps.
FIGURE_MACS, PATCH_MACS, FIELD_MACS = 10**10, 6 * 10**10, 2 * 10**10
COSTLY_MACS: Final = 2 * 10**8  # of one sample, from which on saliency and its checks take coarser steps
MAX_FIGURE_SAMPLES, MAX_PATCH_SAMPLES, MAX_FIELD_SAMPLES = 256, 4000, 200
MIN_SAMPLES: Final = 16
PATCH_LAYERS, PATCH_FILTERS, PATCHES = 6, 8, 4
SURE: Final = 0.98
_NO_LAYER: Final = nn.Identity()  # in the place of an operation outside of layers
_SHOWN_CLASSES: Final = 20


@dataclass(frozen=True, eq=False)
class Probe:
    """A module and the sample of a look.

    Args:
        module: the module.
        x: (1, C, *), scaled.
        macs: multiply-adds of one sample; at least 1.
        calibrator: calibrator of a run, whose outputs are logits; None for a module, whose outputs may already be
            probabilities.
        has_classes: whether the outputs are those of classes; False for numbers.
    """

    module: nn.Module
    x: Tensor
    macs: int
    calibrator: Calibrator | Sigmoid | None = None
    has_classes: bool = True

    @property
    def is_costly(self) -> bool:
        """Whether hundreds of passes take too long for interactive use."""
        return self.macs > COSTLY_MACS

    def affordable(self, budget: int, most: int) -> int:
        """Maximum number of samples for one pass."""
        return min(most, max(MIN_SAMPLES, budget // self.macs))


def layers_of(probe: Probe, pool: SamplePool | None, asked: str | None = None) -> tuple[tuple[LayerLook, ...], int, str]:
    """All layers, the number of samples behind their figures, and the reason if their receptive fields are unknown.

    ``asked``: an operation outside of layers, such as ``block.add``, that is listed among the layers; a layer's path changes nothing.
    """
    operations = find_operations(probe.module, tuple(probe.x.shape[1:]), asked) if asked else {}
    wanted = called_layers(probe.module, probe.x, operations) if operations else None
    seen = activations(probe.module, probe.x, wanted)
    over: dict[str, Activation] = {}
    num_samples = 1
    if pool is not None:
        some = pool.scaled(probe.affordable(FIGURE_MACS, MAX_FIGURE_SAMPLES))
        num_samples = len(some)
        over = {
            each.path: each for each in activations(probe.module, torch.split(some, 64), wanted, summary_only=True).layers
        }
    fields, why = {}, ""
    try:
        fields = {row.path: row.fields for row in trace(probe.module, tuple(probe.x.shape[1:])).rows}
    except UsageError as error:
        why = f"What the layers of this network read could not be followed: {error}"
    layers = tuple(LayerLook(each, over.get(each.path), fields.get(each.path, ())) for each in seen.layers)
    return layers, num_samples, why


def uncalled_parts(module: nn.Module, layers: Sequence[LayerLook]) -> str:
    """A sentence on parts with weights that are not among the layers; empty if there are none."""
    seen = {each.path.partition("#")[0] for each in layers}
    absent = [
        f"{path or 'the module'} ({type(part).__name__})"
        for path, part in module.named_modules()
        if path not in seen and any(values is not None for values in part._parameters.values())
    ]
    if not absent:
        return ""
    listed = ", ".join(absent[:_SHOWN_CLASSES]) + (
        f" and {len(absent) - _SHOWN_CLASSES:,} more" if len(absent) > _SHOWN_CLASSES else ""
    )
    return f"Not among the layers: {listed}. They have weights, but the network does not call them as leaf modules, so their maps are unknown."


@torch.no_grad()
def answer_of(probe: Probe, classes: Sequence[str], target: str | int | None) -> Answer | None:
    """The class probabilities, and the class to explain; None if the module does not return one value per class.

    Raises:
        UsageError: the class does not exist.
    """
    if not probe.has_classes:
        return None
    with eval_mode(probe.module):
        output, note = class_scores(probe.module(probe.x))
    if output is None:
        return None
    logits = output[0].float()
    is_share = probe.calibrator is None and bool((logits >= 0).all()) and abs(float(logits.sum()) - 1) < 1e-4
    shares = (logits if is_share else (probe.calibrator or UNCALIBRATED)(logits)).numpy()
    names = tuple(classes) if len(classes) == len(shares) else tuple(str(index) for index in range(len(shares)))
    return Answer(names, shares, int(shares.argmax()) if target is None else class_index(target, names), note)


def class_index(target: str | int, classes: Sequence[str]) -> int:
    """The index of a class from its name or number.

    Raises:
        UsageError: the class does not exist.
    """
    if isinstance(target, str) and target in classes:
        return list(classes).index(target)
    if isinstance(target, int) or target.isdecimal():
        if not 0 <= int(target) < len(classes):
            raise UsageError(f"there are {len(classes)} classes, counted from 0; class {target} does not exist.")
        return int(target)
    if len(classes) <= _SHOWN_CLASSES:
        raise UsageError(unknown_name("class", target, classes))
    guess = closest_name(target, classes)
    hint = f" Did you mean {guess!r}?" if guess else ""
    raise UsageError(f"unknown class {target!r}.{hint} There are {len(classes)}, from {classes[0]} to {classes[-1]}.")


# ---- saliency ----


@dataclass(frozen=True, eq=False)
class LookedSaliency:
    """The saliency maps of a look.

    Args:
        shown: the displayed maps, the default one first.
        hidden: the maps that were tried but are not displayed.
        reason: a sentence on the choice of the first map, or on why none is displayed.
        missing: unavailable methods.
    """

    shown: tuple[Method, ...]
    hidden: tuple[Method, ...]
    reason: str
    missing: str


def saliency_of(probe: Probe, target: Target, asked: str | None, *, is_trained: bool) -> LookedSaliency:
    """Every method's map with its checks. Maps that pass deletion and insertion against random orders are displayed; others
    only on request.

    The check with random weights applies only to trained weights.

    Args:
        probe: the module and the sample.
        target: the class or unit to explain.
        asked: a key of ``METHODS``, or ``all``; default: the maps that pass.
        is_trained: whether the weights were trained.
    """
    tried, missing = tried_methods(probe.module, probe.x, target, is_costly=probe.is_costly)
    curves: list[Curves] = []
    for _, saliency in tried:
        curves.append(_curves(probe, saliency, curves[0] if curves else None))
    passed = best_curves(curves)
    order = [*passed, *(place for place in range(len(tried)) if place not in passed)]
    chosen = [place for place in order if _is_asked(asked, tried[place][0].name, place in passed)]
    methods = {
        place: Method(
            saliency,
            curves[place],
            _weights(probe, each, saliency) if is_trained and each.is_cheap and place in chosen else None,
        )
        for place, (each, saliency) in enumerate(tried)
    }
    first = tried[chosen[0]] if chosen else None
    reason = _choice_words(probe, len(tried), len(passed), asked, first[0].reason if first else "")
    return LookedSaliency(
        tuple(methods[place] for place in chosen),
        tuple(methods[place] for place in order if place not in chosen),
        reason,
        missing,
    )


def _is_asked(asked: str | None, name: str, is_passed: bool) -> bool:
    return is_passed if asked is None else asked in (ALL, name)


def _choice_words(probe: Probe, num_tried: int, num_passed: int, asked: str | None, layer: str) -> str:
    noun = rank_words(probe.x.dim() - 2)
    if not num_passed:
        none = (
            f"None of {write_number_of(num_tried, 'map')} passes deletion and insertion on this {noun.sample}: none names {noun.place}s that "
            f"provably matter more than {noun.place}s in random order."
        )
        return f"{none} They are shown on request. {layer}".strip() if asked else f"{none} So none is shown."
    if asked not in (None, ALL):
        return f"It is shown on request. {layer}".strip()
    return (
        f"Of {write_number_of(num_tried, 'map')} {num_passed} {'passes' if num_passed == 1 else 'pass'} deletion and insertion on this "
        f"{noun.sample}; the one with the largest margin over random order comes first. {layer}"
    ).strip()


def _curves(probe: Probe, saliency: Saliency, random_from: Curves | None) -> Curves:
    steps, num_random = (8, 8) if probe.is_costly else (16, NUM_RANDOM)
    return deletion_and_insertion(
        probe.module,
        probe.x,
        saliency,
        steps=steps,
        num_random=num_random,
        random_from=random_from,
        calibrator=probe.calibrator or UNCALIBRATED,
    )


def _weights(probe: Probe, method: TriedMethod, saliency: Saliency) -> WeightRandomization | None:
    """How the map changes with random weights; None for a network without weights."""
    try:
        return weight_randomization(probe.module, probe.x, saliency.target, method=method.make, only_last=True)
    except UsageError:
        return None


# ---- units ----


def unit_of(
    probe: Probe, layers: Sequence[LayerLook], layer: str | None, channel: int | None, at: Sequence[int] | None
) -> Unit:
    """The unit of a look; default: the strongest channel of a layer for the sample, at its strongest position.

    Raises:
        UsageError: the layer, channel or position does not exist, or a channel or position has no layer.
    """
    if layer is None and (channel is not None or at is not None):
        raise UsageError("a channel and a position need a layer. Give it with --layer.")
    if layer is None:
        chosen = _deep_layer(probe.module, layers)
    else:
        chosen = next((each for each in layers if each.path == layer), layers[0])
        if chosen.path != layer:
            raise UsageError(unknown_layer(layer, [each.path for each in layers]))
    which = chosen.strongest(1)[0] if channel is None else check_channel(chosen.shape[0], channel, chosen.path)
    if at is not None:
        return Unit(chosen.path, which, resolve_position(chosen.shape[1:], at, chosen.path))
    return Unit(chosen.path, which, strongest_place(chosen, which))


def strongest_place(layer: LayerLook, channel: int) -> tuple[int, ...]:
    """The position of a channel's maximum for the sample; empty if the layer has no map."""
    values = layer.maps[channel]
    return tuple(int(index) for index in np.unravel_index(int(values.argmax()), values.shape)) if values.ndim else ()


def _kind(module: nn.Module, layer: LayerLook) -> nn.Module:
    try:
        return module.get_submodule(layer.path.partition("#")[0])
    except AttributeError:
        return _NO_LAYER


def _is_plain_convolution(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.conv._ConvNd) and not isinstance(part, nn.modules.conv._ConvTransposeNd)


def _deep_layer(module: nn.Module, layers: Sequence[LayerLook]) -> LayerLook:
    """The last convolution whose field is at most three quarters of the sample on every axis; else the first; else the first layer."""
    spatial = layers[0].seen.traced.input_shape[1:]
    convolutions = [each for each in layers if _is_plain_convolution(_kind(module, each))]
    small = [
        each
        for each in convolutions
        if each.fields
        and all(field.size <= 0.75 * length for field, length in zip(each.fields, spatial, strict=True))
        and math.prod(each.shape[1:]) > 1
    ]
    return small[-1] if small else convolutions[0] if convolutions else layers[0]


def sum_of(probe: Probe, layers: Sequence[LayerLook], unit: Unit | None) -> tuple[OutputTerms | None, str]:
    """One output as a sum: of the unit if its layer is a convolution or linear, else of the first such layer. Also a
    sentence if the unit is another one."""
    summable = [each for each in layers if _can_be_summed(_kind(probe.module, each))]
    if not summable:
        return None, "No layer of this network is a convolution or linear, so there is no such sum."
    why = ""
    if unit is not None and unit.layer in [each.path for each in summable]:
        return output_terms(probe.module, probe.x, unit.layer, unit.channel, unit.position), ""
    first = summable[0]
    if unit is not None:
        asked = next(each for each in layers if each.path == unit.layer)
        why = f"{asked.path} is {asked.layer} and has no kernel; so this is the strongest unit of {first.path}."
    channel = first.strongest(1)[0]
    return output_terms(probe.module, probe.x, first.path, channel, strongest_place(first, channel)), why


def _can_be_summed(part: nn.Module) -> bool:
    return _is_plain_convolution(part) or isinstance(part, nn.Linear)


def kernels_of(module: nn.Module, paths: Sequence[str]) -> Filters | None:
    """The kernels of the first layer that has kernels; None if no layer has."""
    for path in paths:
        if isinstance(module.get_submodule(path.partition("#")[0]), (nn.modules.conv._ConvNd, nn.Linear)):
            return filters(module, path)
    return None


# ---- over many samples ----


def patches_of(probe: Probe, layers: Sequence[LayerLook], pool: SamplePool) -> tuple[tuple[LayerPatches, ...], str]:
    """The most activating patches of at most six convolutions after the first, and a sentence on the searched samples."""
    convolutions = [each for each in layers if isinstance(_kind(probe.module, each), nn.modules.conv._ConvNd)]
    deeper = convolutions[1:] or convolutions
    if not deeper:
        return (), ""
    places = np.unique(np.linspace(0, len(deeper) - 1, min(PATCH_LAYERS, len(deeper))).round().astype(int))
    chosen = [deeper[place] for place in places]
    some = pool.some(probe.affordable(PATCH_MACS, MAX_PATCH_SAMPLES))
    found = templates(probe.module, some, [each.path for each in chosen], top=PATCHES, preprocessing=pool.preprocessing)
    made = []
    for layer, strongest in zip(found.layers, chosen, strict=True):
        channels = tuple(
            (channel, tuple(_patch(each, some, pool) for each in layer.channels[channel]))
            for channel in strongest.strongest(PATCH_FILTERS)
        )
        made.append(LayerPatches(layer.path, channels, len(layer.channels)))
    of = "all" if len(some) == len(pool) else f"{len(some):,} of"
    return tuple(made), f"{of} {write_number_of(len(pool), 'sample')} of {pool.name}"


def _patch(template: Any, some: Part | Tensor, pool: SamplePool) -> Patch:
    pixels = template.patch
    if pool.preprocessing is not None and pixels.size:
        pixels = pool.preprocessing.stored_values(torch.tensor(pixels)[None])[0].numpy()
    name = some.names[template.sample] if isinstance(some, Part) else f"sample {template.sample}"
    return Patch(name, template.position, template.value, template.box, pixels)


def unit_fields(
    probe: Probe, layers: Sequence[LayerLook], unit: Unit, pool: SamplePool | None, before: nn.Module | None
) -> UnitFields:
    """The exact and effective receptive field of a unit, in this network and in the one before training."""
    layer = next(each for each in layers if each.path == unit.layer)
    box = layer.seen.traced.box(unit.layer, unit.position or (), layer.shape[1:])
    theoretical = _theoretical(layer, unit.position or ())
    now, how = _effective(probe, unit, pool)
    then = _effective(Probe(before, probe.x, probe.macs), unit, pool)[0] if before is not None else None
    return UnitFields(unit, box, theoretical, now, then, how)


def _theoretical(layer: LayerLook, position: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
    if len(position) != len(layer.fields):
        return None
    found = [field.theoretical(index) for field, index in zip(layer.fields, position, strict=True)]
    return None if any(each is None for each in found) else tuple(each for each in found if each is not None)


def _effective(probe: Probe, unit: Unit, pool: SamplePool | None) -> tuple[EffectiveField | None, str]:
    """The effective field: sampled where there are samples, else by one pass on noise."""
    module, shape = probe.module, tuple(probe.x.shape[1:])
    if pool is not None:
        samples = pool.scaled(probe.affordable(FIELD_MACS, MAX_FIELD_SAMPLES))
        found = effective_field_sampled(module, samples, unit.layer, unit.position, unit.channel, until=SURE)
        return found, f"It is the root mean square of the gradient over {found.num_samples:,} samples of {pool.name}."
    try:
        found = effective_field(module, shape, unit.layer, unit.position, unit.channel)
        return (
            found,
            "It comes from one backward pass with statistics measured on noise, since there is no data: it is only a rough estimate.",
        )
    except UsageError:
        noise = torch.randn(MIN_SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
        found = effective_field_sampled(module, noise, unit.layer, unit.position, unit.channel)
        return (
            found,
            f"It is the root mean square of the gradient over {MIN_SAMPLES} samples of noise, since there is no data.",
        )
