"""Rows of networks in narrow terminals: no line is too long, no figure is lost, and the columns stay aligned."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from visus.cli.narrow_rows import Line, narrow_rows
from visus.design import Account, account, resolve_network
from visus.design.table import write_fields
from visus.units import write_count, write_shape

SHAPES = {"lenet5": (1, 32, 32), "compact": (3, 32, 32), "inception": (3, 299, 299)}


def costs_of(network: str) -> Account:
    shape = SHAPES.get(network, (3, 224, 224))
    return account(resolve_network(network, input_shape=shape, num_classes=1000), shape, 1000)


@pytest.mark.parametrize(
    "network", ["resnet(18)", "resnet(50)", "vgg(16)", "mobilenet", "lenet5", "compact", "densenet(121)"]
)
def test_rows_fit_into_80_columns_with_their_figures(network: str) -> None:
    costs = costs_of(network)
    lines = [line.plain for line in narrow_rows([Line(row) for row in costs.rows], 80)]
    assert max(map(cell_len, lines)) <= 80
    place = 1
    container = ""
    for row in costs.rows:
        figures = (write_shape(row.output_shape), write_count(row.num_parameters), write_fields(row))
        above, _, name = row.path.rpartition(".")
        while not all(figure in lines[place] for figure in figures) or lines[place].split()[0] != name:
            container = lines[place] if not lines[place].startswith(" ") and lines[place].count(" ") == 0 else container
            place += 1
        assert not above or container == above
        place += 1


def test_columns_that_do_not_fit_go_and_are_named() -> None:
    rows = [Line(row) for row in costs_of("resnet(18)").rows]
    narrowest, narrow, wide = ([line.plain for line in narrow_rows(rows, width)] for width in (60, 80, 120))
    assert narrowest[1].split() == ["path", "layer", "output", "field"]
    said = "multiply-adds and parameters of each layer: in a wider terminal, or with --json"
    assert " ".join(" ".join(narrowest).split()).endswith(said)
    assert narrow[1].split() == ["path", "layer", "output", "parameters", "field"]
    assert narrow[-1] == "multiply-adds of each layer: in a wider terminal, or with --json"
    assert (wide[0].split(), wide[1].split()) == (
        ["multiply-", "receptive"],
        ["path", "layer", "output", "parameters", "adds", "field"],
    )
    assert any(" 118 M  7/2" in line for line in wide)
    assert max(map(cell_len, narrowest)) <= 60


def test_long_layers_go_on_in_the_next_line_below_themselves() -> None:
    lines = [line.plain for line in narrow_rows([Line(row) for row in costs_of("resnet(18)").rows], 80)]
    first = next(place for place, line in enumerate(lines) if line.startswith("conv1 "))
    assert lines[first].index("conv(64") == lines[first + 1].index("padding=3") - 2


def test_a_sign_stands_before_the_layer_and_its_color_on_the_line() -> None:
    (row,) = costs_of("mlp(8)").rows[:1]
    line = narrow_rows([Line(row, "<", "red")], 80)[2]
    assert line.plain.startswith(f"< {row.path} ")
    assert line.style == "red"
