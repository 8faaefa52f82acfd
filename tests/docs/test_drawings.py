"""Drawings show what PyTorch computes: colored cells are those that an output depends on, or that share a mean."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from docs.generators.drawing import draw_node, draw_stages
from docs.generators.drawing.svg import BLUE, CELL_PX, ORANGE, Drawing

from visus.design import LAYERS, Layer, parse, resnet
from visus.design.layers.registry import Windowed
from visus.networks import build

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = [text for cls in LAYERS.values() for text in cls.reference.drawn]
WINDOWED = [text for text in DRAWN if isinstance(parse(text).layers[0], Windowed)]
SLIDING = [text for text in WINDOWED if isinstance(parse(text).layers[0], Layer) and parse(text).layers[0].windows(2)]  # type: ignore[union-attr]
Cell = tuple[int, int]


def drawing_of(text: str, shape: tuple[int, ...]) -> ElementTree.Element:
    """The parsed drawing of a single layer."""
    return ElementTree.fromstring(draw_node(parse(text).place(shape)[0]))


def colored(drawing: ElementTree.Element, color: str, opacity: float) -> set[Cell]:
    """Left and top, in pixels, of the cells with this color."""
    found = set()
    for box in drawing.iter(f"{SVG}rect"):
        is_cell = box.get("width") == box.get("height") == f"{CELL_PX:g}"
        if is_cell and box.get("fill") == color and float(box.get("fill-opacity", 1)) == opacity:
            found.add((round(float(box.get("x", 0))), round(float(box.get("y", 0)))))
    return found


def as_indices(cells: set[Cell], origin: Cell) -> set[Cell]:
    """(row, column) of cells of a grid that begins at ``origin`` (left, top)."""
    return {((y - origin[1]) // CELL_PX, (x - origin[0]) // CELL_PX) for x, y in cells}


@pytest.mark.parametrize("text", SLIDING)
def test_blue_cells_are_the_positions_that_the_output_reads(text: str) -> None:
    drawing = drawing_of(text, (3, 16, 16))
    layer = parse(text).layers[0]
    assert isinstance(layer, Layer)
    window = layer.windows(2)[0]
    title = drawing.findtext(f"{SVG}title") or ""
    length = int(title.rpartition("from ")[2].split(" ")[0])
    before = window.padding[0]
    blue = as_indices(colored(drawing, BLUE, 0.45), (16 + before * CELL_PX, 34 + before * CELL_PX))
    inside = {cell for cell in blue if min(cell) >= 0 and max(cell) < length}
    module = build(parse(text.replace("maxpool", "avgpool")), (3, length, length)).double()
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(1.0)
    x = torch.ones(1, 3, length, length, dtype=torch.float64, requires_grad=True)
    module(x)[0, :, 1, 1].sum().backward()
    assert x.grad is not None
    assert inside == {tuple(each) for each in x.grad[0].abs().sum(0).nonzero().tolist()}
    assert len(blue) == window.kernel_size**2


@pytest.mark.parametrize("text", [text for text in WINDOWED if text not in SLIDING])
def test_outputs_have_the_color_of_the_input_that_they_read(text: str) -> None:
    drawing = drawing_of(text, (3, 16, 16))
    module = build(parse(text), (3, 3, 3))
    with torch.no_grad():
        for value in module.parameters():
            value.fill_(float(value.dim() > 1))
    for color, column in ((BLUE, 1), (ORANGE, 2)):
        x = torch.zeros(1, 3, 3, 3)
        x[:, :, 1, column] = 1
        changed = {tuple(each) for each in module(x)[0].sum(0).nonzero().tolist()}
        assert as_indices(colored(drawing, color, 0.4), (16 + 3 * CELL_PX + 58, 34)) == changed


@pytest.mark.parametrize("text", ["norm", "layernorm", "groupnorm(2)"])
def test_cells_of_one_color_are_those_that_the_first_value_depends_on(text: str) -> None:
    blue = colored(drawing_of(text, (4, 5)), BLUE, 0.5)
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    build(parse(text), (4, 5)).double()(x)[0, 0, 0].backward()
    assert x.grad is not None
    expected = {
        (92 + n * (5 * CELL_PX + 22) + p * CELL_PX, 44 + c * CELL_PX)
        for n, c, p in (x.grad.abs() > 1e-12).nonzero().tolist()
    }
    assert blue == expected


def test_the_probabilities_of_the_softmax_drawing_are_those_of_pytorch() -> None:
    words = [each.text for each in drawing_of("softmax", (16, 8, 8)).iter(f"{SVG}text")]
    shares = torch.softmax(torch.tensor([2.0, 1.0, 0.0, -1.0]), 0).tolist()
    assert [f"{share:.3f}" for share in shares] == [word for word in words if word and word.startswith("0.")]


def test_the_features_of_the_flatten_drawing_are_numbered_as_in_pytorch() -> None:
    found = [
        (each.text or "", float(each.get("x", 0)), float(each.get("y", 0)))
        for each in drawing_of("flatten", (3, 2, 3)).iter(f"{SVG}text")
    ]
    numbers = [(int(text), x, y) for text, x, y in found if text.isdigit()]
    upper = sorted((int(x // (6 * CELL_PX)), y, x, number) for number, x, y in numbers if y < 120)  # channel, row, column
    lower = sorted((x, number) for number, x, y in numbers if y > 120)
    flattened = torch.tensor([number for *_, number in upper]).reshape(1, 3, 2, 3).flatten(1)[0].tolist()
    assert flattened == [number for _, number in lower] == list(range(18))


def test_the_values_of_a_pool_drawing_are_pooled() -> None:
    for text, reduce in (("maxpool(2)", max), ("avgpool(2)", lambda values: sum(values) / len(values))):
        drawing = drawing_of(text, (3, 16, 16))
        words = {
            (round(float(each.get("x", 0))), round(float(each.get("y", 0)))): each.text or ""
            for each in drawing.iter(f"{SVG}text")
        }
        near = {
            cell: min(words, key=lambda at, cell=cell: math.dist(at, cell)) for cell in middles(colored(drawing, BLUE, 0.45))
        }
        (result,) = middles(colored(drawing, BLUE, 0.55))
        shown = words[min(words, key=lambda at: math.dist(at, result))]
        assert float(shown) == reduce([float(words[at]) for at in near.values()])


def middles(cells: set[Cell]) -> list[tuple[float, float]]:
    return [(x + CELL_PX / 2, y + CELL_PX / 2) for x, y in cells]


def test_the_drawing_of_a_network_has_the_shapes_of_its_parts() -> None:
    nodes = resnet(18).place((3, 224, 224), 1000)
    drawing = ElementTree.fromstring(draw_stages("resnet(18)", nodes, (3, 224, 224)))
    words = [each.text for each in drawing.iter(f"{SVG}text")]
    assert [word for word in words if word and " x " in word] == [
        "224 x 224",
        "112 x 112",
        "56 x 56",
        "28 x 28",
        "14 x 14",
        "7 x 7",
    ]
    assert [word for word in words if word and word.isdigit()] == ["3", "64", "64", "128", "256", "512", "512", "1000"]


def test_words_of_a_drawing_are_escaped() -> None:
    drawing = Drawing('a < b & "c"', "x > y", 10, 10)
    drawing.text(1, 1, "p < q & r")
    found = ElementTree.fromstring(drawing.to_svg())
    assert [each.text for each in found] == ['a < b & "c"', "x > y", "p < q & r"]
