"""An activation: its curve, computed from its formula."""

from __future__ import annotations

import math
from typing import Final

from visus.design.layers.registry import Layer

from ..formulas import function_of
from .svg import BLUE, INK, Drawing

_WIDTH: Final = 320
_HEIGHT: Final = 200
_REACH: Final = 8  # the curve goes from -8 to 8, so that every bend is on it
_NUM_POINTS: Final = 241
_MARGIN: Final = 28


def draw_function(layer: Layer) -> str:
    """The drawing of an activation from -8 to 8."""
    function = function_of(layer.reference.computes, vars(layer))
    xs = [-_REACH + 2 * _REACH * index / (_NUM_POINTS - 1) for index in range(_NUM_POINTS)]
    ys = [function(x) for x in xs]
    low, high = math.floor(min(*ys, 0)), math.ceil(max(*ys, 1))
    drawing = Drawing(
        f"{layer.text} from -{_REACH} to {_REACH}",
        f"The curve of {layer.reference.computes}: {', '.join(f'{function(x):.3g} at {x}' for x in (-3, -1, 0, 1, 3))}.",
        *(_WIDTH, _HEIGHT),
    )

    def place(x: float, y: float) -> tuple[float, float]:
        across = _MARGIN + (x + _REACH) / (2 * _REACH) * (_WIDTH - 2 * _MARGIN)
        return across, _HEIGHT - _MARGIN - (y - low) / (high - low) * (_HEIGHT - 2 * _MARGIN)

    step = max(1, round((high - low) / 4))
    for y in range(math.ceil(low / step) * step, high + 1, step):
        drawing.line([place(-_REACH, y), place(_REACH, y)], width=0.8, opacity=0.7 if y == 0 else 0.15)
        drawing.text(_MARGIN - 6, place(0, y)[1], str(y), anchor="end", size=11)
    for x in range(-_REACH, _REACH + 1, 4):
        drawing.line([place(x, low), place(x, high)], width=0.8, opacity=0.7 if x == 0 else 0.15)
        drawing.text(place(x, low)[0], _HEIGHT - _MARGIN + 12, str(x), size=11)
    drawing.text(_WIDTH - 10, _HEIGHT - _MARGIN + 12, "x", size=12)
    drawing.text(_MARGIN - 6, 12, "y", size=12, color=INK)
    drawing.line([place(x, y) for x, y in zip(xs, ys, strict=True)], color=BLUE, width=2.5, opacity=1)
    return drawing.to_svg()
