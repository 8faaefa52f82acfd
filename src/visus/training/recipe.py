"""What a person asks of a training: every setting, what it means, and which values it takes.

A setting of ``None`` is decided by ``training.resolve``. Each field explains itself: ``describe`` is shown by ``--help`` and written beside the
value in ``recipe.yaml``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from visus.errors import RecipeError, joined, unknown_name
from visus.evaluation.test_time_augmentation import VIEWS
from visus.files import read_text

OPTIMIZERS = ("adamw", "muon", "sgd")
SCHEDULES = ("cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "bfloat16", "float32")
CONVOLUTIONS = ("auto", "pytorch")
FLIPS = ("alternating", "none", "random")
NORM_STATISTICS = ("batch", "stored")
SAMPLINGS = ("balanced", "shuffled")
MIN_SIDE = 0.25
OF_THE_OPTIMIZER = (
    *("learning_rate", "head_lr", "bias_lr", "norm_lr", "matrix_lr", "layer_decay", "momentum", "weight_decay"),
    *(
        "warmup",
        "min_lr_ratio",
        "label_smoothing",
        "ema_decay",
        "final_ema",
        "progressive_resize",
        "cutout",
        "epochs",
        "batch_size",
    ),
)
"""Settings whose values suit one optimizer."""


def _setting(
    default: Any,
    describe: str,
    *,
    group: str = "Training",
    option: str | None = None,
    short: str | None = None,
    is_basic: bool = False,
    low: float | None = None,
    high: float | None = None,
    known: tuple[str, ...] = (),
) -> Any:
    """A setting: what help, documents and ``recipe.yaml`` say of it, and which values it takes.

    Args:
        default: None where the data, the network and the start decide.
        describe: its meaning, and what is taken by default.
        group: under which head the help lists it: Training, Augmentation or Machine.
        option, short: of the command line; None for the name with dashes, and for no short one.
        is_basic: the short help lists it.
        low, high: smallest and largest value.
        known: the words that it takes.
    """
    facts = {"describe": describe, "group": group, "option": option, "short": short, "is_basic": is_basic}
    return field(default=default, metadata={**facts, "low": low, "high": high, "known": known})


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. A setting of None is settled from the data when the training starts, and written down.

    Raises:
        RecipeError: at construction; all settings that cannot be used, together.

    >>> Recipe(epochs=3).epochs
    3
    >>> Recipe(optimizer="sdg", label_smoothing=2)
    Traceback (most recent call last):
    visus.errors.RecipeError: 2 mistakes:
      - unknown optimizer 'sdg'. Did you mean 'sgd'? Known: adamw, muon, sgd.
      - label_smoothing must be between 0 and 0.9, not 2.
    """

    epochs: int | None = _setting(
        None,
        "number of passes over the training data; 0 fits only the head of pretrained weights; default: from the number of samples, more for small gray images",
        low=0,
        is_basic=True,
    )
    batch_size: int | None = _setting(
        None, "samples in one step; default: from the number of samples", low=1, short="-b", is_basic=True
    )
    optimizer: str | None = _setting(
        None,
        "muon (orthogonalized steps for filters, Adam for the rest), adamw or sgd (Nesterov momentum); default: muon for a network with convolutions, else adamw",
        known=OPTIMIZERS,
    )
    learning_rate: float | None = _setting(
        None,
        "highest learning rate, with muon that of filters; default: from optimizer and batch size",
        low=1e-12,
        high=100.0,
        option="--lr",
        is_basic=True,
    )
    head_lr: float | None = _setting(
        None,
        "highest rate of the last layer's weights times the number of its inputs, with muon alone; default: from the batch size",
        low=1e-12,
        high=1000.0,
        option="--lr-head",
    )
    bias_lr: float | None = _setting(
        None,
        "highest rate of biases, with muon alone; default: from the batch size",
        low=1e-12,
        high=100.0,
        option="--lr-bias",
    )
    norm_lr: float | None = _setting(
        None,
        "highest rate of the gains of norms, with muon alone; default: a tenth of bias_lr",
        low=1e-12,
        high=100.0,
        option="--lr-norm",
    )
    matrix_lr: float | None = _setting(
        None,
        "highest rate of matrices that muon does not know, such as embeddings and attention projections, which AdamW moves; with muon alone; default: adamw's own rate",
        low=1e-12,
        high=100.0,
        option="--lr-matrix",
    )
    layer_decay: float | None = _setting(
        None,
        "learning rate of the first layer as a share of that of the last; layers between them have rates between; default: 1, or less for fine-tuning",
        low=1e-6,
        high=1.0,
    )
    momentum: float | None = _setting(
        None,
        "momentum of muon and sgd, first beta of adamw; default: for muon from the batch size, else 0.9",
        low=0.0,
        high=0.9999,
    )
    weight_decay: float | None = _setting(
        None,
        "decay of weights, never of biases, norms, or filters that a norm follows in muon; default: from optimizer and number of samples",
        low=0.0,
        high=10.0,
    )
    schedule: str = _setting(
        "linear",
        "decay of the learning rate after its warm-up: linear or cosine, to min_lr_ratio of the highest",
        known=SCHEDULES,
    )
    warmup: float | None = _setting(
        None, "share of the training in which the learning rate rises; default: 0 for muon, else 0.2", low=0.0, high=0.9
    )
    min_lr_ratio: float | None = _setting(
        None,
        "learning rate at the end, as a share of the highest; default: 0.05 with final_ema, else 0",
        low=0.0,
        high=1.0,
    )
    label_smoothing: float | None = _setting(
        None, "probability spread over all classes in the target; default: 0.2 for muon, else 0.1", low=0.0, high=0.9
    )
    clip_norm: float | None = _setting(None, "largest norm of the whole gradient; default: none", low=1e-6)
    ema_decay: float | None = _setting(
        None,
        "decay of the moving average of the weights, which is scored and kept; 0 for none; default: none for muon, else 0.998",
        low=0.0,
        high=0.99999,
    )
    final_ema: float | None = _setting(
        None,
        "share of the training over which the last weights are averaged; 0 for none; default: 0.03 for muon without ema_decay",
        low=0.0,
        high=0.3,
    )
    class_weights: str = _setting(
        "none", "weights of the classes in the loss: none, or balanced by the number of their samples", known=CLASS_WEIGHTS
    )
    sampling: str = _setting(
        "shuffled",
        "order of the training samples: shuffled (each once in an epoch), or balanced (each class equally often)",
        known=SAMPLINGS,
    )
    flip: str | None = _setting(
        None,
        "mirror samples left to right: none, random (half of them), or alternating (each in every second epoch); default: alternating where the samples show that mirroring keeps their class, and for color images and volumes that do not show it; else none",
        known=FLIPS,
        group="Augmentation",
    )
    translate: float | None = _setting(
        None,
        "largest shift along each axis, as a fraction of its length; default: 0.1 for photos of many sizes, else 0.05",
        low=0.0,
        high=0.5,
        group="Augmentation",
    )
    zoom: float | None = _setting(
        None,
        "largest enlargement, as a fraction cut away; default: for photos of many sizes",
        low=0.0,
        high=0.9,
        group="Augmentation",
    )
    cutout: float | None = _setting(
        None,
        "side of the blanked box, as a fraction of each axis; default: 0.4 for fewer than 20,000 samples, 0.3 with a zoom or with muon, else none",
        low=0.0,
        high=0.9,
        group="Augmentation",
    )
    progressive_resize: str | None = _setting(
        None,
        "sizes of the samples in equal shares of the training, as parts of the full size, such as 0.75, 0.875, 1; default: 0.75 and 0.875 for two fifths each, then 1, for networks that take any size, else 1",
        group="Augmentation",
    )
    tta: str | None = _setting(
        None,
        "test-time augmentation, averages the outputs for mirrored (flip) or moved (shift) copies of each sample: none, flip, shift, flip+shift, or unsure: before one of these, for samples whose top two probabilities are close; default: unsure: and what training does",
        known=VIEWS,
        group="Augmentation",
    )
    frozen: str | None = _setting(
        None,
        "layers that are not trained, by their paths with * for any letters, such as stage1, stage2.*; default: none, or the first stages of pretrained weights",
    )
    norm_statistics: str | None = _setting(
        None,
        "statistics that batch norms use in training: those of the batch, or the stored ones, which then stay; default: stored for pretrained weights, else batch",
        known=NORM_STATISTICS,
    )
    patience: int | None = _setting(
        None, "epochs without a better validation accuracy after which to stop; default: never", low=1
    )
    time_limit_s: float | None = _setting(
        None,
        "time limit of the whole command with scoring and report, in seconds or as 90s, 5m, 1h30m; without --model, visus chooses a network that fits; with --resume, so much more time",
        low=1.0,
        option="--time-limit",
        is_basic=True,
    )
    checkpoint_every_s: float = _setting(30.0, "seconds between checkpoints inside an epoch", low=0.0, group="Machine")
    precision: str = _setting(
        "auto", "number format of the arithmetic: auto, bfloat16 or float32", known=PRECISIONS, group="Machine"
    )
    kernels: str = _setting(
        "auto",
        "kernels for the convolutions: auto (the fastest for each shape on this machine) or pytorch (PyTorch's alone)",
        known=CONVOLUTIONS,
        group="Machine",
    )
    device: str = _setting("auto", "where to compute: auto, cpu, cuda, cuda:N or mps", group="Machine", is_basic=True)
    seed: int = _setting(
        0,
        "seed of everything random in the training; the split has a seed of its own",
        low=0,
        high=2**31 - 1,
        is_basic=True,
    )

    def __post_init__(self) -> None:
        if isinstance(self.progressive_resize, (int, float)) and not isinstance(self.progressive_resize, bool):
            object.__setattr__(self, "progressive_resize", f"{self.progressive_resize:g}")
        mistakes = [mistake for name in FIELDS for mistake in _mistakes(self, name)]
        if mistakes:
            raise RecipeError(joined(mistakes))

    @property
    def sides(self) -> tuple[float, ...]:
        """Parts of the whole side at which samples are seen, in equal shares of the training; (1.0,) where that is open.

        >>> Recipe(progressive_resize="0.75, 1").sides
        (0.75, 1.0)
        """
        return tuple(float(word) for word in self.progressive_resize.split(",")) if self.progressive_resize else (1.0,)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other settings.

        Raises:
            RecipeError: a name that does not exist, or a value that cannot be used.
        """
        unknown = [name for name in changes if name not in FIELDS]
        if unknown:
            raise RecipeError(joined([unknown_name("setting", name, FIELDS) for name in unknown]))
        return dataclasses.replace(self, **changes)

    def overridden(self, **given: Any) -> tuple[Recipe, tuple[str, ...]]:
        """A copy in which ``given`` settings win, and those that only go with what they replace are open again.

        Returns:
            The copy, and the names of the settings that were opened.

        Raises:
            RecipeError: a name that does not exist, or a value that cannot be used.

        >>> changed, opened = Recipe(optimizer="muon", head_lr=1.0, final_ema=0.03).overridden(ema_decay=0.99)
        >>> changed.final_ema, opened
        (None, ('final_ema',))
        """
        going: set[str] = set()
        if given.get("optimizer", self.optimizer) != self.optimizer and self.optimizer is not None:
            going |= set(OF_THE_OPTIMIZER)
        if given.get("ema_decay"):
            going.add("final_ema")
        if given.get("final_ema"):
            going.add("ema_decay")
        opened = tuple(name for name in FIELDS if name in going - set(given) and getattr(self, name) is not None)
        return self.replace(**dict.fromkeys(opened), **given), opened

    def to_yaml(self) -> str:
        """Every setting with its meaning beside it; ``from_yaml`` reads it back."""
        import yaml

        lines = []
        for name, rule in FIELDS.items():
            value = yaml.safe_dump(getattr(self, name), default_flow_style=True, width=1000).removesuffix("...\n").strip()
            lines.append(f"{name}: {value}  # {rule.metadata['describe']}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "recipe") -> Recipe:
        """A recipe from text; settings that it leaves out have their defaults.

        Raises:
            RecipeError: not a table of settings, unknown names, or values that cannot be used.
        """
        import yaml

        try:
            settings = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise RecipeError(f"this is not YAML: {' '.join(str(error).split())}", where=where) from error
        if not isinstance(settings, dict):
            raise RecipeError(
                f"a recipe is a table of settings, such as 'epochs: 20', not {type(settings).__name__}.", where=where
            )
        try:
            return cls().replace(**{str(name): _as_number(value) for name, value in settings.items()})
        except RecipeError as error:
            raise error.within(where) from None

    @classmethod
    def read(cls, file: Path) -> Recipe:
        """A recipe from a YAML file.

        Raises:
            UsageError: the file cannot be read.
            RecipeError: its content cannot be used.
        """
        return cls.from_yaml(read_text(file), where=str(file))


def _as_number(value: Any) -> Any:
    """A number that YAML takes for text, such as 1e-3; anything else as it is."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


FIELDS: dict[str, dataclasses.Field[Any]] = {rule.name: rule for rule in dataclasses.fields(Recipe)}
_TYPES = get_type_hints(Recipe)


def _mistakes(recipe: Recipe, name: str) -> list[str]:
    """What is wrong with one setting; nothing where it can be used."""
    value, rule, kind = getattr(recipe, name), FIELDS[name].metadata, _TYPES[name]
    kinds = get_args(kind) or (kind,)
    if value is None and type(None) in kinds:
        return []
    wanted = next(each for each in kinds if each is not type(None))
    if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (int, float) if wanted is float else wanted):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        return [f"{name} must be {words[wanted]}, not {value!r}."]
    if rule["known"] and value not in rule["known"]:
        return [unknown_name(name, str(value), rule["known"])]
    if name == "progressive_resize":
        return _curriculum_mistakes(str(value))
    low, high = rule["low"], rule["high"]
    if wanted in (int, float) and not (
        (low is None or value >= low) and (high is None or value <= high) and math.isfinite(value)
    ):
        if high is None:
            return [f"{name} must be at least {low:g}, not {value:g}."]
        return [f"{name} must be between {low:g} and {high:g}, not {value:g}."]
    return []


def _curriculum_mistakes(text: str) -> list[str]:
    """What is wrong with the sides of progressive resizing."""
    try:
        sides = [float(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if not sides or not all(MIN_SIDE <= side <= 1 for side in sides):
        return [
            f"progressive_resize must be parts of the side between {MIN_SIDE:g} and 1, such as 0.75, 0.875, 1, not {text!r}."
        ]
    if sides[-1] != 1:
        return [f"progressive_resize must end with 1, since the network is used at the whole size, not with {sides[-1]:g}."]
    return []
