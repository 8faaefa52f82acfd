"""The text of an augmentation policy, such as ``2x9``. Only the standard library is imported."""

from __future__ import annotations

import re
from typing import Final

MAX_OPERATIONS: Final = 8
MAX_MAGNITUDE: Final = 30
_TEXT = re.compile(r"([1-9]\d?)x(\d{1,2})")


def read_policy(text: str) -> tuple[int, int] | None:
    """Number of operations and magnitude of a policy; None if the text is none.

    >>> read_policy("2x9"), read_policy("2x31"), read_policy("strong")
    ((2, 9), None, None)
    """
    found = _TEXT.fullmatch(text)
    if found is None or int(found[1]) > MAX_OPERATIONS or int(found[2]) > MAX_MAGNITUDE:
        return None
    return int(found[1]), int(found[2])
