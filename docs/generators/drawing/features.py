"""Layers from maps to features and between features: flatten, linear, global pooling, softmax."""

from __future__ import annotations

import math
from typing import Final

from visus.design.layers.registry import Layer

from .svg import BLUE, CELL_PX, INK, ORANGE, Drawing

_COLORS: Final = (BLUE, ORANGE, INK)
_SHADES: Final = (0.4, 0.4, 0.18)
_ROWS: Final = 2
_COLUMNS: Final = 3
_MARGIN: Final = 16
_NUM_INPUTS: Final = 4
_SCORES: Final = (2.0, 1.0, 0.0, -1.0)


def draw_flatten(layer: Layer) -> str:
    """Three channels of 2 x 3 positions, numbered in the order of the features."""
    channels, each = len(_COLORS), _ROWS * _COLUMNS
    (total,) = layer.output_shape((channels, _ROWS, _COLUMNS))
    cell = CELL_PX
    drawing = Drawing(
        f"{layer.text}: {channels} x {_ROWS} x {_COLUMNS} to {total}",
        f"{channels} channels of {_ROWS} x {_COLUMNS} positions become {total} features: channel by channel, row by row.",
        _MARGIN * 2 + total * cell,
        190,
    )
    for index in range(total):
        channel, place = divmod(index, each)
        row, column = divmod(place, _COLUMNS)
        x = _MARGIN + channel * (each * cell) + 1.5 * cell + column * cell
        y = 34 + row * cell
        for left, top in ((x, y), (_MARGIN + index * cell, 130)):
            drawing.rect(left, top, cell, cell, fill=_COLORS[channel], opacity=_SHADES[channel])
            drawing.text(left + cell / 2, top + cell / 2, str(index), size=11)
    for channel in range(channels):
        center = _MARGIN + (channel + 0.5) * each * cell
        drawing.text(center, 16, f"channel {channel}")
        drawing.arrow([(center, 34 + _ROWS * cell + 8), (center, 122)])
    drawing.text(_MARGIN, 172, f"{total} features", anchor="start")
    return drawing.to_svg()


def draw_globalpool(layer: Layer) -> str:
    """Three channels of 3 x 3 positions, and one feature for each."""
    channels, side, cell = len(_COLORS), 3, CELL_PX
    (features,) = layer.output_shape((channels, side, side))
    step = side * cell + 40
    drawing = Drawing(
        f"{layer.text}: {channels} x {side} x {side} to {features}",
        f"Each of {channels} channels of {side} x {side} positions becomes one feature.",
        _MARGIN * 2 + channels * step,
        186,
    )
    for channel in range(features):
        left = _MARGIN + channel * step + 20
        center = left + side * cell / 2
        drawing.text(center, 16, f"channel {channel}")
        drawing.rect(left, 32, side * cell, side * cell, fill=_COLORS[channel], opacity=_SHADES[channel])
        drawing.grid(left, 32, side, side)
        drawing.arrow([(center, 32 + side * cell + 6), (center, 134)])
        drawing.rect(center - cell / 2, 138, cell, cell, fill=_COLORS[channel], opacity=_SHADES[channel])
    drawing.text(_MARGIN + channels * step / 2, 175, f"{features} features")
    return drawing.to_svg()


def draw_linear(layer: Layer) -> str:
    """Four features, each joined with each output."""
    (outputs,) = layer.output_shape((_NUM_INPUTS,))
    shown = min(outputs, 5)
    drawing = Drawing(
        f"{layer.text}: {_NUM_INPUTS} features to {outputs}",
        f"Each of {outputs} outputs is a weighted sum of all {_NUM_INPUTS} features: {layer.macs((_NUM_INPUTS,))} weights.",
        340,
        60 + 30 * max(shown, _NUM_INPUTS) + 20,
    )
    tops = [40 + 15 * (max(shown, _NUM_INPUTS) - count) for count in (_NUM_INPUTS, shown)]
    for output in range(shown):
        for feature in range(_NUM_INPUTS):
            color, opacity = (BLUE, 1.0) if output == 0 else (INK, 0.3)
            ends = [(100, tops[0] + 30 * feature + 12), (240, tops[1] + 30 * output + 12)]
            drawing.line(ends, color=color, opacity=opacity)
    for column, count in enumerate((_NUM_INPUTS, shown)):
        for index in range(count):
            marked = column == 1 and index == 0
            fill, opacity = (BLUE, 0.6) if marked else (INK, 0.15)
            drawing.circle(100 + column * 140, tops[column] + 30 * index + 12, 9, fill=fill, opacity=opacity)
    if outputs > shown:
        drawing.text(240, tops[1] + 30 * shown + 10, f"... {outputs}")
    drawing.text(100, 18, f"{_NUM_INPUTS} features")
    drawing.text(240, 18, f"{outputs} outputs")
    return drawing.to_svg()


def draw_softmax(layer: Layer) -> str:
    """Four values as bars, and the probabilities that the formula makes of them."""
    total = sum(math.exp(score) for score in _SCORES)
    shares = [math.exp(score) / total for score in _SCORES]
    drawing = Drawing(
        f"{layer.text}: four values to probabilities",
        "The values "
        + ", ".join(f"{score:g}" for score in _SCORES)
        + " become "
        + ", ".join(f"{share:.3f}" for share in shares)
        + ".",
        420,
        190,
    )
    for index, (score, share) in enumerate(zip(_SCORES, shares, strict=True)):
        for left, height, label, base in ((24, 30 * score, f"{score:g}", 110.0), (250, 110 * share, f"{share:.3f}", 140.0)):
            x = left + 38 * index
            drawing.rect(x, base - max(height, 0), 26, max(abs(height), 0.5), fill=BLUE, opacity=0.5)
            drawing.text(x + 13, base - height - 10 if height >= 0 else base + abs(height) + 10, label, size=11)
    drawing.line([(16, 110), (180, 110)])
    drawing.line([(242, 140), (406, 140)])
    drawing.arrow([(192, 90), (232, 90)])
    drawing.text(100, 178, "values")
    drawing.text(324, 178, f"probabilities, sum {sum(shares):.3g}")
    return drawing.to_svg()
