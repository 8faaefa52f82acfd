"""A norm: the values that share one mean and one standard deviation, in a batch of three samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from visus.design.flow import Normed
from visus.design.layers.registry import Layer
from visus.units import write_number_of

from .svg import BLUE, CELL_PX, ORANGE, Drawing

_NUM_SAMPLES: Final = 3
_NUM_CHANNELS: Final = 4
_NUM_POSITIONS: Final = 5
_LEFT: Final = 92
_TOP: Final = 44
_GAP: Final = 22

Cell = tuple[int, int, int]


def draw_norm(layer: Layer) -> str:
    """The drawing of a norm: rows are channels, columns are positions, one block for each sample. Two sets are colored.

    Raises:
        ValueError: the colored cells are not as many as the layer normalizes over.
    """
    groups = getattr(layer, "num_groups", 1)
    channels = max(_NUM_CHANNELS, groups)
    normed = layer.normed((channels, _NUM_POSITIONS))
    if normed is None:
        raise ValueError(f"{layer.word} is no norm")
    set_of = _sets(normed)
    cells = [(n, c, p) for n in range(_NUM_SAMPLES) for c in range(channels) for p in range(_NUM_POSITIONS)]
    first = set_of((0, 0, 0))
    second = next(set_of(cell) for cell in cells if set_of(cell) != first)
    counted = sum(set_of(cell) == first for cell in cells)
    expected = normed.num_values * (_NUM_SAMPLES if normed.by == "batch" else 1)
    if counted != expected:
        raise ValueError(f"{layer.word} normalizes over {expected} values, and {counted} are colored")
    block = _NUM_POSITIONS * CELL_PX
    drawing = Drawing(
        f"{layer.text}: values with one mean",
        f"Three samples with {channels} channels and {_NUM_POSITIONS} positions. {counted} values share the first mean and standard "
        f"deviation, and {counted} others the second.",
        _LEFT + _NUM_SAMPLES * (block + _GAP),
        _TOP + channels * CELL_PX + 48,
    )
    for n in range(_NUM_SAMPLES):
        drawing.text(_LEFT + n * (block + _GAP) + block / 2, 18, f"sample {n}")
    for c in range(channels):
        drawing.text(_LEFT - 10, _TOP + (c + 0.5) * CELL_PX, f"channel {c}", anchor="end")
    for n, c, p in cells:
        found = set_of((n, c, p))
        color = BLUE if found == first else ORANGE if found == second else "none"
        x, y = _LEFT + n * (block + _GAP) + p * CELL_PX, _TOP + c * CELL_PX
        drawing.rect(x, y, CELL_PX, CELL_PX, fill=color, opacity=0.5)
    words = f"{write_number_of(counted, 'value')} of one color share a mean and a standard deviation."
    drawing.text(_LEFT, _TOP + channels * CELL_PX + 22, words, anchor="start")
    return drawing.to_svg()


def _sets(normed: Normed) -> Callable[[Cell], Cell]:
    """A function from a value (sample, channel, position) to the set that it is normalized in."""
    size = normed.channels // normed.num_groups
    return {
        "batch": lambda cell: (0, cell[1], 0),
        "layer": lambda cell: (cell[0], 0, cell[2]),
        "group": lambda cell: (cell[0], cell[1] // size, 0),
    }[normed.by]
