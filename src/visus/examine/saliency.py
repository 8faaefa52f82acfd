"""Saliency: which pixels mattered for a class or a unit. Plain gradients, Grad-CAM, integrated gradients, occlusion.

A map can look convincing and mean nothing: see ``visus.examine.saliency_checks``. Shape letters: N samples, C channels, * the
spatial axes of the input.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError, unknown_layer
from visus.examine.layer_calls import (
    FUNCTION,
    Array,
    Inputs,
    LayerCall,
    StopForward,
    TracedFields,
    as_batch,
    called_layers,
    enable_gradients,
    eval_mode,
    hook_layers,
    plain_module,
    read_only,
    run,
    to_array,
)
from visus.examine.map_placement import STRETCHED, MapPlacements
from visus.examine.saliency_types import Saliency, Target, TargetScores, Unit, exact_box, share_outside
from visus.units import write_shape

WINDOWS: Final = 8  # windows of occlusion on an axis, without their overlap
PER_FORWARD: Final = 32


def gradient_saliency(module: nn.Module, inputs: Inputs, target: Target = None) -> Saliency:
    """The absolute gradient at each pixel, the maximum over its channels (Simonyan et al. 2014, arXiv:1312.6034, section 3.1).

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the predicted class.

    Raises:
        UsageError: the class, layer, channel or position does not exist.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> gradient_saliency(module, torch.ones(3, 1, 2, 2), target=1).map.shape
    (3, 2, 2)
    """
    module = plain_module(module)
    with eval_mode(module), enable_gradients():
        x = as_batch(module, inputs).clone().requires_grad_(True)
        target_scores = TargetScores(module, x, target)
        scores = target_scores.scores(x)
        (gradient,) = torch.autograd.grad(scores.sum(), x, allow_unused=True, materialize_grads=True)
    traced = TracedFields(module, tuple(x.shape[1:]))
    return Saliency(
        "gradient",
        target_scores.resolved,
        _floats(scores),
        _floats(gradient.abs().amax(1)),
        _floats(gradient),
        traced,
        notes=_notes(target_scores.note),
    )


def grad_cam(module: nn.Module, inputs: Inputs, target: Target = None, *, layer: str | None = None) -> Saliency:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, eq. 1 and 2): the channels of one layer's map, weighted by their mean gradients.

    The module runs once on the samples; the gradient goes back to the layer and no further. Each cell of the layer's map is placed at the
    center of its unit's theoretical receptive field; between centers the map is interpolated linearly, beyond the outermost ones it stays
    the same. Outside the exact receptive field of the target the map is set to 0; ``clipped_share`` is the share that was there. ``notes``
    says where fields are not known and the map was stretched over the input instead.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit`` of a later layer; None for the predicted class.
        layer: path of the layer; None for the last one before the target whose map has more than one position and whose cells have receptive
            fields of their own, after its activation where there is one.

    Raises:
        UsageError: no such layer, or one without a map; no such class or unit.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    >>> grad_cam(module, torch.rand(2, 1, 8, 8)).layer
    '1'
    """
    module = plain_module(module)
    with eval_mode(module), enable_gradients():
        batch = as_batch(module, inputs)
        traced = TracedFields(module, tuple(batch.shape[1:]))
        places = MapPlacements(traced).trace_now()
        target_scores = TargetScores(module, batch, target)
        found = _run_to_layer(module, batch, target_scores, layer, places)
        (gradient,) = _gradients(found.scores, [found.values])
        if layer is None and not bool(gradient.any()):
            found, gradient = _last_with_gradient(module, batch, target_scores, places, found, gradient)
    axes = tuple(range(2, found.values.dim()))
    values, gradient = found.values.detach().float(), gradient.float()
    layer_map = (gradient.mean(axes, keepdim=True) * values).sum(1).relu()
    placement = places.of(found.path, tuple(layer_map.shape[1:]))
    maps, clipped_share = _clip_to_field(
        placement.spread(_floats(layer_map), traced.input_shape[1:]), traced, target_scores.resolved
    )
    return Saliency(
        "Grad-CAM",
        target_scores.resolved,
        _floats(found.scores),
        maps,
        None,
        traced,
        found.path,
        _reason(found, target) if layer is None else "",
        _floats(layer_map),
        clipped_share,
        notes=_notes(placement.note, target_scores.note),
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """The layer of Grad-CAM.

    Args:
        path: its path.
        values: its map (N, C, *), for which the gradient is taken.
        scores: (N,) of the target, computed from it.
        is_active: whether it is the output of an activation.
        earlier: all layers that qualify, with their maps, where the graph was kept.
    """

    path: str
    values: Tensor
    scores: Tensor
    is_active: bool = False
    earlier: tuple[tuple[str, Tensor], ...] = ()


def _gradients(scores: Tensor, values: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of the scores for each tensor; zeros where they do not depend on it."""
    return torch.autograd.grad(scores.sum(), values, allow_unused=True, materialize_grads=True)


def _last_with_gradient(
    module: nn.Module, batch: Tensor, target_scores: TargetScores, places: MapPlacements, found: _Layer, gradient: Tensor
) -> tuple[_Layer, Tensor]:
    """The last layer with a gradient that is not 0: after the last attention, only a class token reaches the output."""
    again = _run_to_layer(module, batch, target_scores, None, places, keep_graph=True)
    every = _gradients(again.scores, [values for _, values in again.earlier])
    for (path, values), each in reversed(list(zip(again.earlier, every, strict=True))):
        if bool(each.any()):
            return replace(again, path=path, values=values), each
    return found, gradient


def _run_to_layer(
    module: nn.Module,
    batch: Tensor,
    target_scores: TargetScores,
    layer: str | None,
    places: MapPlacements,
    *,
    keep_graph: bool = False,
) -> _Layer:
    """Run the module once and take the given layer, or the best one."""
    kept: list[tuple[str, Tensor]] = []
    target_outputs: list[Tensor] = []
    target = target_scores.target
    best = (STRETCHED, False)

    def listen(call: LayerCall) -> Tensor | None:
        nonlocal best
        if isinstance(target_scores.resolved, Unit) and call.path == target_scores.resolved.layer:
            target_outputs.append(target_scores.of_layer_output(call.output))
            raise StopForward
        is_map = call.output.dim() > 2 and max(call.output.shape[2:]) > 1
        if not (is_map if layer is None else call.path == layer):
            return None
        if not is_map:
            raise UsageError(
                f"Grad-CAM needs a feature map, and the output of this layer has the shape {tuple(call.output.shape[1:])}.",
                where=call.path,
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

    with hook_layers(module, listen, functions=layer is None or FUNCTION in layer):
        output = run(module, batch)
    if isinstance(target, Unit) and not target_outputs:
        raise UsageError(unknown_layer(target.layer, called_layers(module, batch[:1])))
    scores = target_outputs[0] if target_outputs else target_scores.of_module_output(output)
    if not kept:
        raise UsageError(_no_map(module, batch, layer, target))
    return _Layer(*kept[-1], scores, best[1], tuple(kept))


def _rank(call: LayerCall, places: MapPlacements) -> tuple[int, bool] | None:
    """How exactly the cells of a layer's map can be placed on the input; None if they cannot."""
    try:
        quality = places.of(call.path, tuple(call.output.shape[2:])).quality
    except UsageError:
        return None
    return quality, call.is_active and call.output.shape[1] > 1


def integrated_gradients(
    module: nn.Module, inputs: Inputs, target: Target = None, *, baseline: float = 0.0, steps: int = 32
) -> Saliency:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) along the path from a baseline to the sample, by captum.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the predicted class.
        baseline: the value of every pixel of the baseline; 0 is the mean of the training set where samples are normalized by it.
        steps: gradients along the path; ``convergence_delta`` shows whether they are enough.

    Raises:
        MissingExtraError: captum is not installed.
        UsageError: the class, layer, channel or position does not exist.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    >>> integrated_gradients(module, torch.rand(2, 1, 8, 8), steps=4).map.shape
    (2, 8, 8)
    """
    attribution = _captum()
    if steps < 1:
        raise UsageError(f"integrated gradients need at least 1 step, not {steps}.")
    module = plain_module(module)
    with eval_mode(module), enable_gradients():
        batch = as_batch(module, inputs)
        target_scores, scores = _resolved_target(module, batch, target)
        values, convergence_delta = [], []
        for index in range(len(batch)):
            one = _scores_of_one(target_scores, index)
            x = batch[index : index + 1].clone().requires_grad_(True)
            found, delta = attribution.IntegratedGradients(one).attribute(
                x, baselines=baseline, n_steps=steps, internal_batch_size=PER_FORWARD, return_convergence_delta=True
            )
            values.append(found.detach().to(batch.dtype))
            convergence_delta.append(delta.detach())
    deltas = _floats(torch.cat(convergence_delta))
    return _with_values("integrated gradients", target_scores, batch, scores, torch.cat(values), convergence_delta=deltas)


def occlusion(
    module: nn.Module,
    inputs: Inputs,
    target: Target = None,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: float = 0.0,
) -> Saliency:
    """The drop of the score when a window of the sample is replaced by the baseline (Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2), by captum.

    For a unit only its exact receptive field is occluded: the rest cannot matter.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *).
        target: a class, a class for each sample, or a ``Unit``; None for the predicted class.
        window: side in pixels, or one for each axis; None for an eighth of each axis.
        stride: from window to window; None for half a window.
        baseline: the value of occluded pixels; 0 is the mean of the training set where samples are normalized by it.

    Raises:
        MissingExtraError: captum is not installed.
        UsageError: the class, layer, channel or position does not exist; a window that does not fit.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    >>> occlusion(module, torch.rand(2, 1, 8, 8), window=2, stride=2).map.shape
    (2, 8, 8)
    """
    attribution = _captum()
    module = plain_module(module)
    with eval_mode(module), torch.inference_mode(False), torch.no_grad():
        batch = as_batch(module, inputs)
        spatial = tuple(batch.shape[2:])
        target_scores, scores = _resolved_target(module, batch, target)
        lengths = _window(window, tuple(-(-length // WINDOWS) for length in spatial), spatial, "window")
        steps = _window(stride, tuple(max(1, length // 2) for length in lengths), lengths, "stride")
        values = torch.zeros_like(batch)
        box = (
            exact_box(TracedFields(module, tuple(batch.shape[1:])), target_scores.resolved)
            if isinstance(target, Unit)
            else None
        )
        if box is not None or not isinstance(target, Unit):
            ends = box or tuple((0, length - 1) for length in spatial)
            inside = tuple(slice(first, last + 1) for first, last in ends)
            for index in range(len(batch)):
                index_inside: tuple[Any, ...] = (slice(index, index + 1), slice(None), *inside)
                patch = batch[index_inside]
                sizes = [min(length, size) for length, size in zip(lengths, patch.shape[2:], strict=True)]
                apart = [min(step, size) for step, size in zip(steps, sizes, strict=True)]
                values[index_inside] = attribution.Occlusion(_scores_of_patches(target_scores, index, inside)).attribute(
                    patch,
                    sliding_window_shapes=(patch.shape[1], *sizes),
                    strides=(patch.shape[1], *apart),
                    baselines=baseline,
                    perturbations_per_eval=PER_FORWARD,
                )
    return _with_values("occlusion", target_scores, batch, scores, values)


def _captum() -> Any:
    """The methods of captum, where it is installed; its tqdm would warn in a notebook that ipywidgets are missing, which no map needs."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")
            from captum import attr
    except Exception as error:
        raise MissingExtraError.because(error, "captum", "examine", "integrated gradients and occlusion") from error
    return attr


def _resolved_target(module: nn.Module, batch: Tensor, target: Target) -> tuple[TargetScores, Array]:
    """The target with its classes or its position resolved, and its scores."""
    target_scores = TargetScores(module, batch, target)
    with torch.no_grad():
        scores = target_scores.scores(batch)
    return target_scores, _floats(scores)


def _scores_of_one(target_scores: TargetScores, index: int) -> Any:
    """The score of one sample, as a function of any number of versions of it."""
    resolved = target_scores.resolved
    asked = resolved if isinstance(resolved, Unit) else resolved[index : index + 1]
    one = TargetScores(target_scores.module, target_scores.batch[index : index + 1], asked)
    one.resolved = asked
    return one.scores


def _scores_of_patches(target_scores: TargetScores, index: int, inside: tuple[slice, ...]) -> Any:
    """The score of one sample as a function of versions of a patch of it."""
    score = _scores_of_one(target_scores, index)

    def scores(patches: Tensor) -> Tensor:
        samples = target_scores.batch[index].expand(len(patches), *target_scores.batch.shape[1:]).clone()
        place: tuple[Any, ...] = (slice(None), slice(None), *inside)
        samples[place] = patches
        found: Tensor = score(samples)
        return found

    return scores


def _with_values(
    method: str,
    target_scores: TargetScores,
    batch: Tensor,
    scores: Array,
    values: Tensor,
    convergence_delta: Array | None = None,
) -> Saliency:
    traced = TracedFields(target_scores.module, tuple(batch.shape[1:]))
    notes = _notes(target_scores.note)
    return Saliency(
        method,
        target_scores.resolved,
        scores,
        _floats(values.sum(1)),
        _floats(values),
        traced,
        convergence_delta=convergence_delta,
        notes=notes,
    )


def _window(
    given: int | Sequence[int] | None, default: tuple[int, ...], largest: tuple[int, ...], name: str
) -> tuple[int, ...]:
    """A length for each axis."""
    lengths = default if given is None else (given,) * len(default) if isinstance(given, int) else tuple(given)
    fits = len(lengths) == len(default) and all(1 <= each <= limit for each, limit in zip(lengths, largest, strict=False))
    if not fits:
        raise UsageError(f"{name} must be from 1 to {write_shape(largest)}, and is {write_shape(lengths)}.")
    return lengths


def _floats(values: Tensor) -> Array:
    """A tensor as a read-only float32 array."""
    return to_array(values.detach().float())


def _notes(*sentences: str) -> tuple[str, ...]:
    return tuple(sentence for sentence in sentences if sentence)


def _clip_to_field(maps: Array, traced: TracedFields, target: tuple[int, ...] | Unit) -> tuple[Array, float]:
    """Maps of the size of the input, 0 outside the exact receptive field of a unit; and the share that was set to 0."""
    if not isinstance(target, Unit):
        return read_only(maps), 0.0
    box = exact_box(traced, target)
    clipped_share = share_outside(maps, box)
    within = np.zeros_like(maps)
    if box is not None:
        inside = (slice(None), *(slice(first, last + 1) for first, last in box))
        within[inside] = maps[inside]
    return read_only(within), clipped_share


def _reason(found: _Layer, target: Target) -> str:
    where = f"before '{target.layer}' " if isinstance(target, Unit) else ""
    behind = "after an activation " if found.is_active else ""
    return (
        f"'{found.path}' is the last layer {where}{behind}whose map has more than one position "
        f"({write_shape(tuple(found.values.shape[2:]))})."
    )


def _no_map(module: nn.Module, batch: Tensor, layer: str | None, target: Target) -> str:
    """Why there is no map to weight."""
    if layer is None:
        return "Grad-CAM needs a layer whose map has more than one position, and there is none here. Use gradient_saliency."
    known = called_layers(module, batch[:1])
    if layer in known:
        assert isinstance(target, Unit), "every layer comes before the classes"
        return f"the layer '{layer}' does not come before '{target.layer}', whose unit is the target. Choose an earlier one."
    return unknown_layer(layer, known)
