"""Preparation before the first step: the facts that resolve a recipe, the module and its batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import nn

from visus.data.augment import SETTINGS, Augmentation, SampleFacts
from visus.data.augment.crop import stored_size_for
from visus.data.batches import Batches, Part, random_stream
from visus.data.motions import MotionTest
from visus.data.opened import Data
from visus.data.tasks import TaskName
from visus.design import Design, account
from visus.errors import UsageError
from visus.evaluation.metric_names import check_metric
from visus.evaluation.metrics import METRICS, Metric
from visus.evaluation.tasks.registry import task_of
from visus.evaluation.tasks.task import Task
from visus.limits import memory_bytes
from visus.networks.machine import Machine, choose, memory_format
from visus.networks.own_code import place_in_code
from visus.networks.roles import accepts, other_norms, weight_roles
from visus.networks.whitening import Fitted, Whitening, fit_whitening, num_needed
from visus.own_callables import NAME, load_function
from visus.progress import SILENT, Monitor
from visus.training.facts import DataFacts, NetworkFacts, StartFacts
from visus.training.loss import Loss, OwnLoss
from visus.training.recipe import Recipe
from visus.training.resolve import PROGRESSIVE_SIZES, resolve
from visus.training.resolved_recipe import ResolvedRecipe
from visus.units import write_number_of, write_shape


def data_facts(data: Data, mirrors: MotionTest | None = None) -> DataFacts:
    """The facts about the data that determine the recipe.

    Args:
        data: opened data.
        mirrors: the test of mirroring by nearest neighbors; None if not made.
    """
    return DataFacts(
        num_training=len(data.split("train")),
        input_shape=data.input_shape,
        num_validation=len(data.split("val")),
        is_varied=data.is_varied,
        is_shuffled=data.preprocessing.shuffle_seed is not None,
        keeps_class_mirrored=mirrors.keeps_class if mirrors else None,
        mirroring=mirrors.sentence(data.noun) if mirrors else "",
        task=data.task,
        is_8_bit=data.preprocessing.dtype == "uint8",
    )


def network_facts(module: nn.Module, data: Data, recipe: Recipe, design: Design | None = None) -> NetworkFacts:
    """The facts about the network that determine the recipe, for this data and the requested or default sizes.

    Memory is known of designs on a CPU, where a step that needs too much would end the process without an error.
    """
    is_counted = design is not None and recipe.accumulate is None and choose(recipe.device).device.type == "cpu"
    roles = weight_roles(module)
    asked = recipe if recipe.progressive_resize else Recipe(progressive_resize=PROGRESSIVE_SIZES)
    return NetworkFacts(
        has_filters=any(role.kind == "filter" for role in roles.values()),
        unknown_matrices=tuple(name for name, role in roles.items() if role.kind == "matrix"),
        other_norms=other_norms(module),
        takes_smaller=takes_smaller(module, data, asked),
        step_bytes=account(design, data.input_shape, len(data.classes)).bytes_training if design and is_counted else None,
        memory_bytes=memory_bytes() if is_counted else None,
    )


def resolved(
    recipe: Recipe,
    data: Data,
    module: nn.Module,
    mirrors: MotionTest | None = None,
    start: StartFacts | None = None,
    design: Design | None = None,
) -> ResolvedRecipe:
    """The recipe with every open setting resolved from data, network and start.

    Raises:
        RecipeError: settings contradict each other or the facts; the message lists all of them.
    """
    return resolve(recipe, data_facts(data, mirrors), network_facts(module, data, recipe, design), start)


def takes_smaller(module: nn.Module, data: Data, recipe: Recipe) -> bool:
    """Whether the network accepts samples at every side of the recipe's progressive resizing; shuffled samples cannot be
    resized."""
    sides = sorted({side for side in recipe.sides if side < 1})
    channels, *size = data.input_shape
    shapes = [(channels, *(max(1, round(side * length)) for length in size)) for side in sides]
    return data.preprocessing.shuffle_seed is None and bool(size) and all(accepts(module, shape) for shape in shapes)


def prepare(module: nn.Module, data: Data, recipe: ResolvedRecipe, machine: Machine) -> tuple[nn.Module, Batches]:
    """A module on its device, and its batches."""
    module = module.to(machine.device)
    if machine.channels_last and len(data.input_shape) > 2:
        module = module.to(memory_format=memory_format(len(data.input_shape) + 1))  # type: ignore[call-overload]
    batches = Batches(
        training_part(data, recipe),
        data.preprocessing,
        recipe.batch_size,
        recipe.seed,
        augmentation(recipe, data),
        machine.device,
        machine.channels_last,
        is_balanced=recipe.sampling == "balanced",
    )
    return module, batches


TRIED_SAMPLES: Final = 64


def class_weights(data: Data) -> torch.Tensor:
    """Weights (classes,) in inverse proportion to the numbers of training samples, with a mean over the samples of 1."""
    counts = np.array(list(data.class_counts("train").values()), dtype=np.float64)
    return torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)


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
    held = data.split("val").labels[:TRIED_SAMPLES]
    if metric.name not in METRICS and len(held):
        outputs = torch.randn(len(held), len(data.classes), generator=random_stream(0, "trial of the metric"))
        metric.compute(task_of(data), outputs, torch.from_numpy(held))


def try_loss(recipe: ResolvedRecipe, data: Data) -> None:
    """Call a person's own loss with random outputs for some training samples, before anything is computed.

    Raises:
        UsageError: it cannot be found, it fails, it has no gradient, or it returns a sum; or samples are mixed, and it does not return the loss of each sample.
    """
    own = own_loss(recipe)
    if own is None:
        return
    labels = torch.from_numpy(data.split("train").labels[:TRIED_SAMPLES])
    outputs = torch.randn(
        len(labels), len(data.classes), generator=random_stream(0, "trial of the loss"), requires_grad=True
    )
    loss = Loss(task=task_of(data), own=own)
    if recipe.mixup or recipe.cutmix:
        loss.mean(outputs, labels, share=torch.ones(len(labels)))
    if not any(_has_gradient(loss, scale * outputs.detach(), labels) for scale in (1, 10)):
        raise UsageError(
            f"the own loss has no gradient, or one of 0, at each of {write_number_of(len(labels), 'random output')}, so nothing can be learned from it. Compute "
            "it from the outputs with operations of PyTorch that have a gradient: no argmax, rounding or comparison."
        )
    if loss.per_sample(outputs, labels) is None:
        once, twice = (loss.mean(outputs.repeat(count, 1), torch.cat([labels] * count)).item() for count in (1, 2))
        if once and math.isfinite(once) and math.isclose(twice, 2 * once, rel_tol=1e-3):
            raise UsageError(
                "the own loss returned the sum over the samples: it doubles if each sample is there twice, so the steps would grow with the batch. Return the "
                "loss of each sample (reduction='none'), or their mean."
            )


def _has_gradient(loss: Loss, outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether the loss changes with the outputs; NaN counts as a change, and the training reports it."""
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(loss.mean(outputs, labels), outputs, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def own_values(recipe: ResolvedRecipe, data: Data) -> dict[str, str]:
    """What the functions of a person return for fixed inputs, so that a resumed training finds them changed; random results are left out.

    Returns:
        ``own loss`` and the like -> the name of the function and its value, as text.
    """
    found: dict[str, str] = {}
    held, labels = data.split("val").labels[:TRIED_SAMPLES], torch.from_numpy(data.split("train").labels[:TRIED_SAMPLES])
    task = task_of(data)
    if (own := own_loss(recipe)) is not None:
        outputs = _random_outputs(len(labels), data)
        loss = Loss(task=task, own=own)
        found["own loss"] = _value_text(recipe.loss, lambda: loss.mean(outputs, labels).item())
    if NAME.fullmatch(recipe.select) and len(held):
        metric, outputs = selecting_metric(recipe, data.task), _random_outputs(len(held), data)
        found["own metric"] = _value_text(recipe.select, lambda: metric.compute(task, outputs, torch.from_numpy(held)))
    return found


def _random_outputs(number: int, data: Data) -> torch.Tensor:
    return torch.randn(number, len(data.classes), generator=random_stream(0, "fixed outputs"))


def _value_text(name: str | None, compute: Callable[[], float]) -> str:
    """The name of a function with its value; without it if a second call has another one."""
    first, second = compute(), compute()
    return f"{first:.4g} for fixed outputs, {name}" if first == second else str(name)


def object_warnings(recipe: Recipe) -> tuple[str, ...]:
    """A warning for each function of a person that only this process knows, since no name leads to it."""
    given = {name: str(getattr(recipe, name) or "") for name in ("loss", "select", "transform")}
    return tuple(
        f"{name} is an object of this process, {value.partition(':')[2]}: the recipe records its name alone, and another process cannot resume this training. "
        "For that, define a function in a module, outside of any function."
        for name, value in given.items()
        if "<" in value
    )


def whiten(module: nn.Module, data: Data, seed: int, machine: Machine) -> tuple[Fitted, ...]:
    """Compute the filters of a network's whitening layers from some of the training samples; the network is on its device."""
    if not any(isinstance(layer, Whitening) for layer in module.modules()):
        return ()
    part = data.split("train")
    drawn = torch.randperm(len(part), generator=random_stream(seed, "whitening"))
    places = drawn[: num_needed(len(part), data.input_shape)].sort().values.numpy()
    return fit_whitening(module, data.preprocessing.scaled(part.rows(places).to(machine.device)))


def augmentation(recipe: ResolvedRecipe, data: Data) -> Augmentation:
    """The random changes of the training samples.

    Raises:
        UsageError: a person's own transform cannot be imported, or a package is missing.
    """
    facts = SampleFacts(data.preprocessing.size, data.preprocessing.dtype == "uint8", stored_size(data, recipe))
    return Augmentation.of({name: getattr(recipe, name) for name in SETTINGS}, facts)


def stored_size(data: Data, recipe: ResolvedRecipe) -> tuple[int, ...]:
    """Size at which the training samples are stored: that of the input, and larger for crops from image files."""
    size = data.preprocessing.size
    return stored_size_for(size, recipe.crop) if data.preprocessing.kind == "images" else size


def training_part(data: Data, recipe: ResolvedRecipe, monitor: Monitor = SILENT) -> Part:
    """The training samples, at the size at which crops are taken from them.

    Raises:
        StorageError: the cache folder cannot be written, or the disk is full.
        CanceledError: the monitor cancels.
    """
    size = stored_size(data, recipe)
    return data.split("train") if size == data.preprocessing.size else data.split_at("train", size, **monitor.keywords)


def num_skipped(num_samples: int, recipe: ResolvedRecipe) -> int:
    """Number of training samples that each epoch skips because they do not fill a batch; different ones each time."""
    is_whole = recipe.sampling == "balanced" or not recipe.epochs
    return num_samples % recipe.batch_size if num_samples > recipe.batch_size and not is_whole else 0
