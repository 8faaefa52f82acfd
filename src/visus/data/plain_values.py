"""Checks of plain values from JSON. Each returns its value; or it raises a ``ValueError`` that names the field, what was found and what is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

_MAX: Final = sys.float_info.max
_SHOWN: Final = 40
"""Characters of a value that a message shows."""


def text(value: Any, field: str, known: Iterable[str] = ()) -> str:
    """A text that can be written as UTF-8, and one of ``known`` if any are given.

    >>> text("crop", "resize_mode", ("crop", "pad"))
    'crop'
    """
    listed = tuple(known)
    if isinstance(value, str) and (value in listed or not listed) and _is_unicode(value):
        return value
    raise _unfit(value, field, f"one of {', '.join(listed)}" if listed else "text in Unicode")


def number(value: Any, field: str, low: float = -_MAX, high: float = _MAX) -> float:
    """A finite number from ``low`` to ``high``; true and false are none.

    >>> number(0.5, "smoothing", 0, 1)
    0.5
    """
    if type(value) in (int, float) and low <= value <= high:
        return value  # type: ignore[no-any-return]
    raise _unfit(value, field, f"a finite number{_range(low, high)}")


def positive(value: Any, field: str) -> float:
    """A finite number above 0.

    >>> positive(2, "divisor")
    2
    """
    if type(value) in (int, float) and 0 < value <= _MAX:
        return value  # type: ignore[no-any-return]
    raise _unfit(value, field, "a finite number above 0")


def whole(value: Any, field: str, low: int = 0, high: int = 2**63 - 1) -> int:
    """A whole number from ``low`` to ``high``; true and false are none.

    >>> whole(3, "channels", 1)
    3
    """
    if type(value) is int and low <= value <= high:
        return value
    raise _unfit(value, field, f"a whole number{_range(low, high if high < 2**63 - 1 else _MAX)}")


def items(value: Any, field: str, num_items: int | None = None) -> list[Any]:
    """A list, of ``num_items`` values if that is given. Tuples count as lists, since they become lists in JSON.

    >>> items([8, 8], "size")
    [8, 8]
    """
    if isinstance(value, (list, tuple)) and num_items in (None, len(value)):
        return list(value)
    raise _unfit(value, field, "a list" if num_items is None else f"a list of {num_items}")


def record(value: Any, field: str, needed: Iterable[str] = (), optional: Iterable[str] | None = ()) -> dict[str, Any]:
    """An object with the fields ``needed``, and further ones only if they are ``optional``; None: any.

    >>> record({"path": "network.onnx"}, "graphs", ["path"], ["format"])
    {'path': 'network.onnx'}
    """
    if not isinstance(value, dict):
        raise _unfit(value, field, "an object")
    missing = sorted(set(needed) - value.keys())
    unknown = [] if optional is None else sorted(value.keys() - {*needed, *optional})
    for word, names in (("lacks", missing), ("has the unknown", unknown)):
        if names:
            raise ValueError(f"{field} {word} {shown(names[0])}")
    return value


def shown(value: Any) -> str:
    """A value in a message: short, on one line, and without anything that controls a terminal.

    >>> shown([1, 2]), shown(True), shown("a\\x1b"), shown(None)
    ('a list of 2', 'true', "'a\\\\x1b'", 'null')
    """
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    written = ascii(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."


def _unfit(value: Any, field: str, needed: str) -> ValueError:
    return ValueError(f"{field} is {shown(value)}, and {needed} is needed")


def _range(low: float, high: float) -> str:
    if low == -_MAX and high == _MAX:
        return ""
    return f" of at least {_written(low)}" if high == _MAX else f" from {_written(low)} to {_written(high)}"


def _written(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
