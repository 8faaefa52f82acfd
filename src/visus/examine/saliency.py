"""Saliency: which pixels mattered to a class or to a unit. Plain gradients, Grad-CAM, integrated gradients, occlusion.

A map can look convincing and say nothing: ``visus.examine.saliency_checks`` tells. Shape letters: N samples, C channels, * the
spatial axes of the input. This file knows gradients and captum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError
from visus.examine.layer_calls import (
    FUNCTION,
    Array,
    Ended,
    Inputs,
    LayerCall,
    TracedFields,
    as_batch,
    at_rest,
    called_layers,
    frozen,
    gradients,
    heard,
    run,
    to_array,
    unknown_layer,
    unwrapped,
)
from visus.examine.map_placement import STRETCHED, Places
from visus.examine.saliency_types import Explained, Saliency, Target, Unit, box_of, outside_share
from visus.units import write_shape

WINDOWS: Final = 8  # so many windows of occlusion lie side by side on an axis
PER_FORWARD: Final = 32


def gradient_saliency(module: nn.Module, inputs: Inputs, target: Target = None) -> Saliency:
    """The size of the gradient at each pixel, the largest of its channels (Simonyan et al. 2014, arXiv:1312.6034, section 3.1).

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the class that the module gives.

    Raises:
        UsageError: no such class, layer, channel or position.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> gradient_saliency(module, torch.ones(3, 1, 2, 2), target=1).map.shape
    (3, 2, 2)
    """
    module = unwrapped(module)
    with at_rest(module), gradients():
        x = as_batch(module, inputs).clone().requires_grad_(True)
        explained = Explained(module, x, target)
        scores = explained.scores(x)
        (gradient,) = torch.autograd.grad(scores.sum(), x, allow_unused=True, materialize_grads=True)
    sights = TracedFields(module, tuple(x.shape[1:]))
    return Saliency(
        "gradient",
        explained.settled,
        _floats(scores),
        _floats(gradient.abs().amax(1)),
        _floats(gradient),
        sights,
        notes=_notes(explained.note),
    )


def grad_cam(module: nn.Module, inputs: Inputs, target: Target = None, *, layer: str | None = None) -> Saliency:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, eq. 1 and 2): the channels of one layer's map, weighted by their mean gradients.

    The module runs once on the samples; the gradient goes back to the layer and no further. Each cell of the layer's map is placed at the
    center of its unit's theoretical receptive field; between centers the map is interpolated linearly, beyond the outermost ones it stays
    the same. It is cut off where the unit that is explained cannot see; ``spilled`` is the share that was cut. ``notes`` says where
    fields are not known and the map was stretched over the input instead.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit`` of a later layer; None for the class that the module gives.
        layer: path of the layer; None for the last one before the target whose map has more than one place, with cells that have receptive
            fields of their own, behind its activation where there is such a layer.

    Raises:
        UsageError: no such layer, or one without a map; no such class or unit.
    """
    module = unwrapped(module)
    with at_rest(module), gradients():
        batch = as_batch(module, inputs)
        sights = TracedFields(module, tuple(batch.shape[1:]))
        places = Places(sights).follow()
        explained = Explained(module, batch, target)
        found = _run_to_layer(module, batch, explained, layer, places)
        score = found.scores.sum()
        (gradient,) = torch.autograd.grad(score, found.values, allow_unused=True, materialize_grads=True)
        if layer is None and not bool(
            gradient.any()
        ):  # as behind the last attention, from which a class token alone goes on
            found = _run_to_layer(module, batch, explained, layer, places, keep_graph=True)
            every = torch.autograd.grad(
                found.scores.sum(), [values for _, values in found.earlier], allow_unused=True, materialize_grads=True
            )
            reached = [place for place, each in enumerate(every) if bool(each.any())]
            if reached:
                found = replace(found, path=found.earlier[reached[-1]][0], values=found.earlier[reached[-1]][1])
                gradient = every[reached[-1]]
    axes = tuple(range(2, found.values.dim()))
    values, gradient = found.values.detach().float(), gradient.float()
    coarse = (gradient.mean(axes, keepdim=True) * values).sum(1).relu()
    placement = places.of(found.path, tuple(coarse.shape[1:]))
    maps, spilled = _cut_off(placement.spread(_floats(coarse), sights.input_shape[1:]), sights, explained.settled)
    return Saliency(
        "Grad-CAM",
        explained.settled,
        _floats(found.scores),
        maps,
        None,
        sights,
        found.path,
        _reason(found, target) if layer is None else "",
        _floats(coarse),
        spilled,
        notes=_notes(placement.note, explained.note),
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """The layer whose map is weighted.

    Args:
        path: its path.
        values: its map (N, C, *), to which the gradient goes.
        scores: (N,) what is explained, computed from it.
        is_active: whether it is behind an activation.
        earlier: all layers that could be taken, with their maps, where the graph was kept.
    """

    path: str
    values: Tensor
    scores: Tensor
    is_active: bool = False
    earlier: tuple[tuple[str, Tensor], ...] = ()


def _run_to_layer(
    module: nn.Module, batch: Tensor, explained: Explained, layer: str | None, places: Places, *, keep_graph: bool = False
) -> _Layer:
    """Run the module once and take the layer that is named, or the best one."""
    kept: list[tuple[str, Tensor]] = []
    picked: list[Tensor] = []
    target = explained.target
    best = (STRETCHED, False)

    def listen(call: LayerCall) -> Tensor | None:
        nonlocal best
        if isinstance(explained.settled, Unit) and call.path == explained.settled.layer:
            picked.append(explained.picked(call.output))
            raise Ended
        is_map = call.output.dim() > 2 and max(call.output.shape[2:]) > 1
        if not (is_map if layer is None else call.path == layer):
            return None
        if not is_map:
            raise UsageError(
                f"Grad-CAM needs a map, and this layer gives the shape {tuple(call.output.shape[1:])}.", where=call.path
            )
        if layer is None:
            rank = _rank(call, places)
            if rank is None or rank < best:
                return None
            best = rank
        if keep_graph and kept:
            kept.append((call.path, call.output))
            return None
        values = call.output.detach().requires_grad_(True)
        kept[:] = [(call.path, values)]
        return values.clone()  # which the module may write over

    with heard(module, listen, functions=layer is None or FUNCTION in layer):
        output = run(module, batch)
    if isinstance(target, Unit) and not picked:
        raise UsageError(unknown_layer(target.layer, called_layers(module, batch[:1])))
    scores = picked[0] if picked else explained.classed(output)
    if not kept:
        raise UsageError(_no_map(module, batch, layer, target))
    return _Layer(*kept[-1], scores, best[1], tuple(kept))


def _rank(call: LayerCall, places: Places) -> tuple[int, bool] | None:
    """How well a layer's map can be laid over the input; None where it cannot."""
    try:
        quality = places.of(call.path, tuple(call.output.shape[2:])).quality
    except UsageError:
        return None
    return quality, call.is_active and call.output.shape[1] > 1


def integrated_gradients(
    module: nn.Module, inputs: Inputs, target: Target = None, *, baseline: float = 0.0, steps: int = 32
) -> Saliency:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) on the way from a plain sample to this one, by captum.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the class that the module gives.
        baseline: every pixel of the plain sample; 0 is the mean of the training samples where they were scaled by it.
        steps: gradients that are taken on the way; ``gap`` tells whether they were enough.

    Raises:
        MissingExtraError: captum is not installed.
        UsageError: no such class, layer, channel or position.
    """
    attribution = _captum()
    if steps < 1:
        raise UsageError(f"integrated gradients need at least 1 step, not {steps}.")
    module = unwrapped(module)
    with at_rest(module), gradients():
        batch = as_batch(module, inputs)
        explained, scores = _first(module, batch, target)
        values, gap = [], []
        for index in range(len(batch)):
            one = _alone(explained, index)
            x = batch[index : index + 1].clone().requires_grad_(True)
            found, delta = attribution.IntegratedGradients(one).attribute(
                x, baselines=baseline, n_steps=steps, internal_batch_size=PER_FORWARD, return_convergence_delta=True
            )
            values.append(found.detach().to(batch.dtype))
            gap.append(delta.detach())
    gaps = _floats(torch.cat(gap))
    return _with_values("integrated gradients", explained, batch, scores, torch.cat(values), gap=gaps)


def occlusion(
    module: nn.Module,
    inputs: Inputs,
    target: Target = None,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: float = 0.0,
) -> Saliency:
    """How much the score falls when a window of the sample is blotted out (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2), by captum.

    For a unit only what it really reads is blotted out: the rest cannot matter.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the class that the module gives.
        window: side in pixels, or one for each axis; None for an eighth of each axis.
        stride: from window to window; None for half a window.
        baseline: the value of blotted pixels; 0 is the mean of the training samples where they were scaled by it.

    Raises:
        MissingExtraError: captum is not installed.
        UsageError: no such class, layer, channel or position; a window that does not fit.
    """
    attribution = _captum()
    module = unwrapped(module)
    with at_rest(module), torch.inference_mode(False), torch.no_grad():
        batch = as_batch(module, inputs)
        spatial = tuple(batch.shape[2:])
        explained, scores = _first(module, batch, target)
        lengths = _window(window, tuple(-(-length // WINDOWS) for length in spatial), spatial, "window")
        steps = _window(stride, tuple(max(1, length // 2) for length in lengths), lengths, "stride")
        values = torch.zeros_like(batch)
        box = box_of(TracedFields(module, tuple(batch.shape[1:])), explained.settled) if isinstance(target, Unit) else None
        if box is not None or not isinstance(target, Unit):
            ends = box or tuple((0, length - 1) for length in spatial)
            inside = tuple(slice(first, last + 1) for first, last in ends)
            for index in range(len(batch)):
                index_inside: tuple[Any, ...] = (slice(index, index + 1), slice(None), *inside)
                patch = batch[index_inside]
                sizes = [min(length, size) for length, size in zip(lengths, patch.shape[2:], strict=True)]
                apart = [min(step, size) for step, size in zip(steps, sizes, strict=True)]
                values[index_inside] = attribution.Occlusion(_pasted(explained, index, inside)).attribute(
                    patch,
                    sliding_window_shapes=(patch.shape[1], *sizes),
                    strides=(patch.shape[1], *apart),
                    baselines=baseline,
                    perturbations_per_eval=PER_FORWARD,
                )
    return _with_values("occlusion", explained, batch, scores, values)


def _captum() -> Any:
    """captum's methods, where it is installed."""
    try:
        from captum import attr
    except Exception as error:
        raise MissingExtraError.because(error, "captum", "examine", "integrated gradients and occlusion") from error
    return attr


def _first(module: nn.Module, batch: Tensor, target: Target) -> tuple[Explained, Array]:
    """What is explained, its classes or its position settled, and its scores."""
    explained = Explained(module, batch, target)
    with torch.no_grad():
        scores = explained.scores(batch)
    return explained, _floats(scores)


def _alone(explained: Explained, index: int) -> Any:
    """The score of one sample, as a function of any number of versions of it."""
    settled = explained.settled
    asked = settled if isinstance(settled, Unit) else settled[index : index + 1]
    one = Explained(explained.module, explained.batch[index : index + 1], asked)
    one.settled = asked
    return one.scores


def _pasted(explained: Explained, index: int, inside: tuple[slice, ...]) -> Any:
    """The score of one sample as a function of versions of a patch of it."""
    score = _alone(explained, index)

    def scores(patches: Tensor) -> Tensor:
        samples = explained.batch[index].expand(len(patches), *explained.batch.shape[1:]).clone()
        place: tuple[Any, ...] = (slice(None), slice(None), *inside)
        samples[place] = patches
        found: Tensor = score(samples)
        return found

    return scores


def _with_values(
    method: str, explained: Explained, batch: Tensor, scores: Array, values: Tensor, gap: Array | None = None
) -> Saliency:
    sights = TracedFields(explained.module, tuple(batch.shape[1:]))
    notes = _notes(explained.note)
    return Saliency(method, explained.settled, scores, _floats(values.sum(1)), _floats(values), sights, gap=gap, notes=notes)


def _window(
    given: int | Sequence[int] | None, usual: tuple[int, ...], largest: tuple[int, ...], name: str
) -> tuple[int, ...]:
    """A length for each axis."""
    lengths = usual if given is None else (given,) * len(usual) if isinstance(given, int) else tuple(given)
    fits = len(lengths) == len(usual) and all(1 <= each <= most for each, most in zip(lengths, largest, strict=False))
    if not fits:
        raise UsageError(f"{name} must be from 1 to {write_shape(largest)}, and is {write_shape(lengths)}.")
    return lengths


def _floats(values: Tensor) -> Array:
    """A tensor as a float32 array that cannot be written to."""
    return to_array(values.detach().float())


def _notes(*sentences: str) -> tuple[str, ...]:
    return tuple(sentence for sentence in sentences if sentence)


def _cut_off(maps: Array, sights: TracedFields, target: tuple[int, ...] | Unit) -> tuple[Array, float]:
    """Maps as large as the input, 0 outside of what a unit reads; and the share that was cut off."""
    if not isinstance(target, Unit):
        return frozen(maps), 0.0
    box = box_of(sights, target)
    spilled = outside_share(maps, box)
    within = np.zeros_like(maps)
    if box is not None:
        inside = (slice(None), *(slice(first, last + 1) for first, last in box))
        within[inside] = maps[inside]
    return frozen(within), spilled


def _reason(found: _Layer, target: Target) -> str:
    where = f"before '{target.layer}' " if isinstance(target, Unit) else ""
    behind = "behind an activation " if found.is_active else ""
    return (
        f"'{found.path}' is the last layer {where}{behind}whose map has more than one place ({write_shape(tuple(found.values.shape[2:]))}): "
        "what it says is furthest from pixels and still has a place."
    )


def _no_map(module: nn.Module, batch: Tensor, layer: str | None, target: Target) -> str:
    """Why there is no map to weight."""
    if layer is None:
        return "Grad-CAM needs a layer whose map has more than one place, and there is none here. Use gradient_saliency."
    known = called_layers(module, batch[:1])
    if layer in known:
        assert isinstance(target, Unit), "every layer comes before the classes"
        return f"the layer '{layer}' does not come before '{target.layer}', whose unit is explained. Choose an earlier one."
    return unknown_layer(layer, known)
