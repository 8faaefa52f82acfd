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
from visus.evaluation.views import STEPS_PER_SIDE, VIEWS
from visus.files import read_text

OPTIMIZERS = ("adamw", "muon", "sgd")
SCHEDULES = ("cosine", "linear")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "bfloat16", "float32")
CONVOLUTIONS = ("auto", "pytorch")
FLIPS = ("alternating", "none", "random")
NORM_STATISTICS = ("batch", "stored")
MANY_ITEMS = 20_000
SMALL_PX = 40
SMALLEST_SIDE = 0.25


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
        "times that the training data is gone through; open: from the number of items, more often for small grey pictures",
        low=1,
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
        if isinstance(self.flip, bool):  # as recipes said it before they could say alternating
            object.__setattr__(self, "flip", "random" if self.flip else "none")
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

    @property
    def begins_with_weights(self) -> bool:
        """Whether it keeps layers as they are, which means something only for a network that knows something already."""
        return bool(self.frozen) or self.norm_statistics == "stored"

    def replace(self, **changes: Any) -> Recipe:
        """A copy with other settings.

        Raises:
            RecipeError: a name that does not exist, or a value that cannot be used.
        """
        unknown = [name for name in changes if name not in FIELDS]
        if unknown:
            raise RecipeError(joined([unknown_name("setting", name, FIELDS) for name in unknown]))
        return dataclasses.replace(self, **changes)

    def settled(
        self,
        *,
        num_items: int,
        input_shape: tuple[int, ...],
        is_colour: bool,
        is_varied: bool,
        has_filters: bool = True,
        takes_any_size: bool = True,
        is_shuffled: bool = False,
    ) -> Recipe:
        """The same recipe with every open setting decided; a batch is never larger than the training split.

        Args:
            num_items: number of training items.
            input_shape: (channels, *spatial).
            is_colour: pictures of three channels.
            is_varied: picture files of many different sizes, as a camera or a collection gives them.
            has_filters: the network has convolutions.
            takes_any_size: the network takes items that are smaller.
            is_shuffled: the positions of every item are in one random order, so that moved or mirrored ones are no items.
        """
        optimizer = self.optimizer or ("muon" if has_filters else "adamw")
        is_muon = optimizer == "muon"
        batch_size = min(self.batch_size or default_batch_size(num_items, is_muon=is_muon), num_items)
        zoom = _or(self.zoom, 0.4 if is_varied else 0.0)
        is_small = num_items < MANY_ITEMS
        flip = self.flip or ("alternating" if is_colour or len(input_shape) == 4 else "none")
        shift = _or(self.shift, 0.1 if is_varied else 0.05)
        averaging = _or(self.averaging, 0.0 if is_muon else 0.998)
        tail = _or(self.tail, 0.03 if is_muon and not averaging else 0.0)
        decays = {"sgd": 5e-4, "adamw": 0.5 if is_small else 0.2, "muon": 0.05}
        return self.replace(
            epochs=self.epochs
            or default_epochs(
                num_items, is_zoomed=bool(zoom), is_muon=is_muon, is_small_and_grey=_is_small_and_grey(input_shape)
            ),
            batch_size=batch_size,
            optimizer=optimizer,
            **_settled_rates(self, optimizer, batch_size),
            weight_decay=_or(self.weight_decay, decays[optimizer]),
            warmup=_or(self.warmup, 0.0 if is_muon else 0.2),
            averaging=averaging,
            tail=tail,
            floor=_or(self.floor, 0.05 if tail else 0.0),
            label_smoothing=_or(self.label_smoothing, 0.2 if is_muon else 0.1),
            flip=flip,
            zoom=zoom,
            shift=shift,
            cutout=_or(self.cutout, 0.0 if not is_small else 0.3 if zoom or is_muon else 0.4),
            curriculum=self.curriculum or (CURRICULUM if takes_any_size and is_muon else "1"),
            tta=self.tta or ("none" if is_shuffled else _settled_views(flip, shift, input_shape[1:])),
            frozen=self.frozen or "",
            norm_statistics=self.norm_statistics or "batch",
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

        A whole recipe of a run that was trained before some settings existed keeps its meaning: they are then off.

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
        if set(EARLIER_SETTINGS) <= set(settings) and not set(LATER_SETTINGS) & set(settings):
            settings = LATER_SETTINGS | settings
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


FILTER_RATE = 0.16  # of muon, for batches of 2,000; Jordan has 0.24 there, and batches of 500 to 1,000 did better with less
HEAD_RATE, BIAS_RATE = 1.1, 0.14  # of the Adam beside it
CURRICULUM = "0.75, 0.75, 0.875, 0.875, 1"
LATER_SETTINGS = {
    "floor": 0.0,
    "tail": 0.0,
    "curriculum": "1",
    "tta": "none",
    "head_rate": None,
    "bias_rate": None,
    "gain_rate": None,
    "frozen": "",
    "norm_statistics": "batch",
    "convolutions": "pytorch",
}
"""Settings that came after the first version, with the values that mean what a training did before they were there."""
FIELDS: dict[str, dataclasses.Field[Any]] = {rule.name: rule for rule in dataclasses.fields(Recipe)}
_TYPES = get_type_hints(Recipe)
EARLIER_SETTINGS = tuple(name for name in FIELDS if name not in LATER_SETTINGS)


def _or(given: float | None, otherwise: float) -> float:
    """What was given, which may be 0."""
    return otherwise if given is None else given


def _settled_rates(recipe: Recipe, optimizer: str, batch_size: int) -> dict[str, float | None]:
    """Rates and momentum of a recipe; those of head, biases and gains stay open where the optimizer has one rate for all.

    Muon goes by Jordan 2024 (airbench94_muon) and by our own trials; smaller batches have smaller steps and remember more of them,
    both by the root of their size.
    """
    if optimizer == "muon":
        share = math.sqrt(batch_size / 2000)
        bias_rate = recipe.bias_rate or round(BIAS_RATE * min(share, 1.0), 6)
        return {
            "learning_rate": recipe.learning_rate or round(FILTER_RATE * min(share, 1.0), 6),
            "head_rate": recipe.head_rate or round(HEAD_RATE * min(share, 1.0), 6),
            "bias_rate": bias_rate,
            "gain_rate": recipe.gain_rate or max(1e-12, float(f"{bias_rate / 10:.6g}")),
            "momentum": _or(recipe.momentum, round(max(0.6, 1 - 0.4 * share), 4)),
        }
    rate = 0.1 * batch_size / 64 if optimizer == "sgd" else 0.002 * math.sqrt(batch_size / 64)
    return {
        "learning_rate": recipe.learning_rate or round(min(rate, 0.4), 6),
        "momentum": _or(recipe.momentum, 0.9),
    }


def _settled_views(flip: str, shift: float, size: tuple[int, ...]) -> str:
    """Views of unsure items: mirrored where training mirrors, moved where training moves at least as far."""
    moves = all(round(shift * length) >= max(1, round(length / STEPS_PER_SIDE)) for length in size)
    found = "+".join([*(["flip"] if flip != "none" else []), *(["shift"] if moves and size else [])])
    return f"unsure:{found}" if found else "none"


def default_batch_size(num_items: int, *, is_muon: bool = False) -> int:
    """64 for small sets, 128 from 20,000 items on. Muon: about ``3 * sqrt(num_items)``, a multiple of 16 between 16 and 2,000.

    Steps stay many enough to converge within few epochs.

    >>> [default_batch_size(number, is_muon=True) for number in (100, 2_700, 7_200, 50_000)]
    [32, 160, 256, 672]
    """
    if is_muon:
        return max(16, min(2000, 16 * round(3 * math.sqrt(num_items) / 16)))
    return 64 if num_items < MANY_ITEMS else 128


def default_epochs(
    num_items: int, *, is_zoomed: bool = False, is_muon: bool = False, is_small_and_grey: bool = False
) -> int:
    """``1500 / sqrt(num_items)``, at most 80 and at least 30, from 20,000 items on at least 11: small sets are seen more often.

    Muon: ``2750 / sqrt(num_items)``, at most 48 and at least 8. Where pictures are enlarged at random it is two fifths more, since no
    picture is then seen twice in the same way. From 20,000 grey pictures of up to 40 px on it is three tenths more: each says less, and
    ``compact``, which is narrower for them, takes the same time.

    >>> [default_epochs(number) for number in (200, 1_500, 7_200, 58_000)]
    [80, 39, 30, 11]
    >>> [default_epochs(number, is_muon=True) for number in (200, 1_500, 7_200, 58_000)]
    [48, 48, 32, 11]
    >>> default_epochs(58_000, is_muon=True, is_small_and_grey=True)
    15
    """
    if is_muon:
        share = 1.3 if is_small_and_grey and num_items >= MANY_ITEMS else 1.0
        epochs = max(8, min(48, round(share * 2750 / math.sqrt(num_items))))
    else:
        least = 30 if num_items < MANY_ITEMS else 11
        epochs = max(least, min(80, round(1500 / math.sqrt(num_items))))
    return round(1.4 * epochs) if is_zoomed else epochs


def _is_small_and_grey(input_shape: tuple[int, ...]) -> bool:
    """Pictures for which ``compact`` is narrower."""
    channels, *size = input_shape
    return channels == 1 and len(size) == 2 and min(size) <= SMALL_PX


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
