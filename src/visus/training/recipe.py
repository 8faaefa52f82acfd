"""``Recipe``: every setting of a training, with its meaning and its range.

``training.resolve`` decides each setting that is ``None``. ``--help`` prints the ``describe`` text of each field, and ``recipe.yaml`` holds it as a
comment next to the value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from visus.data.policy_text import MAX_MAGNITUDE, MAX_OPERATIONS, read_policy
from visus.errors import RecipeError, UsageError, closest_name, join_messages, unknown_name
from visus.evaluation.metric_names import METRIC_NAMES
from visus.evaluation.test_time_augmentation import VIEWS
from visus.files import read_text
from visus.other_libraries import ARGUMENTS, SETTINGS, device_of
from visus.own_callables import NAME, FunctionName
from visus.training.update_rules import UPDATE_RULES
from visus.units import read_duration

OPTIMIZERS = tuple(sorted({*UPDATE_RULES, "muon"}))
SCHEDULES = ("cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "bfloat16", "float16", "float32")
CONVOLUTIONS = ("auto", "pytorch")
FLIPS = ("alternating", "none", "random")
NORM_STATISTICS = ("batch", "stored")
SAMPLINGS = ("balanced", "shuffled")
MIN_SIDE = 0.25
OPTIMIZER_SETTINGS = (
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
"""Settings whose good values depend on the optimizer."""


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
    """A field of ``Recipe`` with the metadata from which help, documents and ``recipe.yaml`` are generated.

    Args:
        default: None if the data, the network and the starting weights decide.
        describe: meaning and default, for people.
        group: heading in the help: Training, Augmentation or Machine.
        option: long command-line option; default: the field's name with dashes.
        short: short command-line option; default: none.
        is_basic: whether the short help lists it.
        low, high: smallest and largest allowed value.
        known: allowed words.
    """
    facts = {"describe": describe, "group": group, "option": option, "short": short, "is_basic": is_basic}
    return field(default=default, metadata={**facts, "low": low, "high": high, "known": known})


_Class = TypeVar("_Class")


def _refusing_unknown(kind: type[_Class]) -> type[_Class]:
    """The class; an unknown name at its construction is a ``RecipeError``."""
    construct = kind.__init__

    @functools.wraps(construct)
    def refuse_or_construct(self: Any, *given: Any, **settings: Any) -> None:
        _refuse_unknown(settings)
        construct(self, *given, **settings)

    kind.__init__ = refuse_or_construct  # type: ignore[method-assign]
    return kind


@_refusing_unknown
@dataclass(frozen=True, repr=False)
class Recipe:
    """The settings that a person asks for. ``resolve`` decides those that are None when the training starts.

    Raises:
        RecipeError: at construction; one error lists all invalid settings.

    >>> Recipe(epochs=3, learning_rate=0.01)
    Recipe(epochs=3, learning_rate=0.01)
    >>> Recipe(optimizer="sdg", label_smoothing=2)
    Traceback (most recent call last):
    visus.errors.RecipeError: 2 mistakes:
      - unknown optimizer 'sdg'. Did you mean 'sgd'? Known: adamw, muon, sgd.
      - label_smoothing must be between 0 and 0.9, not 2.
    """

    epochs: int | None = _setting(
        None,
        "passes over the training data; with pretrained weights, 0 fits the head alone; default: from the number of samples, more for small gray images",
        low=0,
        is_basic=True,
    )
    batch_size: int | None = _setting(
        None, "samples per step; default: from the number of samples", low=1, short="-b", is_basic=True
    )
    optimizer: str | None = _setting(
        None,
        "muon (orthogonalized steps for filters, Adam for the rest), adamw or sgd (Nesterov momentum); default: muon for a network with convolutions, else adamw",
        known=OPTIMIZERS,
    )
    learning_rate: float | None = _setting(
        None,
        "highest learning rate (with muon: of the filters); default: from optimizer and batch size",
        low=1e-12,
        high=100.0,
        option="--lr",
        is_basic=True,
    )
    head_lr: float | None = _setting(
        None,
        "highest learning rate of the last layer's weights, times the number of its inputs; muon only; default: from the batch size",
        low=1e-12,
        high=1000.0,
        option="--lr-head",
    )
    bias_lr: float | None = _setting(
        None,
        "highest learning rate of biases; muon only; default: from the batch size",
        low=1e-12,
        high=100.0,
        option="--lr-bias",
    )
    norm_lr: float | None = _setting(
        None,
        "highest learning rate of the weights of norms; muon only; default: a tenth of bias_lr",
        low=1e-12,
        high=100.0,
        option="--lr-norm",
    )
    matrix_lr: float | None = _setting(
        None,
        "highest learning rate of the matrices that AdamW updates, such as embeddings and attention projections; muon only; default: that of adamw",
        low=1e-12,
        high=100.0,
        option="--lr-matrix",
    )
    layer_decay: float | None = _setting(
        None,
        "learning rate of the first layer as a fraction of that of the last, with a geometric progression between; default: 1, or less for fine-tuning",
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
        "weight decay, never of biases, norms or, with muon, filters before a norm; default: from optimizer and number of samples",
        low=0.0,
        high=10.0,
    )
    schedule: str = _setting(
        "linear",
        "learning-rate decay after warm-up, down to min_lr_ratio: linear or cosine",
        known=SCHEDULES,
    )
    warmup: float | None = _setting(
        None, "warm-up, as a fraction of the training; default: 0 for muon, else 0.2", low=0.0, high=0.9
    )
    min_lr_ratio: float | None = _setting(
        None,
        "final learning rate as a fraction of the highest; default: 0.05 with final_ema, else 0",
        low=0.0,
        high=1.0,
    )
    label_smoothing: float | None = _setting(
        None,
        "label smoothing: probability spread over all classes in the target; default: 0.2 for muon, else 0.1",
        low=0.0,
        high=0.9,
    )
    clip_norm: float | None = _setting(
        None, "gradient clipping: largest norm of the whole gradient; default: none", low=1e-6
    )
    ema_decay: float | None = _setting(
        None,
        "decay of the weights' exponential moving average (EMA), which is evaluated and kept; 0: no average; default: 0 for muon, else 0.998",
        low=0.0,
        high=0.99999,
    )
    final_ema: float | None = _setting(
        None,
        "horizon of a weight average at the end of the training, as a fraction of the training; 0: no average; default: 0.03 for muon without ema_decay, else 0",
        low=0.0,
        high=0.3,
    )
    loss: str | None = _setting(
        None,
        "your own loss, a function of outputs (N, K) and labels that returns the loss of each sample (N,) or their mean, as package.module:function; default: cross-entropy; binary cross-entropy for multi-label, Huber loss of standardized targets for regression",
    )
    select: str | None = _setting(
        None,
        "metric of the validation set that decides which epoch is kept and when patience ends: accuracy, balanced_accuracy, top5_accuracy, average_precision, auroc, macro_f1, log_loss; exact_match (multi-label); mae, rmse, r2 (regression); or your own as package.module:function of outputs and labels, of which more is better; default: accuracy, for multi-label average_precision, for regression mae",
    )
    class_weights: str = _setting(
        "none", "class weights in the loss: none, or balanced (inverse to the class frequencies)", known=CLASS_WEIGHTS
    )
    sampling: str = _setting(
        "shuffled",
        "sampling of training data: shuffled (each sample at most once per epoch; an incomplete last batch is left out), or balanced (each class equally often)",
        known=SAMPLINGS,
    )
    flip: str | None = _setting(
        None,
        "horizontal flip: none, random (half of the samples), or alternating (every second epoch); default: alternating if the training samples show that mirroring keeps the class, or if they leave it open for color images and volumes; else none",
        known=FLIPS,
        group="Augmentation",
    )
    translate: float | None = _setting(
        None,
        "largest translation along each axis, as a fraction of its length; default: 0.1 for photos of many sizes, else 0.05",
        low=0.0,
        high=0.5,
        group="Augmentation",
    )
    zoom: float | None = _setting(
        None,
        "largest zoom, as the fraction that is cropped away; default: 0.4 for photos of many sizes (0.2 in fine-tuning), else 0",
        low=0.0,
        high=0.9,
        group="Augmentation",
    )
    cutout: float | None = _setting(
        None,
        "side of the box that cutout blanks, as a fraction of each axis; default for fewer than 20,000 samples: 0.4, or 0.3 with zoom or muon; else 0",
        low=0.0,
        high=0.9,
        group="Augmentation",
    )
    vertical_flip: str = _setting(
        "none",
        "vertical flip of images and volumes: none, or random (half of the samples); default: none, since most photos have a top",
        known=("none", "random"),
        group="Augmentation",
    )
    rotate90: str = _setting(
        "none",
        "quarter turns of square samples: none, or random (by 0, 90, 180 or 270 degrees)",
        known=("none", "random"),
        group="Augmentation",
    )
    rotate: float = _setting(
        0.0, "largest rotation in degrees, in both directions; 0: none", low=0.0, high=180.0, group="Augmentation"
    )
    crop: float = _setting(
        0.0,
        "random resized crop: smallest area of the window that is cut out, as a fraction of the image, such as 0.35; photos are then stored at up to twice the size, so that a window keeps their detail; 0: none",
        low=0.0,
        high=1.0,
        group="Augmentation",
    )
    color: float | None = _setting(
        None,
        "color jitter: largest change of brightness, contrast and saturation, as a fraction; the hue turns by up to a tenth of it; 0: none; default: 0.3 for new networks on fewer than 20,000 color photos of many sizes with classes, else 0",
        low=0.0,
        high=1.0,
        group="Augmentation",
    )
    policy: str | None = _setting(
        None,
        "random policy after RandAugment: operations for each image x their magnitude (0 to 30), such as 2x9; needs kornia; default: none",
        group="Augmentation",
    )
    mixup: float = _setting(
        0.0,
        "mixup, which blends samples and their labels in pairs by shares from Beta(mixup, mixup), such as 0.2; 0: none",
        low=0.0,
        high=100.0,
        group="Augmentation",
    )
    cutmix: float = _setting(
        0.0,
        "CutMix, which replaces a box of a sample with that of another by shares from Beta(cutmix, cutmix), such as 1; with mixup, each batch uses one of them; 0: none",
        low=0.0,
        high=100.0,
        group="Augmentation",
    )
    transform: str | None = _setting(
        None,
        "own transform of whole batches, as package.module:callable (in Python also the function itself): it gets (samples, channels, *axes) as float32 from 0 to 1, and returns the same shape; default: none",
        group="Augmentation",
    )
    progressive_resize: str | None = _setting(
        None,
        "input sizes over the course of the training, as fractions of the full side, for equally long phases, such as 0.75, 0.875, 1; default: 0.75, 0.75, 0.875, 0.875, 1 with muon if the network accepts any size; else 1",
        group="Augmentation",
    )
    tta: str | None = _setting(
        None,
        "test-time augmentation (TTA), which averages the predictions for mirrored (flip) or shifted (shift) copies of a sample: none, flip, shift, flip+shift, or one of these after unsure: for samples whose top two probabilities are close; default: unsure: with the augmentations of the training",
        known=VIEWS,
        group="Augmentation",
    )
    frozen: str | None = _setting(
        None,
        "layers that are not trained, as paths in which * stands for any letters, such as stage1, stage2.*; default: none, also in fine-tuning, where layer_decay slows the first layers",
    )
    norm_statistics: str | None = _setting(
        None,
        "statistics that batch norms use in training: batch, or stored (which then never change); default: stored for pretrained weights, else batch",
        known=NORM_STATISTICS,
    )
    patience: int | None = _setting(
        None,
        "early stopping: ends the training after so many epochs without a better validation score (see select); default: never",
        low=1,
        is_basic=True,
    )
    time_limit_s: float | None = _setting(
        None,
        "time limit of the whole command, from its start to its report, in seconds or as 90s, 5m, 1h30m; the learning-rate schedule ends with it; without --model it also bounds the network's width; with --resume it counts from now",
        low=1.0,
        option="--time-limit",
        is_basic=True,
    )
    checkpoint_every_s: float = _setting(30.0, "seconds between checkpoints within an epoch", low=0.0, group="Machine")
    precision: str = _setting(
        "auto",
        "dtype of the arithmetic: auto, bfloat16, float16 (with scaled gradients) or float32",
        known=PRECISIONS,
        group="Machine",
    )
    accumulate: int | None = _setting(
        None,
        "gradient accumulation: number of slices in which each step is computed, which takes less memory; batch norms use the statistics of a slice; default: 1, or as many as the memory needs",
        low=1,
        group="Machine",
    )
    kernels: str = _setting(
        "auto",
        "convolution kernels: auto (the fastest for each shape on this machine) or pytorch (PyTorch's only)",
        known=CONVOLUTIONS,
        group="Machine",
    )
    device: str = _setting("auto", "device: auto, cpu, cuda, cuda:N or mps", group="Machine", is_basic=True)
    seed: int = _setting(
        0,
        "seed of everything random in the training; the split has its own seed",
        low=0,
        high=2**31 - 1,
        is_basic=True,
    )

    def __post_init__(self) -> None:
        for name in ("loss", "select", "transform"):
            if callable(getattr(self, name)) and not isinstance(getattr(self, name), type):
                object.__setattr__(self, name, FunctionName.of(getattr(self, name)))
        if isinstance(self.time_limit_s, str):
            with contextlib.suppress(UsageError):  # then it is refused below
                object.__setattr__(self, "time_limit_s", read_duration(self.time_limit_s))
        if isinstance(self.frozen, (list, tuple)) and all(isinstance(path, str) for path in self.frozen):
            object.__setattr__(self, "frozen", ", ".join(self.frozen))
        if isinstance(self.progressive_resize, (int, float)) and not isinstance(self.progressive_resize, bool):
            object.__setattr__(self, "progressive_resize", f"{self.progressive_resize:g}")
        mistakes = [mistake for name in FIELDS for mistake in _mistakes(self, name)]
        if mistakes:
            raise RecipeError(join_messages(mistakes))

    def __repr__(self) -> str:
        named = ((name, getattr(self, name)) for name in FIELDS)
        given = [f"{name}={value!r}" for name, value in named if value != FIELDS[name].default]
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def sides(self) -> tuple[float, ...]:
        """Input sizes of the equally long phases of the training, as fractions of the full side; (1.0,) if undecided.

        >>> Recipe(progressive_resize="0.75, 1").sides
        (0.75, 1.0)
        """
        return tuple(float(word) for word in self.progressive_resize.split(",")) if self.progressive_resize else (1.0,)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other settings.

        Raises:
            RecipeError: unknown name, or invalid value.

        >>> Recipe(epochs=3).replace(seed=1)
        Recipe(epochs=3, seed=1)
        """
        _refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def override(self, **settings: Any) -> tuple[Recipe, tuple[str, ...]]:
        """A copy with ``settings``. Other settings whose values depend on a replaced one become None again.

        Returns:
            The copy, and the names of the settings that became None.

        Raises:
            RecipeError: unknown name, or invalid value.

        >>> changed, reset = Recipe(optimizer="muon", head_lr=1.0, final_ema=0.03).override(ema_decay=0.99)
        >>> changed.final_ema, reset
        (None, ('final_ema',))
        """
        dependent: set[str] = set()
        if settings.get("optimizer", self.optimizer) != self.optimizer and self.optimizer is not None:
            dependent |= set(OPTIMIZER_SETTINGS)
        if settings.get("ema_decay"):
            dependent.add("final_ema")
        if settings.get("final_ema"):
            dependent.add("ema_decay")
        reset = tuple(name for name in FIELDS if name in dependent - set(settings) and getattr(self, name) is not None)
        return self.replace(**dict.fromkeys(reset), **settings), reset

    def to_yaml(self) -> str:
        """YAML with one line per setting and its meaning as a comment; ``from_yaml`` reads it back.

        >>> Recipe(epochs=3).to_yaml().splitlines()[0].partition("  #")[0]
        'epochs: 3'
        """
        import yaml

        lines = []
        for name, rule in FIELDS.items():
            value = (
                yaml.safe_dump(plain(getattr(self, name)), default_flow_style=True, width=1000).removesuffix("...\n").strip()
            )
            lines.append(f"{name}: {value}  # {rule.metadata['describe']}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "recipe") -> Recipe:
        """A recipe from YAML text; missing settings have their defaults.

        Raises:
            RecipeError: not a table of settings, unknown names, or invalid values.

        >>> Recipe.from_yaml("epochs: 3")
        Recipe(epochs=3)
        """
        from visus.training.yaml_text import read_yaml

        try:
            settings = read_yaml(text) or {}
        except ValueError as error:
            raise RecipeError(f"this is not YAML: {error}", where=where) from error
        if not isinstance(settings, dict):
            raise RecipeError(
                f"a recipe is a table of settings, such as 'epochs: 20', not {type(settings).__name__}.", where=where
            )
        try:
            return cls().replace(**{str(name): _as_number(value) for name, value in settings.items()})
        except RecipeError as error:
            raise error.within(where) from None

    @classmethod
    def read(cls, file: str | Path) -> Recipe:
        """A recipe from a YAML file.

        Raises:
            UsageError: the file cannot be read.
            RecipeError: the content is invalid.

        >>> Recipe.read(run.folder / "recipe.yaml").epochs
        6
        """
        if (Path(file) / "recipe.yaml").is_file():
            raise UsageError("this is a folder, and a recipe is a file. Give the recipe.yaml in it.", where=str(file))
        return cls.from_yaml(read_text(Path(file)), where=str(file))


def plain(value: Any) -> Any:
    """A value as YAML writes it: the name of a function as plain text."""
    return str(value) if isinstance(value, str) else value


def _as_number(value: Any) -> Any:
    """Parse a number that YAML reads as text, such as 1e-3; return any other value unchanged."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


FIELDS: dict[str, dataclasses.Field[Any]] = {rule.name: rule for rule in dataclasses.fields(Recipe)}
CHANGEABLE_ON_RESUME = ("device", "time_limit_s", "checkpoint_every_s")
"""The settings that may change in a resumed training."""
_TYPES = get_type_hints(Recipe)
ELSEWHERE = {
    **dict.fromkeys(
        ("img_size", "channels", "resize_mode", "normalize", "labels", "split", "split_seed", "val", "test", "num_workers"),
        "visus.open_data",
    ),
    **dict.fromkeys(
        ("data", "network", "pretrained", "weights", "output", "name", "track", "on_event", "progress"), "visus.train"
    ),
}
"""What is no setting, and the function that has it as an argument."""
_OWN = 'See "Own augmentation or loss" in the documentation for the ways around.'
NOT_SETTABLE = {
    **dict.fromkeys(
        ("loss_func", "loss_fn", "criterion"), "the setting is loss, as mylosses:focal (module, colon, function)."
    ),
    **dict.fromkeys(
        ("hsv_h", "hsv_s", "hsv_v"),
        "color is one number for brightness, contrast and saturation, such as color=0.3; the hue turns by up to a tenth of it.",
    ),
    **dict.fromkeys(
        ("augment", "augmentation"),
        "training samples are augmented by default; flip, translate, zoom, cutout, rotate, color and policy set how.",
    ),
    "dropout": "dropout is a layer of the network, as in 'globalpool, dropout(0.2), linear(classes)'.",
}
"""What no setting and no option changes, and the way around."""
OTHER_WAYS = {
    "time": "time_limit_s is the limit, in seconds or as '30m' or '1h30m'.",
    **dict.fromkeys(("half", "amp"), "precision is the setting: 'auto', 'bfloat16', 'float16' or 'float32'."),
    "cos_lr": "schedule is the setting. Write schedule='cosine'.",
    "callbacks": "loop over the events of visus.Training and answer them, or give on_event to visus.train.",
    "verbose": "progress=False of visus.train shows nothing.",
    **dict.fromkeys(
        ("sample_weight", "sample_weights"),
        "samples have no weights of their own. class_weights='balanced' or sampling='balanced' weighs classes.",
    ),
    **dict.fromkeys(
        ("metrics", "metric"), "select is the metric that decides which epoch is kept; run.evaluate() has all of them."
    ),
    **NOT_SETTABLE,
}
"""What is no setting, and the way to it in Python."""


def _refuse_unknown(settings: dict[str, Any]) -> None:
    unknown = [name for name in settings if name not in FIELDS]
    if not unknown:
        return
    answers = [_answer(name) for name in unknown]
    mistakes = [answer or f"unknown setting {name!r}.{_guess(name)}" for name, answer in zip(unknown, answers, strict=True)]
    known = [] if all(answers) else [f"Known: {', '.join(sorted(FIELDS))}."]
    gap = "\n" if len(mistakes) > 1 else " "
    raise RecipeError(gap.join([join_messages(mistakes), *known]))


def _answer(name: str) -> str:
    """The message for a name that is known, but is no setting; empty for other names."""
    if name in ELSEWHERE:
        return f"a recipe has no setting {name!r}: {name} is an argument of {ELSEWHERE[name]}."
    if name in OTHER_WAYS:
        return f"a recipe has no setting {name!r}: {OTHER_WAYS[name]}"
    if name in SETTINGS:
        return f"unknown setting {name!r}. Did you mean {SETTINGS[name]!r}?"
    if meant := next((each for each in ARGUMENTS.get(name, ()) if each in ELSEWHERE), None):
        return f"a recipe has no setting {name!r}: {meant} is an argument of {ELSEWHERE[meant]}."
    return ""


def _guess(name: str) -> str:
    guess = closest_name(name, sorted(FIELDS))
    return f" Did you mean {guess!r}?" if guess else ""


def _described() -> str:
    """The docstring of ``Recipe`` with the meaning of every setting."""
    summary, raises, others = inspect.cleandoc(Recipe.__doc__ or "").partition("Raises:\n")
    lines = [
        textwrap.fill(
            f"{name}: {rule.metadata['describe']}.",
            100,
            initial_indent="    ",
            subsequent_indent="        ",
            break_on_hyphens=False,
        )
        for name, rule in FIELDS.items()
    ]
    return "\n".join([f"{summary}Args:", *lines, "", f"{raises}{others}"])


Recipe.__doc__ = _described()


def _mistakes(recipe: Recipe, name: str) -> list[str]:
    """Error messages for one setting; empty if it is valid."""
    value, rule, kind = getattr(recipe, name), FIELDS[name].metadata, _TYPES[name]
    kinds = get_args(kind) or (kind,)
    if value is None and type(None) in kinds:
        return []
    wanted = next(each for each in kinds if each is not type(None))
    if isinstance(value, type) and name in ("loss", "select", "transform"):
        return [f"{name} must be a function, and {value.__name__} is a class. Make an instance: {value.__name__}(...)."]
    if rule["known"] and not isinstance(value, str):
        words = ", ".join(rule["known"])
        hint = " Did you mean 'none'?" if value is False and "none" in rule["known"] else ""
        if name == "class_weights" and not isinstance(value, bool):
            hint = " For other weights, give a loss of your own: loss=torch.nn.CrossEntropyLoss(weight=...), or a function of a module."
        hint = hint or _flip_hint(name, value)
        return [f"{name} must be one of the words {words}, not {value!r}.{hint}"]
    if name == "frozen" and not isinstance(value, str):
        return [
            f'frozen must be the paths of layers, such as "stage1, stage2.*", or a list of them, not {value!r}; visus.summary lists the paths.'
        ]
    if name == "time_limit_s" and isinstance(value, str):
        return [f"time_limit_s must be a number of seconds, or a duration such as 90s, 5m or 1h30m, not {value!r}."]
    if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (int, float) if wanted is float else wanted):
        kind_of = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        hint = f" Did you mean {device_of(value)!r}?" if name == "device" and device_of(value) != value else ""
        return [f"{name} must be {kind_of[wanted]}, not {value!r}.{hint}"]
    if rule["known"] and value not in rule["known"]:
        return [f"{unknown_name(name, str(value), rule['known'])}{_flip_hint(name, value)}"]
    if name == "progressive_resize":
        return _progressive_resize_mistakes(str(value))
    if name == "loss" and not NAME.fullmatch(str(value)):
        return [f"loss must be the name of a function, such as mylosses:focal (module, colon, function), not {value!r}."]
    if name == "select" and value not in METRIC_NAMES and not NAME.fullmatch(str(value)):
        return [unknown_name("metric", str(value), sorted(METRIC_NAMES))]
    if name == "policy" and value and read_policy(str(value)) is None:
        return [
            f"policy must be a number of operations (1 to {MAX_OPERATIONS}) x a magnitude (0 to {MAX_MAGNITUDE}), such as 2x9, not {value!r}."
        ]
    if name == "transform" and value and not NAME.fullmatch(str(value)):
        return [f"transform must be the name of a function, package.module:callable, not {str(value)!r}."]
    low, high = rule["low"], rule["high"]
    if wanted in (int, float) and not (
        (low is None or value >= low) and (high is None or value <= high) and math.isfinite(value)
    ):
        if high is None:
            return [f"{name} must be at least {low:g}, not {value:g}."]
        return [f"{name} must be between {low:g} and {high:g}, not {value:g}."]
    return []


def _flip_hint(name: str, value: object) -> str:
    """What a number for a flip means, as other libraries write it; empty for other settings and values."""
    is_number = isinstance(value, (int, float)) or re.fullmatch(r"\d*\.?\d+", str(value)) is not None
    if name not in ("flip", "vertical_flip") or not is_number or isinstance(value, bool):
        return ""
    return " Write 'none' for 0." if float(str(value)) == 0 else " 'random' flips half of the samples."


def _progressive_resize_mistakes(text: str) -> list[str]:
    """Error messages for the sizes of progressive resizing."""
    try:
        sides = [float(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if not sides or not all(MIN_SIDE <= side <= 1 for side in sides):
        return [
            f"progressive_resize must be fractions of the side between {MIN_SIDE:g} and 1, such as 0.75, 0.875, 1, not {text!r}."
        ]
    if sides[-1] != 1:
        return [f"progressive_resize must end with 1, since the network is used at full size, not with {sides[-1]:g}."]
    return []
