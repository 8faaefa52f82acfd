"""Markdown that the generators share: tables, links to headings, and text with its special characters escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown, and a bar in a cell is escaped, except in code.

    >>> print(table(["a", "b"], [["`1|2`", "x|y"]]))
    | a | b |
    | --- | --- |
    | `1|2` | x\\|y |
    """
    lines = [list(columns), ["---"] * len(columns), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    outside = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"(?<!\\)\|", r"\\|", part) for part in outside)


def escape(text: str) -> str:
    r"""Plain text as Markdown: characters that would start emphasis, code, a link or a tag are escaped.

    >>> print(escape("stage2.* <b> a_b [x]"))
    stage2.\* &lt;b> a\_b \[x]
    """
    return re.sub(r"([\\`*_\[])", r"\\\1", text).replace("<", "&lt;")


def code(text: str) -> str:
    """Text as inline code, or nothing for empty text.

    >>> code("--epochs"), code("")
    ('`--epochs`', '')
    """
    return f"`{text}`" if text else ""


def sentence(words: str) -> str:
    """Words as a sentence, with a capital letter and a full stop.

    >>> sentence("a disk that is full")
    'A disk that is full.'
    """
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith((".", "!", "?")) else ".")


def summary_of(docstring: str) -> str:
    """The first sentence of a docstring as Markdown.

    >>> summary_of("Undo ``speed_up``; nothing else changes. More of it\\nfollows.")
    'Undo `speed_up`.'
    """
    first = re.split(r"(?<=[.;]) ", " ".join(docstring.split("\n\n")[0].split()), maxsplit=1)[0].rstrip(";")
    return sentence(re.sub(r"``([^`]*)``", r"`\1`", escape_outside_code(first)))


def escape_outside_code(text: str) -> str:
    """Text of a docstring as Markdown: its code in double backticks is kept, and all else escaped.

    >>> escape_outside_code("``a*b`` is a * b")
    '``a*b`` is a \\\\* b'
    """
    return "".join(part if part.startswith("``") else escape(part) for part in re.split(r"(``[^`]*``)", text))
