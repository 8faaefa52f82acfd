"""The page of layers: every layer with meaning, arguments, formulas, drawing, example and PyTorch code; the notation."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.generators import layers, notation
from docs.generators.docstring_parts import arguments_of, meaning_of
from docs.generators.formulas import function_of, to_mathml
from tests.docs.reading_pages import check_drawing, check_ids, drawings, formulas, section

from visus.design import LAYERS, Concat, Design, Layer, Repeat, Residual, Sequence, account, parse
from visus.design.items import Item
from visus.design.notation import FamilyCall, read
from visus.design.table import write_fields
from visus.errors import DesignError

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING: tuple[type[Item], ...] = (*LAYERS.values(), Sequence, Repeat, Residual, Concat)
every_item = pytest.mark.parametrize("cls", EVERYTHING, ids=lambda cls: cls.word)


@pytest.fixture(scope="module")
def page() -> str:
    pages = layers.pages()
    assert list(pages) == ["reference/layers.md"]
    return pages["reference/layers.md"]


@every_item
def test_the_page_has_meaning_formula_drawing_and_pytorch_code_of(cls: type[Item], page: str) -> None:
    text = section(page, f"### {cls.word}")
    assert meaning_of(cls) in text
    assert layers.signature(cls) in text
    assert to_mathml(cls.reference.computes) in text
    assert drawings(text)
    code = text.split("In PyTorch, for an input of", 1)[1]
    node = layers.example_node(cls)
    expected = node.layer.torch_code(node.input_shape) if isinstance(node.layer, Layer) else cls.reference.twin.strip()
    assert f"```python\n{expected}\n```" in code
    assert re.search(rf"^\| \[{cls.word}\]\(#{cls.word}\) \| .", page, re.M)


@pytest.mark.parametrize("cls", LAYERS.values(), ids=lambda cls: cls.word)
def test_the_page_has_every_argument_and_the_formulas_of_shape_and_costs(cls: type[Layer], page: str) -> None:
    text, meanings = section(page, f"### {cls.word}"), arguments_of(cls)
    for field in layers.own_fields(cls):
        row = re.search(rf"^\| [^|]*`{field.name}`[^|]*\| ([^|]+) \| (.+) \|$", text, re.M)
        assert row is not None, f"{cls.word} does not document {field.name}"
        assert row[2] == meanings[field.name]
        assert len(row[2]) > 3
    reference = cls.reference
    if (reference.channels, reference.length) == ("C_in", "L_in"):
        assert "that of the input" in text
    else:
        assert to_mathml(f"C_out = {reference.channels}") in text
        assert reference.length is None or to_mathml(f"L_out = {reference.length}") in text
    for formula in (reference.parameters, reference.macs):
        assert formula == "0" or to_mathml(formula) in text


@every_item
def test_the_example_shows_the_account_of_visus(cls: type[Item], page: str) -> None:
    text, reference = section(page, f"### {cls.word}"), cls.reference
    assert f"```text\n{reference.example}\n```" in text
    costs = account(parse(reference.example), reference.input_shape)
    for row in costs.rows:
        figures = [f"{row.num_parameters:,}", f"{row.macs:,}", write_fields(row).replace("*", "\\*")]
        assert f"| {' | '.join(figures)} |" in text, row.path
    assert len(costs.rows) == 1 or f"| total |  |  | {costs.num_parameters:,} | {costs.macs:,} |  |" in text


def test_every_drawing_is_well_formed_and_described(page: str) -> None:
    found = drawings(page)
    assert len(found) >= len(EVERYTHING)
    for drawing in found:
        check_drawing(drawing)
    check_ids(page)


def test_every_formula_is_well_formed(page: str) -> None:
    assert len(formulas(page)) > len(EVERYTHING)


def test_the_page_needs_no_script(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"\son\w+=", page)


@pytest.mark.parametrize("word", [word for word, cls in LAYERS.items() if cls.reference.computes.startswith("y = ")])
def test_the_curve_of_an_activation_is_its_formula(word: str, page: str) -> None:
    (drawing,) = drawings(section(page, f"### {word}"))
    points = [each.get("points", "").split() for each in drawing.iter("{http://www.w3.org/2000/svg}polyline")][-1]
    heights = [float(point.partition(",")[2]) for point in points]
    function = function_of(LAYERS[word].reference.computes, vars(LAYERS[word]()))
    values = [function(-8 + 16 * index / (len(points) - 1)) for index in range(len(points))]
    pixels = (heights[0] - heights[-1]) / (values[-1] - values[0])
    for height, value in zip(heights, values, strict=True):
        assert heights[0] - height == pytest.approx(pixels * (value - values[0]), abs=0.2)


def test_layers_that_read_only_maps_say_so(page: str) -> None:
    reads = {
        word: re.search(r"reads</th><td>(.*?)</td>", section(page, f"### {word}")) for word in ("relu", "conv", "linear")
    }
    assert {word: found[1] for word, found in reads.items() if found} == {
        "relu": "features, signals (1-D), images (2-D), volumes (3-D)",
        "conv": "signals (1-D), images (2-D), volumes (3-D)",
        "linear": "features",
    }


# ---- how a design is written ----


@pytest.mark.parametrize("text", notation.NOTATION)
def test_the_notation_parses(text: str, page: str) -> None:
    found = read(text)
    assert isinstance(found, FamilyCall if text.startswith("resnet") else Design)
    assert notation.NOTATION[text] in section(page, "## How a design is written")


def test_the_three_ways_to_write_the_example_agree() -> None:
    names: dict[str, object] = {}
    exec(notation.LAYERS_IN_PYTHON, names)
    assert names["design"] == parse(notation.EXAMPLE)
    assert parse(names["design"].text) == names["design"]  # type: ignore[attr-defined]


def test_the_python_of_the_notation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(notation.PYTHON, names)
    rows = capsys.readouterr().out.splitlines()
    nodes = parse(notation.EXAMPLE).place((3, 32, 32), 10)
    assert rows == [f"{node.path} {node.output_shape} {node.num_parameters} {node.macs}" for node in nodes]
    assert type(names["network"]).__module__.startswith("torch.nn")


def test_names_and_biases_are_as_the_notation_says() -> None:
    nodes = parse('sequence(conv(32, 3), relu, name="stem"), conv(8), norm, conv(8), conv(8, bias=True), norm').place(
        (3, 32, 32)
    )
    paths = [node.path for top in nodes for node in top.walk()]
    assert paths == ["stem", "stem.conv1", "stem.relu1", "conv1", "norm1", "conv2", "conv3", "norm2"]
    assert [node.layer.bias for node in nodes if node.layer.word == "conv"] == [False, True, True]


def test_wrong_layers_and_arguments_are_reported_together_as_the_notation_says() -> None:
    with pytest.raises(DesignError) as caught:
        parse("convv(3),\nrelu, conv(8, 0)")
    assert "line 1, column 1: " in str(caught.value)
    assert "line 2, column 7: " in str(caught.value)


# ---- the generators ----


@pytest.mark.parametrize("name", ["docstring_parts", "families", "formulas", "inline", "layers"])
def test_examples_of_the_generators_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"docs.generators.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_the_generators_need_no_torch() -> None:
    code = "import sys; from docs.generators import families, layers; layers.pages(); families.pages(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_layer_that_no_drawing_fits_is_reported() -> None:
    from dataclasses import replace

    from docs.generators.drawing import draw_node

    class Twice(LAYERS["relu"]):  # type: ignore[misc]
        reference = replace(LAYERS["relu"].reference, computes="y[c, q] = 2*x[c, q]")

    node = parse("relu").place((4, 8, 8))[0]
    with pytest.raises(ValueError, match=r"^no kind of drawing fits relu$"):
        draw_node(replace(node, layer=Twice()))
