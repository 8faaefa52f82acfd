"""What is decided and done before the first step: open settings, settings that cannot be used, the module and its batches.

This file knows data, networks and recipes side by side. It must not know runs, several processes, or how a training goes.
"""

from __future__ import annotations

import torch
from torch import nn

from visus.data.augment import Augmentation
from visus.data.batches import Batches, random_stream
from visus.data.opened import Data
from visus.errors import RecipeError, joined
from visus.networks.fast import why_no_kernels
from visus.networks.machine import Machine, memory_format
from visus.networks.roles import takes, weight_roles
from visus.networks.single_channels import float32_depthwise
from visus.networks.whitening import Fitted, Whitening, fit_whitening, num_needed
from visus.training.recipe import CURRICULUM, Recipe


def settled(recipe: Recipe, data: Data, module: nn.Module) -> Recipe:
    """The recipe with every open setting decided from the data and the network."""
    return recipe.settled(
        num_items=len(data.split("train")),
        input_shape=data.input_shape,
        is_colour=data.input_shape[0] == 3 and len(data.input_shape) == 3,
        is_varied=data.is_varied,
        has_filters=any(role.kind == "filter" for role in weight_roles(module).values()),
        takes_any_size=takes_smaller(module, data, Recipe(curriculum=CURRICULUM)),
        is_shuffled=data.preprocessing.shuffle_seed is not None,
    )


def takes_smaller(module: nn.Module, data: Data, recipe: Recipe) -> bool:
    """Whether the network takes items at every side of the recipe's curriculum; items whose positions were shuffled have no smaller form."""
    sides = sorted({side for side in recipe.sides if side < 1})
    channels, *size = data.input_shape
    shapes = [(channels, *(max(1, round(side * length)) for length in size)) for side in sides]
    return data.preprocessing.shuffle_seed is None and bool(size) and all(takes(module, shape) for shape in shapes)


def refuse_unusable(recipe: Recipe, data: Data, module: nn.Module) -> None:
    """Refuse settings that could only be ignored on this data and with this network."""
    mistakes = []
    if recipe.zoom and len(data.input_shape) < 3:
        mistakes.append("zoom needs pictures or volumes, and these are recordings. Leave it out.")
    if recipe.patience and not len(data.split("val")):
        mistakes.append("patience needs a validation split, and this data leaves none. Leave it out.")
    if min(recipe.sides) < 1 and not takes_smaller(module, data, recipe):
        mistakes.append(
            "curriculum needs a network that takes smaller items too, as with globalpool, and this one does not. Leave it out."
        )
    if "flip" in (recipe.tta or "") and recipe.flip == "none":
        mistakes.append(f"tta {recipe.tta} mirrors items, and this training does not. Leave it out, or train with flips.")
    if "shift" in (recipe.tta or "") and max(data.input_shape[1:], default=1) == 1:
        mistakes.append(f"tta {recipe.tta} moves items, and these have a single position. Leave it out.")
    if recipe.tta != "none" and data.preprocessing.shuffle_seed is not None:
        mistakes.append(f"tta {recipe.tta} needs items whose positions are in order, and these are shuffled. Leave it out.")
    if mistakes:
        raise RecipeError(joined(mistakes))


def prepare(module: nn.Module, data: Data, recipe: Recipe, machine: Machine) -> tuple[nn.Module, Batches]:
    """A module where it is to be trained, and the batches that a settled recipe gives it."""
    module = module.to(machine.device)
    if (
        machine.precision == "bfloat16"
        and machine.device.type == "cpu"
        and (recipe.convolutions != "auto" or why_no_kernels())
    ):
        float32_depthwise(module)
    if machine.channels_last and len(data.input_shape) > 2:
        module = module.to(memory_format=memory_format(len(data.input_shape) + 1))  # type: ignore[call-overload]
    assert recipe.batch_size is not None, "a settled recipe knows its batch size"
    batches = Batches(
        data.split("train"),
        data.preprocessing,
        recipe.batch_size,
        recipe.seed,
        augmentation(recipe),
        machine.device,
        machine.channels_last,
    )
    return module, batches


def whiten(module: nn.Module, data: Data, seed: int, machine: Machine) -> tuple[Fitted, ...]:
    """Compute the filters of a network's whitening layers from some of the training items; the network is on its device."""
    if not any(isinstance(layer, Whitening) for layer in module.modules()):
        return ()
    part = data.split("train")
    drawn = torch.randperm(len(part), generator=random_stream(seed, "whitening"))
    places = drawn[: num_needed(len(part), data.input_shape)].sort().values.numpy()
    return fit_whitening(module, data.preprocessing.scaled(part.rows(places).to(machine.device)))


def augmentation(recipe: Recipe) -> Augmentation:
    """The random changes of a settled recipe."""
    return Augmentation(recipe.flip or "none", recipe.shift or 0.0, recipe.zoom or 0.0, recipe.cutout or 0.0)
