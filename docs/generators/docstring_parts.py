"""Docstrings as Markdown: what a thing is, and the meaning of each argument."""

from __future__ import annotations

import inspect
import re
from typing import Final

from .inline import link_papers

_SECTION: Final = re.compile(r"^(Args|Returns|Raises|Yields):$", re.M)
_ARGUMENT: Final = re.compile(r"^    ([\w*, ]+): (.*)$")


def meaning_of(thing: object) -> str:
    """The paragraphs of a docstring before its arguments, as Markdown; examples are dropped."""
    text = _SECTION.split(inspect.getdoc(thing) or "", maxsplit=1)[0]
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip() and not part.lstrip().startswith(">>>")]
    return "\n\n".join(_markdown(part) for part in paragraphs)


def summary_of(thing: object) -> str:
    """The first sentence of a docstring, as Markdown."""
    first = meaning_of(thing).split("\n\n", 1)[0]
    return re.split(r"(?<=[.])\s+(?=[A-Z])(?<!et al\. )", first, maxsplit=1)[0]


def arguments_of(thing: object) -> dict[str, str]:
    """The meaning of each documented argument, as Markdown.

    >>> def area(width, height):
    ...     '''Area.
    ...
    ...     Args:
    ...         width, height: sides in
    ...             pixels.
    ...     '''
    >>> arguments_of(area)
    {'width': 'sides in pixels.', 'height': 'sides in pixels.'}
    """
    parts = _SECTION.split(inspect.getdoc(thing) or "")
    if "Args" not in parts:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in parts[parts.index("Args") + 1].splitlines():
        if match := _ARGUMENT.match(line):
            names = [name.strip(" *") for name in match[1].split(",")]
            found |= dict.fromkeys(names, match[2])
        elif line.startswith("     ") and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            names = []
    return {name: _markdown(text) for name, text in found.items()}


def _markdown(text: str) -> str:
    """Text of a docstring as Markdown: one line for each list item or paragraph, links to arXiv."""
    items = re.split(r"\n(?=\s*- )", text)
    lines = [" ".join(item.split()).replace("``", "`") for item in items]
    return link_papers("\n".join(lines))
