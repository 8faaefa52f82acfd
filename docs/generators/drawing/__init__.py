"""Drawings of layers and networks as SVG, computed from the layers' own numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from visus.design.graph import Node
from visus.design.layers.registry import (
    Dropout,
    DropPath,
    Flatten,
    GlobalPool,
    Layer,
    Linear,
    Scale,
    Softmax,
    SqueezeExcite,
    Windowed,
)

from .enlarging import draw_enlarging
from .features import draw_flatten, draw_globalpool, draw_linear, draw_softmax
from .functions import draw_function
from .groups import draw_group
from .norms import draw_norm
from .scaling import draw_dropout, draw_droppath, draw_scale, draw_squeeze_excite
from .stages import draw_stages
from .windows import draw_window

__all__ = ["draw_node", "draw_stages"]

_OWN: Final[dict[type[Layer], Callable[..., str]]] = {
    DropPath: draw_droppath,
    Dropout: draw_dropout,
    Flatten: draw_flatten,
    GlobalPool: draw_globalpool,
    Linear: draw_linear,
    Scale: draw_scale,
    Softmax: draw_softmax,
    SqueezeExcite: draw_squeeze_excite,
}
"""Layers that no other kind of drawing fits."""


def draw_node(node: Node) -> str:
    """The drawing of a layer or a group of layers.

    The kind follows from the layer: its window or enlargement, its norm, its function of each value; else from its class.

    Raises:
        ValueError: no kind of drawing fits the layer.
    """
    layer = node.layer
    if not isinstance(layer, Layer):
        return draw_group(node)
    if type(layer) in _OWN:
        return _OWN[type(layer)](layer)
    if isinstance(layer, Windowed):
        return draw_window(layer) if layer.windows(2) else draw_enlarging(layer)
    if layer.normed(node.input_shape) is not None:
        return draw_norm(layer)
    if layer.reference.computes.startswith("y = "):
        return draw_function(layer)
    raise ValueError(f"no kind of drawing fits {layer.word}")
