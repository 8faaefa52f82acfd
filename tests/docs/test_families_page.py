"""The page of families: every family with its papers, arguments, design, usual sizes and drawing."""

from __future__ import annotations

import html
import inspect
import re

import pytest
from docs.generators import families
from docs.generators.docstring_parts import arguments_of, meaning_of
from tests.docs.reading_pages import check_drawing, check_ids, drawings, section

from visus.design import FAMILIES, account, parse, resolve_network
from visus.design.families.reference import REFERENCES
from visus.units import write_count

every_family = pytest.mark.parametrize("name", sorted(FAMILIES))


@pytest.fixture(scope="module")
def page() -> str:
    pages = families.pages()
    assert list(pages) == ["reference/families.md"]
    return pages["reference/families.md"]


@every_family
def test_the_page_has_signature_meaning_and_papers_of(name: str, page: str) -> None:
    text = section(page, f"## {name}")
    assert f"```python\n{families.signature(FAMILIES[name])}\n```" in text
    assert meaning_of(FAMILIES[name]) in text
    assert REFERENCES[name].papers
    for paper in REFERENCES[name].papers:
        assert f"{paper.authors} ({paper.year}), *{paper.title}*" in text


@every_family
def test_the_page_has_every_argument_of(name: str, page: str) -> None:
    text, meanings = section(page, f"## {name}"), arguments_of(FAMILIES[name])
    for argument in inspect.signature(FAMILIES[name]).parameters:
        assert re.search(rf"^\| [^|]*`{argument}`[^|]*\| [^|]+ \| {re.escape(meanings[argument])} \|$", text, re.M), argument


@every_family
def test_the_table_shows_the_account_of_each_usual_size(name: str, page: str) -> None:
    text = section(page, f"## {name}")
    for size in REFERENCES[name].sizes:
        design = resolve_network(
            size.text, input_shape=size.input_shape, num_classes=size.num_classes, num_samples=size.num_samples
        )
        costs = account(design, size.input_shape, size.num_classes)
        row = f"| {costs.num_parameters:,} | {write_count(costs.macs)} | {families.last_field(costs)} |"
        assert row + (f" {size.published:,} |" if size.published else "") in text, size.text


@every_family
def test_the_folded_text_is_the_design(name: str, page: str) -> None:
    found = re.search(r"<details>.*?<pre><code>(.*?)</code></pre></details>", section(page, f"## {name}"), re.S)
    assert found is not None
    assert "\n\n" not in found[0]
    assert parse(html.unescape(found[1])) == families.design_of(REFERENCES[name].sizes[0])


@every_family
def test_the_drawing_names_every_shape_of_its_description(name: str, page: str) -> None:
    (drawing,) = drawings(section(page, f"## {name}"))
    check_drawing(drawing)
    words = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    usual = REFERENCES[name].sizes[0]
    output = families.account_of(usual).output
    assert str(output[0]) in words
    assert "input" in words


def test_no_two_drawings_share_an_id(page: str) -> None:
    check_ids(page)


@pytest.mark.parametrize(
    ("text", "published"), [("alexnet", 195), ("vgg(16)", 212), ("mobilenet(1)", 315), ("inception(3)", 1311)]
)
def test_receptive_field_of_the_last_map_is_the_published_one(text: str, published: int) -> None:
    # Araujo, Norris and Sim 2019, doi:10.23915/distill.00021; the last map of each has a stride of 32
    (size,) = (size for reference in REFERENCES.values() for size in reference.sizes if size.text == text)
    assert families.last_field(families.account_of(size)) == f"{published}/32"


def test_inception_reads_images_alone(page: str) -> None:
    assert "Reads: images (2-D).\n" in section(page, "## inception")
    assert "Reads: signals (1-D), images (2-D), volumes (3-D).\n" in section(page, "## resnet")
