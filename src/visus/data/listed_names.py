"""Lists of names in sentences."""

from __future__ import annotations

from collections.abc import Iterable

from visus.errors import printable

_NAMES_SHOWN = 5


def write_names(names: Iterable[str]) -> str:
    """The first five names, and the number of further names.

    >>> write_names(["a", "b"]), write_names("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    texts = [printable(name) for name in names]
    num_more = len(texts) - _NAMES_SHOWN
    return ", ".join(texts[:_NAMES_SHOWN]) + (f" and {num_more} more" if num_more > 0 else "")
