"""Groups of layers: boxes joined by arrows, with the shapes that visus computes."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Final

from visus.design.graph import Node
from visus.units import write_shape

from .svg import BLUE, INK, ORANGE, Drawing

_BOX: Final = 188
_HIGH: Final = 26
_GAP: Final = 22
_COLUMN: Final = 214
_TOP: Final = 60


def draw_group(node: Node) -> str:
    """The drawing of a sequence, a residual or a concat: a column of boxes for each branch."""
    columns: list[list[Node]] = [list(branch) for branch in node.branches]
    if node.layer.word == "concat":
        columns = [list(branch[0].branches[0]) for branch in node.branches]
    elif node.layer.word == "residual":
        projection = list(node.branches[1][0].branches[0]) if len(node.branches) > 1 else []
        columns = [list(node.branches[0]), projection]
    join = {"concat": "concatenate channels", "residual": "add"}.get(node.layer.word, "")
    tallest = max(map(len, columns))
    height = _TOP + tallest * (_HIGH + _GAP) + (90 if join else 40)
    drawing = Drawing(
        f"{node.layer.word}: {write_shape(node.input_shape)} to {write_shape(node.output_shape)}",
        _description(columns, join, node),
        len(columns) * _COLUMN + 20,
        height,
    )
    middle = (len(columns) * _COLUMN + 20) / 2
    drawing.text(middle, 14, f"x: {write_shape(node.input_shape)}", bold=True)
    bottom = _TOP + tallest * (_HIGH + _GAP)
    for index, column in enumerate(columns):
        center = 10 + index * _COLUMN + _COLUMN / 2
        is_shortcut = node.layer.word == "residual" and index == 1
        start = [(middle, 24), (middle, 36), (center, 36), (center, _TOP - 4 if column else bottom)]
        drawing.arrow(start) if column or not join else drawing.line(start)
        _draw_column(drawing, column, center, bottom if join else None, color=ORANGE if is_shortcut else BLUE)
        if join:
            drawing.arrow([(center, bottom), (center, bottom + 14), (middle, bottom + 14), (middle, bottom + 30)])
    if join:
        drawing.rect(middle - 80, bottom + 32, 160, _HIGH, fill=INK, opacity=0.1, radius=4)
        drawing.text(middle, bottom + 32 + _HIGH / 2, join)
        bottom += 46
    drawing.text(middle, bottom + (30 if join else 14), f"y: {write_shape(node.output_shape)}", bold=True)
    return drawing.to_svg()


def _draw_column(drawing: Drawing, column: Many[Node], center: float, end: float | None, *, color: str) -> None:
    """The boxes of one branch, and a line from the last down to ``end``."""
    for index, node in enumerate(column):
        y = _TOP + index * (_HIGH + _GAP)
        drawing.rect(center - _BOX / 2, y, _BOX, _HIGH, fill=color, opacity=0.22, radius=4)
        text = node.layer.text.replace("padding=", "p=").replace("stride=", "s=").replace("bias=False", "no bias")
        drawing.text(center, y + _HIGH / 2, text if len(text) <= 29 else f"{text[:27]}...", size=12)
        drawing.text(center + 6, y + _HIGH + _GAP / 2, write_shape(node.output_shape), anchor="start", size=11)
        if index + 1 < len(column):
            drawing.arrow([(center, y + _HIGH), (center, y + _HIGH + _GAP - 2)])
        elif end is None:
            drawing.line([(center, y + _HIGH), (center, y + _HIGH + _GAP - 4)])
        else:
            drawing.line([(center, y + _HIGH), (center, end)])


def _description(columns: Many[Many[Node]], join: str, node: Node) -> str:
    paths = ["; ".join(each.layer.text for each in column) or "the input itself" for column in columns]
    ending = f" Their outputs: {join}." if join else ""
    return (
        f"From {write_shape(node.input_shape)}: {' | '.join(paths)}.{ending} The output is {write_shape(node.output_shape)}."
    )
