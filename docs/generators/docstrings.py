"""Docstrings of visus as Markdown that mkdocstrings renders: examples become code blocks, arguments that share a line get one each."""

from __future__ import annotations

import re
from typing import Any

try:
    from griffe import Extension
except ImportError:  # to_markdown is of use without the extra "docs", in tests
    Extension = object  # type: ignore[assignment, misc]

_ONE_LINE = re.compile(r"^(Returns|Yields|Raises): (\S.*)$")


class DocstringMarkdown(Extension):  # type: ignore[misc]
    """Griffe's hook: every docstring passes through ``to_markdown`` before it is parsed."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    r"""A docstring with its doctests and literal blocks as fenced code, and one entry for each argument.

    >>> print(to_markdown("Adds.\n\nArgs:\n    a, b: the terms.\n\n>>> add(1, 2)\n3"))
    Adds.
    <BLANKLINE>
    Args:
        a: the terms.
        b: the terms.
    <BLANKLINE>
    Examples:
        ```pycon
        >>> add(1, 2)
        3
        ```
    """
    return _fence_doctests(_fence_literals(_one_entry_each(text.split("\n"))))


def _one_entry_each(lines: list[str]) -> list[str]:
    """``a, b: text`` under ``Args:`` becomes two entries, and ``Returns: text`` a section."""
    result: list[str] = []
    in_args = False
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.strip() and not line.startswith(" "):
            in_args = line.strip() in ("Args:", "Attributes:")
        if section := _ONE_LINE.match(line):
            number += 1
            result += [f"{section[1]}:", f"    {section[2]}"]
            while number < len(lines) and lines[number].strip():
                result.append(f"    {lines[number]}")
                number += 1
            continue
        entry = re.match(r"^(    )((?:\*{0,2}\w+, )+\*{0,2}\w+):( .*)$", line) if in_args else None
        number += 1
        if entry is None:
            result.append(line)
            continue
        rest = []
        while number < len(lines) and lines[number].startswith("     "):
            rest.append(lines[number])
            number += 1
        for name in entry[2].split(", "):
            result += [f"{entry[1]}{name}:{entry[3]}", *rest]
    return result


def _fence_literals(lines: list[str]) -> list[str]:
    """An indented block after a line that ends with ``::`` becomes fenced code."""
    result: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.rstrip().endswith("::"):
            result.append(line)
            continue
        result.append(line.rstrip().removesuffix(":") if line.strip() != "::" else "")
        block = []
        while number < len(lines) and (not lines[number].strip() or lines[number].startswith(" ")):
            block.append(lines[number])
            number += 1
        while block and not block[-1].strip():
            block.pop()
        result += ["", "```text", *(each[4:] for each in block if block.index(each) or each.strip()), "```", ""]
    return result


def _fence_doctests(lines: list[str]) -> str:
    """Doctests become the section ``Examples`` of fenced code. Text between them stays where it is."""
    result: list[str] = []
    number = 0
    while number < len(lines):
        if not lines[number].lstrip().startswith(">>> "):
            result.append(lines[number])
            number += 1
            continue
        block = []
        while number < len(lines) and lines[number].strip():
            block.append(re.sub(r"\s*#\s*doctest:.*$", "", lines[number].strip() if not block else lines[number].rstrip()))
            number += 1
        if result and result[-1].strip():
            result.append("")
        result += ["Examples:", "    ```pycon", *(f"    {line}" for line in block), "    ```"]
    return "\n".join(result)
