"""PNG images: readable files for any number of classes, whole or not there, and no trace in the program's own plots."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
import torch
from facts_of_runs import made_up_facts, made_up_scores
from PIL import Image

from visus.errors import DataError
from visus.pages.parts.confusion import draw_confusion
from visus.pages.parts.training_curves import draw_curves, lowest_loss, stages_of, training_curves
from visus.pages.report import sentences
from visus.training import weight_average
from visus.training.loss import Loss


def strongest_blue(path: Path) -> int:
    """Pixels of the confusion's strongest color."""
    with Image.open(path) as image:
        return sum(count for count, color in image.convert("RGB").getcolors(1 << 24) if color == (8, 48, 107))


@pytest.mark.parametrize("num_classes", [2, 20, pytest.param(130, marks=pytest.mark.slow)])
@pytest.mark.long
def test_the_confusion_is_drawn_for_few_and_many_classes(tmp_path: Path, num_classes: int) -> None:
    path = tmp_path / "confusion.png"
    draw_confusion(made_up_scores(num_classes, num_samples=520, num_wrong=0), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 300
        assert max(image.size) <= 2000
    assert strongest_blue(path) > 2000


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    classes = ["$x_{$", "世界", "a very long name that goes on and on and on and on"]
    draw_confusion(made_up_scores(classes=classes), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 5000


def test_the_same_facts_give_the_same_image(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curves(made_up_facts().history, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "rows", [[{"epoch": 1, "train_loss": 0.5}], [{"epoch": "1", "val_loss": "", "val_accuracy": "0.5"}]]
)
def test_curves_are_drawn_from_what_there_is(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    draw_curves(rows, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1152, 432)


def test_stages_are_shaded_from_half_an_epoch_before_to_half_an_epoch_after() -> None:
    rows = [
        {"epoch": each, "img_size": size, "train_loss": 1.0} for each, size in enumerate([24, 24, 28, 32, 32, 32], start=1)
    ]
    page = training_curves(rows, 5, floor=0.5, unit="px")
    chart = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", page, re.DOTALL)[0])
    bands = [(float(each.attrib["x"]), float(each.attrib["width"])) for each in chart.findall("rect[@class='band']")]
    epoch = (446.0 - 60.0) / 5  # the width of one epoch
    (first, second) = bands
    assert first == pytest.approx((60.0, 1.5 * epoch), abs=0.1)
    assert second == pytest.approx((60.0 + 2.5 * epoch, 2.5 * epoch), abs=0.1)
    assert [each.text for each in chart.findall("text[@class='band']")] == ["24 px", "28 px", "32 px"]
    assert "epoch 5: weights kept" in page
    assert "lowest possible: 0.50" in page
    mark = chart.find("line[@class='mark']")
    assert mark is not None
    assert float(mark.attrib["x1"]) == pytest.approx(60.0 + 4 * epoch, abs=0.1)


def test_a_training_at_one_size_has_no_stages() -> None:
    rows = [{"epoch": each, "img_size": 32, "train_loss": 1.0} for each in (1, 2, 3)]
    assert stages_of(rows, "px") == []
    assert 'class="band"' not in training_curves(rows, None)


def test_the_lowest_loss_is_that_of_the_training_s_own_criterion() -> None:
    smoothing, num_classes = 0.2, 5
    target = torch.full((num_classes,), smoothing / num_classes)
    target[0] += 1 - smoothing
    best = float(Loss(smoothing).mean(target.log()[None], torch.tensor([0])))
    assert lowest_loss(smoothing, num_classes) == pytest.approx(best, abs=1e-6)


def test_the_average_of_the_last_steps_starts_where_the_caption_says() -> None:
    assert sentences.NUM_FINAL_HORIZONS == weight_average.NUM_FINAL_HORIZONS


def test_curves_without_an_epoch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        draw_curves([], tmp_path / "curves.png")
    assert str(caught.value) == "there are no curves to draw: no epoch was finished."


@pytest.mark.slow
def test_drawing_leaves_the_programs_own_plots_alone(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    draw_confusion(made_up_scores(), tmp_path / "confusion.png")
    assert dict(mpl.rcParams) == settings
    code = (
        "import sys; from visus.pages import card; from visus.pages.parts import plots; from visus.pages.report import page; print('matplotlib' in sys.modules);"
        "print('torchmetrics' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]
