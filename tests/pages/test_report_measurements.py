"""The report's parts beyond the scores: they say what the facts say, in every rank, in words too, and small whatever the samples."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from facts_of_runs import made_up_facts, made_up_measurements, made_up_scores
from test_report import Page

from visus.evaluation.calibration import TemperatureFit, calibrate, reliability
from visus.evaluation.test_time_augmentation import describe_views
from visus.pages.card import card_text
from visus.pages.parts.field_growth import field_growth_figure
from visus.pages.parts.reliability_diagram import reliability_diagram
from visus.pages.report.measurements import FieldGrowth, LayerField, ReportMeasurements
from visus.pages.report.page import SECTIONS, report_page
from visus.pages.report.sentences import calibration_sentences, field_sentences, shift_sentences

SHAPES = [(3, 24, 20), (1, 300), (2, 40), (1, 12, 16, 16), (5, 9, 9)]


def test_the_parts_say_what_was_measured() -> None:
    text = Page(report_page(made_up_facts(measured=made_up_measurements()))).text
    for expected in (
        "Two shifts of one image by up to 3 x 3 px get the same label in 89.0 % of cases for the worse of roll and zeros (zeros: filled with 0 "
        "after normalization: the training mean, or with min-max the minimum; 95 % interval 79.0 % to 94.0 %), on 50 images of the test set. "
        "For a shift of 1 x 1 px (roll), pool1 is the first layer that is not equivariant: its stride of 2 x 2 px does not divide a shift of "
        "1 x 1 px; its map changes by 15.0 %.",
        "Shift Same label roll 93.0 % zeros 89.0 % Measured on few.",
        "3 labels of the test set may be wrong: another class is more probable than the label, and at least as probable as on average for images of "
        "that class (confident learning, Northcutt et al. 2021). Below each: the most similar of 200 training images, with their labels.",
        "boot , or coat ? 99.0 % 3-boot-07.jpg 1\u00d7 boot",
        "6 of 60 images are misclassified; the most confident of the others: Red marks what mattered most for the prediction (Grad-CAM).",
        "'conv2' is the last layer whose map is fine. With all weights random the map stays much the same.",
        "boot predicted as coat , 99.0 % 0-boot-07.jpg 1\u00d7 boot",
        "boot predicted as coat 0: 6",
        "Only the 60 test images were examined for wrong labels. Train again.",
        "These samples also chose the weights that were kept.",
        "'pool' is the first layer whose receptive field is the whole image (24 x 20 px). The middle unit of the last feature map ('conv1') "
        "has an exact receptive field of 3 x 3 px.",
        "conv1 , Conv2d(8, 3): 8 filters of 3 x 3 x 3 weights (channels first). Each filter is scaled by its own largest weight, which stands "
        "below it beside its number. Gray is 0; red, green and blue are the weights of the three input channels.",
        "What to do conv2: what enters this layer sees all of it already.",
        "Predictions 60 images in 0.1 s, 600 per second",
        "If shifts matter for your images, try blurred pooling instead of strides (12.3 k instead of 12.3 k parameters). visus experiment antialias "
        "runs/shoes-2",
    ):
        assert expected in text, expected


def test_report_and_card_say_the_accuracy_without_test_time_augmentation_where_it_is_another() -> None:
    scores = made_up_scores()
    for plain, expected in ((None, False), (scores.accuracy, False), (0.25, True)):
        facts = made_up_facts(result=dataclasses.replace(scores, plain_accuracy=plain))
        for text in (Page(report_page(facts)).text, card_text(facts)):
            assert ("The accuracy is 25.0 % without test-time augmentation." in text) == expected


def test_the_page_has_every_section_of_the_list_in_its_order() -> None:
    page = report_page(made_up_facts(measured=made_up_measurements()))
    assert [each.id for each in SECTIONS] == ["answer", "mistakes", "trust", "inside", "cost", "files"]
    expected = [(each.id, each.title) for each in SECTIONS]
    assert re.findall(r'<section id="(.*?)"><h2>(.*?)</h2>', page) == expected
    for nav in re.findall(r"<nav.*?</nav>", page, re.DOTALL):
        assert re.findall(r'<a href="#(.*?)">(.*?)</a>', nav) == expected
    assert page.count("<nav") == 2
    assert [part for part in re.findall(r"<h3>(.*?)</h3>", page) if part != "What to do"] == [
        title for each in SECTIONS for title, _ in each.parts if title
    ]


def test_every_section_ends_with_what_to_do() -> None:
    for measured in (made_up_measurements(), ReportMeasurements()):
        page = report_page(made_up_facts(measured=measured))
        sections = re.findall(r"<section.*?</section>", page, re.DOTALL)
        assert len(sections) == len(SECTIONS)
        for section in sections:
            assert re.search(
                r'<div class="todo"><h3>What to do</h3><ul>(<li>.+?</li>){1,3}</ul></div></section>$', section, re.DOTALL
            ), section[-300:]


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(facts: object) -> str:
        raise ValueError("no such figure")

    first, *rest = SECTIONS
    failing = dataclasses.replace(first, parts=(("Broken", broken), *first.parts), actions=broken)
    monkeypatch.setattr("visus.pages.report.page.SECTIONS", (failing, *rest))
    page = report_page(made_up_facts())
    reason = '<p class="missing">This part could not be made: ValueError: no such figure.</p>'
    assert f"<h3>Broken</h3>{reason}" in page
    assert page.count(reason) == 2
    assert "<h3>Confusion matrix</h3>" in page


@pytest.mark.parametrize("shape", SHAPES)
def test_every_image_has_words_and_nothing_comes_from_outside(shape: tuple[int, ...]) -> None:
    page = report_page(made_up_facts(measured=made_up_measurements(shape), input_shape=shape))
    parsed = Page(page)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    drawn = images + [attributes for tag, attributes in parsed.tags if tag == "svg"]
    assert len(drawn) > 30
    assert all(attributes.get("alt") for attributes in images)
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in images)  # type: ignore[union-attr]
    assert all(attributes.get("aria-label") for tag, attributes in parsed.tags if tag == "svg")
    assert not re.search(r"url\(|@import|https?:", page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    tables = page.count("<table")
    assert (
        page.count("<caption>") + len(re.findall(r'<div class="wide"><table><tbody>', page)) == tables
    )  # lists of facts name themselves


@pytest.mark.parametrize(
    "shape", [pytest.param((3, 512, 512), marks=pytest.mark.slow), (3, 96, 96), (1, 64, 64, 64), (3, 8000), (1, 2000, 7)]
)
def test_the_page_stays_small_whatever_the_samples_and_classes(shape: tuple[int, ...]) -> None:
    names = [f"{'a long name of a class ' * 3}{place}" for place in range(3000)]
    scores = (
        made_up_scores(classes=names, num_classes=3000, num_samples=6000, num_wrong=4000)
        if shape == (3, 512, 512)
        else made_up_scores()
    )
    facts = made_up_facts(scores, measured=made_up_measurements(shape), input_shape=shape)
    assert len(report_page(facts).encode()) < 3_000_000


@pytest.mark.parametrize("num_classes", [150, 151, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.long
def test_the_page_stays_small_where_everything_is_confused(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(num_classes), 20_000)
    from visus.evaluation.scores import score

    names = [f"{'a long name of a class ' * 4}{place}" for place in range(num_classes)]
    scores = score(chances, rng.integers(num_classes, size=20_000), names, split="test")
    assert len(report_page(made_up_facts(scores, measured=made_up_measurements())).encode()) < 3_000_000


def test_a_missing_part_is_named_with_its_reason() -> None:
    missing = {name: f"the {name} were odd" for name in ("calibration", "shifts", "mistakes", "sight", "filters")}
    text = Page(report_page(made_up_facts(measured=ReportMeasurements(missing=missing)))).text
    for name in missing:
        assert f"This part could not be made: the {name} were odd" in text
    inside = made_up_measurements(saliency=None, missing={"saliency": "it was odd", "advice": "it was odd too"})
    assert "The design could not be checked: it was odd too" in Page(report_page(made_up_facts(measured=inside))).text
    assert "Saliency maps could not be made: it was odd" in Page(report_page(made_up_facts(measured=inside))).text


def test_the_facts_are_plain_data() -> None:
    inside = made_up_measurements()
    facts = json.loads(json.dumps(inside.to_json()))
    assert inside.calibration is not None
    assert facts["calibration"]["temperature"] == inside.calibration.temperature
    assert facts["mistakes"]["confident_wrong"][0]["alike"][0]["sample"] == "near-boot-07.jpg"
    assert facts["saliency"]["is_believable"] is False
    assert [way["way"] for way in facts["moves"]["ways"]] == ["roll", "zeros"]
    assert json.loads(json.dumps(ReportMeasurements().to_json()))["sight"] is None


# ---- sentences ----


def test_the_temperature_is_named_with_the_set_it_was_fitted_on() -> None:
    import torch

    from visus.evaluation.calibration import MIN_TEMPERATURE, TemperatureFit, calibrate

    logits = torch.tensor([[4.0, 0.0, 0.0]] * 60)
    labels = torch.tensor([0, 0, 1] * 20)

    def sentences_of(split: str, fit: TemperatureFit) -> list[str]:
        return calibration_sentences(
            made_up_facts(measured=ReportMeasurements(calibration=calibrate(logits, labels, split, fit)))
        )

    fit = TemperatureFit(2.885, "", "val", 80)
    first, _, *more = sentences_of("test", fit)
    assert first == "The mean confidence is 90.0 % and the accuracy is 90.0 %: they agree within one percentage point."
    use = "visus predict applies this calibration, which never changes a label; --raw turns it off."
    assert more == [
        "These probabilities are calibrated: the logits are divided by a temperature of 2.88, fitted on 80 images of the validation set.",
        "Without calibration, the expected calibration error is 29.8 percentage points instead of 0.0, and the loss is 1.369 instead of 0.868.",
        use,
    ]
    assert sentences_of("val", fit)[-2:] == [
        "The temperature was fitted on these same images, so expect a larger error on other images.",
        use,
    ]
    card = card_text(made_up_facts(measured=ReportMeasurements(calibration=calibrate(logits, labels, "test", fit))))
    assert "divided by a temperature of 2.88" in card
    none = sentences_of("test", TemperatureFit(reason="there is no validation set to fit a temperature on"))
    assert none[2:] == ["These probabilities are not calibrated: there is no validation set to fit a temperature on."]
    endless = sentences_of("test", TemperatureFit(MIN_TEMPERATURE, "", "val", 80))
    assert "The temperature is at the limit of the search range: no optimum was found." in endless
    worse = "On these images, calibration made the probabilities worse: use them as an order, not as percentages."
    assert worse in endless
    assert worse not in more


def test_missing_measurements_give_no_sentences() -> None:
    assert shift_sentences(made_up_facts()) == []
    assert field_sentences(made_up_facts()) == []


def test_the_receptive_field_is_described_where_it_covers_all_or_little_and_through_gates() -> None:
    def sentences_of(*layers: LayerField, gates: str = "") -> list[str]:
        return field_sentences(
            made_up_facts(measured=ReportMeasurements(field_growth=FieldGrowth((9, 9), layers, gates=gates)))
        )

    assert sentences_of(LayerField("a", "conv", (5, 9), False)) == [
        "No layer has a receptive field that covers the image (9 x 9 px)."
    ]
    assert sentences_of(LayerField("a", "conv", (5, 9), False), LayerField("b", "conv", (11, 13), False), gates="se1") == [
        "'b' is the first layer whose receptive field (11 x 13 px) covers the image (9 x 9 px).",
        "From 'se1' on, every position also depends on the whole image, through a gate or a norm.",
    ]
    assert sentences_of() == ["No layer of this network has a receptive field on an image of 9 x 9 px."]


# ---- charts ----


def test_a_line_goes_through_no_bin_of_few_samples() -> None:
    import torch

    logits = torch.tensor([[3.0, 0.0]] * 5 + [[2.0, 0.0]] * 6 + [[0.5, 0.0]] * 4)
    chart = ElementTree.fromstring(reliability_diagram(reliability(logits, torch.zeros(15, dtype=torch.long)), None))
    assert len(chart.findall("circle")) == 3
    line = chart.find("polyline")
    assert line is not None
    assert len(line.attrib["points"].split()) == 2


def test_every_dot_lies_where_confidence_and_accuracy_say() -> None:
    import torch

    logits = torch.tensor([[3.0, 0.0]] * 4 + [[0.5, 0.0]] * 2)
    found = reliability(logits, torch.tensor([0, 0, 0, 1, 0, 1]))
    chart = ElementTree.fromstring(reliability_diagram(found, None))
    dots = chart.findall("circle")
    bins = [each for each in found.bins if each.num_samples]
    assert len(dots) == len(bins) == 2
    for dot, each in zip(dots, bins, strict=True):
        assert float(dot.attrib["cx"]) == pytest.approx(60 + 300 * (each.confidence or 0), abs=0.06)
        assert float(dot.attrib["cy"]) == pytest.approx(12 + 300 * (1 - (each.accuracy or 0)), abs=0.06)
    assert float(dots[1].attrib["r"]) > float(dots[0].attrib["r"])
    assert chart.attrib["aria-label"] == "Confidence and accuracy"
    assert chart.findtext("desc") == "Uncalibrated, accuracy at confidence: 50 % at 62 % to 75 % at 95 %."
    assert len(chart.findall("rect[@class='count']")) == 2


def test_the_fields_of_all_layers_are_drawn_in_full_with_the_length_of_the_image() -> None:
    sizes = [3, 10, 20, 90]
    figure = ElementTree.fromstring(
        field_growth_figure([(f"conv{index}", size) for index, size in enumerate(sizes)], "image", "px", 20)
    )
    fields, length = (
        [float(pair.split(",")[1]) for pair in line.attrib["points"].split()] for line in figure.iter("polyline")
    )
    assert length == [fields[2]] * 2  # the third layer's field is as large as the image
    steps = np.diff(fields) / np.diff(sizes)
    assert steps == pytest.approx(np.full(3, steps[0]), abs=0.02)
    assert min(fields) >= 0


def test_the_drawn_receptive_field_never_falls_to_the_length_of_the_sample() -> None:
    def growth(last: int) -> ReportMeasurements:
        conv, pool = LayerField("conv9", "conv", (last, last), False), LayerField("pool", "globalpool", (224, 224), True)
        return ReportMeasurements(
            field_growth=FieldGrowth((224, 224), (LayerField("conv1", "conv", (3, 3), False), conv, pool))
        )

    beyond = report_page(made_up_facts(measured=growth(850)))
    assert "From 3 px in conv1 to 850 px in conv9." in beyond
    within = report_page(made_up_facts(measured=growth(99)))
    assert "From 3 px in conv1 to 224 px in pool." in within


def test_the_legend_shows_a_line_only_where_a_line_joins_dots() -> None:
    def page(confidences: list[float]) -> str:
        chances = torch.tensor(confidences * 10)
        logits = torch.stack([chances, (1 - chances) / 2, (1 - chances) / 2], 1).log()
        labels = torch.zeros(len(logits), dtype=torch.long)
        fit = TemperatureFit(reason="too few")
        return report_page(made_up_facts(measured=ReportMeasurements(calibration=calibrate(logits, labels, "test", fit))))

    assert '<span class="key dot train"></span>uncalibrated' in page([0.9])
    assert '<span class="key train"></span>uncalibrated' in page([0.9, 0.5])


def test_a_report_lists_the_table_of_epochs_only_where_one_was_trained() -> None:
    assert "results.csv (epochs)" in report_page(made_up_facts())
    assert "results.csv (epochs)" not in report_page(made_up_facts(history=[], best_epoch=None))


def test_a_report_describes_every_copy_of_an_unsure_sample() -> None:
    kind = "unsure:flip+shift"
    scores = made_up_scores(notes=[describe_views(kind, "image")])
    text = Page(report_page(made_up_facts(scores, recipe={"tta": kind}))).text
    assert describe_views(kind, "image", in_full=True) in text
    assert "Unsure predictions" not in text
