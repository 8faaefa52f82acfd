"""Options for reading a dataset, for sources that are ambiguous by themselves."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.caller import for_caller
from visus.data.tasks import check_task
from visus.errors import UsageError


@dataclass(frozen=True)
class Reading:
    """Options for reading a dataset. An option that is None is inferred from the source.

    Args:
        path_column: the column of a table that names the image files; default: ``path``.
        label_column: the column of a table that names the classes, or several, as ``cat,dog`` (see ``task``); default: ``label``.
        skip_missing: skip rows of a table whose file does not exist, instead of raising an error.
        class_depth: level of the folders that name the classes: 1 for the first level below the dataset (below its split folders, if
            any), 2 for the next, and so on; default: inferred from the folders.
        layout: axes of the arrays in an NPZ or NPY file, such as ``NLC``, in any case; default: inferred from their shape.
        task: what a label is, one of ``visus.data.tasks.TASKS``; default: ``single-label``, or ``multi-label`` for arrays of 0 and 1 in which a
            row has several ones or none.

    Raises:
        UsageError: ``class_depth`` is below 1, or the task is unknown.
    """

    path_column: str | None = None
    label_column: str | None = None
    skip_missing: bool = False
    class_depth: int | None = None
    layout: str | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", self.layout.upper() if self.layout else None)
        if self.class_depth is not None and self.class_depth < 1:
            raise UsageError(f"the class depth must be at least 1, not {self.class_depth}.")
        if self.task is not None:
            check_task(self.task)

    def to_json(self) -> dict[str, Any]:
        """The options that differ from the default, as plain data.

        >>> Reading(class_depth=2).to_json()
        {'class_depth': 2}
        """
        default = Reading()
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(default, name)}

    def options(self) -> list[str]:
        """The options as command-line arguments.

        >>> Reading("file", skip_missing=True).options()
        ['--path-column', 'file', '--skip-missing']
        """
        words: list[str] = []
        for name, value in self.to_json().items():
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words

    @classmethod
    def from_json(cls, facts: Mapping[str, Any] | None) -> Reading:
        """The inverse of ``to_json``; None returns the default."""
        return cls(**dict(facts or {}))


DEFAULT_READING = Reading()
"""All options inferred from the source."""


def one_column(value: Sequence[str] | str | None) -> str | None:
    """A list of columns as one text, such as ``cat,dog``; a text or None unchanged.

    >>> one_column(["cat", "dog"])
    'cat,dog'
    """
    return value if value is None or isinstance(value, str) else ",".join(map(str, value))


def check_call(place: Path | str, reading: Reading | None = None, *, labels: str | None = None) -> str:
    """The call that checks a path, read with these options.

    Args:
        place: the path.
        reading: how it is read; default: inferred from the source.
        labels: other labels, as for ``visus.open_data``.

    >>> check_call("my photos", Reading(class_depth=2))
    "visus.check('my photos', class_depth=2)"
    """
    reading = reading or DEFAULT_READING
    others = {} if labels is None else {"labels": labels}
    given = ", ".join([repr(str(place)), *(f"{name}={value!r}" for name, value in {**reading.to_json(), **others}.items())])
    typed = ["visus", "check", str(place), *reading.options(), *([] if labels is None else ["--labels", labels])]
    return for_caller(shlex.join(typed), f"visus.check({given})")
