"""A whole network: the shape after each part, taller where the map is larger and wider where it has more channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from visus.design.graph import Node
from visus.units import write_shape

from .svg import BLUE, ORANGE, Drawing

_MAX_HIGH: Final = 150
_MIN_HIGH: Final = 6
_UNIT_PX: Final = 5.2  # for each doubling of the channels
_GAP: Final = 34
_TOP: Final = 30


def draw_stages(name: str, nodes: Iterable[Node], input_shape: tuple[int, ...]) -> str:
    """The drawing of a network's shapes, one box for each shape that its parts reach in a row.

    Args:
        name: the network as text.
        nodes: its parts in order.
        input_shape: ``(channels, *spatial)`` of the input.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = [("input", input_shape)]
    for node in nodes:
        if node.output_shape != shapes[-1][1]:
            shapes.append((node.name, node.output_shape))
        elif node.branches and shapes[-1][0] != "input":
            shapes[-1] = (node.name, node.output_shape)
    longest = max(input_shape[1:], default=1)
    widths = [max(12.0, _UNIT_PX * math.log2(2 * shape[0])) for _, shape in shapes]
    steps = [max(width + _GAP, 74) for width in widths]
    drawing = Drawing(
        f"{name}: shapes from {write_shape(input_shape)} to {write_shape(shapes[-1][1])}",
        "Shapes in order: " + ", ".join(f"{label} {write_shape(shape)}" for label, shape in shapes) + ".",
        sum(steps) + 16,
        _TOP + _MAX_HIGH + 58,
    )
    x = 8.0
    for index, ((label, shape), width, step) in enumerate(zip(shapes, widths, steps, strict=True)):
        size = max(shape[1:], default=1)
        high = (
            _MIN_HIGH + (_MAX_HIGH - _MIN_HIGH) * math.log2(size) / math.log2(max(2, longest))
            if len(shape) > 1
            else _MIN_HIGH
        )
        center, middle = x + step / 2, _TOP + _MAX_HIGH / 2
        color = BLUE if len(shape) > 1 else ORANGE
        drawing.rect(center - width / 2, middle - high / 2, width, high, fill=color, opacity=0.4, radius=2)
        drawing.text(center, middle - high / 2 - 10, write_shape(shape[1:]) if len(shape) > 1 else "", size=11)
        drawing.text(center, _TOP + _MAX_HIGH + 16, str(shape[0]), size=12, bold=True)
        drawing.text(center, _TOP + _MAX_HIGH + 34, label, size=11)
        if index + 1 < len(shapes):
            end = x + step + steps[index + 1] / 2 - widths[index + 1] / 2
            drawing.arrow([(center + width / 2 + 3, middle), (end - 3, middle)])
        x += step
    return drawing.to_svg()
