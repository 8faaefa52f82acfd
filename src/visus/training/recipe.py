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

import yaml

from visus.errors import RecipeError, joined, unknown_name
from visus.evaluation.views import VIEWS
from visus.files import read_text

OPTIMIZERS = ("adamw", "muon", "sgd")
SCHEDULES = ("cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "bfloat16", "float32")
CONVOLUTIONS = ("auto", "pytorch")
FLIPS = ("alternating", "none", "random")
NORM_STATISTICS = ("batch", "stored")
SAMPLINGS = ("balanced", "shuffled")
SMALLEST_SIDE = 0.25
OF_THE_OPTIMIZER = (
    *("learning_rate", "head_rate", "bias_rate", "gain_rate", "matrix_rate", "layer_decay", "momentum", "weight_decay"),
    *("warmup", "floor", "label_smoothing", "averaging", "tail", "curriculum", "cutout", "epochs", "batch_size"),
)
"""Settings whose values suit one optimizer."""


def _setting(
    default: Any, describe: str, *, low: float | None = None, high: float | None = None, known: tuple[str, ...] = ()
) -> Any:
    """A field with its meaning, its range and its known words."""
    return field(default=default, metadata={"describe": describe, "low": low, "high": high, "known": known})


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
        "times that the training data is gone through; 0 with weights that know something fits their head alone; open: from the number of items, more often for small grey pictures",
        low=0,
    )
    batch_size: int | None = _setting(None, "items in one step; open: from the number of items", low=1)
    optimizer: str | None = _setting(
        None,
        "muon (orthogonalised steps for filters, Adam for the rest), adamw or sgd (Nesterov momentum); open: muon for a network with convolutions, else adamw",
        known=OPTIMIZERS,
    )
    learning_rate: float | None = _setting(
        None, "highest learning rate, with muon that of filters; open: from optimizer and batch size", low=1e-12, high=100.0
    )
    head_rate: float | None = _setting(
        None,
        "highest rate of the last layer's weights times the number of its inputs, with muon alone; open: from the batch size",
        low=1e-12,
        high=1000.0,
    )
    bias_rate: float | None = _setting(
        None, "highest rate of biases, with muon alone; open: from the batch size", low=1e-12, high=100.0
    )
    gain_rate: float | None = _setting(
        None, "highest rate of the gains of norms, with muon alone; open: a tenth of bias_rate", low=1e-12, high=100.0
    )
    matrix_rate: float | None = _setting(
        None,
        "highest rate of matrices that muon does not know, such as embeddings and attention projections, which AdamW moves; with muon alone; default: adamw's own rate",
        low=1e-12,
        high=100.0,
    )
    layer_decay: float | None = _setting(
        None,
        "learning rate of the first layer as a share of that of the last; layers between them have rates between; default: 1, or less for fine-tuning",
        low=1e-6,
        high=1.0,
    )
    momentum: float | None = _setting(
        None,
        "momentum of muon and sgd, first beta of adamw; open: for muon from the batch size, else 0.9",
        low=0.0,
        high=0.9999,
    )
    weight_decay: float | None = _setting(
        None,
        "decay of weights, never of biases, norms, or filters that a norm follows in muon; open: from optimizer and number of items",
        low=0.0,
        high=10.0,
    )
    schedule: str = _setting(
        "linear", "fall of the learning rate after its rise: linear or cosine, to its floor", known=SCHEDULES
    )
    warmup: float | None = _setting(
        None, "share of the training in which the learning rate rises; open: 0 for muon, else 0.2", low=0.0, high=0.9
    )
    floor: float | None = _setting(
        None,
        "share of the highest learning rate that is left at the end; open: 0.05 where the tail is averaged, else 0",
        low=0.0,
        high=1.0,
    )
    label_smoothing: float | None = _setting(
        None, "probability spread over all classes in the target; open: 0.2 for muon, else 0.1", low=0.0, high=0.9
    )
    clip_norm: float | None = _setting(None, "largest norm of the whole gradient; open: none", low=1e-6)
    averaging: float | None = _setting(
        None,
        "decay of the averaged weights, which are the ones scored and kept; 0 for none; open: none for muon, else 0.998",
        low=0.0,
        high=0.99999,
    )
    tail: float | None = _setting(
        None,
        "horizon, as a share of the training, over which the last weights are averaged; 0 for no such average; open: 0.03 for muon without averaging",
        low=0.0,
        high=0.3,
    )
    class_weights: str = _setting(
        "none", "weights of the classes in the loss: none, or balanced by their numbers", known=CLASS_WEIGHTS
    )
    sampling: str = _setting(
        "shuffled",
        "order of the training samples: shuffled (each once in an epoch), or balanced (each class equally often)",
        known=SAMPLINGS,
    )
    flip: str | None = _setting(
        None,
        "mirror items left to right: none, random (half of them), or alternating (each in every second epoch); open: alternating where the items show that mirroring keeps their class, and for colour pictures and volumes that cannot tell; else none",
        known=FLIPS,
    )
    shift: float | None = _setting(
        None,
        "largest shift along each axis, as a fraction of its length; open: 0.1 for photos of many sizes, else 0.05",
        low=0.0,
        high=0.5,
    )
    zoom: float | None = _setting(
        None, "largest enlargement, as a fraction cut away; open: for photos of many sizes", low=0.0, high=0.9
    )
    cutout: float | None = _setting(
        None,
        "side of the box that is blanked, as a fraction of each axis; open: 0.4 for fewer than 20,000 items, 0.3 beside a zoom or with muon, else none",
        low=0.0,
        high=0.9,
    )
    curriculum: str | None = _setting(
        None,
        "sides in equal shares of the training, as parts of the whole side, such as 0.75, 0.875, 1; open: 0.75 and 0.875 for two fifths each, then 1, for networks that take any size, else 1",
    )
    tta: str | None = _setting(
        None,
        "views of an item whose answers are averaged in use: none, flip, shift or flip+shift, or unsure: and one of these, for items that one view leaves unsure; open: unsure: and what training does",
        known=VIEWS,
    )
    frozen: str | None = _setting(
        None,
        "layers whose weights stay as the training finds them, by their paths with * for any letters, such as stage1, stage2.*; open: none, or the first stages of pretrained weights",
    )
    norm_statistics: str | None = _setting(
        None,
        "what batch norms go by in training: those of the batch, or the stored ones, which then stay; open: stored for pretrained weights, else batch",
        known=NORM_STATISTICS,
    )
    patience: int | None = _setting(
        None, "epochs without a better validation accuracy after which to stop; open: never", low=1
    )
    time_limit_s: float | None = _setting(
        None, "seconds of training after which to be done; the schedule ends with them", low=1.0
    )
    checkpoint_every_s: float = _setting(30.0, "seconds between checkpoints inside an epoch", low=0.0)
    precision: str = _setting("auto", "number format of the arithmetic: auto, bfloat16 or float32", known=PRECISIONS)
    convolutions: str = _setting(
        "auto",
        "who computes the steps' convolutions: auto, the fastest for each shape on this machine, or pytorch, its own kernels alone",
        known=CONVOLUTIONS,
    )
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N or mps")
    seed: int = _setting(
        0, "everything random in the training follows from it; the split has a seed of its own", low=0, high=2**31 - 1
    )

    def __post_init__(self) -> None:
        if isinstance(self.curriculum, (int, float)) and not isinstance(self.curriculum, bool):
            object.__setattr__(self, "curriculum", f"{self.curriculum:g}")
        mistakes = [mistake for name in FIELDS for mistake in _mistakes(self, name)]
        if mistakes:
            raise RecipeError(joined(mistakes))

    @property
    def sides(self) -> tuple[float, ...]:
        """Parts of the whole side at which items are seen, in equal shares of the training; (1.0,) where that is open.

        >>> Recipe(curriculum="0.75, 1").sides
        (0.75, 1.0)
        """
        return tuple(float(word) for word in self.curriculum.split(",")) if self.curriculum else (1.0,)

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

        >>> changed, opened = Recipe(optimizer="muon", head_rate=1.0, tail=0.03).overridden(averaging=0.99)
        >>> changed.tail, opened
        (None, ('tail',))
        """
        going: set[str] = set()
        if given.get("optimizer", self.optimizer) != self.optimizer and self.optimizer is not None:
            going |= set(OF_THE_OPTIMIZER)
        if given.get("averaging"):
            going.add("tail")
        if given.get("tail"):
            going.add("averaging")
        opened = tuple(name for name in FIELDS if name in going - set(given) and getattr(self, name) is not None)
        return self.replace(**dict.fromkeys(opened), **given), opened

    def to_yaml(self) -> str:
        """Every setting with its meaning beside it; ``from_yaml`` reads it back."""
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
    if name == "curriculum":
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
    """What is wrong with the sides of a curriculum."""
    try:
        sides = [float(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if not sides or not all(SMALLEST_SIDE <= side <= 1 for side in sides):
        return [
            f"curriculum must be parts of the side between {SMALLEST_SIDE:g} and 1, such as 0.75, 0.875, 1, not {text!r}."
        ]
    if sides[-1] != 1:
        return [f"curriculum must end with 1, since the network is used at the whole size, not with {sides[-1]:g}."]
    return []
