"""One figure of the documentation as a page of HTML, and the parts of visus's own pages that a figure shows.

Nothing here renders: ``browser`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

STYLE: Final = (Path(__file__).parent / "figure.css").read_text("utf-8")
"""The style of every figure: typeface, margins, and the classes of charts and terminals."""

_VOID: Final = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


@dataclass(frozen=True)
class Figure:
    """A figure before it is rendered.

    Args:
        body: the HTML inside ``<body>``.
        width: width in CSS pixels; the file has twice as many.
        style: the style sheet of the page that it shows; ``STYLE`` follows it.
        max_height: height in CSS pixels beyond which it is cut; default: its own height.
        values: the measured values that it draws, by name. They may differ a little on another processor.
        messages: other text that makes the figure stale when it changes.
    """

    body: str
    width: int
    style: str = ""
    max_height: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    messages: str = ""

    def page(self) -> str:
        """The whole page as HTML text."""
        fade = "" if self.max_height is None else f'<div class="fade" style="top:{self.max_height - 110}px"></div>'
        return (
            '<!doctype html>\n<html lang="en-US">\n<head>\n<meta charset="utf-8">\n'
            f"<style>\n{self.style}\n{STYLE}</style>\n</head>\n<body>\n{self.body}{fade}\n</body>\n</html>\n"
        )


@dataclass(frozen=True)
class SourcePage:
    """A page that visus wrote, taken apart.

    Args:
        style: its style sheet.
        main: the HTML inside ``<main>``.
        sections: heading, first and last offset in ``main``, and the tags around it, for each outermost section with a heading.
    """

    style: str
    main: str
    sections: tuple[tuple[str, int, int, tuple[str, ...]], ...]

    @staticmethod
    def read(html: str) -> SourcePage:
        """Take a page apart.

        Raises:
            ValueError: the page has no style sheet or no ``<main>``.
        """
        style = re.search(r"<style>\n(.*?)</style>", html, re.S)
        main = re.search(r"<main[^>]*>(.*)</main>", html, re.S)
        if style is None or main is None:
            raise ValueError("this page has no <style> or no <main>: it is not a page of visus.")
        reader = _SectionReader()
        reader.feed(main[1])
        reader.close()
        return SourcePage(style[1], main[1], tuple(reader.sections(main[1])))

    def until(self, num_sections: int) -> str:
        """The start of the page, up to the end of the section with the given number, counted from 1.

        Raises:
            ValueError: the page has fewer sections with a heading.
        """
        if len(self.sections) < num_sections:
            raise ValueError(f"this page has {len(self.sections)} sections, and {num_sections} are needed.")
        _, _, end, around = self.sections[num_sections - 1]
        return f"<main>{self.main[:end]}{_closing(around)}</main>"

    def section(self, heading: str) -> str:
        """One section, with the elements around it.

        Raises:
            ValueError: no section has this heading.
        """
        for title, start, end, around in self.sections:
            if title == heading:
                return f'<main class="part">{"".join(around)}{self.main[start:end]}{_closing(around)}</main>'
        raise ValueError(f"no section is called '{heading}'; known: {', '.join(title for title, *_ in self.sections)}.")


def _closing(around: tuple[str, ...]) -> str:
    names = [re.match(r"<(\w+)", tag) for tag in around]
    return "".join(f"</{name[1]}>" for name in reversed(names) if name)


class _SectionReader(HTMLParser):
    """Finds the outermost sections with an ``<h2>``."""

    def __init__(self) -> None:
        super().__init__()
        self._stack: list[tuple[str, str, int, int]] = []  # name, text of the tag, line and column where it starts
        self._found: list[tuple[str, tuple[int, int], tuple[int, int], tuple[str, ...]]] = []
        self._heading: list[str] | None = None
        self._title = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            return
        line, column = self.getpos()
        self._stack.append((tag, self.get_starttag_text() or "", line, column))
        if tag == "h2":
            self._heading = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself, as in a chart, opens nothing."""

    def handle_data(self, data: str) -> None:
        if self._heading is not None:
            self._heading.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._stack:
            name, _, line, column = self._stack.pop()
            if name == tag:
                break
        else:
            return
        if tag == "h2" and self._heading is not None:
            self._title, self._heading = " ".join("".join(self._heading).split()), None
        elif tag == "section" and self._title and all(each[0] != "section" for each in self._stack):
            around = tuple(each[1] for each in self._stack)
            self._found.append((self._title, (line, column), self.getpos(), around))
            self._title = ""

    def sections(self, text: str) -> list[tuple[str, int, int, tuple[str, ...]]]:
        """The sections found, by their offsets in the text that was read."""
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        return [
            (title, starts[first[0] - 1] + first[1], starts[last[0] - 1] + last[1] + len("</section>"), around)
            for title, first, last, around in self._found
        ]
