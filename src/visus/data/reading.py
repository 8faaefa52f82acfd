"""What a person says about how a source is read, where the source itself leaves it open.

This file knows the questions and how an answer is typed.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.errors import UsageError


@dataclass(frozen=True)
class Reading:
    """The answers that a person gave; a field that is None is left to the source.

    Args:
        path_column: the column of a table that names the image files; None for ``path``.
        label_column: the column of a table that names the classes; None for ``label``.
        skip_missing: leave out rows of a table whose file does not exist, instead of refusing the table.
        class_depth: which level of folders names the classes: 1 for the first below the data (below its split folders, where it has
            them), 2 for the next, and so on; None follows the folders.
        layout: the axes of the arrays in an NPZ or NPY file, such as ``NLC``, in capitals or not; None follows their shape.

    Raises:
        UsageError: a level below 1.
    """

    path_column: str | None = None
    label_column: str | None = None
    skip_missing: bool = False
    class_depth: int | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", self.layout.upper() if self.layout else None)
        if self.class_depth is not None and self.class_depth < 1:
            raise UsageError(f"the class depth must be at least 1, not {self.class_depth}.")

    def to_json(self) -> dict[str, Any]:
        """The answers that differ from the default, as plain data.

        >>> Reading(class_depth=2).to_json()
        {'class_depth': 2}
        """
        default = Reading()
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(default, name)}

    def options(self) -> list[str]:
        """The answers as they are typed.

        >>> Reading("file", skip_missing=True).options()
        ['--path-column', 'file', '--skip-missing']
        """
        words: list[str] = []
        for name, value in self.to_json().items():
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words

    @classmethod
    def from_json(cls, facts: Mapping[str, Any] | None) -> Reading:
        """The inverse of ``to_json``; None gives the default."""
        return cls(**dict(facts or {}))


OPEN = Reading()
"""Nothing was said: the source answers for itself."""


def command(place: Path | str, *options: str) -> str:
    """What a person types to have a place read with these options.

    >>> command("my photos", "--class-depth", "2")
    "visus check 'my photos' --class-depth 2"
    """
    return shlex.join(["visus", "check", str(place), *options])
