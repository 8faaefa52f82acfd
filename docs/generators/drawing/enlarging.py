"""A layer that enlarges a map: the output positions that read one input position, and those that read the next."""

from __future__ import annotations

from typing import Final

from visus.design.layers.registry import Layer

from .channels import channels_height, draw_channels
from .svg import BLUE, CELL_PX, ORANGE, Drawing

_MARGIN: Final = 16
_GAP: Final = 58
_LENGTH: Final = 3


def draw_enlarging(layer: Layer) -> str:
    """The drawing of a transposed convolution or an upsampling of a map of 3 x 3."""
    axis_op = layer.axis_ops(2)[0]
    num_places = axis_op.output_size(_LENGTH)
    right = _MARGIN + _LENGTH * CELL_PX + _GAP
    outer = num_places * CELL_PX
    top = 34
    middle = top + outer / 2
    channels_x = right + outer + _GAP
    readers = [[place for place in range(num_places) if index in axis_op.taps(place)] for index in (1, 2)]
    drawing = Drawing(
        f"{layer.text}: from {_LENGTH} x {_LENGTH} to {num_places} x {num_places}",
        f"A grid of {_LENGTH} x {_LENGTH} positions becomes {num_places} x {num_places}. The input at row 1, column 1 is read by "
        f"{len(readers[0])} x {len(readers[0])} output positions; those of its neighbor start {readers[1][0] - readers[0][0]} further.",
        max(channels_x + 130, 520),
        max(top + outer + 64, channels_height(layer)),
    )
    in_top = middle - _LENGTH * CELL_PX / 2
    drawing.text(_MARGIN + _LENGTH * CELL_PX / 2, in_top - 18, f"input {_LENGTH} x {_LENGTH}")
    drawing.text(right + outer / 2, 16, f"output {num_places} x {num_places}")
    for index, color in ((1, BLUE), (2, ORANGE)):
        drawing.rect(_MARGIN + index * CELL_PX, in_top + CELL_PX, CELL_PX, CELL_PX, fill=color, opacity=0.55)
        for row in readers[0]:
            for column in readers[index - 1]:
                drawing.rect(right + column * CELL_PX, top + row * CELL_PX, CELL_PX, CELL_PX, fill=color, opacity=0.4)
    drawing.grid(_MARGIN, in_top, _LENGTH, _LENGTH)
    drawing.grid(right, top, num_places, num_places)
    drawing.arrow([(_MARGIN + _LENGTH * CELL_PX + 12, middle), (right - 12, middle)])
    draw_channels(drawing, layer, channels_x)
    bottom = top + outer + 20
    drawing.text(_MARGIN, bottom, f"size of an axis: {axis_op.sum_text(_LENGTH)}", anchor="start")
    drawing.text(_MARGIN, bottom + 22, "Colored outputs read the input of their color.", anchor="start")
    return drawing.to_svg()
