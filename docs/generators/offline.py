"""Finds what a built site loads from another host. The site must open from disk without a network connection, so nothing may."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

HARMLESS = {
    "https://unpkg.com/mermaid@": "loaded for an element of the class mermaid, and no page has one",
    "https://unpkg.com/resize-observer-polyfill": "loaded by browsers without ResizeObserver, which is in all since 2020",
    "https://api.github.com/": "asked for the address of a repository, and the site names none",
    "https://bit.ly/": "in a message of the search library",
    "http://www.w3.org/": "names of XML, never loaded",
    "https://www.w3.org/": "names of XML, never loaded",
}
"""Addresses in the theme's scripts, with the reason why a page of this site never loads them."""

_LINKS = {"a", "area"}  # a person follows these; a page does not load them
_ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"'`)<>\\]*", re.IGNORECASE)


class _Loads(HTMLParser):
    """Collects what one page loads: addresses in attributes, in styles and in scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Attributes that make a browser load something, and features of the theme that do."""
        facts = {name: value or "" for name, value in attrs}
        self._inside = tag if tag in ("style", "script") else self._inside
        is_canonical = tag == "link" and facts.get("rel") in ("canonical", "next", "prev", "alternate")
        for name in ("src", "href", "srcset", "data", "poster", "xlink:href", "action"):
            if tag not in _LINKS and not is_canonical and _is_outside(facts.get(name, "")):
                self.found.append(facts[name])
        if "style" in facts:
            self.found += outside_styles(facts["style"])
        if "mermaid" in facts.get("class", "").split():
            self.found.append("https://unpkg.com/mermaid")
        if facts.get("data-md-component") == "source":
            self.found.append("https://api.github.com")

    def handle_endtag(self, tag: str) -> None:
        """The end of a style or a script."""
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        """The text of a style or a script."""
        if self._inside == "style":
            self.found += outside_styles(data)
        elif self._inside == "script":
            self.found += outside_scripts(data)


def outside_loads(site: Path) -> list[str]:
    """What the pages, styles and scripts of a built site load from another host, as ``file: address``.

    Args:
        site: folder of the built site.
    """
    return [f"{file.relative_to(site)}: {address}" for file in sorted(site.rglob("*")) for address in _loads_of(file)]


def _loads_of(file: Path) -> Iterator[str]:
    if file.suffix not in (".html", ".css", ".js", ".svg"):
        return
    text = file.read_text("utf-8")
    if file.suffix in (".html", ".svg"):
        parser = _Loads()
        parser.feed(text)
        yield from parser.found
    elif file.suffix == ".css":
        yield from outside_styles(text)
    elif file.name != "search_index.js":  # data: the text of the pages
        yield from outside_scripts(text)


def outside_styles(text: str) -> list[str]:
    """The addresses on other hosts that a style sheet loads.

    >>> outside_styles("a{background:url(https://example.org/a.png)} b{background:url(b.png)}")
    ['https://example.org/a.png']
    """
    named = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text)
    return [address for pair in named for address in pair if _is_outside(address)]


def outside_scripts(text: str) -> list[str]:
    """The addresses on other hosts in a script, without those of ``HARMLESS``.

    >>> outside_scripts('/*! https://example.com */ load("https://example.org/a.js"); draw("http://www.w3.org/2000/svg")')
    ['https://example.org/a.js']
    """
    without_comments = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = [match[0] for match in _ADDRESS.finditer(without_comments) if match[0].startswith("http")]
    return [address for address in found if not address.startswith(tuple(HARMLESS))]


def _is_outside(address: str) -> bool:
    """Whether an address is on another host.

    >>> _is_outside("//example.org/a.js"), _is_outside("../a.js"), _is_outside("data:image/png;base64,AA//BB")
    (True, False, False)
    """
    return re.match(r"\s*(?:https?:)?//", address, re.IGNORECASE) is not None
