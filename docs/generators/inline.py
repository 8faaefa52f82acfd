"""Pieces of Markdown that several pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table.

    >>> print(table(("a", "b"), [("1", "2 | 3")]))
    | a | b |
    | --- | --- |
    | 1 | 2 \\| 3 |
    """
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def no_break(text: str) -> str:
    """Code that no table breaks into two lines."""
    return f'<span style="white-space:nowrap">`{text}`</span>'


def link_papers(text: str) -> str:
    """Text with its arXiv numbers as links.

    >>> link_papers("He et al. 2016, arXiv:1512.03385")
    'He et al. 2016, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385)'
    """
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
