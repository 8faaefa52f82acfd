"""The space of a search: which settings are varied, and between which values.

One notation serves the command line, YAML files and Python: ``0.01..0.3`` is a range, ``adamw,sgd`` or a list are choices. A range whose ends are a factor
of 10 or more apart is searched on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from visus.errors import UsageError, join_messages
from visus.files import read_text
from visus.other_libraries import SETTINGS
from visus.own_callables import FunctionName
from visus.training.recipe import FIELDS, Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.yaml_text import read_yaml

LOG_FACTOR: Final = 10.0
"""A range whose ends are this factor apart is searched on a logarithmic scale."""
_NO_EFFECT: Final = {
    "seed": "the best of many seeds is luck, not a better training",
    "tta": "it changes predictions, not the training",
    **dict.fromkeys(
        ("device", "precision", "kernels", "checkpoint_every_s"), "it changes how fast a training is, not what it learns"
    ),
    "time_limit_s": "the time limit is that of the whole search",
    "select": "it is the metric by which trials are compared",
    "patience": "trials that lag behind end early by themselves",
}
"""Settings that are not searched, and why."""
_OF_START: Final = ("flip", "class_weights", "sampling")
"""Settings that decide how the head of a pretrained network is fitted, once for all trials."""
_TYPES: Final = get_type_hints(Recipe)


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included.

    Args:
        low, high: the ends.
        is_whole: whether only whole numbers count.

    >>> Range(0.01, 0.3).is_log, Range(0.0, 0.3).is_log, str(Range(16, 64, is_whole=True))
    (True, False, '16..64')
    """

    low: float
    high: float
    is_whole: bool = False

    @property
    def is_log(self) -> bool:
        """Whether it is searched on a logarithmic scale."""
        return self.low > 0 and self.high / self.low >= LOG_FACTOR * (1 - 1e-9)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def rounded(self, value: float) -> float | int:
        """A value of the range with four significant digits.

        >>> Range(0.01, 0.3).rounded(0.123456), Range(16, 64, is_whole=True).rounded(33)
        (0.1235, 33)
        """
        return int(value) if self.is_whole else min(self.high, max(self.low, float(f"{value:.4g}")))

    def __str__(self) -> str:
        return f"{self.low:.12g}..{self.high:.12g}"

    def to_plain(self) -> str:
        """For YAML: its notation."""
        return str(self)


@dataclass(frozen=True)
class Choices:
    """A few values.

    Args:
        values: at least two, all different.

    >>> "sgd" in Choices(("adamw", "sgd")), str(Choices((16, 32)))
    (True, '16,32')
    """

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return any(type(each) is type(value) and each == value for each in self.values)

    def __str__(self) -> str:
        return ",".join(f"{value:.12g}" if isinstance(value, float) else str(value) for value in self.values)

    def rounded(self, value: Any) -> Any:
        """The value itself."""
        return value

    def to_plain(self) -> list[Any]:
        """For YAML: a list."""
        return list(self.values)


@dataclass(frozen=True)
class Space:
    """The searched settings with their values.

    Args:
        settings: by name of the setting, in the order in which they are shown.

    >>> Space.of({"lr": "0.01..0.3", "optimizer": ["adamw", "sgd"]}).names
    ('learning_rate', 'optimizer')
    """

    settings: Mapping[str, Range | Choices] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the searched settings."""
        return tuple(self.settings)

    def __iter__(self) -> Iterator[tuple[str, Range | Choices]]:
        return iter(self.settings.items())

    @classmethod
    def of(cls, given: Mapping[str, object], *, where: str = "") -> Space:
        """A space from names of settings, or options, and what they may be.

        Args:
            given: text in the notation of this module, a list of choices, or a pair (low, high) for each.
            where: the file that it was read from; empty if there is none.

        Raises:
            UsageError: a value is no range and no choice, or a setting cannot be searched; one error lists all mistakes.
            RecipeError: a name is unknown, or a value is out of range.
        """
        mistakes: list[str] = []
        found: dict[str, Range | Choices] = {}
        for word, value in given.items():
            name = setting_of(str(word))
            try:
                if name in _NO_EFFECT:
                    raise UsageError(f"{name} cannot be searched: {_NO_EFFECT[name]}. Leave it out.")
                if name in found:
                    raise UsageError(f"the space has {name} twice. Give it once.")
                found[name] = _read(name, value)
            except UsageError as error:
                mistakes.append(error.message)
        if not given:
            mistakes.append("the space has no setting. Name one, such as learning_rate: 0.01..0.3, or leave out the space.")
        if mistakes:
            raise UsageError(join_messages(mistakes), where=where)
        return cls(found)

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "space") -> Space:
        """The inverse of ``to_yaml``.

        Raises:
            UsageError: the text is not YAML, not a table of settings, or a setting cannot be searched.

        >>> print(Space.from_yaml("lr: 0.01..0.3").to_yaml().strip())
        learning_rate: 0.01..0.3
        """
        try:
            found = read_yaml(text)
        except ValueError as error:
            raise UsageError(f"this is not YAML: {error}", where=where) from error
        if not isinstance(found, dict):
            raise UsageError(
                f"a space is a table of settings, such as 'learning_rate: 0.01..0.3', not {type(found).__name__}.",
                where=where,
            )
        return cls.of(found, where=where)

    @classmethod
    def read(cls, file: str | Path) -> Space:
        """A space from a YAML file.

        Raises:
            UsageError: the file cannot be read, or has no space.
        """
        return cls.from_yaml(read_text(Path(file)), where=str(file))

    def to_yaml(self) -> str:
        """YAML with a line for each setting; ``from_yaml`` reads it back."""
        import yaml

        plain = {name: values.to_plain() for name, values in self}
        dumped = {name: yaml.safe_dump(value, default_flow_style=True, width=1000) for name, value in plain.items()}
        return "".join(f"{name}: {text.removesuffix('...' + chr(10)).strip()}\n" for name, text in dumped.items())

    def rows(self, default: ResolvedRecipe) -> tuple[tuple[str, str, str, str], ...]:
        """For each setting: its name, its values, its scale and its default, as text."""
        return tuple(
            (name, str(values).replace(",", ", "), _scale(values), written(getattr(default, name))) for name, values in self
        )


def written(value: object) -> str:
    """A value of a setting with at most four significant digits.

    >>> written(0.123456), written(32), written("adamw"), written(None)
    ('0.1235', '32', 'adamw', 'none')
    """
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def setting_of(word: str) -> str:
    """The setting of a name, an option such as ``lr``, or a word of another library.

    Raises:
        RecipeError: there is none.

    >>> setting_of("--lr"), setting_of("batch-size"), setting_of("wd")
    ('learning_rate', 'batch_size', 'weight_decay')
    """
    key = word.strip().removeprefix("--").replace("-", "_")
    options = {
        str(rule.metadata["option"] or name).removeprefix("--").replace("-", "_"): name for name, rule in FIELDS.items()
    }
    name = key if key in FIELDS else options.get(key, SETTINGS.get(key, key))
    if name not in FIELDS:
        Recipe().replace(**{name: None})  # raises, with the closest name
    return name


def refuse_contradictions(space: Space, recipe: Recipe, *, is_pretrained: bool) -> None:
    """Raise an error for settings that are searched and set, or that pretrained weights fix before the first trial.

    Raises:
        UsageError: there are some; one error lists them all.
    """
    set_too = [name for name in space.names if getattr(recipe, name) != FIELDS[name].default]
    mistakes = [
        f"{name} is searched, and the recipe sets it to {written(getattr(recipe, name))}. Leave one of them out."
        for name in set_too
    ]
    if is_pretrained:
        mistakes += [
            f"{name} decides how the head of pretrained weights is fitted, once for all trials, so it cannot be searched. Set it in the recipe."
            for name in space.names
            if name in _OF_START
        ]
    if mistakes:
        raise UsageError(join_messages(mistakes))


def default_space(recipe: Recipe, resolved: ResolvedRecipe, num_training: int, *, has_classes: bool = True) -> Space:
    """Learning rates, weight decay, batch size, label smoothing and the augmentation of a training, around its defaults.

    What the recipe sets stays as it is.

    Args:
        recipe: the recipe as given.
        resolved: its default settings for these data and this network.
        num_training: number of training samples; batches are at most half of them.
        has_classes: whether labels are classes. Numbers, and a person's own loss, have no label smoothing.
    """
    found: dict[str, Range | Choices] = {}
    rates = ("learning_rate", "head_lr", "bias_lr") if resolved.optimizer == "muon" else ("learning_rate",)
    for name in rates:
        found[name] = _around(name, getattr(resolved, name), 4)
    if resolved.weight_decay:
        found["weight_decay"] = _around("weight_decay", resolved.weight_decay, 8)
    sizes = [size for size in (resolved.batch_size // 2, resolved.batch_size, resolved.batch_size * 2) if size >= 8]
    sizes = [size for size in sizes if size == resolved.batch_size or size <= num_training // 2]
    if len(sizes) > 1:
        found["batch_size"] = Choices(tuple(sizes))
    if has_classes and not resolved.loss:
        found["label_smoothing"] = Range(0.0, 0.3)
    if resolved.layer_decay < 1:
        found["layer_decay"] = _around("layer_decay", resolved.layer_decay, 4)
    for name, rule in FIELDS.items():
        value = getattr(resolved, name)
        if rule.metadata["group"] == "Augmentation" and isinstance(value, float) and value > 0:
            found[name] = Range(0.0, min(2 * value, rule.metadata["high"] or math.inf))
    return Space({name: values for name, values in found.items() if getattr(recipe, name) == FIELDS[name].default})


def _around(name: str, value: float, factor: float) -> Range:
    """From a fraction of a value to a multiple, within the limits of the setting; three significant digits."""
    rule = FIELDS[name].metadata
    low, high = float(f"{value / factor:.3g}"), float(f"{value * factor:.3g}")
    return Range(max(low, rule["low"] or low), min(high, rule["high"] or high))


def _scale(values: Range | Choices) -> str:
    if isinstance(values, Choices):
        return "choices"
    return f"{'whole numbers, ' if values.is_whole else ''}{'logarithmic' if values.is_log else 'linear'}"


def _read(name: str, value: object) -> Range | Choices:
    """What a setting may be.

    Raises:
        UsageError: this is no range and no choices.
        RecipeError: a value is invalid for the setting.
    """
    kinds = [kind for kind in get_args(_TYPES[name]) or (_TYPES[name],) if kind is not type(None)]
    is_number = kinds[0] in (int, float)
    if isinstance(value, tuple) and len(value) == 2 and is_number:
        value = f"{value[0]}..{value[1]}"
    if isinstance(value, str) and ".." in value:
        return _range(name, value, is_number=is_number, is_whole=kinds[0] is int)
    words = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    values = tuple(
        None if name == "loss" and str(word).strip() in ("none", "null") else _value(word, kinds[0]) for word in words
    )
    for each in values:
        Recipe().replace(**{name: each})
    different = tuple(dict.fromkeys(values))
    if len(different) < 2:
        raise UsageError(
            f"{name} has the single value {written(values[0]) if values else 'none'}, so there is nothing to search. Give several "
            f"({'low..high, or ' if is_number else ''}a,b,c), or set it in the recipe."
        )
    return Choices(different)


def _range(name: str, text: str, *, is_number: bool, is_whole: bool) -> Range:
    if not is_number:
        raise UsageError(f"{name} is a word, so it has no range {text}. Give choices, such as a,b,c.")
    try:
        low, high = (float(word) for word in text.split(".."))
    except ValueError:
        raise UsageError(f"{name}: a range is low..high, such as 0.01..0.3, not {text!r}.") from None
    if is_whole and not (low.is_integer() and high.is_integer()):
        raise UsageError(f"{name} is a whole number, and the range {text} is not. Give whole ends.")
    if not low < high:
        raise UsageError(f"{name}: the range {text} is empty. Give the lower end first.")
    for each in (low, high):
        Recipe().replace(**{name: int(each) if is_whole else each})
    return Range(low, high, is_whole)


def _value(word: object, kind: type) -> Any:
    """A choice as its setting has it, a function by its name; text where it is none, for the recipe to refuse."""
    if kind is str and callable(word) and not isinstance(word, type):
        return str(FunctionName.of(word))
    if not isinstance(word, str):
        return float(word) if kind is float and isinstance(word, int) and not isinstance(word, bool) else word
    text = word.strip()
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def read_searches(words: Sequence[str]) -> Space | None:
    """The space of ``--search NAME=VALUES``, which may be repeated; None if there is none.

    Raises:
        UsageError: a word has no ``=``, or repeats a name.

    >>> read_searches(["lr=0.01..0.3"]).settings
    {'learning_rate': Range(low=0.01, high=0.3, is_whole=False)}
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not text.strip():
            raise UsageError(f"--search takes NAME=LOW..HIGH or NAME=A,B,C, such as lr=0.01..0.3, not {word!r}.")
        if name.strip() in given:
            raise UsageError(f"--search gives {name.strip()} twice. Give it once.")
        given[name.strip()] = text
    return Space.of(given) if given else None
