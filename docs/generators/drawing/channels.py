"""The channels of a layer: which input channels each output channel reads."""

from __future__ import annotations

from typing import Any, Final

from visus.design.layers.registry import Layer

from .svg import BLUE, INK, Drawing

_BOX: Final = 14
_STEP: Final = 22
_MAX_SHOWN: Final = 6
_NUM_CHANNELS: Final = 3
_TOP: Final = 34
_APART: Final = 80


def channels_height(layer: Layer) -> float:
    """Height that the drawing of a layer's channels needs, in pixels."""
    return _TOP + min(_out_channels(layer), _MAX_SHOWN) * _STEP + 28


def draw_channels(drawing: Drawing, layer: Layer, x: float) -> None:
    """Two columns of channels joined by lines: input on the left, output on the right; at most six are drawn."""
    in_channels, out_channels, y = _NUM_CHANNELS, _out_channels(layer), _TOP
    convolution: Any = layer
    groups = convolution.num_groups(in_channels) if hasattr(layer, "num_groups") else in_channels
    shown_in, shown_out = min(in_channels, _MAX_SHOWN), min(out_channels, _MAX_SHOWN)
    height = max(shown_in, shown_out) * _STEP
    tops = [y + (height - shown * _STEP) / 2 for shown in (shown_in, shown_out)]
    drawing.text(x + _APART / 2 + _BOX / 2, 16, f"channels: {in_channels} to {out_channels}")
    for output in range(shown_out):
        group = output * groups // out_channels
        for channel in range(shown_in):
            if channel * groups // in_channels == group:
                start = (x + _BOX, tops[0] + channel * _STEP + _BOX / 2)
                end = (x + _APART, tops[1] + output * _STEP + _BOX / 2)
                drawing.line([start, end], color=BLUE if output == 0 else INK, opacity=1 if output == 0 else 0.35)
    for column, shown in enumerate((shown_in, shown_out)):
        for index in range(shown):
            marked = column == 1 and index == 0
            drawing.rect(
                *(x + column * _APART, tops[column] + index * _STEP, _BOX, _BOX),
                fill=BLUE if marked else INK,
                opacity=0.55 if marked else 0.12,
            )
    if out_channels > shown_out:
        drawing.text(x + _APART + _BOX / 2, tops[1] + shown_out * _STEP + 4, f"... {out_channels}")


def _out_channels(layer: Layer) -> int:
    return layer.output_shape((_NUM_CHANNELS, 64, 64))[0]
