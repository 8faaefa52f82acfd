"""Tables of a page: a head, rows and cells; they scroll on their own where the page is narrow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from visus.units import write_share

UNDEFINED = '<span class="none" title="undefined">\u2013</span>'
NO_SAMPLES = '<span class="none" title="no samples">\u2013</span>'


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[str],
    *,
    foot: str = "",
    text_columns: Collection[int] = (0,),
    style: str = "",
) -> str:
    """A table with a head.

    Args:
        caption: what it shows; escaped.
        columns: their names; escaped. An empty name heads a column of drawings.
        rows: results of ``table_row``.
        foot: a last row, such as a sum; none by default.
        text_columns: indices of the columns that hold text; the others hold numbers.
        style: style class.
    """
    last = f"<tfoot>{foot}</tfoot>" if foot else ""
    return bare_table(caption, f"{_head(columns, text_columns)}<tbody>{''.join(rows)}</tbody>{last}", style)


def bare_table(caption: str, content: str, style: str = "") -> str:
    """A table around its content, which is page text; the caption is escaped."""
    kind = f' class="{style}"' if style else ""
    label = escape(caption)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}">'
        f"<table{kind}><caption>{label}</caption>{content}</table></div>"
    )


def facts_table(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and values in words, escaped."""
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td class="words">{escape(value)}</td></tr>' for label, value in rows
    )
    return f'<div class="wide"><table><tbody>{body}</tbody></table></div>'


def table_row(label: str, cells: Iterable[str]) -> str:
    """A row; the label is escaped, the cells are page text. Text cells are results of ``text_cell``."""
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(map(_cell, cells))}</tr>'


def text_cell(text: str) -> str:
    """A cell that holds words, which start at the left; escaped."""
    return f'<td class="words">{escape(text)}</td>'


def share_cell(value: float | None, undefined: str = UNDEFINED) -> str:
    """A share as a cell's text; a dash where it is undefined."""
    return undefined if value is None else write_share(value)


def percent_cell(value: float | None) -> str:
    """A share in percent as a cell's text, under a heading that names the unit; a dash where it is undefined.

    >>> percent_cell(0.8125)
    '81.2'
    """
    return UNDEFINED if value is None else f"{100 * value:.1f}"


def share_bar(share: float) -> str:
    """A share as a horizontal bar."""
    return f'<span class="bar" aria-hidden="true"><i style="width:{percent(share)}"></i></span>'


def number(cell: object) -> float | None:
    """The finite number that a cell of a table holds, or None.

    >>> number("0.25"), number(""), number(None), number("nan")
    (0.25, None, None, None)
    """
    try:
        found = float(str(cell))
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None


def percent(share: float) -> str:
    """A share as a length in the style sheet.

    >>> percent(0.25)
    '25.000%'
    """
    return f"{100 * share:.3f}%"


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def _head(columns: Sequence[str], text_columns: Collection[int]) -> str:
    cells = []
    for place, name in enumerate(columns):
        kind = ' class="words"' if place in text_columns else ""
        cells.append(f'<th scope="col"{kind}>{escape(name)}</th>' if name else "<td></td>")
    return f"<thead><tr>{''.join(cells)}</tr></thead>"
