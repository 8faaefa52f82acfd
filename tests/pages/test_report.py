"""The report: complete in itself, true to its facts, safe with any name, small, and readable in light and dark."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from facts_of_runs import made_up_facts, made_up_measurements, made_up_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from visus.pages.parts.charts import line_chart
from visus.pages.parts.confusion import cell_style, confusion_map, shade
from visus.pages.report.page import report_page, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """The page as a browser would take it apart; an element that is not closed fails."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


def test_the_report_says_what_the_facts_say() -> None:
    text = Page(report_page(made_up_facts(made_up_scores(notes=["Scored once."])))).text
    for expected in (
        "shoes-2",
        "2031-05-04 14:05 · trained on shoes",
        "90.0 % accuracy on 60 images of the test set 79.9 % to 95.3 % baseline, always “bag”: 33.3 %",
        "On more images like these, expect 79.9 % to 95.3 % (95 % confidence interval). The most frequent confusion: 2 of 20 “bag” are "
        "predicted as “boot”.",
        "Scored once.",
        "The class coat is rare.",
        "Kind: a folder for each class.",
        "2 images were turned upright. Each image is converted to 28 x 28 with 1 channel, resized and cropped.",
        "Pixels are normalized with the mean and the standard deviation of the training set: (value - 72.94) / 90.1.",
        "A convolutional network (compact) with 12,345 parameters. It reads samples of 1 x 28 x 28 and returns a probability for "
        "each of 3 classes. design.txt has the design.",
        "bag boot coat Recall, % F1, % bag 18 2 90.0 90.0 boot 18 2 90.0 90.0 coat 2 18 90.0 90.0 Precision, % 90.0 90.0 90.0 90.0",
        "True class Predicted class Images bag boot 2 boot coat 2 coat bag 2",
        "Every class has an F1 of 90.0 %. Every class has 100 training, 20 test images.",
        "The mean confidence is 90.0 % and the accuracy is 90.0 %: they agree within one percentage point.",
        "300 training images of 3 classes; 60 test images were held out.",
        "Training time 3 min 07 s (steps and validation) Images per second 2,000 Device cpu (Some CPU) "
        "Precision bfloat16: asked for CPU cores 4; PyTorch used 2",
        "Both losses are cross-entropy with label smoothing 0.2. Training: the mean over each epoch, on augmented images (cutout 0.3), with the "
        "weights of the moment. Validation: after each epoch, on unchanged images, with averaged weights in the last 9 %.",
        "epoch 2: weights kept lowest possible: 0.49",
        "3 epochs in batches of 64 by muon (learning rate 0.05). recipe.yaml has every setting with its reason.",
        "visus train shoes --seed 7 The seed was 7. Versions: visus 0.1.0, python 3.13.0, torch 2.13.0.",
    ):
        assert expected in text, expected
    assert "simplejpeg" not in text


def test_a_result_that_does_not_beat_the_baseline_says_so() -> None:
    page = Page(report_page(made_up_facts(made_up_scores(num_classes=3, num_samples=9, num_wrong=6))))
    assert "9 images do not show that the network beats the baseline." in page.text


def test_the_answer_counts_the_mistakes_that_may_be_wrong_labels() -> None:
    measured = made_up_measurements()
    assert measured.mistakes is not None
    text = Page(report_page(made_up_facts(measured=measured))).text
    assert "3 of 6 mistakes may be wrong labels: if all are, the accuracy is 95.0 %." in text
    one = dataclasses.replace(measured.mistakes, num_wrong=1, num_suspicious=1)
    alone = made_up_facts(made_up_scores(num_wrong=1), measured=dataclasses.replace(measured, mistakes=one))
    text = Page(report_page(alone)).text
    assert (
        "1 of 20 \u201cbag\u201d is predicted as \u201cboot\u201d. The one mistake may be a wrong label: if it is, the"
        in text
    )
    assert "accuracy is 100.0 %." in text
    none = dataclasses.replace(measured.mistakes, suspicious=(), num_suspicious=0, unexamined="")
    page = report_page(made_up_facts(measured=dataclasses.replace(measured, mistakes=none)))
    assert "wrong label" not in page
    assert "Possible label errors" not in page
    assert "6 of 60 images are misclassified.</p>" in page  # nothing is set apart


def test_possible_label_errors_come_before_the_other_mistakes_and_are_not_repeated() -> None:
    page = report_page(made_up_facts(measured=made_up_measurements()))
    labels, others = page.index("<h3>Possible label errors</h3>"), page.index("<h3>Most confident mistakes</h3>")
    classes = page.index("<h3>Classes</h3>")
    assert labels < others < classes
    assert re.findall(r'<span class="file">(\d)-', page[labels:others]) == ["3", "4", "5"]
    assert re.findall(r'<span class="file">(\d)-', page[others:classes]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("num_labels", "num_others", "shown"), [(6, 6, (3, 3)), (1, 6, (1, 5)), (6, 1, (5, 1)), (6, 0, (6, 0)), (0, 6, (0, 6))]
)
def test_six_mistakes_are_drawn_half_of_them_possible_label_errors(
    num_labels: int, num_others: int, shown: tuple[int, int]
) -> None:
    measured = made_up_measurements()
    assert measured.mistakes is not None
    some = measured.mistakes.confident_wrong[:1]
    found = dataclasses.replace(
        measured.mistakes,
        num_wrong=num_labels + num_others,
        suspicious=some * num_labels,
        num_suspicious=num_labels,
        confident_wrong=some * num_others,
    )
    page = report_page(made_up_facts(measured=dataclasses.replace(measured, mistakes=found)))
    labels, _, others = page.partition("<h3>Most confident mistakes</h3>")
    assert (labels.count('<span class="file">'), others.count('<span class="file">')) == shown
    assert ("; see the possible label errors above." in page) == (not num_others)


def test_without_mistakes_there_is_no_part_on_mistakes() -> None:
    measured = made_up_measurements()
    assert measured.mistakes is not None
    perfect = dataclasses.replace(
        measured.mistakes, num_wrong=0, confident_wrong=(), confusions=(), suspicious=(), num_suspicious=0
    )
    page = report_page(made_up_facts(made_up_scores(num_wrong=0), measured=dataclasses.replace(measured, mistakes=perfect)))
    assert "Most confident mistakes" not in page
    assert "The least confident correct predictions: 6 images</summary><p>Red marks" in page
    assert "These samples also chose the weights that were kept." in page


def test_samples_of_no_class_are_named_with_a_remedy_unless_a_class_is_for_them() -> None:
    words = (
        "Outside the classes An image of none of these 3 classes still gets one of them: if yours "
        "include such images, train with a class \u201cother\u201d of them."
    )
    assert words in Page(report_page(made_up_facts())).text
    rest = made_up_facts(made_up_scores(classes=["bag", "boot", "Other"]))
    assert "Outside the classes" not in report_page(rest)


def test_routine_changes_of_the_data_are_folded() -> None:
    page = report_page(made_up_facts(routine_sentences=["9 samples were resized."]))
    assert (
        "<ul><li>2 images were turned upright.</li></ul><details><summary>Routine changes, such as of size and format: 1</summary>"
        in page
    )
    only = Page(report_page(made_up_facts(ledger_sentences=[], routine_sentences=["9 samples were resized."]))).text
    assert "Only routine changes were made. Routine changes, such as of size and format: 1 9 samples were resized." in only


def test_the_exact_command_is_the_one_that_trains_again() -> None:
    page = Page(report_page(made_up_facts(exact_command="visus train shoes -c runs/shoes-2/recipe.yaml"))).text
    assert "Training it again visus train shoes -c runs/shoes-2/recipe.yaml The seed was 7." in page


@pytest.mark.parametrize(
    ("num_wrong", "verdict"), [(30, "the network is overconfident"), (0, "the network is underconfident")]
)
def test_calibration_has_a_direction(num_wrong: int, verdict: str) -> None:
    assert verdict in Page(report_page(made_up_facts(made_up_scores(num_wrong=num_wrong)))).text


def test_a_gap_within_the_interval_of_the_accuracy_has_no_direction() -> None:
    scores = dataclasses.replace(made_up_scores(), confidence=0.94)
    text = Page(report_page(made_up_facts(scores))).text
    assert "The mean confidence is 94.0 % and the accuracy is 90.0 %: 60 images do not show a difference." in text


@pytest.mark.parametrize("num_classes", [2, 3, 20, 21, 100, 1000])
def test_the_page_is_complete_in_itself_and_small(num_classes: int) -> None:
    page = report_page(made_up_facts(made_up_scores(num_classes, num_samples=4000, num_wrong=900)))
    parsed = Page(page)
    assert len(page.encode()) < 3_000_000
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    for _, attributes in parsed.tags:
        assert not set(attributes) & {"src", "srcset", "action", "background"}
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", page)


def test_figures_have_words_for_those_who_cannot_see_them() -> None:
    for num_classes in (3, 50):
        page = Page(report_page(made_up_facts(made_up_scores(num_classes))))
        images = [attributes for tag, attributes in page.tags if tag == "svg" or attributes.get("role") == "img"]
        assert images
        assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in images)
        assert dict(page.tags[0][1]) == {"lang": "en-US"}


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.sampled_from("<>&\"'`%{}\\/ab é世\n"), min_size=1, max_size=12))
def test_no_name_can_break_the_page(text: str) -> None:
    names = [text, f"<script>{text}</script>", '"><b>']
    scores = made_up_scores(classes=names, notes=[text])
    facts = made_up_facts(
        scores, name=text, created=text, command=text, data_name=text, data={text: text}, ledger_sentences=[text],
        warnings=[text], design_text=text, network=text, recipe={text: text, "seed": text}, noun="image",
        class_counts={text: [1, 2, 3]}, measured=made_up_measurements((1, 6, 5), text, names[1], advice=(text,), missing={"filters": text}),
    )  # fmt: skip
    page = Page(report_page(facts))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "p", "h1", "h2", "h3", "section", "div", "span",
        "strong", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li", "pre", "figure", "figcaption",
        "b", "i", "nav", "ol", "a", "desc", "svg", "line", "text", "polyline", "circle", "rect", "details", "summary", "footer", "img", "br",
    }  # fmt: skip
    assert " ".join(names[1].split()).replace("\u00a0", " ") in page.text


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, made_up_facts())
    assert path.read_text(encoding="utf-8") == report_page(made_up_facts())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_facts_that_are_missing_leave_no_empty_section() -> None:
    facts = made_up_facts(
        history=[], ledger_sentences=[], warnings=[], design_text="", network="", preprocessing={}, recipe={}, machine={},
        environment={}, best_epoch=None, command="", data={}, class_counts={},
    )  # fmt: skip
    text = Page(report_page(facts)).text
    assert "Nothing in the data was changed." in text
    assert "This run was made from Python: no command trains it again." in text
    assert "A network with 12,345 parameters." in text
    assert (
        "Cost Time and memory Training time 3 min 07 s (steps and validation) What to do Nothing to do: no epoch was trained"
        in text
    )
    assert "Training curves" not in text
    assert "None" not in text


# ------------------------------------------------------------------------------------------------------------------ charts


def test_every_point_of_a_line_lies_where_its_value_says() -> None:
    chart = ElementTree.fromstring(line_chart("Loss", "", [("train", [(1, 1.0), (2, 0.5), (3, 0.0)])], str, lowest=0.0))
    line = chart.find("polyline")
    assert line is not None
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points == [(60.0, 14.0), (253.0, 122.0), (446.0, 230.0)]


@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=50))
def test_grid_lines_are_few_and_hold_all_values(values: list[float]) -> None:
    points = list(enumerate(values, start=1))
    chart = ElementTree.fromstring(line_chart("Loss", "", [("val", points)], "{:.6g}".format, lowest=0.0))
    grid = [float(line.attrib["y1"]) for line in chart.findall("line[@class='grid']")]
    assert 2 <= len(grid) <= 8
    assert min(grid) >= 14.0
    assert max(grid) <= 230.05
    line = chart.find("polyline")
    assert line is not None
    assert all(13.9 <= float(pair.split(",")[1]) <= 230.1 for pair in line.attrib["points"].split())


def test_many_epochs_are_thinned_and_keep_their_ends() -> None:
    points = [(epoch, float(epoch)) for epoch in range(1, 10_001)]
    chart = ElementTree.fromstring(line_chart("Loss", "", [("val", points)], str, lowest=0.0))
    line = chart.find("polyline")
    assert line is not None
    pairs = line.attrib["points"].split()
    assert len(pairs) == 400
    assert (pairs[0].split(",")[0], pairs[-1].split(",")[0]) == ("60.0", "446.0")


def test_the_confusion_map_has_a_square_for_each_pair_that_occurs() -> None:
    scores = made_up_scores(30, num_samples=300, num_wrong=20)
    chart = ElementTree.fromstring(confusion_map(scores))
    squares = chart.findall("rect")[1:]
    occurring = sum(1 for row in scores.confusion for count in row if count)
    assert len(squares) == occurring
    assert sum(1 for square in squares if square.attrib["class"] == "miss") == len(scores.most_confused(10_000))
    assert [title.text for title in squares[0]] == ["class 0 predicted as class 0: 9 of 10"]


# ---------------------------------------------------------------------------------------------------------------- contrast


def luminance(color: list[float]) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[float], other: list[float]) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, list[float]]]:
    style = resources.files("visus.pages.parts").joinpath("page.css").read_text(encoding="utf-8")
    found = {}
    for name, block in zip(("light", "dark", "print"), re.findall(r":root \{(.*?)\}", style, re.DOTALL), strict=True):
        colors = {key: value * 2 if len(value) == 3 else value for key, value in re.findall(r"--([\w-]+): #(\w+);", block)}
        colors = {key: "".join(c * 2 for c in v[:3]) if v[:3] == v[3:] else v for key, v in colors.items()}
        found[name] = {key: [float(int(value[i : i + 2], 16)) for i in (0, 2, 4)] for key, value in colors.items()}
    return found


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_words_stand_out_from_their_ground(name: str) -> None:
    theme = themes()[name]
    for words in ("ink", "soft", "accent", "warm"):
        for ground in ("paper", "panel", "wash"):
            assert contrast(theme[words], theme[ground]) >= 4.5, (words, ground)


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_figures_in_shaded_cells_can_be_read_at_every_strength(name: str) -> None:
    theme = themes()[name]
    for hit, color in ((True, theme["accent"]), (False, theme["warm"])):
        for step in range(1, 101):
            strength = shade(step / 100)
            style = cell_style(strength, hit).split()
            ink = theme["cell-full"] if "full" in style else theme["cell-strong"] if "strong" in style else theme["cell"]
            ground = [strength * a + (1 - strength) * b for a, b in zip(color, theme["wash"], strict=True)]
            assert contrast(ink, ground) >= 4.5, (hit, strength)


# ------------------------------------------------------------------------------------------------------------ style sheet

KNOWN_PROPERTIES = """
align-items align-self background border border-bottom border-bottom-color border-collapse border-left border-left-color border-radius border-spacing
border-top box-sizing break-after break-inside color color-scheme content-visibility cursor display fill fill-opacity flex flex-direction flex-wrap font
font-size font-variant-numeric font-weight gap grid-template-columns grid-column grid-row height image-rendering justify-self left letter-spacing line-height list-style margin
margin-bottom margin-left margin-right margin-top max-height max-width min-width opacity overflow overflow-wrap overflow-x padding
padding-bottom padding-left padding-right padding-top position print-color-adjust right scroll-margin-top scroll-padding-top stroke stroke-dasharray stroke-linejoin stroke-width
text-align text-decoration text-overflow top transform vertical-align white-space width writing-mode z-index -webkit-print-color-adjust -webkit-text-size-adjust
"""


def test_the_style_sheet_has_no_property_that_browsers_ignore() -> None:
    style = resources.files("visus.pages.parts").joinpath("page.css").read_text(encoding="utf-8")
    named = set(re.findall(r"[{;]\s*([a-z-]+)\s*:", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)))
    assert named - set(KNOWN_PROPERTIES.split()) - {name for name in named if name.startswith("--")} == set()


def test_a_run_without_an_epoch_folds_what_belongs_to_its_initial_weights() -> None:
    start = {"source": "weights", "sentence": "made up"}
    title = "<summary>The layers are those of the initial weights: no epoch was trained</summary>"
    facts = made_up_facts(measured=made_up_measurements(), recipe={"optimizer": "adamw", "epochs": 0})
    assert title not in report_page(facts)
    page = report_page(dataclasses.replace(facts, history=[], best_epoch=None, start=start))
    assert title in page
    assert "No epoch was trained: the last layer (the head) alone was fitted." in page
    own = dataclasses.replace(facts, history=[], best_epoch=None, start={**start, "has_own_head": True})
    assert "No epoch was trained: the weights are the initial ones." in report_page(own)
