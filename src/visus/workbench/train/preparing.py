"""Preparation before the first step: the facts that resolve a recipe, the module and its batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from visus.data.augment import SETTINGS, Augmentation, SampleFacts
from visus.data.augment.crop import stored_size_for
from visus.data.batches import Batches, Part, random_stream
from visus.data.motions import MotionTest
from visus.data.opened import Data
from visus.design import Design, account
from visus.limits import memory_bytes
from visus.networks.machine import Machine, choose, memory_format
from visus.networks.roles import accepts, other_norms, weight_roles
from visus.networks.whitening import Fitted, Whitening, fit_whitening, num_needed
from visus.progress import SILENT, Monitor
from visus.training.facts import DataFacts, NetworkFacts, StartFacts
from visus.training.recipe import Recipe
from visus.training.resolve import PROGRESSIVE_SIZES, resolve
from visus.training.resolved_recipe import ResolvedRecipe


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


def class_weights(data: Data) -> torch.Tensor:
    """Weights (classes,) in inverse proportion to the numbers of training samples, with a mean over the samples of 1."""
    counts = np.array(list(data.class_counts("train").values()), dtype=np.float64)
    return torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)


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
