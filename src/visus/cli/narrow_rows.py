"""The rows of a network in a terminal that is too narrow for their table: layers below the path of their block, short numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from visus.design.account import Row
from visus.design.table import ITSELF, write_fields
from visus.units import write_count, write_shape
from visus.workbench.wrapping import wrapped

LEFT_OUT: Final = "multiply-adds of each layer: in a wider terminal, or with --json"
_BIAS: Final = re.compile(r"(, )?bias=(True|False)")
_HEADINGS: Final = ("path", "layer", "output", "parameters", "multiply-adds", "receptive field")
_GAP: Final = 2
_MIN_LAYER: Final = 20  # columns; narrower texts of layers are hard to read
_LAYER, _MACS = 1, 4  # places of these columns


@dataclass(frozen=True)
class Line:
    """A row with the sign before it and its color."""

    row: Row
    sign: str = ""
    style: str = ""


def narrow_rows(lines: Sequence[Line], width: int) -> list[Text]:
    """The rows in lines of at most ``width`` columns if that is possible at all; multiply-adds go if they do not fit.

    Args:
        lines: the rows.
        width: columns of the terminal.

    >>> from visus.design import account, parse
    >>> rows = account(parse("2 * [conv(8, 3), relu]"), (3, 9, 9)).rows
    >>> for line in narrow_rows([Line(row) for row in rows], 80)[:4]:
    ...     print(line.plain)
    path     layer       output     parameters  multiply-adds  receptive field
    block1
      conv1  conv(8, 3)  8 x 7 x 7         224         10.6 k  3/1
      relu1  relu        8 x 7 x 7           0              0  3/1
    """
    cells = [_cells(line) for line in lines]
    places = list(range(len(_HEADINGS)))
    if _layer_width(cells, places, width) < min(_MIN_LAYER, _width(cells, _LAYER)):
        places.remove(_MACS)
    layer = min(max(_layer_width(cells, places, width), _MIN_LAYER), _width(cells, _LAYER))
    widths = {place: layer if place == _LAYER else _width(cells, place) for place in places}
    shown = [Text(_joined(_HEADINGS, widths))]
    container = ""
    for line, row_cells in zip(lines, cells, strict=True):
        above = line.row.path.rpartition(".")[0]
        if above != container and above:
            shown.append(Text(above))
        container = above
        first, *rest = wrapped(row_cells[_LAYER], layer, 2).split("\n")
        shown.append(Text(_joined((row_cells[0], first, *row_cells[2:]), widths), style=line.style))
        indent = " " * (widths[0] + _GAP)
        shown += [Text(f"{indent}{each}", style=line.style) for each in rest]
    return shown if _MACS in places else [*shown, Text(LEFT_OUT)]


def _cells(line: Line) -> tuple[str, ...]:
    row = line.row
    above, _, name = row.path.rpartition(".")
    layer = _BIAS.sub("", row.layer)
    return (
        f"{'  ' if above else ''}{line.sign + ' ' if line.sign else ''}{name or ITSELF}",
        layer,
        write_shape(row.output_shape),
        write_count(row.num_parameters),
        write_count(row.macs),
        write_fields(row),
    )


def _width(cells: Sequence[tuple[str, ...]], place: int) -> int:
    """Columns that a column needs."""
    return max(cell_len(row[place]) for row in (_HEADINGS, *cells))


def _layer_width(cells: Sequence[tuple[str, ...]], places: Sequence[int], width: int) -> int:
    """Columns that the other columns leave to the layers."""
    return width - sum(_width(cells, place) for place in places if place != _LAYER) - _GAP * (len(places) - 1)


def _joined(cells: Sequence[str], widths: dict[int, int]) -> str:
    """The cells of one line; numbers are set to the right."""
    texts = []
    for place, width in widths.items():
        space = " " * (width - cell_len(cells[place]))
        texts.append(f"{space}{cells[place]}" if place in (3, _MACS) else f"{cells[place]}{space}")
    return (" " * _GAP).join(texts).rstrip()
