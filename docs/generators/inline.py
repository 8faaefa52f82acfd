"""Pieces of a line: code that stays on one line, links to papers."""

from __future__ import annotations

import re


def no_break(text: str) -> str:
    """Code that no table breaks into two lines."""
    return f'<span style="white-space:nowrap">`{text}`</span>'


def link_papers(text: str) -> str:
    """Text with its arXiv numbers as links.

    >>> link_papers("He et al. 2016, arXiv:1512.03385")
    'He et al. 2016, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385)'
    """
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
