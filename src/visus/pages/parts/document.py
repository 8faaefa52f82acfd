"""A page as one HTML file that opens anywhere: no script, no font, no image and no address from outside.

This file knows the frame of a page, its style sheet, and the pieces that pages are made of. Texts are escaped by the pieces
that say so; all other content is page text already.
"""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Iterable, Sequence
from html import escape

from visus.units import write_share


def page(title: str, header: str, sections: Iterable[str], *, kind: str, made_with: str) -> str:
    """A whole page as HTML text; the same pieces give the same text.

    Args:
        title: what the page is about; escaped.
        header: what stands above the sections, as page text.
        sections: page text of each; empty ones are left out.
        kind: what the page is, such as ``report``; escaped.
        made_with: the version of visus; escaped.
    """
    style = importlib.resources.files("visus.pages.parts").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · visus {escape(kind)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header>{header}</header>\n"
        # A number and its per cent sign stay on one line.
        + "\n".join(part.replace(" %", "\u00a0%") for part in sections if part)
        + f"\n<footer>Written by visus {escape(made_with)}. "
        "This page is complete in itself and opens without a connection.</footer>\n</main>\n</body>\n</html>\n"
    )


def header(eyebrow: str, title: str, under: Iterable[str]) -> str:
    """What a page starts with: what it is, of what, and facts about it; all escaped, empty facts left out."""
    about = " · ".join(escape(part) for part in under if part)
    return f'<p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1><p class="under">{about}</p>'


def image(png: bytes, told: str, *, width: int | None = None, height: int | None = None, style: str = "") -> str:
    """An image that the page carries in itself.

    Args:
        png: the file's bytes.
        told: what a person hears who cannot see it; escaped. Empty where the words beside it say all.
        width, height: size on the page, in CSS pixels; the image's own where they are left out. Enlarged pixels stay squares.
        style: style class.
    """
    size = "".join(f' {name}="{value}"' for name, value in (("width", width), ("height", height)) if value is not None)
    kind = f' class="{style}"' if style else ""
    content = base64.b64encode(png).decode("ascii")
    return f'<img{kind}{size} alt="{escape(told)}" src="data:image/png;base64,{content}">'


def section(title: str, content: str) -> str:
    """A part of a page under a heading; both are page text."""
    return f"<section><h2>{title}</h2>{content}</section>"


def beside(left: str, right: str, style: str = "pair") -> str:
    """Two parts beside each other where the page is wide enough, else one below the other: ``pair`` for equal halves."""
    return f'<div class="{style}"><div>{left}</div><div>{right}</div></div>'


def folded(title: str, content: str) -> str:
    """What opens at a click on its title, which is escaped."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def wide_table(caption: str, content: str, style: str = "") -> str:
    """A table that scrolls on its own where the page is narrow; the caption is escaped, the content is page text."""
    kind = f' class="{style}"' if style else ""
    label = escape(caption)
    table = f"<table{kind}><caption>{label}</caption>{content}</table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def facts_table(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and values in words, escaped."""
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td class="words">{escape(value)}</td></tr>' for label, value in rows
    )
    return f'<div class="wide"><table><tbody>{body}</tbody></table></div>'


def table_head(names: Sequence[str], num_words: int = 1) -> str:
    """A table's head; its first ``num_words`` columns hold words, the others numbers. An empty name heads a drawing."""
    cells = []
    for place, name in enumerate(names):
        kind = ' class="words"' if place < num_words else ""
        cells.append(f'<th scope="col"{kind}>{escape(name)}</th>' if name else "<td></td>")
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def table_row(label: str, cells: Iterable[str]) -> str:
    """A table row; the label is escaped, the cells are page text already."""
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def share_cell(value: float | None) -> str:
    """A share as a cell's text; a dash where it is undefined."""
    return '<span class="none" title="undefined">\u2013</span>' if value is None else write_share(value)


def percent(share: float) -> str:
    """A share as a length of the style sheet."""
    return f"{100 * share:.3f}%"


def label_place(share: float) -> str:
    """A label's place: at its share of the width, and moved left by the same share of its own, so that it stays inside."""
    return f"left:{percent(share)};transform:translateX(-{percent(share)})"
