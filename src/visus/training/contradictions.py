"""Settings that contradict each other, the data, the network or its start, or that would have no effect."""

from __future__ import annotations

from typing import Final

from visus.evaluation.metric_names import METRIC_NAMES, names_for
from visus.training.facts import DataFacts, NetworkFacts, StartFacts, write_names
from visus.training.recipe import Recipe
from visus.units import write_shape

_MUON_RATES: Final = ("head_lr", "bias_lr", "norm_lr", "matrix_lr")
_IMAGES_ONLY: Final = {
    "vertical_flip": ("mirrors samples top to bottom", (2, 3)),
    "rotate90": ("turns samples in a plane", (2, 3)),
    "rotate": ("turns samples in a plane", (2, 3)),
    "crop": ("enlarges a window, which changes the pitch of a signal", (2, 3)),
    "color": ("changes brightness and contrast", (2, 3)),
    "policy": ("turns, shears and recolors images", (2,)),
    "cutmix": ("replaces a part of the positions of a sample", (1, 2, 3)),
}
"""Settings of the augmentation that do not suit every sample: what they do, and the numbers of axes that they suit."""


def contradictions(recipe: Recipe, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> list[str]:
    """Error messages for settings that contradict each other, the network, its start or the data, or would have no effect."""
    found = []
    if recipe.ema_decay and recipe.final_ema:
        found.append(
            f"ema_decay={recipe.ema_decay:g} averages all steps, and final_ema={recipe.final_ema:g} averages the last ones; only one average is possible. Leave one of them out."
        )
    if recipe.sampling == "balanced" and recipe.class_weights == "balanced":
        found.append(
            "sampling=balanced already draws every class equally often. class_weights=balanced would weight rare classes a second time, and the network "
            "would predict them for every sample. Leave one of them out."
        )
    return found + _with_start(recipe, network, start) + _with_data(recipe, data, network)


def _with_start(recipe: Recipe, network: NetworkFacts, start: StartFacts | None) -> list[str]:
    """Settings that do not suit random or pretrained weights, or the optimizer that follows from them."""
    found = []
    unused = [name for name in _MUON_RATES if getattr(recipe, name) is not None]
    other = recipe.optimizer or ("adamw" if start is not None or network.obstacle_to_muon else "muon")
    if unused and other != "muon":
        why = (
            ""
            if recipe.optimizer
            else f", the optimizer of this training ({network.obstacle_to_muon or 'it starts from pretrained weights'}),"
        )
        found.append(
            f"{write_names(unused, 4)} {'is a learning rate' if len(unused) == 1 else 'are learning rates'} of muon. {other}{why} has a single learning rate. Leave {'it' if len(unused) == 1 else 'them'} out, or set learning_rate."
        )
    if start is None and recipe.epochs == 0:
        found.append(
            "epochs=0 trains nothing, and this network starts from random weights. Leave it out, or start from pretrained weights."
        )
    if start is None and recipe.frozen:
        found.append(
            f"frozen={recipe.frozen!r} does not train these layers, and this network starts from random weights. Leave it out, or start from pretrained weights."
        )
    if start is None and recipe.norm_statistics == "stored":
        found.append(
            "norm_statistics=stored needs stored statistics, and this network is new. Leave it out, or start from pretrained weights."
        )
    if start is not None and recipe.optimizer == "muon":
        found.append(
            "muon rescales every filter, which destroys pretrained weights. Use adamw or sgd, or leave the optimizer out."
        )
    if (
        start is None
        and recipe.layer_decay not in (None, 1.0)
        and recipe.optimizer in (None, "muon")
        and not network.obstacle_to_muon
    ):
        found.append(
            "layer_decay works with adamw and sgd; muon has its own learning rates. Leave it out, or set optimizer."
        )
    return found


def _with_data(recipe: Recipe, data: DataFacts, network: NetworkFacts) -> list[str]:
    """Settings that do not suit the axes, the sizes or the splits of the data."""
    found = _with_task(recipe, data)
    if data.num_axes == 1 and recipe.zoom:
        found.append("zoom stretches a signal, which changes its pitch. Leave it out.")
    if data.num_axes == 1 and min(recipe.sides) < 1:
        found.append("progressive_resize resamples a signal, which changes its pitch. Leave it out.")
    elif min(recipe.sides) < 1 and not network.takes_smaller:
        found.append(
            "progressive_resize needs a network that also accepts smaller samples, for example one with globalpool. This one does not. Leave it out."
        )
    if data.num_axes == 0 and (recipe.zoom or recipe.translate or recipe.cutout):
        found.append("zoom, translate and cutout need samples with positions, and these are vectors. Leave them out.")
    found += _in_augmentation(recipe, data)
    if recipe.patience and not data.num_validation:
        found.append("patience needs a validation set, and this data has none. Leave it out.")
    tta = recipe.tta or "none"
    if "flip" in tta and recipe.flip == "none":
        found.append(
            f"tta={tta} mirrors samples, and this training does not (flip=none). Leave it out, or train with flips."
        )
    if "shift" in tta and max(data.input_shape[1:], default=1) == 1:
        found.append(f"tta={tta} shifts samples, and these have a single position. Leave it out.")
    if tta != "none" and data.is_shuffled:
        found.append(f"tta={tta} needs samples whose positions are in order, and these are shuffled. Leave it out.")
    return found


def _with_task(recipe: Recipe, data: DataFacts) -> list[str]:
    """Settings that do not suit what a label is."""
    found = []
    if recipe.select in METRIC_NAMES and data.task not in METRIC_NAMES[recipe.select].tasks:
        found.append(f"select={recipe.select} is no metric of {data.task}. Known: {', '.join(names_for(data.task))}.")
    if data.task != "single-label":
        if (recipe.tta or "").startswith("unsure:"):
            found.append(f"tta={recipe.tta} needs two most probable classes, and this is {data.task}. Leave out unsure:.")
        found += [
            f"{name}=balanced needs one class for each sample, and this is {data.task}. Leave it out."
            for name in ("class_weights", "sampling")
            if getattr(recipe, name) == "balanced"
        ]
    if data.task == "regression" and recipe.label_smoothing:
        found.append("label_smoothing needs classes, and this is regression. Leave it out.")
    if recipe.loss and (recipe.label_smoothing or recipe.class_weights == "balanced"):
        found.append(
            "label_smoothing and class_weights belong to the loss of the task, and loss replaces it. Leave them out."
        )
    return found


def _in_augmentation(recipe: Recipe, data: DataFacts) -> list[str]:
    """Settings of the augmentation that mean nothing for samples with these axes."""
    found, kinds = [], {0: "vectors", 1: "signals", 2: "images", 3: "volumes"}
    for name, (what, axes) in _IMAGES_ONLY.items():
        value = getattr(recipe, name)
        if value not in (None, "", "none", 0) and data.num_axes not in axes:
            suited = " and ".join(kinds[each] for each in axes) if len(axes) < 3 else "samples with positions"
            found.append(
                f"{name}={value} {what}: it is made for {suited}, and these are {kinds[data.num_axes]}. Leave it out."
            )
    if recipe.rotate90 != "none" and data.num_axes >= 2 and data.input_shape[-1] != data.input_shape[-2]:
        size = write_shape(data.input_shape[1:])
        found.append(
            f"rotate90={recipe.rotate90} turns samples by 90 degrees: the last two axes must be equally long, and these samples are {size}. "
            "Leave it out, or set a square img_size."
        )
    if recipe.policy and data.num_axes == 2 and not (data.is_8_bit and data.input_shape[0] in (1, 3)):
        found.append(
            f"policy={recipe.policy} needs 8-bit images, gray or in color, and these samples are none. Leave it out, or use rotate and color."
        )
    return found
