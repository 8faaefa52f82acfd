"""A page as one HTML file that opens anywhere: no script, no font, no image and no address from outside.

Here are the frame of a page with its table of contents, its style sheet, and sections, figures and images. Functions that escape a text say
so; all other content is page text already.
"""

from __future__ import annotations

import base64
import importlib.resources
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from visus.pages.parts.table import percent


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading, which the table of contents links to.

    Attributes:
        title: its heading; page text.
        content: page text.
        id: the anchor; default: the title in lowercase with hyphens.
    """

    title: str
    content: str
    id: str = ""

    @property
    def anchor(self) -> str:
        """The anchor of the section in the page.

        >>> Section("Layer by layer", "").anchor
        'layer-by-layer'
        """
        return self.id or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def html(self) -> str:
        """The section as page text."""
        return f'<section id="{self.anchor}"><h2>{self.title}</h2>{self.content}</section>'


def page(title: str, header: str, sections: Sequence[Section], *, kind: str, made_with: str, before: str = "") -> str:
    """A whole page as HTML text; the output is deterministic.

    The table of contents stays beside the sections where the page is wide, and is folded where it is narrow.

    Args:
        title: subject of the page; escaped.
        header: HTML above the sections.
        sections: its sections.
        kind: kind of page, such as ``report``; a style class of the page; escaped.
        made_with: the version of visus; escaped.
        before: HTML between the header and the sections.
    """
    style = importlib.resources.files("visus.pages.parts").joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in (before, *(each.html for each in sections)) if part)
    return (
        '<!doctype html>\n<html lang="en-US">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · visus {escape(kind)}</title>\n<style>\n{style}</style>\n</head>\n"
        f'<body class="{escape(kind)}">\n{_contents(sections)}<main>\n<header>{header}</header>\n'
        # A number and its percent sign stay on one line.
        + body.replace(" %", "\u00a0%")
        + f"\n<footer>Written by visus {escape(made_with)}; opens offline.</footer>\n</main>\n</body>\n</html>\n"
    )


def _contents(sections: Sequence[Section]) -> str:
    """The table of contents, once for wide and once, folded, for narrow pages; the style sheet shows one of them."""
    if len(sections) < 2:
        return ""
    listed = "".join(f'<li><a href="#{each.anchor}">{each.title}</a></li>' for each in sections)
    return (
        f'<nav class="contents wide-page" aria-label="Contents"><ol>{listed}</ol></nav>\n'
        f'<nav class="contents narrow-page" aria-label="Contents"><details><summary>Contents</summary><ol>{listed}</ol></details></nav>\n'
    )


def header(eyebrow: str, title: str, under: Iterable[str]) -> str:
    """The start of a page: its kind, its subject, and facts about it; all escaped, empty facts dropped."""
    about = " · ".join(escape(part) for part in under if part)
    return f'<p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1><p class="under">{about}</p>'


def image(png: bytes, label: str, *, width: int | None = None, height: int | None = None, style: str = "") -> str:
    """An image whose bytes are part of the page.

    Args:
        png: the file's bytes.
        label: the text for screen readers; escaped. Empty if the words beside the image say all.
        width, height: size on the page, in CSS pixels; default: the image's own. Enlarged pixels stay squares.
        style: style class.
    """
    size = "".join(f' {name}="{value}"' for name, value in (("width", width), ("height", height)) if value is not None)
    kind = f' class="{style}"' if style else ""
    content = base64.b64encode(png).decode("ascii")
    return f'<img{kind}{size} alt="{escape(label)}" src="data:image/png;base64,{content}">'


def figure(caption: str, content: str, style: str = "") -> str:
    """A drawing under its caption; both are page text."""
    kind = f' class="{style}"' if style else ""
    return f"<figure{kind}><figcaption>{caption}</figcaption>{content}</figure>"


def paragraphs(texts: Iterable[str]) -> str:
    """A paragraph for each text, escaped; empty ones are dropped."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def command_block(command: str) -> str:
    """A command, escaped, that breaks at spaces only, not within an option; empty if there is none.

    >>> command_block("visus look runs/a")
    '<pre class="command"><span>visus</span> <span>look</span> <span>runs/a</span></pre>'
    """
    words = " ".join(f"<span>{escape(word)}</span>" if word else "" for word in command.split(" "))
    return f'<pre class="command">{words}</pre>' if command else ""


def bullets(texts: Iterable[str]) -> str:
    """A list, each item escaped; empty if there is none."""
    listed = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{listed}</ul>" if listed else ""


def beside(left: str, right: str, style: str = "pair") -> str:
    """Two parts beside each other where the page is wide enough, else one below the other: ``pair`` for equal halves."""
    return f'<div class="{style}"><div>{left}</div><div>{right}</div></div>'


def folded(title: str, content: str) -> str:
    """A section that opens at a click on its title, which is escaped."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def shorten(text: str, length: int) -> str:
    r"""A text in one line of at most ``length`` characters; a longer one loses its middle.

    >>> shorten("a very long name of a class of beetles", 16)
    'a very l…beetles'
    """
    flat = " ".join(text.split())
    if len(flat) <= length:
        return flat
    tail = (length - 1) // 2
    return f"{flat[: length - 1 - tail]}…{flat[-tail:]}"


def label_place(share: float) -> str:
    """A label's place: at its share of the width, and moved left by the same share of its own, so that it stays inside."""
    return f"left:{percent(share)};transform:translateX(-{percent(share)})"
