"""Reads generated pages: the section below a heading, and the drawings and formulas in it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

SVG = "{http://www.w3.org/2000/svg}"


def section(page: str, heading: str) -> str:
    """The text from a heading to the next one of the same level."""
    level = heading.split(" ")[0]
    parts = re.split(rf"^{re.escape(heading)}$", page, maxsplit=1, flags=re.M)
    assert len(parts) == 2, f"the page has no heading '{heading}'"
    return re.split(rf"^#{{1,{len(level)}}} ", parts[1], maxsplit=1, flags=re.M)[0]


def drawings(text: str) -> list[ElementTree.Element]:
    """The parsed drawings of a text."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg .*?</svg>", text, re.S)]


def formulas(text: str) -> list[ElementTree.Element]:
    """The parsed formulas of a text."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<math .*?</math>", text, re.S)]


def check_drawing(drawing: ElementTree.Element) -> None:
    """A screen reader finds a title and a description, nothing lies outside, and words have the color of the page."""
    names = {drawing.find(f"{SVG}title").get("id"), drawing.find(f"{SVG}desc").get("id")}  # type: ignore[union-attr]
    assert drawing.get("role") == "img"
    assert set((drawing.get("aria-labelledby") or "").split()) == names
    assert all((drawing.find(f"{SVG}{tag}").text or "").strip() for tag in ("title", "desc"))  # type: ignore[union-attr]
    width, height = float(drawing.get("width", 0)), float(drawing.get("height", 0))
    for word in drawing.iter(f"{SVG}text"):
        assert word.get("fill") == "currentColor"
        assert 0 <= float(word.get("x", -1)) <= width, word.text
        assert 0 <= float(word.get("y", -1)) <= height, word.text
    for box in drawing.iter(f"{SVG}rect"):
        left, top, wide, high = (float(box.get(name, -1)) for name in ("x", "y", "width", "height"))
        assert min(left, top) >= 0, (drawing.findtext(f"{SVG}title"), left, top)
        assert left + wide <= width, (drawing.findtext(f"{SVG}title"), left + wide, width)
        assert top + high <= height, (drawing.findtext(f"{SVG}title"), top + high, height)


def check_ids(page: str) -> None:
    """No two drawings of a page share an id."""
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), [each for each in ids if ids.count(each) > 1]
