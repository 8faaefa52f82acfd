"""Checks of the arguments of layers: whole numbers, one for each axis, flags, and ``classes``."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from visus.errors import DesignError

BuiltNetwork = TypeVar("BuiltNetwork")
Shape = tuple[int, ...]
PerAxis = int | tuple[int, ...]

classes: Final = "classes"
"""Stands for the number of classes in the data, as in ``linear(classes)``."""


def write_value(value: object) -> str:
    """An argument as the text of a design writes it; ``classes`` without quotes."""
    return "classes" if value == classes else repr(value).replace("'", '"')


def per_axis(name: str, value: PerAxis, num_axes: int) -> tuple[int, ...]:
    """One number for each axis.

    Raises:
        DesignError: the count of numbers differs from the count of axes.
    """
    if isinstance(value, int):
        return (value,) * num_axes
    if len(value) != num_axes:
        raise DesignError(
            f"{name}={value} has {len(value)} {'number' if len(value) == 1 else 'numbers'}, and the map has "
            f"{num_axes} {'axis' if num_axes == 1 else 'axes'}. Give one number for all axes, or {num_axes}."
        )
    return value


def need_number(name: str, value: int | str) -> int:
    """The value of an argument as a number.

    Raises:
        DesignError: it is ``classes``, and the number of classes is unknown.
    """
    if isinstance(value, int):
        return value
    raise DesignError(f"{name}=classes stands for the number of classes, which is not known here. Give num_classes.")


def check_count(name: str, value: object, *, or_classes: bool = False) -> list[str]:
    """The error message for a count that is not a positive integer."""
    if or_classes and value == classes:
        return []
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return []
    return [f"{name} must be a whole number from 1 on{' or classes' if or_classes else ''}, not {value!r}."]


def check_whole(name: str, value: object, *, least: int, axes: bool = False) -> list[str]:
    """The error message for an integer, or a tuple with one for each axis, that is out of range."""
    values = value if axes and isinstance(value, tuple) and value else (value,)
    if all(isinstance(number, int) and not isinstance(number, bool) and number >= least for number in values):
        return []
    return [
        f"{name} must be a whole number from {least} on{', or a tuple of one for each axis' if axes else ''}, not {value!r}."
    ]


def check_flag(name: str, value: object, *, none_allowed: bool = False) -> list[str]:
    """The error message for a value that is neither True nor False."""
    if isinstance(value, bool) or (none_allowed and value is None):
        return []
    return [f"{name} must be True or False, not {value!r}."]


def plain_whole(value: object) -> object:
    """Converts integers of other libraries to int and lists to tuples; anything else is unchanged."""
    if isinstance(value, (list, tuple)):
        return tuple(plain_whole(number) for number in value)
    try:
        return value if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return value


def known_choice(family: str, kinds: str, choice: object, known: Mapping[Any, BuiltNetwork]) -> BuiltNetwork:
    """The table entry for the requested variant of a family.

    Raises:
        DesignError: the family has no such variant.
    """
    if not isinstance(choice, (int, float, str)) or isinstance(choice, bool) or choice not in known:
        raise DesignError(f"{family} comes in the {kinds} {', '.join(map(str, known))}, not {choice!r}.")
    return known[choice]


def largest(value: object) -> int:
    """The maximum of a number or of one per axis; 1 for anything else, which another check reports."""
    numbers = value if isinstance(value, tuple) else (value,)
    return max((number for number in numbers if isinstance(number, int)), default=1)
