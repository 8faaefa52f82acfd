"""A layer with a window on two axes: which input positions one output position reads, the next window, and the channels."""

from __future__ import annotations

import math
from typing import Final

from visus.design.layers.registry import Layer
from visus.geometry import Window
from visus.units import write_shape

from .channels import channels_height, draw_channels
from .svg import BLUE, CELL_PX, INK, ORANGE, Drawing

_MARGIN: Final = 16
_GAP: Final = 58
_MIN_LENGTH: Final = 5
_MIN_PLACES: Final = 3


def draw_window(layer: Layer) -> str:
    """The drawing of a layer that slides a window, on the smallest square map with three output positions on each axis."""
    window = layer.windows(2)[0]
    length = max(window.smallest_input(_MIN_PLACES), _MIN_LENGTH)
    num_places = window.output_size(length)
    before, after = window.padding
    outer = (before + length + after) * CELL_PX
    right = _MARGIN + outer + _GAP
    channels_x = right + num_places * CELL_PX + _GAP
    height = outer + (118 if window.reflect else 96)
    drawing = Drawing(
        f"{layer.text}: from {length} x {length} to {num_places} x {num_places}",
        _description(layer, window, length, num_places),
        max(channels_x + 130, 520),
        max(height, channels_height(layer)),
    )
    left, top = _MARGIN + before * CELL_PX, 34 + before * CELL_PX
    drawing.text(_MARGIN + outer / 2, 16, f"input {length} x {length}" + (", padded" if before + after else ""))
    _draw_input(drawing, layer, window, length, left, top)
    middle = top + length * CELL_PX / 2
    drawing.arrow([(_MARGIN + outer + 12, middle), (right - 12, middle)])
    out_top = middle - num_places * CELL_PX / 2
    drawing.text(right + num_places * CELL_PX / 2, out_top - 16, f"output {num_places} x {num_places}")
    for place, color in ((1, BLUE), (2, ORANGE)):
        drawing.rect(right + place * CELL_PX, out_top + CELL_PX, CELL_PX, CELL_PX, fill=color, opacity=0.55)
    drawing.grid(right, out_top, num_places, num_places)
    if layer.row_kind == "pool":
        drawing.text(right + 1.5 * CELL_PX, out_top + 1.5 * CELL_PX, _pooled(layer, window, length), size=11)
    draw_channels(drawing, layer, channels_x)
    bottom = 34 + outer + 20
    drawing.text(_MARGIN, bottom, f"size of an axis: {window.sum_text(length)}", anchor="start")
    drawing.text(
        *(_MARGIN, bottom + 22),
        f"The next window (orange) starts {window.stride} {'position' if window.stride == 1 else 'positions'} further.",
        anchor="start",
    )
    if window.reflect:
        total = 2 ** (2 * (window.kernel_size - 1))
        words = f"Numbers: fixed weights, divided by {total}. Dashed cells mirror the map."
        drawing.text(_MARGIN, bottom + 44, words, anchor="start")
    return drawing.to_svg()


def _draw_input(drawing: Drawing, layer: Layer, window: Window, length: int, left: float, top: float) -> None:
    """The padded input with both windows."""
    before, after = window.padding
    rows, columns, following = window.taps(1), window.taps(1), window.taps(2)
    for row in range(-before, length + after):
        for column in range(-before, length + after):
            x, y = left + column * CELL_PX, top + row * CELL_PX
            is_read = row in rows and column in columns
            inside = 0 <= row < length and 0 <= column < length
            drawing.rect(
                *(x, y, CELL_PX, CELL_PX),
                fill=BLUE if is_read else INK,
                opacity=0.45 if is_read else 0.0,
                dashed=not inside,
                line_opacity=0.6 if inside else 0.35,
            )
            words = _cell_text(layer, window, row, column, is_read, inside)
            if words:
                drawing.text(x + CELL_PX / 2, y + CELL_PX / 2, words, size=12)
    span = window.span * CELL_PX
    for taps, color, dashed in ((following, ORANGE, True), (columns, BLUE, False)):
        drawing.rect(
            *(left + taps.start * CELL_PX, top + rows.start * CELL_PX, span, span),
            line=color,
            line_width=2.5,
            dashed=dashed,
            line_opacity=1,
        )


def _cell_text(layer: Layer, window: Window, row: int, column: int, is_read: bool, inside: bool) -> str:
    """What stands in a cell: a value for pools, the fixed weight for a blur, 0 in the padding of a convolution."""
    if layer.row_kind == "pool":
        return str(_value(row, column)) if inside else ""
    if window.reflect:
        last = window.kernel_size - 1
        taps = list(window.taps(1))
        return str(math.comb(last, taps.index(row)) * math.comb(last, taps.index(column))) if is_read else ""
    return "" if inside else "0"


def _value(row: int, column: int) -> int:
    """A made-up value of the input, from 0 to 9."""
    return (7 * row + 5 * column + row * column) % 10


def _pooled(layer: Layer, window: Window, length: int) -> str:
    """The value of the output position (1, 1)."""
    places = [place for place in window.taps(1) if 0 <= place < length]
    values = [_value(row, column) for row in places for column in places]
    return str(max(values)) if layer.word == "maxpool" else f"{sum(values) / window.kernel_size**2:.4g}"


def _description(layer: Layer, window: Window, length: int, num_places: int) -> str:
    kind = "mirrored" if window.reflect else "padded"
    padding = (
        f", {kind} by {window.padding[0]} before and {window.padding[1]} after each axis," if sum(window.padding) else ""
    )
    kernel = write_shape((window.kernel_size,) * 2)
    dilation = f" with gaps (dilation {window.dilation}), so it spans {window.span}" if window.dilation > 1 else ""
    return (
        f"A grid of {length} x {length} positions{padding} becomes {num_places} x {num_places}. The output at row 1, column 1 reads "
        f"{kernel} positions{dilation}. The next window starts {window.stride} further."
    )
