"""A person's own functions in a training: the loss, the metric and the transform are found by name, and tried before anything is computed."""

from __future__ import annotations

import inspect
import math
from typing import Final

import numpy as np
import torch

from visus.data.augment.own import OwnTransform, seeded
from visus.data.batches import Part, random_stream
from visus.data.opened import Data
from visus.data.tasks import TaskName
from visus.data.value_ranges import some_values
from visus.errors import UsageError
from visus.evaluation.metric_names import check_metric
from visus.evaluation.metrics import METRICS, Metric
from visus.evaluation.tasks.registry import task_of
from visus.evaluation.tasks.task import Task
from visus.networks.own_code import place_in_code
from visus.own_callables import NAME, load_function
from visus.training.loss import Loss, OwnLoss
from visus.training.recipe import Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.units import write_number_of, write_shape

_TRIED_SAMPLES: Final = 64
_TRIED_SEEDS: Final = range(5)
_BLACK: Final = -0.25
_MAX_BLACK: Final = 0.1
"""The fraction of values below ``_BLACK``, for values from 0 to 1: more in every trial are the work of a normalization."""
_CPU: Final = torch.device("cpu")


def own_loss(recipe: ResolvedRecipe) -> OwnLoss | None:
    """The person's own loss; None for that of the task.

    Raises:
        UsageError: it cannot be found.
    """
    return load_function(recipe.loss) if recipe.loss else None


def selecting_metric(recipe: ResolvedRecipe, task: TaskName) -> Metric:
    """The metric that selects the epoch.

    Raises:
        UsageError: a person's own one cannot be found.
    """
    if not NAME.fullmatch(recipe.select):
        return METRICS[check_metric(recipe.select, task).name]
    own = load_function(recipe.select)

    def compute(of: Task, outputs: torch.Tensor, labels: torch.Tensor) -> float:
        try:
            found = own(of.values(outputs), labels)
        except Exception as error:  # whatever a person's own code raises
            raise UsageError(
                f"the own metric failed with {type(error).__name__}: {error}{place_in_code(error)}. It gets the outputs {write_shape(outputs.shape)} and "
                f"the labels {write_shape(labels.shape)} of the validation set, in this order.",
                where=recipe.select,
            ) from error
        try:
            if isinstance(found, str):
                raise TypeError
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            what = write_shape(found.shape) if isinstance(found, torch.Tensor) else f"{type(found).__name__}"
            raise UsageError(f"the own metric returned {what}, and one number is needed.", where=recipe.select) from None

    return Metric(recipe.select, compute)


def try_metric(metric: Metric, data: Data) -> None:
    """Call a person's own metric with random outputs for some validation samples, before anything is computed.

    Raises:
        UsageError: it fails, or returns no number.
    """
    held = _some_labels(data.split("val"))
    if metric.name not in METRICS and len(held):
        with seeded(0, _CPU):
            metric.compute(task_of(data), _random_outputs(len(held), data), held)


def try_loss(recipe: ResolvedRecipe, data: Data) -> None:
    """Call a person's own loss with random outputs for some training samples, before anything is computed.

    Raises:
        UsageError: it cannot be found, it fails, it has no gradient, or it returns a sum; or samples are mixed, and it does not return the loss of each sample.
    """
    own = own_loss(recipe)
    if own is None:
        return
    labels = _some_labels(data.split("train"))
    outputs, loss = _random_outputs(len(labels), data), Loss(task=task_of(data), own=own)
    with seeded(0, _CPU):
        if recipe.mixup or recipe.cutmix:
            loss.mean(outputs.clone(), labels, share=torch.ones(len(labels)))
        if not any(_has_gradient(loss, scale * outputs, labels) for scale in (1, 10)):
            raise UsageError(
                f"the own loss has no gradient, or one of 0, at each of {write_number_of(len(labels), 'random output')}, so nothing can be learned from it. "
                "Compute it from the outputs with operations of PyTorch that have a gradient: no argmax, rounding or comparison."
            )
        if loss.per_sample(outputs.clone(), labels) is None:
            once, twice = (
                loss.mean(outputs.repeat(count, 1), labels.repeat(count, *[1] * (labels.ndim - 1))).item()
                for count in (1, 2)
            )
            if once and math.isfinite(once) and math.isclose(twice, 2 * once, rel_tol=1e-3):
                raise UsageError(
                    "the own loss returned the sum over the samples: it doubles if each sample is there twice, so the steps would grow with the batch. Return "
                    "the loss of each sample (reduction='none'), or their mean."
                )


def _has_gradient(loss: Loss, outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether the loss changes with the outputs; NaN counts as a change, and the training reports it."""
    outputs.requires_grad_()
    value = loss.mean(outputs.clone(), labels)  # a copy may be written to, as the outputs of a network may
    (gradient,) = torch.autograd.grad(value, outputs, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def try_transform(recipe: ResolvedRecipe, data: Data) -> None:
    """Call a person's own transform with some training images and several seeds: one that normalizes is no augmentation.

    Predictions are made without the transform, and visus normalizes after it. A normalization is found by values far below black in every call, or by one and
    the same linear change of all values in every call.

    Raises:
        UsageError: it cannot be found, it fails, or it normalizes.
    """
    if not recipe.transform or data.preprocessing.dtype != "uint8" or not data.preprocessing.is_image_like:
        return
    transform = OwnTransform(recipe.transform, load_function(recipe.transform))
    images = torch.from_numpy(some_values(data.split("train"))).float() / 255
    found = [transform.apply(images.clone(), (torch.tensor(seed),)) for seed in _TRIED_SEEDS]
    if all(float((each < _BLACK).float().mean()) > _MAX_BLACK for each in found) or _is_one_line(images, found):
        low, high = min(float(each.min()) for each in found), max(float(each.max()) for each in found)
        raise UsageError(
            f"in each of {len(found)} trials it makes values from {low:.3g} to {high:.3g} of values from 0 (black) to 1 (white), as a normalization does, and the "
            "transform must return values from 0 to 1. Leave a normalization out: visus normalizes after the transform, and the same in predictions. A strong "
            "change of brightness needs clamp(0, 1).",
            where=recipe.transform,
        )


def _is_one_line(images: torch.Tensor, found: list[torch.Tensor]) -> bool:
    """Whether every value of every result is a x + b of the value before, with one a and b for each channel, other than 1 and 0."""
    before = images.transpose(0, 1).flatten(1).double()
    centered = before - before.mean(1, keepdim=True)
    spread = (centered**2).sum(1, keepdim=True)
    if not bool((spread > 0).all()):
        return False
    after = found[0].transpose(0, 1).flatten(1).double()
    slope = (centered * after).sum(1, keepdim=True) / spread
    line = slope * centered + after.mean(1, keepdim=True)
    if torch.allclose(line, before, atol=1e-3) or not torch.allclose(line, after, atol=1e-3):
        return False
    return all(torch.allclose(each, found[0], atol=1e-3) for each in found)


def own_values(recipe: ResolvedRecipe, data: Data) -> dict[str, str]:
    """What the functions of a person return for fixed inputs and random numbers, so that a resumed training finds them changed.

    Objects are left out: what they return may depend on what they were called with before.

    Returns:
        ``own loss`` and ``own metric`` -> the value and the name of the function, as text.
    """
    found: dict[str, str] = {}
    own = own_loss(recipe)
    if inspect.isfunction(own):
        labels = _some_labels(data.split("train"))
        with seeded(0, _CPU):
            value = Loss(task=task_of(data), own=own).mean(_random_outputs(len(labels), data), labels).item()
        found["own loss"] = f"{value:.4g} for fixed outputs, {recipe.loss}"
    if NAME.fullmatch(recipe.select) and len(data.split("val")) and inspect.isfunction(load_function(recipe.select)):
        held = _some_labels(data.split("val"))
        with seeded(0, _CPU):
            value = selecting_metric(recipe, data.task).compute(task_of(data), _random_outputs(len(held), data), held)
        found["own metric"] = f"{value:.4g} for fixed outputs, {recipe.select}"
    return found


def _some_labels(part: Part) -> torch.Tensor:
    """The labels of at most ``_TRIED_SAMPLES`` samples, evenly spread over a split, so that they are of many classes."""
    places = np.linspace(0, max(0, len(part) - 1), min(len(part), _TRIED_SAMPLES)).round().astype(np.int64)
    return torch.from_numpy(part.labels[places])


def _random_outputs(number: int, data: Data) -> torch.Tensor:
    """Outputs (number, classes) that are the same in every process."""
    return torch.randn(number, len(data.classes), generator=random_stream(0, "fixed outputs"))


def object_warnings(recipe: Recipe) -> tuple[str, ...]:
    """A warning for each function of a person that only this process knows, since no name leads to it."""
    given = {name: str(getattr(recipe, name) or "") for name in ("loss", "select", "transform")}
    return tuple(
        f"{name} is an object of this process, {value.partition(':')[2]}: the recipe records its name alone, and another process cannot resume this training. "
        "For that, define a function in a module, outside of any function."
        for name, value in given.items()
        if "<" in value
    )
