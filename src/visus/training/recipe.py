"""Every choice of a training in one frozen value.

This file knows which settings exist, what they mean, and how an open one (``None``) is settled from the data. It must not know how a
training is carried out. Each field explains itself: ``describe`` is shown by ``--help`` and written beside the value in ``recipe.yaml``.
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
from visus.files import read_text

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "bfloat16", "float32")
MANY_ITEMS = 20_000


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
      - unknown optimizer 'sdg'. Did you mean 'sgd'? Known: adamw, sgd.
      - label_smoothing must be between 0 and 0.9, not 2.
    """

    epochs: int | None = _setting(
        None, "times that the training data is gone through; open: from the number of items", low=1
    )
    batch_size: int | None = _setting(None, "items in one step; open: from the number of items", low=1)
    optimizer: str = _setting("adamw", "adamw or sgd (Nesterov momentum)", known=OPTIMIZERS)
    learning_rate: float | None = _setting(
        None, "highest learning rate; open: from optimizer and batch size", low=1e-12, high=100.0
    )
    momentum: float = _setting(0.9, "momentum of sgd, first beta of adamw", low=0.0, high=0.9999)
    weight_decay: float | None = _setting(
        None,
        "decay of weights, never of biases and norms; open: from optimizer and number of items",
        low=0.0,
        high=10.0,
    )
    schedule: str = _setting(
        "linear", "fall of the learning rate after its rise: linear or cosine, to zero", known=SCHEDULES
    )
    warmup: float = _setting(0.2, "share of the training in which the learning rate rises", low=0.0, high=0.9)
    label_smoothing: float = _setting(0.1, "probability spread over all classes in the target", low=0.0, high=0.9)
    clip_norm: float | None = _setting(None, "largest norm of the whole gradient; open: none", low=1e-6)
    averaging: float = _setting(
        0.998, "decay of the averaged weights, which are the ones scored and kept; 0 for none", low=0.0, high=0.99999
    )
    class_weights: str = _setting(
        "none", "weights of the classes in the loss: none, or balanced by their numbers", known=CLASS_WEIGHTS
    )
    flip: bool | None = _setting(None, "mirror half of the items left to right; open: for colour pictures and volumes")
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
        "side of the box that is blanked, as a fraction of each axis; open: 0.4 for fewer than 20,000 items, 0.3 beside a zoom, else none",
        low=0.0,
        high=0.9,
    )
    patience: int | None = _setting(
        None, "epochs without a better validation accuracy after which to stop; open: never", low=1
    )
    time_limit_s: float | None = _setting(
        None, "seconds of training after which to be done; the schedule ends with them", low=1.0
    )
    checkpoint_every_s: float = _setting(30.0, "seconds between checkpoints inside an epoch", low=0.0)
    precision: str = _setting("auto", "number format of the arithmetic: auto, bfloat16 or float32", known=PRECISIONS)
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N or mps")
    seed: int = _setting(0, "everything random follows from it", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        mistakes = [mistake for name in FIELDS for mistake in _mistakes(self, name)]
        if mistakes:
            raise RecipeError(joined(mistakes))

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other settings.

        Raises:
            RecipeError: a name that does not exist, or a value that cannot be used.
        """
        unknown = [name for name in changes if name not in FIELDS]
        if unknown:
            raise RecipeError(joined([unknown_name("setting", name, FIELDS) for name in unknown]))
        return dataclasses.replace(self, **changes)

    def settled(self, *, num_items: int, input_shape: tuple[int, ...], is_colour: bool, is_varied: bool) -> Recipe:
        """The same recipe with every open setting decided; a batch is never larger than the training split.

        Args:
            num_items: number of training items.
            input_shape: (channels, *spatial).
            is_colour: pictures of three channels.
            is_varied: picture files of many different sizes, as a camera or a collection gives them.
        """
        batch_size = min(self.batch_size or default_batch_size(num_items), num_items)
        zoom = self.zoom if self.zoom is not None else (0.4 if is_varied else 0.0)
        is_small = num_items < MANY_ITEMS
        decays = {"sgd": 5e-4, "adamw": 0.5 if is_small else 0.2}
        rates = {"sgd": 0.1 * batch_size / 64, "adamw": 0.002 * math.sqrt(batch_size / 64)}
        return self.replace(
            epochs=self.epochs or default_epochs(num_items, is_zoomed=bool(zoom)),
            batch_size=batch_size,
            learning_rate=self.learning_rate or round(min(rates[self.optimizer], 0.4), 6),
            weight_decay=self.weight_decay if self.weight_decay is not None else decays[self.optimizer],
            flip=self.flip if self.flip is not None else is_colour or len(input_shape) == 4,
            zoom=zoom,
            shift=self.shift if self.shift is not None else (0.1 if is_varied else 0.05),
            cutout=self.cutout if self.cutout is not None else (0.0 if not is_small else 0.3 if zoom else 0.4),
        )

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


def default_batch_size(num_items: int) -> int:
    """64 for small sets, 128 from 20,000 items on: steps stay many enough to converge within few epochs."""
    return 64 if num_items < MANY_ITEMS else 128


def default_epochs(num_items: int, *, is_zoomed: bool = False) -> int:
    """``1500 / sqrt(num_items)``, at most 80 and at least 30, from 20,000 items on at least 11: small sets are seen more often.

    Where pictures are enlarged at random it is two fifths more, since no picture is then seen twice in the same way.

    >>> [default_epochs(number) for number in (200, 1_500, 7_200, 58_000)]
    [80, 39, 30, 11]
    """
    least = 30 if num_items < MANY_ITEMS else 11
    epochs = max(least, min(80, round(1500 / math.sqrt(num_items))))
    return round(1.4 * epochs) if is_zoomed else epochs


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
    low, high = rule["low"], rule["high"]
    if wanted in (int, float) and not (
        (low is None or value >= low) and (high is None or value <= high) and math.isfinite(value)
    ):
        if high is None:
            return [f"{name} must be at least {low:g}, not {value:g}."]
        return [f"{name} must be between {low:g} and {high:g}, not {value:g}."]
    return []
