"""Whole numbers as they are typed: sizes and shapes.

This file knows how an option is spelt. It must not know what the numbers are for.
"""

from __future__ import annotations

from visus.errors import UsageError


def whole_numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """The numbers of a text such as ``3,224,224`` or ``96x128``.

    Raises:
        UsageError: it holds something else.

    >>> whole_numbers("3,32,32", "--input", "3,224,224")
    (3, 32, 32)
    """
    try:
        return tuple(int(part) for part in text.lower().replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes whole numbers such as {example}, not {text!r}.") from error


def shape_of(text: str) -> tuple[int, ...]:
    """An input shape such as ``3,224,224``, without the batch axis.

    Raises:
        UsageError: it is none.
    """
    return whole_numbers(text, "--input", "3,224,224")
