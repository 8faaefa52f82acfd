"""Parses integers on the command line: sizes and shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from visus.errors import UsageError

_POWER: Final = re.compile(r"\s*(\d{1,18})(?:\.(\d{1,18}))?[eE]\+?(\d{1,3})\s*")
_NOT_WHOLE: Final = re.compile(r"Invalid value for (.*?): .*valid integer")
_NO_NUMBER: Final = re.compile(r"Invalid value for (.*?): .*valid (?:number|float)")
_MAX_ZEROS: Final = 18


def whole_numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """Parse the numbers of a text such as ``3,224,224`` or ``96x128``.

    Raises:
        UsageError: the text has something else.

    >>> whole_numbers("3,32,32", "--input", "3,224,224")
    (3, 32, 32)
    """
    try:
        return tuple(int(part) for part in text.lower().replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes whole numbers such as {example}, not {text!r}.{written_out(text)}") from error


def image_size(text: str | None) -> tuple[int, ...] | int | None:
    """An image size such as ``96`` or ``96x128``; None if none is given.

    Raises:
        UsageError: the text has something else.

    >>> image_size("96"), image_size("96x128"), image_size(None)
    (96, (96, 128), None)
    """
    if text is None:
        return None
    lengths = whole_numbers(text, "--img-size", "96 or 96x128")
    return lengths[0] if len(lengths) == 1 else lengths


def written_out(text: str) -> str:
    """A hint that writes out the integers that a text has in scientific notation; empty if there are none.

    >>> written_out("3,1e3,2.5e2")
    ' Write 1e3 as 1000, and 2.5e2 as 250.'
    """
    found = [(part.strip(), *match.groups()) for part in text.split(",") if (match := _POWER.fullmatch(part))]
    examples = []
    for part, whole, fraction, power in found:
        zeros = int(power) - len(fraction or "")
        if 0 <= zeros <= _MAX_ZEROS:
            examples.append(f"{part} as {int(whole + (fraction or ''))}{'0' * zeros}")
    return f" Write {', and '.join(examples)}." if examples else ""


def not_whole(message: str, typed: Sequence[str]) -> str | None:
    """The sentence for an option that takes an integer or a number and got something else; None if the message is about another error.

    Args:
        message: the message of typer.
        typed: the words of the command line.

    >>> not_whole("Invalid value for '--in': '1e3' is not a valid integer.", ["visus", "solve", "--in", "1e3"])
    "--in takes a whole number, not '1e3'. Write 1e3 as 1000."
    """
    match = _NOT_WHOLE.match(message) or _NO_NUMBER.match(message)
    if match is None:
        return None
    kind = "a whole number" if match.re is _NOT_WHOLE else "a number"
    options = re.findall(r"'(-[^']*)'", match[1])
    for word, after in zip(typed, [*typed[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in options:
            given = value if equals else after
            return f"{option} takes {kind}, not {given!r}.{written_out(given) if match.re is _NOT_WHOLE else ''}"
    return None


def shape_of(text: str) -> tuple[int, ...]:
    """Parse an input shape such as ``3,224,224``, without the batch axis.

    Raises:
        UsageError: the text is not a shape.
    """
    return whole_numbers(text, "--input", "3,224,224")
