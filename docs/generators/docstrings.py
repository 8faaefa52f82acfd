"""Docstrings of visus as Markdown that mkdocstrings renders: examples become code blocks, arguments that share a line get one each."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

import visus.errors

try:
    from griffe import Alias, Extension
except ImportError:  # to_markdown is of use without the extra "docs", in tests
    Extension = object  # type: ignore[assignment, misc, unused-ignore]

_ONE_LINE = re.compile(r"^(Returns|Yields|Raises): (\S.*)$")


class DocstringMarkdown(Extension):  # type: ignore[misc, unused-ignore]
    """Griffe's hooks: every docstring passes through ``to_markdown`` before it is parsed, and a setting shows its default alone."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)

    def on_class(self, *, cls: Any, **_: Any) -> None:
        """List the fields of a result as attributes, since visus makes it and not a person."""
        if cls.docstring is not None and cls.path in _results():
            cls.docstring.value = re.sub(r"^Args:$", "Attributes:", cls.docstring.value, flags=re.M)

    def on_attribute_instance(self, *, attr: Any, **_: Any) -> None:
        """Replace ``_setting(None, "meaning", ...)``, the value of a field of ``Recipe``, by the default, which is its first argument."""
        if str(attr.value).startswith("_setting("):
            attr.value = attr.value.arguments[0]

    def on_package(self, *, pkg: Any, loader: Any, **_: Any) -> None:
        """Show a default that is a named constant by its value, and let each module find every error, which its docstrings name."""
        for module in _modules_of(pkg):
            for name, kind in vars(visus.errors).items():
                if inspect.isclass(kind) and issubclass(kind, visus.errors.VisusError) and name not in module.members:
                    module.set_member(name, Alias(name, f"visus.errors.{name}", parent=module))
        for function in _functions_of(pkg):
            for parameter in function.parameters:
                if str(parameter.default).isupper() and (value := _literal(parameter.default, loader)):
                    parameter.default = value


def _modules_of(module: Any) -> Iterator[Any]:
    """A module and every module below it."""
    yield module
    for member in list(module.members.values()):
        if not member.is_alias and member.is_module:
            yield from _modules_of(member)


def _functions_of(scope: Any) -> Iterator[Any]:
    """Every function and method that a module or a class defines, without imported ones."""
    for member in scope.members.values():
        if member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_module or member.is_class:
            yield from _functions_of(member)


def _literal(name: Any, loader: Any) -> str | None:
    """The value of a named constant as text, if it is a number or a word; else None."""
    try:
        value = str(loader.modules_collection[name.canonical_path].value)
        ast.literal_eval(value)
    except (AttributeError, KeyError, ValueError, SyntaxError):
        return None
    return value


@functools.cache
def _results() -> frozenset[str]:
    """The full names of the classes that visus makes."""
    from .python_names import MADE_BY_VISUS, public_things, returned_classes

    things = public_things()
    kinds = [*returned_classes(things).values(), *(things[name] for name in MADE_BY_VISUS)]
    return frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


def to_markdown(text: str) -> str:
    r"""A docstring with its doctests and literal blocks as fenced code, and one entry for each argument.

    >>> print(to_markdown("Adds.\n\nArgs:\n    a, b: the terms.\n\nReturns: the sum."))
    Adds.
    <BLANKLINE>
    Args:
        a: the terms.
        b: the terms.
    <BLANKLINE>
    Returns:
        the sum.
    """
    return _fence_doctests(_fence_literals(_one_entry_each(text.split("\n"))))


def _one_entry_each(lines: list[str]) -> list[str]:
    """``a, b: text`` under ``Args:`` or ``Raises:`` becomes two entries, and ``Returns: text`` a section."""
    result: list[str] = []
    in_args = False
    number = 0
    while number < len(lines):
        line = lines[number]
        if line.strip() and not line.startswith(" "):
            in_args = line.strip() in ("Args:", "Attributes:", "Raises:")
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
        block: list[str] = []
        while number < len(lines) and lines[number].strip():
            block.append(re.sub(r"\s*#\s*doctest:.*$", "", lines[number].strip() if not block else lines[number].rstrip()))
            number += 1
        if result and result[-1].strip():
            result.append("")
        result += ["Examples:", "    ```pycon", *(f"    {line}" for line in block), "    ```"]
    return "\n".join(result)
