"""The warning about classes of which a split has no sample."""

from __future__ import annotations

from collections.abc import Sequence

from visus.data.listed_names import write_names
from visus.units import write_number_of


class AbsentClasses(str):
    """A warning about a split without samples of some classes; it says nothing about samples in other splits.

    Args:
        split: the split; "" for samples without one.
        classes: names of the classes.
        reason: why there are none, as a phrase; may be empty.

    >>> AbsentClasses("test", ["cat"])
    'test has no sample of 1 class: cat.'
    """

    of_split: str

    def __new__(cls, split: str, classes: Sequence[str], reason: str = "") -> AbsentClasses:
        subject = f"{split} has" if split else "there is"
        why = f", {reason}" if reason else ""
        kinds = write_number_of(len(classes), "class", "classes")
        self = super().__new__(cls, f"{subject} no sample of {kinds}{why}: {write_names(classes)}.")
        self.of_split = split
        return self
