"""``resolve``: decides every setting of a recipe that is None, and states the reason for each decision.

``resolve`` is a pure function of the recipe and of the facts about data, network and starting weights. A ``ResolvedRecipe`` has no optional values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from visus.data.tasks import TaskName
from visus.errors import RecipeError, join_messages
from visus.evaluation.metric_names import DEFAULT_METRICS, METRIC_NAMES, names_for
from visus.evaluation.test_time_augmentation import STEPS_PER_SIDE
from visus.training.recipe import FIELDS, Recipe, plain
from visus.training.update_rules import UPDATE_RULES
from visus.units import write_bytes, write_shape

OFF_VALUES: Final[dict[str, Any]] = {
    "clip_norm": 0.0,
    "patience": 0,
    "time_limit_s": math.inf,
    "head_lr": 0.0,
    "bias_lr": 0.0,
    "norm_lr": 0.0,
    "matrix_lr": 0.0,
    "loss": "",
    "accumulate": 1,
    "policy": "",
    "transform": "",
}
"""Value that turns a setting off; ``recipe.yaml`` writes null for it."""
FORMER_VALUES: Final[dict[str, Any]] = {"select": "accuracy"}
"""What runs did before there was the setting."""
MANY_SAMPLES: Final = 20_000
SMALL_PX: Final = 40
FILTER_RATE: Final = 0.16  # muon, batches of 2,000; Jordan uses 0.24, and batches of 500 to 1,000 did better with less
HEAD_RATE, BIAS_RATE = 1.1, 0.14  # of muon's Adam groups, for batches of 2,000
MUON_DECAY: Final = 0.05
FINE_TUNING_BATCH: Final = 32
PROGRESSIVE_SIZES: Final = "0.75, 0.75, 0.875, 0.875, 1"
MIN_STEPS: Final = 4 * len(PROGRESSIVE_SIZES.split(","))
"""Minimum number of steps for progressive resizing: four for each phase."""
_MUON_RATES: Final = ("head_lr", "bias_lr", "norm_lr", "matrix_lr")


@dataclass(frozen=True)
class DataFacts:
    """Facts about the data that ``resolve`` needs.

    Args:
        num_training: number of training samples.
        input_shape: (channels, *spatial).
        num_validation: number of validation samples.
        is_varied: whether the image files have many different sizes, as photos do.
        is_shuffled: whether one random permutation reorders the positions of every sample, so that shifting or mirroring makes no sense.
        keeps_class_mirrored: whether a mirrored sample keeps its class; None if the data leaves it open.
        mirroring: evidence for ``keeps_class_mirrored``, as text.
        task: what a label is, one of ``visus.data.tasks.TASKS``.
        is_8_bit: whether the stored values are 8-bit.
    """

    num_training: int
    input_shape: tuple[int, ...]
    num_validation: int = 0
    is_varied: bool = False
    is_shuffled: bool = False
    keeps_class_mirrored: bool | None = None
    mirroring: str = ""
    task: TaskName = "single-label"
    is_8_bit: bool = True

    @property
    def num_axes(self) -> int:
        """Spatial axes: 1 for signals, 2 for images, 3 for volumes, 0 for vectors."""
        return len(self.input_shape) - 1

    @property
    def is_small(self) -> bool:
        """Whether the training set has fewer than 20,000 samples; small sets need more augmentation."""
        return self.num_training < MANY_SAMPLES

    @property
    def is_small_gray(self) -> bool:
        """Whether samples are gray images of at most 40 px on the shorter side, for which ``compact`` is narrower."""
        channels, *size = self.input_shape
        return channels == 1 and len(size) == 2 and min(size) <= SMALL_PX


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about the network that ``resolve`` needs.

    Args:
        has_filters: whether it has convolutions or hidden linear layers.
        unknown_matrices: names of trained tensors with two or more axes that are neither filters nor the head, such as embeddings.
        other_norms: paths of norms that do not use batch statistics, such as layer norms.
        takes_smaller: whether it accepts every size of the requested (or default) progressive resizing.
        step_bytes: memory of a step of ``num_samples``, at most, as ``step_bytes(num_samples, optimizer)``; None if unknown.
        memory_bytes: memory for it; None if unknown.
    """

    has_filters: bool = True
    unknown_matrices: tuple[str, ...] = ()
    other_norms: tuple[str, ...] = ()
    takes_smaller: bool = True
    step_bytes: Callable[[int, str], int] | None = None
    memory_bytes: int | None = None

    @property
    def obstacle_to_muon(self) -> str:
        """Why muon is no good default for this network, in a few words; empty if it is one."""
        if not self.has_filters:
            return "the network has no convolutions"
        if self.unknown_matrices:
            return f"muon has no rule for {_list_names(self.unknown_matrices)}"
        if self.other_norms:
            return f"{_list_names(self.other_norms)} {'does' if len(self.other_norms) == 1 else 'do'} not normalize over the batch"
        return ""


@dataclass(frozen=True)
class StartFacts:
    """Facts about pretrained starting weights that ``resolve`` needs. They apply to settings that the recipe does not set.

    Args:
        layer_decay: learning rate of the first layer as a fraction of that of the last; None for the default.
        learning_rate: highest learning rate; None for the default.
        epochs: number of epochs; None for the default.
        reason: evidence for these values, as text.
        rate_reason: evidence for the learning rate, if it is another.
        note: a remark on these values for the person who trains; may be empty.
    """

    layer_decay: float | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    reason: str = "usual for fine-tuning"
    rate_reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class ResolvedRecipe:
    """Every setting of a training, decided. The fields are those of ``Recipe``, and none is optional.

    Args:
        reasons: setting name -> why it has this value, for settings that the recipe did not set.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    head_lr: float
    bias_lr: float
    norm_lr: float
    matrix_lr: float
    layer_decay: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    min_lr_ratio: float
    label_smoothing: float
    loss: str
    select: str
    clip_norm: float
    ema_decay: float
    final_ema: float
    class_weights: str
    sampling: str
    flip: str
    translate: float
    zoom: float
    cutout: float
    vertical_flip: str
    rotate90: str
    rotate: float
    crop: float
    color: float
    policy: str
    mixup: float
    cutmix: float
    transform: str
    progressive_resize: str
    tta: str
    frozen: str
    norm_statistics: str
    patience: int
    time_limit_s: float
    checkpoint_every_s: float
    precision: str
    accumulate: int
    kernels: str
    device: str
    seed: int
    reasons: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def sides(self) -> tuple[float, ...]:
        """Input sizes of the equally long phases of the training, as fractions of the full side."""
        return tuple(float(word) for word in self.progressive_resize.split(","))

    @property
    def request(self) -> Recipe:
        """A recipe that sets every setting to this value."""
        values: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        values |= {name: None for name, off in OFF_VALUES.items() if values[name] == off}
        return Recipe(**values)

    def replace(self, **changes: Any) -> ResolvedRecipe:
        """A copy with other settings, within the types and ranges of ``Recipe``.

        Raises:
            RecipeError: unknown name, or invalid value.
        """
        return ResolvedRecipe.of(self.request.replace(**changes), self.reasons)

    @classmethod
    def of(cls, recipe: Recipe, reasons: dict[str, str] | None = None) -> ResolvedRecipe:
        """From a recipe that sets everything, such as the ``recipe.yaml`` of a run.

        Raises:
            RecipeError: a setting is None.
        """
        values = {name: getattr(recipe, name) for name in FIELDS}
        known = OFF_VALUES | FORMER_VALUES
        values = {name: known.get(name) if value is None else value for name, value in values.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise RecipeError(
                f"this recipe does not set {_list_names(missing, len(missing))}. Use the recipe.yaml of a run, which holds every setting."
            )
        return cls(**values, reasons=dict(reasons or {}))

    @classmethod
    def read(cls, file: Path) -> ResolvedRecipe:
        """Read the ``recipe.yaml`` of a run.

        Raises:
            UsageError: the file cannot be read.
            RecipeError: the content is invalid, or a setting is missing.
        """
        try:
            return cls.of(Recipe.read(file))
        except RecipeError as error:
            raise error if error.where else error.within(str(file)) from None

    def to_yaml(self) -> str:
        """YAML with the meaning of each setting, and the reason if ``resolve`` decided it; ``Recipe.from_yaml`` reads it back."""
        lines = []
        for name, value in ((name, getattr(self.request, name)) for name in FIELDS):
            text = yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()
            reason = f"; here: {self.reasons[name]}" if name in self.reasons else ""
            lines.append(f"{name}: {text}  # {FIELDS[name].metadata['describe']}{reason}")
        return "\n".join(lines) + "\n"


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
    mistakes = _contradictions(recipe, data, network, start)
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
    views = "none" if data.is_shuffled else _default_tta(decided["flip"], decided["translate"], data.input_shape[1:])
    decided.choose("tta", views, "the augmentations of the training")


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


def _contradictions(recipe: Recipe, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> list[str]:
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
    return found + _contradictions_with_start(recipe, network, start) + _contradictions_with_data(recipe, data, network)


def _contradictions_with_start(recipe: Recipe, network: NetworkFacts, start: StartFacts | None) -> list[str]:
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
            f"{_list_names(unused, 4)} {'is a learning rate' if len(unused) == 1 else 'are learning rates'} of muon. {other}{why} has a single learning rate. Leave {'it' if len(unused) == 1 else 'them'} out, or set learning_rate."
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


def _contradictions_with_data(recipe: Recipe, data: DataFacts, network: NetworkFacts) -> list[str]:
    """Settings that do not suit the axes, the sizes or the splits of the data."""
    found = _contradictions_with_task(recipe, data)
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
    found += _augmentation_contradictions(recipe, data)
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


def _contradictions_with_task(recipe: Recipe, data: DataFacts) -> list[str]:
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
    if data.task != "single-label" and recipe.epochs == 0:
        found.append(
            f"epochs=0 fits the head alone, which needs one class for each sample, and this is {data.task}. Leave it out."
        )
    if data.task == "regression" and recipe.label_smoothing:
        found.append("label_smoothing needs classes, and this is regression. Leave it out.")
    if recipe.loss and (recipe.label_smoothing or recipe.class_weights == "balanced"):
        found.append(
            "label_smoothing and class_weights belong to the loss of the task, and loss replaces it. Leave them out."
        )
    return found


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


def _augmentation_contradictions(recipe: Recipe, data: DataFacts) -> list[str]:
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


def _list_names(names: tuple[str, ...] | list[str], max_names: int = 2) -> str:
    """Names joined as in a sentence; after ``max_names``, only the number of the remaining ones."""
    shown = list(names[:max_names])
    num_hidden = len(names) - len(shown)
    words = [*shown, f"{num_hidden} more"] if num_hidden else shown
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
