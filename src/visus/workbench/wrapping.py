"""Breaks lines at words for a terminal.

A word longer than the terminal stays whole: a path or a command that is broken cannot be copied. In a log nothing is broken, so that
a search finds each message whole; editors and log viewers break lines themselves.
"""

from __future__ import annotations

from rich.cells import cell_len

LABEL_WIDTH = 10
"""Columns of the label before a fact; the text after it is aligned."""


def wrapped(text: str, width: int | None, indent: int = 0) -> str:
    """The text in lines of at most ``width`` columns, all but the first indented.

    Args:
        text: one line.
        width: columns of the terminal; None breaks nothing.
        indent: spaces before each further line; at most half of the width is used.

    >>> print(wrapped("note      32 images would not fill a batch", 28, 10))
    note      32 images would
              not fill a batch
    """
    if width is None or cell_len(text) <= width:
        return text
    indent = min(indent, width // 2)
    lines, line = list[str](), ""
    for word in _words(text):
        if line.strip() and cell_len(line) + cell_len(word.rstrip()) > width:
            lines.append(line.rstrip())
            line = " " * indent
        line += word
    return "\n".join([*lines, line.rstrip()])


def wrapped_command(text: str, width: int | None, indent: int = 0) -> str:
    r"""As ``wrapped``, for a command: a backslash ends each line but the last, so that a shell takes a copy of all lines as one.

    >>> print(wrapped_command("next: visus evaluate runs/cats --mistakes", 32, 2))
    next: visus evaluate runs/cats \
      --mistakes
    """
    if width is None or cell_len(text) <= width:
        return text
    return wrapped(text, width - 2, indent).replace("\n", " \\\n")


def labeled(label: str, text: str, width: int | None = None, *, is_command: bool = False) -> str:
    """A fact with its label, in aligned lines.

    >>> labeled("network", "compact, 493 k parameters")
    'network   compact, 493 k parameters'
    """
    return (wrapped_command if is_command else wrapped)(f"{label:<{LABEL_WIDTH - 1}} {text}", width, LABEL_WIDTH)


def fitting(parts: list[str], width: int) -> str:
    """The first parts that fit into ``width`` columns, joined by two spaces.

    >>> fitting(["epoch 3/32", "loss 1.234", "32 s left"], 24)
    'epoch 3/32  loss 1.234'
    """
    line = parts[0][:width] if parts else ""
    for part in parts[1:]:
        if part and cell_len(line) + 2 + cell_len(part) <= width:
            line += f"  {part}"
    return line


def _words(text: str) -> list[str]:
    """The words with the spaces after them; spaces at the start belong to the first word."""
    words, start = list[str](), 0
    for place in range(1, len(text)):
        if text[place - 1] == " " and text[place] != " " and text[start:place].strip():
            words.append(text[start:place])
            start = place
    return [*words, text[start:]]
