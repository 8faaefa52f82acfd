"""Layers that multiply values by factors: squeeze-and-excite, scale, dropout, droppath."""

from __future__ import annotations

import random
from typing import Any, Final

from visus.design.layers.registry import Layer

from .svg import BLUE, CELL_PX, INK, ORANGE, Drawing

_MARGIN: Final = 16
_SIDE: Final = 5
_SHADES: Final = (0.15, 0.7, 0.4, 0.25)
_SEED: Final = 1


def draw_scale(layer: Layer) -> str:
    """Four channels, each with a factor of its own."""
    channels, cell = layer.num_parameters((4, 3, 3)), CELL_PX
    step = 3 * cell + 34
    drawing = Drawing(
        f"{layer.text}: a factor for each channel",
        f"{channels} channels, each multiplied by its own trained factor, at first {vars(layer)['init']:g}.",
        2 * _MARGIN + channels * step,
        176,
    )
    for channel in range(channels):
        left = _MARGIN + channel * step + 17
        drawing.text(left + 1.5 * cell, 16, f"channel {channel}")
        drawing.grid(left, 32, 3, 3)
        drawing.text(left + 1.5 * cell, 124, "times")
        drawing.rect(left + cell - 14, 138, 52, cell, fill=BLUE, opacity=0.5)
        drawing.text(left + 1.5 * cell, 150, f"{vars(layer)['init']:g}")
    return drawing.to_svg()


def draw_squeeze_excite(layer: Layer) -> str:
    """From a map to the means of its channels, through two linear layers to a factor for each channel."""
    gate: Any = layer
    channels, squeezed = len(_SHADES), min(gate.squeeze_channels, len(_SHADES))
    drawing = Drawing(
        f"{layer.text}: a factor for each channel from the whole map",
        f"The mean of each channel goes through a linear layer to {gate.squeeze_channels} values, {gate.activation}, a second "
        f"linear layer and {gate.scale_activation}; the result multiplies the channel.",
        620,
        210,
    )
    top, row = 44, 36
    inner = top + (channels - squeezed) * row / 2
    for channel in range(channels):
        y = top + channel * row
        drawing.grid(_MARGIN, y, 2, 4, cell=14)
        drawing.arrow([(_MARGIN + 62, y + 14), (118, y + 14)])
        drawing.circle(130, y + 14, 8, fill=INK, opacity=0.15)
        for index in range(squeezed):
            drawing.line([(138, y + 14), (222, inner + index * row + 14)], opacity=0.35)
            drawing.line([(238, inner + index * row + 14), (322, y + 14)], opacity=0.35)
        drawing.circle(330, y + 14, 8, fill=BLUE, opacity=_SHADES[channel])
        drawing.arrow([(342, y + 14), (400, y + 14)])
        drawing.text(412, y + 14, "\u00d7")
        drawing.rect(426, y, 56, 28, fill=BLUE, opacity=_SHADES[channel])
        drawing.grid(426, y, 2, 4, cell=14)
    for index in range(squeezed):
        drawing.circle(230, inner + index * row + 14, 8, fill=ORANGE, opacity=0.5)
    for x, words in ((44, "input"), (130, "means"), (330, "factors"), (454, "output")):
        drawing.text(x, 18, words)
    drawing.text(230, 18, f"{gate.squeeze_channels} values")
    drawing.text(230, 196, gate.activation, size=12)
    drawing.text(330, 196, gate.scale_activation, size=12)
    return drawing.to_svg()


def draw_dropout(layer: Layer) -> str:
    """A map in which values are dropped at random, and the factor of the others."""
    p = vars(layer)["p"]
    draw = random.Random(_SEED)
    kept = [[draw.random() >= p for _ in range(_SIDE)] for _ in range(_SIDE)]
    num_kept = sum(map(sum, kept))
    outer = _SIDE * CELL_PX
    drawing = Drawing(
        f"{layer.text} in training",
        f"Of {_SIDE * _SIDE} values, {_SIDE * _SIDE - num_kept} became 0 in this draw and {num_kept} were divided by {1 - p:g}.",
        2 * _MARGIN + 2 * outer + 70,
        outer + 70,
    )
    right = _MARGIN + outer + 70
    drawing.rect(_MARGIN, 34, outer, outer, fill=BLUE, opacity=0.3)
    drawing.grid(_MARGIN, 34, _SIDE, _SIDE)
    drawing.arrow([(_MARGIN + outer + 12, 34 + outer / 2), (right - 12, 34 + outer / 2)])
    for row, values in enumerate(kept):
        for column, is_kept in enumerate(values):
            x, y = right + column * CELL_PX, 34 + row * CELL_PX
            drawing.rect(x, y, CELL_PX, CELL_PX, fill=BLUE, opacity=0.3 / (1 - p) if is_kept else 0)
            if not is_kept:
                drawing.text(x + CELL_PX / 2, y + CELL_PX / 2, "0", size=12)
    drawing.text(_MARGIN + outer / 2, 16, "input")
    drawing.text(right + outer / 2, 16, "output")
    drawing.text(_MARGIN, outer + 54, f"The values that are left are divided by {1 - p:g}.", anchor="start")
    return drawing.to_svg()


def draw_droppath(layer: Layer) -> str:
    """A batch of four samples at the end of a residual, one of which is dropped."""
    p = vars(layer)["p"]
    draw = random.Random(_SEED)
    kept = [draw.random() >= p for _ in range(4)]
    outer, step = 3 * CELL_PX, 3 * CELL_PX + 34
    drawing = Drawing(
        f"{layer.text} in training",
        f"Of {len(kept)} samples, {len(kept) - sum(kept)} became 0 in this draw and {sum(kept)} were divided by {1 - p:g}.",
        2 * _MARGIN + len(kept) * step,
        outer + 76,
    )
    for index, is_kept in enumerate(kept):
        left = _MARGIN + index * step + 17
        drawing.text(left + outer / 2, 16, f"sample {index}")
        drawing.rect(left, 34, outer, outer, fill=BLUE, opacity=0.3 / (1 - p) if is_kept else 0)
        drawing.grid(left, 34, 3, 3)
        if not is_kept:
            for cell in range(9):
                drawing.text(left + (cell % 3 + 0.5) * CELL_PX, 34 + (cell // 3 + 0.5) * CELL_PX, "0", size=12)
        drawing.text(left + outer / 2, outer + 52, f"divided by {1 - p:g}" if is_kept else "0", size=12)
    return drawing.to_svg()
