"""The rows of a network in a terminal that is too narrow for their table: layers below the path of their block, short numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from visus.design.account import Row
from visus.design.table import ITSELF, without_bias, write_fields
from visus.units import write_count, write_shape
from visus.workbench.wrapping import wrapped

_HEADINGS: Final = ("path", "layer", "output", "parameters", "multiply-\nadds", "receptive\nfield")
_GAP: Final = 2
_MIN_LAYER: Final = 18  # columns; narrower texts of layers are hard to read
_LAYER = 1  # place of this column
_NUMBERS: Final = (3, 4)
_TURNS: Final = (4, 3, 5)  # places of the columns that go where they do not fit, in this order


@dataclass(frozen=True)
class Line:
    """A row with the sign before it and its color."""

    row: Row
    sign: str = ""
    style: str = ""


def narrow_rows(lines: Sequence[Line], width: int) -> list[Text]:
    """The rows in lines of at most ``width`` characters; columns that do not fit go, multiply-adds first, and the last line says so.

    Args:
        lines: the rows.
        width: columns of the terminal.

    >>> from visus.design import account, parse
    >>> rows = account(parse("2 * [conv(8, 3), relu]"), (3, 9, 9)).rows
    >>> for line in narrow_rows([Line(row) for row in rows], 80)[:4]:
    ...     print(line.plain)
                                                multiply-  receptive
    path     layer       output     parameters       adds  field
    block1
      conv1  conv(8, 3)  8 x 7 x 7         224     10.6 k  3/1
    """
    cells = [_cells(line) for line in lines]
    places = list(range(len(_HEADINGS)))
    for turn in _TURNS:
        if _layer_width(cells, places, width) < min(_MIN_LAYER, _width(cells, _LAYER)):
            places.remove(turn)
    layer = min(max(_layer_width(cells, places, width), _MIN_LAYER), _width(cells, _LAYER))
    widths = {place: layer if place == _LAYER else _width(cells, place) for place in places}
    tops = [heading.rpartition("\n")[0] for heading in _HEADINGS]
    shown = [Text(_joined(tops, widths))] if any(tops[place] for place in places) else []
    shown.append(Text(_joined([heading.rpartition("\n")[2] for heading in _HEADINGS], widths)))
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
    gone = [_HEADINGS[place].replace("-\n", "-").replace("\n", " ") for place in _TURNS if place not in places]
    if not gone:
        return shown
    note = wrapped(f"{' and '.join(gone)} of each layer: in a wider terminal, or with --json", width, 2)
    return [*shown, *map(Text, note.split("\n"))]


def _cells(line: Line) -> tuple[str, ...]:
    row = line.row
    above, _, name = row.path.rpartition(".")
    layer = without_bias(row.layer)
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
    return max(cell_len(line) for row in (_HEADINGS, *cells) for line in row[place].split("\n"))


def _layer_width(cells: Sequence[tuple[str, ...]], places: Sequence[int], width: int) -> int:
    """Columns that the other columns leave to the layers."""
    return width - sum(_width(cells, place) for place in places if place != _LAYER) - _GAP * (len(places) - 1)


def _joined(cells: Sequence[str], widths: dict[int, int]) -> str:
    """The cells of one line; numbers are set to the right."""
    texts = []
    for place, width in widths.items():
        space = " " * (width - cell_len(cells[place]))
        texts.append(f"{space}{cells[place]}" if place in _NUMBERS else f"{cells[place]}{space}")
    return (" " * _GAP).join(texts).rstrip()
