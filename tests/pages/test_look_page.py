"""A look's page: complete in itself, small, its figures those of the facts, the same for the same facts."""

from __future__ import annotations

import dataclasses
import re
from html import unescape

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from visus.examine.map_placement import place_nearest
from visus.geometry import Field
from visus.pages.look.facts import LookFacts
from visus.pages.look.layers import MAPS_BYTES, field_words, layers_section
from visus.pages.look.output_terms import output_terms_section
from visus.pages.look.page import look_page
from visus.pages.parts.charts import bars, curve, line_chart
from visus.pages.parts.samples import map_image, sample_block_means
from visus.workbench.look.inputs import sample_of_tensor
from visus.workbench.look.looking import look
from visus.workbench.look.measures import Probe, layers_of
from visus.workbench.modules import network

SIDE = 24


@pytest.fixture(scope="module")
def facts() -> LookFacts:
    """A look into a small network without training, with data."""
    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pool = torch.rand(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    design = "conv(6, 3), relu, maxpool(2), conv(20, 3), relu, globalpool, linear(classes)"
    return look(design, noise, num_classes=4, data=pool, object_px=6).facts


def plain(page: str) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_page_opens_without_anything_from_outside(facts: LookFacts) -> None:
    page = look_page(facts)
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)', page)
    assert "<script" not in page


def test_every_image_has_words_for_those_who_cannot_see_it(facts: LookFacts) -> None:
    page = look_page(facts)
    images = re.findall(r"<img\b[^>]*>", page)
    assert images
    assert all(re.search(r'alt="[^"]+"', each) for each in images)
    charts = re.findall(r"<svg\b[^>]*>", page)
    assert charts
    assert all('role="img"' in each and re.search(r'aria-label="[^"]+"', each) for each in charts)


def test_all_parts_stand_in_their_order(facts: LookFacts) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", look_page(facts))
    assert titles == [
        "The image and the prediction",
        "Saliency",
        "Layer by layer",
        "Filters",
        "One output, term by term",
        "Receptive field of a unit",
    ]


def test_every_layer_is_there_in_the_order_of_computation(facts: LookFacts) -> None:
    page = look_page(facts)
    named = re.findall(r"<h3>(\S+) <span class='under'>", page.split("<h2>Filters")[0].split("<h2>Layer by layer")[1])
    assert named == [layer.path for layer in facts.layers]
    rows = re.findall(r'<tr><th scope="row">(\w+)</th><td>([\d x]+)</td>', page)
    assert [(path, " x ".join(map(str, layer.shape))) for layer in facts.layers for path in [layer.path]] == rows[
        : len(facts.layers)
    ]


def test_maps_that_are_not_drawn_are_counted(facts: LookFacts) -> None:
    section = layers_section(facts).html
    found = re.search(r"At most (\d+) maps of each layer", plain(section))
    assert found is not None
    assert f"The other {20 - int(found[1])} maps are not drawn." in plain(section)
    assert len(re.findall(r'alt="Map \d+ of relu2,', section)) == int(found[1])


def test_the_terms_on_the_page_add_up_to_the_value(facts: LookFacts) -> None:
    found = facts.sum
    assert found is not None
    section = output_terms_section(facts).html
    tables = re.findall(r"<caption>products, channel \d+</caption>(.*?)</table>", section)
    terms = [float(cell.replace("\u2212", "-")) for table in tables for cell in re.findall(r"<td[^>]*>([^<]+)</td>", table)]
    assert len(terms) == found.products.size == 27
    assert sum(terms) + found.bias == pytest.approx(found.value, abs=0.01)
    last = re.search(r"<tfoot>.*?<td>([^<]+)</td>", section)
    assert last is not None
    assert float(last[1]) + found.bias == pytest.approx(found.value, abs=1e-4)


def test_what_is_missing_is_said(facts: LookFacts) -> None:
    bare = dataclasses.replace(
        facts,
        answer=None,
        methods=(),
        kernels=None,
        patches=(),
        sum=None,
        unit=None,
        missing={part: f"No {part} here." for part in ("answer", "saliency", "kernels", "patches", "sum", "fields")},
    )
    words = plain(look_page(bare))
    for part in bare.missing:
        assert f"No {part} here." in words


def test_names_of_a_person_are_escaped(facts: LookFacts) -> None:
    sample = dataclasses.replace(facts.sample, name="<b>&.png", truth="<i>")
    page = look_page(dataclasses.replace(facts, sample=sample, name="<u>"))
    assert "&lt;b&gt;&amp;.png" in page
    assert "<i>" not in page.replace('<i style="width', "")
    assert "<u>" not in page


def test_dead_filters_are_named() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2)).eval()
    with torch.no_grad():
        module[0].weight[1] = 0
        module[0].bias[:] = torch.tensor([1.0, -1.0, 1.0])
    found = look(module, torch.rand(1, 8, 8), data=torch.rand(9, 1, 8, 8)).facts
    assert found.layers[1].dead == (1,)
    assert "Dead, never positive over 9 samples: 1 filter (1)." in plain(look_page(found))


@pytest.mark.parametrize(
    ("design", "shape"),
    [
        ("conv(40, 3, padding=1), relu, conv(40, 3, padding=1), relu, globalpool, linear(classes)", (3, 160, 160)),
        ("conv(6, 3), tanh, conv(16, 3), tanh, flatten, linear(classes)", (1, 8, 8)),
        pytest.param("resnet(34)", (3, 64, 64), marks=pytest.mark.slow),
        ("conv(12, 9), relu, conv(12, 9), relu, globalpool, linear(classes)", (2, 3000)),
        ("conv(12, 3), relu, conv(12, 3), relu, globalpool, linear(classes)", (1, 24, 40, 40)),
    ],
)
def test_maps_of_all_layers_stay_under_their_share_of_three_megabytes(design: str, shape: tuple[int, ...]) -> None:
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    module = network(design, shape, 3).eval()
    layers, _, why = layers_of(Probe(module, noise, 1), None)
    assert not why
    facts = LookFacts("a network", True, "0", sample_of_tensor(noise[0]).facts, layers)
    assert len(layers_section(facts).html.encode()) < 1.1 * MAPS_BYTES
    assert len(look_page(facts).encode()) < 1.3 * MAPS_BYTES


@given(st.integers(1, 4), st.integers(1, 4), st.integers(4, 30), st.integers(1, 5))
def test_a_placed_value_stands_about_the_middle_of_what_it_reads(step: int, size: int, length: int, count: int) -> None:
    fields = (Field(size=size, stride=step, start=0),)
    values = np.arange(1.0, count + 1)
    found = place_nearest(values, fields, (length,))
    for index in range(count):
        middle = index * step + (size - 1) / 2
        if middle <= length - 1 and float(middle).is_integer():
            assert found[int(middle)] == values[index]
    assert set(found) <= {0.0, *values}
    for pixel in np.flatnonzero(found):
        assert abs(pixel - (found[pixel] - 1) * step - (size - 1) / 2) <= step / 2
    assert all((found == value).sum() <= step for value in values)


def test_a_layer_that_reads_everything_says_so(facts: LookFacts) -> None:
    assert field_words(facts.layers[-1]) == "the whole input"
    assert field_words(facts.layers[0]) == "3 x 3 px"


def test_the_largest_field_is_named_where_the_last_layer_is_a_shortcut(facts: LookFacts) -> None:
    deeper = dataclasses.replace(facts, layers=(*facts.layers[:3], facts.layers[3], facts.layers[0]))
    text = plain(look_page(deeper))
    assert "and the receptive field from 3 x 3 px to 8 x 8 px in conv2." in text
    assert "The receptive field grows with depth: 3 px in conv1, 8 px in conv2." in text


def test_a_curve_holds_every_value_at_its_height() -> None:
    drawn = curve("told", [("val", [0.0, 1.0, 0.5])], size=(30, 24))
    points = re.search(r'points="([^"]+)"', drawn)
    assert points is not None
    assert [tuple(map(float, point.split(","))) for point in points[1].split()] == [(5.0, 22.0), (15.0, 2.0), (25.0, 12.0)]


def test_a_curve_s_ground_is_strongest_where_the_heat_is() -> None:
    drawn = curve("told", [("val", np.zeros(3))], heat=np.array([0.0, 2.0, 1.0]), box=(1, 2))
    opacities = [float(each) for each in re.findall(r'class="heat"[^>]*fill-opacity="([\d.]+)"', drawn)]
    assert opacities == [1.0, 0.5]
    assert 'class="box" x="100.0"' in drawn


@given(st.floats(-1, 1), st.floats(1e-6, 1.0))
def test_no_two_grid_lines_of_a_chart_read_alike(low: float, span: float) -> None:
    for write in ("{:.3g}".format, lambda value: f"{100 * value:.0f} %"):
        chart = line_chart("title", "words", [("val", [(1, low), (2, low + span)])], write)
        labels = re.findall(r'text-anchor="end">([^<]*)<', chart)
        assert len(labels) > 1
        assert len(set(labels)) == len(labels)


def test_bars_go_up_for_more_than_0_and_down_for_less() -> None:
    drawn = bars("told", [1.0, -1.0], size=(20, 22))
    assert re.findall(r'class="(hit|miss)" x="[\d.]+" y="([\d.]+)" width="8.0" height="([\d.]+)"', drawn) == [
        ("hit", "1.0", "10.0"),
        ("miss", "11.0", "10.0"),
    ]


def test_a_large_map_is_drawn_as_means_of_blocks() -> None:
    values = np.arange(16.0).reshape(1, 4, 4)
    assert sample_block_means(values, 2)[0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert 'width="84" height="84"' in map_image(np.zeros((4, 4)), 1.0, False, "told", 84)
