"""``resolve``: decides every setting of a recipe that is None, and states the reason for each decision.

``resolve`` is a pure function of the recipe and of the facts about data, network and starting weights. A ``ResolvedRecipe`` has no optional values.
"""

from __future__ import annotations

import math
from typing import Any, Final

from visus.errors import RecipeError, join_messages
from visus.evaluation.metric_names import DEFAULT_METRICS
from visus.evaluation.test_time_augmentation import STEPS_PER_SIDE
from visus.training.contradictions import contradictions
from visus.training.facts import MANY_SAMPLES, DataFacts, NetworkFacts, StartFacts
from visus.training.recipe import FIELDS, Recipe
from visus.training.resolved_recipe import OFF_VALUES, ResolvedRecipe
from visus.training.update_rules import UPDATE_RULES
from visus.units import write_bytes

FILTER_RATE: Final = 0.16  # muon, batches of 2,000; Jordan uses 0.24, and batches of 500 to 1,000 did better with less
HEAD_RATE, BIAS_RATE = 1.1, 0.14  # of muon's Adam groups, for batches of 2,000
MUON_DECAY: Final = 0.05
FINE_TUNING_BATCH: Final = 32
PROGRESSIVE_SIZES: Final = "0.75, 0.75, 0.875, 0.875, 1"
PHOTO_COLOR: Final = 0.3
MIN_STEPS: Final = 4 * len(PROGRESSIVE_SIZES.split(","))
"""Minimum number of steps for progressive resizing: four for each phase."""


def for_new_network(recipe: Recipe) -> Recipe:
    """A copy of a run's recipe for a network with random weights: settings that need pretrained weights become None.

    >>> for_new_network(Recipe(frozen="stage1", epochs=3)).frozen is None
    True
    """
    return recipe.replace(frozen=None, norm_statistics=None, layer_decay=None, epochs=recipe.epochs or None)


def resolve(recipe: Recipe, data: DataFacts, network: NetworkFacts, start: StartFacts | None = None) -> ResolvedRecipe:
    """Decide every setting that is None, and refuse settings that would have no effect.

    Args:
        recipe: the settings that a person asks for.
        data, network: facts about the data and the network.
        start: facts about pretrained starting weights; None for random weights.

    Raises:
        RecipeError: settings contradict each other, the data, the network or the starting weights; one error lists them all.

    >>> decided = resolve(Recipe(seed=3), DataFacts(7_200, (1, 28, 28)), NetworkFacts())
    >>> decided.optimizer, decided.epochs, decided.reasons["optimizer"]
    ('muon', 32, 'every matrix is a filter or the head, and norms use batch statistics')
    """
    mistakes = contradictions(recipe, data, network, start)
    if mistakes:
        raise RecipeError(join_messages(mistakes))
    decided = _Decided(recipe)
    _decide_task(decided, data)
    _decide_optimizer(decided, data, network, start)
    _decide_augmentation(decided, data, network, start)
    if "flip" in decided["tta"] and decided["flip"] == "none":  # the data decided flip
        raise RecipeError(
            f"tta={decided['tta']} mirrors samples, and this training does not ({decided.reasons.get('flip', 'flip=none')}). Leave it out, or train with flips."
        )
    _decide_rates(decided, data, start)
    is_resized, why = _progressive(decided, data, network, is_pretrained=start is not None)
    decided.choose("progressive_resize", PROGRESSIVE_SIZES if is_resized else "1", why)
    _decide_slices(decided, network)
    values: dict[str, Any] = {name: OFF_VALUES[name] if value is None else value for name, value in decided.values.items()}
    return ResolvedRecipe(**values, reasons=decided.reasons)


class _Decided:
    """The settings while ``resolve`` decides them one after another; requested values stay."""

    def __init__(self, recipe: Recipe) -> None:
        self.values: dict[str, Any] = {name: getattr(recipe, name) for name in FIELDS}
        self.reasons: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def choose(self, name: str, value: Any, reason: str) -> None:
        """Set a setting that is still None."""
        if self.values[name] is None:
            self.values[name], self.reasons[name] = value, reason


def _decide_task(decided: _Decided, data: DataFacts) -> None:
    """Decide what follows from what a label is."""
    if data.task != "single-label" or decided["loss"]:
        why = "your own loss decides" if decided["loss"] else f"measured with cross-entropy only, and this is {data.task}"
        decided.choose("label_smoothing", 0.0, why)
    decided.choose("select", DEFAULT_METRICS[data.task], f"usual for {data.task}")
    if data.task != "single-label":
        decided.choose("tta", "none", "chosen by the two most probable classes, of which one is right")
    if data.task == "regression":
        for name in ("zoom", "translate", "cutout"):
            decided.choose(name, 0.0, "it may change a number, such as a size or a place")
        if data.keeps_class_mirrored is None:
            decided.choose("flip", "none", "it may change a number, such as a place")
        decided.choose("progressive_resize", "1", "another size may change a number")


def _decide_optimizer(decided: _Decided, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> None:
    """Decide optimizer, batch size and weight average."""
    if start is not None:
        decided.choose("optimizer", "adamw", "muon would rescale the pretrained filters")
    elif network.obstacle_to_muon:
        decided.choose("optimizer", "adamw", network.obstacle_to_muon)
    decided.choose("optimizer", "muon", "every matrix is a filter or the head, and norms use batch statistics")
    is_muon = decided["optimizer"] == "muon"
    if start is None:
        decided.choose(
            "batch_size", default_batch_size(data.num_training, is_muon=is_muon), "from the number of training samples"
        )
    decided.choose("batch_size", FINE_TUNING_BATCH, "fine-tuning uses small batches")
    if decided["batch_size"] > data.num_training:
        decided.values["batch_size"], decided.reasons["batch_size"] = (
            data.num_training,
            "the training set has no more samples",
        )
    decided.choose(
        "ema_decay",
        0.0 if is_muon or decided["final_ema"] else 0.998,
        "muon averages its last steps" if is_muon else "adamw and sgd average all steps",
    )
    decided.choose(
        "final_ema",
        0.03 if is_muon and not decided["ema_decay"] else 0.0,
        "averages the last steps, at a low learning rate" if is_muon else "ema_decay averages all steps",
    )


def _decide_slices(decided: _Decided, network: NetworkFacts) -> None:
    """Decide in how many slices a step is computed: 1, 2, 4, ... until a slice of at least two samples surely fits into memory.

    Raises:
        RecipeError: more slices than samples are asked for.
    """
    batch_size = decided["batch_size"]
    if (asked := decided["accumulate"]) is not None and asked > batch_size:
        raise RecipeError(
            f"accumulate={asked} divides batches of {batch_size} into more slices than samples. Take at most {batch_size}, or larger batches."
        )
    if network.step_bytes is None or network.memory_bytes is None:
        return
    num_slices, optimizer = 1, decided["optimizer"] if decided["optimizer"] in UPDATE_RULES else "adamw"
    while (
        num_slices * 4 <= batch_size and network.step_bytes(-(-batch_size // num_slices), optimizer) > network.memory_bytes
    ):
        num_slices *= 2
    if num_slices > 1:
        decided.choose(
            "accumulate",
            num_slices,
            f"a step of {batch_size} samples may need more than the {write_bytes(network.memory_bytes)} of memory",
        )


def _decide_augmentation(decided: _Decided, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> None:
    """Decide augmentation and test-time augmentation."""
    is_muon, is_image = decided["optimizer"] == "muon", data.num_axes >= 2
    if data.keeps_class_mirrored is not None:
        decided.choose("flip", "alternating" if data.keeps_class_mirrored else "none", data.mirroring)
    is_likely = (data.input_shape[0] == 3 and data.num_axes == 2) or data.num_axes == 3
    decided.choose(
        "flip",
        "alternating" if is_likely else "none",
        "mirroring mostly keeps the class of color images and volumes" if is_likely else "mirroring may change the class",
    )
    many_sizes = "images of many sizes" if data.is_varied else "samples of one size"
    if data.num_axes == 0:
        for name in ("zoom", "translate", "cutout"):
            decided.choose(name, 0.0, "vectors have no positions")
    if decided["crop"]:
        for name in ("zoom", "translate"):
            decided.choose(name, 0.0, "random crops enlarge and move the samples already")
    if decided["cutmix"]:
        decided.choose("cutout", 0.0, "CutMix covers a part of each sample already")
    decided.choose("zoom", (0.2 if start else 0.4) if data.is_varied and is_image else 0.0, many_sizes)
    decided.choose("translate", 0.1 if data.is_varied or (start and is_image) else 0.05, many_sizes)
    few = f"{'fewer' if data.is_small else 'no fewer'} than {MANY_SAMPLES:,} training samples"
    decided.choose(
        "cutout",
        0.0 if start or not data.is_small else 0.3 if decided["zoom"] or is_muon else 0.4,
        "pretrained features need no cutout" if start else few,
    )
    decided.choose("color", *_default_color(decided, data, start))
    views = "none" if data.is_shuffled else _default_tta(decided["flip"], decided["translate"], data.input_shape[1:])
    decided.choose("tta", views, "the augmentations of the training")


def _default_color(decided: _Decided, data: DataFacts, start: StartFacts | None) -> tuple[float, str]:
    """The strength of the color jitter, and the reason: on photos of three kinds, new networks gained 3 to 4 points (``benchmarks/augmentation.py``)."""
    if start is not None:
        return 0.0, "pretrained features know other light and colors"
    if decided["policy"]:
        return 0.0, "the policy recolors images already"
    if data.task == "regression":
        return 0.0, "it may change a number, such as a brightness"
    if not (data.is_varied and data.num_axes == 2 and data.input_shape[0] == 3):
        return 0.0, "measured on color photos of many sizes only"
    if not data.is_small:
        return 0.0, f"no fewer than {MANY_SAMPLES:,} training samples"
    return PHOTO_COLOR, "photos of one class differ in light and color"


def _progressive(decided: _Decided, data: DataFacts, network: NetworkFacts, *, is_pretrained: bool) -> tuple[bool, str]:
    """Whether to resize progressively, and the reason."""
    is_muon = decided["optimizer"] == "muon"
    num_steps = decided["epochs"] * max(1, data.num_training // decided["batch_size"])
    if data.num_axes == 1:
        return False, "resampling a signal changes its pitch"
    if data.is_shuffled or data.num_axes == 0:
        return False, "these samples cannot be resized"
    if is_pretrained:
        return False, "pretrained weights expect one input size"
    if not network.takes_smaller:
        return False, "the network does not accept smaller samples"
    if num_steps < MIN_STEPS:
        return False, f"{num_steps} steps are too few for several sizes"
    return (True, "faster, and equally accurate") if is_muon else (False, "measured with muon only")


def _decide_rates(decided: _Decided, data: DataFacts, start: StartFacts | None) -> None:
    """Decide frozen layers, epochs, learning rates, schedule, weight decay and label smoothing."""
    optimizer, batch_size = decided["optimizer"], decided["batch_size"]
    is_muon = optimizer == "muon"
    decided.choose(
        "frozen", "", "layer_decay slows the first layers instead" if start else "a new network trains all its weights"
    )
    decided.choose(
        "norm_statistics",
        "stored" if start else "batch",
        "pretrained statistics are kept" if start else "a new network has no statistics yet",
    )
    if start is not None:
        decided.choose(
            "epochs",
            fine_tuning_epochs(data.num_training) if start.epochs is None else start.epochs,
            start.reason or "from the number of training samples",
        )
        if start.learning_rate is not None:
            decided.choose("learning_rate", start.learning_rate, start.rate_reason or start.reason)
        if start.layer_decay is not None:
            decided.choose("layer_decay", start.layer_decay, start.reason)
        decided.choose("weight_decay", 0.05, "fine-tuning changes little")
        decided.choose("warmup", 0.1, "small first steps preserve the pretrained weights")
    decided.choose(
        "epochs",
        default_epochs(
            data.num_training,
            is_zoomed=bool(decided["zoom"] or decided["crop"]),
            is_muon=is_muon,
            is_small_gray=data.is_small_gray,
        ),
        "from the number of training samples",
    )
    rule = UPDATE_RULES.get(optimizer)
    decay = MUON_DECAY if rule is None else rule.small_weight_decay if data.is_small else rule.weight_decay
    decided.choose("weight_decay", decay, f"usual for {optimizer}")
    decided.choose("warmup", 0.0 if is_muon else 0.2, f"usual for {optimizer}")
    decided.choose(
        "min_lr_ratio",
        0.05 if decided["final_ema"] else 0.0,
        "the averaged steps must still move the weights" if decided["final_ema"] else "the last step is small",
    )
    decided.choose("label_smoothing", 0.2 if is_muon else 0.1, f"usual for {optimizer}")
    decided.choose("layer_decay", 1.0, "all layers are new")
    for name, value in _default_rates(decided, optimizer, batch_size).items():
        decided.choose(name, value, f"usual for {optimizer} with batches of {batch_size}")


def _default_rates(decided: _Decided, optimizer: str, batch_size: int) -> dict[str, float]:
    """Learning rates and momentum. Those of muon follow Jordan 2024 (airbench94_muon) and our own trials.

    With muon, learning rates grow with the square root of the batch size, and momentum falls with it.
    """
    if optimizer != "muon":
        rule = UPDATE_RULES[optimizer]
        return {"learning_rate": rule.learning_rate(batch_size), "momentum": rule.momentum}
    share = math.sqrt(batch_size / 2000)
    bias_lr = decided["bias_lr"] or round(BIAS_RATE * min(share, 1.0), 6)
    return {
        "learning_rate": round(FILTER_RATE * min(share, 1.0), 6),
        "head_lr": round(HEAD_RATE * min(share, 1.0), 6),
        "bias_lr": bias_lr,
        "norm_lr": max(1e-12, float(f"{bias_lr / 10:.6g}")),
        "matrix_lr": UPDATE_RULES["adamw"].learning_rate(batch_size),
        "momentum": round(max(0.6, 1 - 0.4 * share), 4),
    }


def _default_tta(flip: str, shift: float, size: tuple[int, ...]) -> str:
    """Test-time augmentation of unsure predictions: mirrored if training mirrors, shifted if training shifts at least as far."""
    moves = all(round(shift * length) >= max(1, round(length / STEPS_PER_SIDE)) for length in size)
    found = "+".join([*(["flip"] if flip != "none" else []), *(["shift"] if moves and size else [])])
    return f"unsure:{found}" if found else "none"


def default_batch_size(num_samples: int, *, is_muon: bool = False) -> int:
    """Batch size: 64, or 128 from 20,000 samples on. Muon: about ``3 * sqrt(num_samples)``, a multiple of 16 from 16 to 2,000.

    Smaller sets need smaller batches, so that few epochs have enough steps to converge.

    >>> [default_batch_size(number, is_muon=True) for number in (100, 2_700, 7_200, 50_000)]
    [32, 160, 256, 672]
    """
    if is_muon:
        return max(16, min(2000, 16 * round(3 * math.sqrt(num_samples) / 16)))
    return 64 if num_samples < MANY_SAMPLES else 128


def default_epochs(num_samples: int, *, is_zoomed: bool = False, is_muon: bool = False, is_small_gray: bool = False) -> int:
    """Number of epochs: ``1500 / sqrt(num_samples)``, from 30 to 80; from 20,000 samples on, from 11 to 80.

    Muon: ``2750 / sqrt(num_samples)``, from 8 to 48; 1.3 times as many for 20,000 or more small gray images, for which ``compact`` is narrower and
    takes the same time. With random zoom there are 1.4 times as many, since no image appears twice in the same form.

    >>> [default_epochs(number) for number in (200, 1_500, 7_200, 58_000)]
    [80, 39, 30, 11]
    >>> [default_epochs(number, is_muon=True) for number in (200, 1_500, 7_200, 58_000)]
    [48, 48, 32, 11]
    >>> default_epochs(58_000, is_muon=True, is_small_gray=True)
    15
    """
    if is_muon:
        share = 1.3 if is_small_gray and num_samples >= MANY_SAMPLES else 1.0
        epochs = max(8, min(48, round(share * 2750 / math.sqrt(num_samples))))
    else:
        epochs = max(30 if num_samples < MANY_SAMPLES else 11, min(80, round(1500 / math.sqrt(num_samples))))
    return round(1.4 * epochs) if is_zoomed else epochs


def fine_tuning_epochs(num_samples: int) -> int:
    """Number of epochs in which the network sees 12,000 samples; at least 4 and at most 30.

    >>> [fine_tuning_epochs(number) for number in (60, 1_000, 3_000, 10_000)]
    [30, 12, 4, 4]
    """
    return max(4, min(30, math.ceil(12_000 / num_samples)))
