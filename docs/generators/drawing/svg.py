"""A drawing as SVG text: shapes, words and arrows in the colors of the page, with a title and a description for screen readers.

Lines and words have the color of the text around the drawing, so that it can be read on light and dark pages. Marks have two fixed
colors that differ on both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Final

INK: Final = "currentColor"
BLUE: Final = "#3d85f0"
ORANGE: Final = "#ee8a2a"
FONT_PX: Final = 13
CELL_PX: Final = 24


class Drawing:
    """Elements in pixels, added one after the other.

    Args:
        title: what is drawn, in a few words.
        description: what there is to see, in sentences.
        width, height: size in pixels.
    """

    def __init__(self, title: str, description: str, width: float, height: float) -> None:
        self.title, self.description, self.width, self.height = title, description, width, height
        self._elements: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str = "none", opacity: float = 1.0, line: str = INK,
        line_width: float = 1.0, dashed: bool = False, line_opacity: float = 0.6, radius: float = 0.0,
    ) -> None:  # fmt: skip
        """A rectangle; ``opacity`` is that of its fill."""
        marks = ' stroke-dasharray="3 3"' if dashed else ""
        marks += f' rx="{radius:g}"' if radius else ""
        marks += f' stroke-width="{line_width:g}"' if line_width != 1 else ""
        marks += "" if fill == "none" or opacity == 0 else f' fill-opacity="{opacity:.3g}"'
        self._elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill if opacity else "none"}" '
            f'stroke="{line}" stroke-opacity="{line_opacity:g}"{marks}/>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], *, color: str = INK, width: float = 1.2, opacity: float = 0.8
    ) -> None:
        """A line through points."""
        path = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
        self._elements.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}" stroke-opacity="{opacity:g}"/>'
        )

    def arrow(self, points: Sequence[tuple[float, float]], *, color: str = INK) -> None:
        """A line with a head at its last point; the last stretch is horizontal or vertical."""
        (x0, y0), (x1, y1) = points[-2:]
        along = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        back = x1 - 6 * along[0], y1 - 6 * along[1]
        head = [
            (back[0] - 4 * along[1], back[1] - 4 * along[0]),
            (x1, y1),
            (back[0] + 4 * along[1], back[1] + 4 * along[0]),
        ]
        self.line(points, color=color)
        self.line(head, color=color)

    def circle(self, x: float, y: float, radius: float, *, fill: str = "none", opacity: float = 1.0) -> None:
        """A circle; ``opacity`` is that of its fill."""
        self._elements.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" fill-opacity="{opacity:g}" stroke="{INK}" '
            'stroke-opacity="0.7"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "middle",
        size: float = FONT_PX,
        color: str = INK,
        bold: bool = False,
    ) -> None:
        """Words on one line; ``y`` is the middle of their height."""
        weight = ' font-weight="600"' if bold else ""
        self._elements.append(
            f'<text x="{x:g}" y="{y + size * 0.35:.4g}" font-size="{size:g}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(words)}</text>'
        )

    def grid(self, x: float, y: float, rows: int, columns: int, *, cell: float = CELL_PX, line_opacity: float = 0.6) -> None:
        """Empty cells."""
        lines = [f"M{x:g} {y + row * cell:g}h{columns * cell:g}" for row in range(rows + 1)]
        lines += [f"M{x + column * cell:g} {y:g}v{rows * cell:g}" for column in range(columns + 1)]
        self._elements.append(f'<path d="{"".join(lines)}" fill="none" stroke="{INK}" stroke-opacity="{line_opacity:g}"/>')

    def to_svg(self) -> str:
        """The drawing as one line of SVG."""
        key = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" '
            f'height="{self.height:g}" role="img" aria-labelledby="{key}-title {key}-text" style="max-width:100%;height:auto">'
            f'<title id="{key}-title">{escape(self.title)}</title><desc id="{key}-text">{escape(self.description)}</desc>'
            f"{''.join(self._elements)}</svg>"
        )
